"""Exact Shapley values of trees, looked up: a table for each few nodes holds every answer.

Path-dependent TreeSHAP (Lundberg et al. 2018) gives each feature of a leaf's path a value that
depends only on which of the path's nodes a row passes. So leaves are put into groups whose paths
have at most eight nodes together: one byte says which of these send a row left, and a table of 256
entries holds the group's values for each byte, computed once. (Fast TreeSHAP v2, Yang 2021, keeps a
table of this kind a tree.) A row costs a comparison a node and a look-up a group; the values of one
byte stand side by side. Groups are outside and rows inside, so that a group's table stays near.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from scoring import trees as node_tests
from scoring.compiled import DOUBLES, FLAGS, LONGS, NotCompiled, compiles
from scoring.trees import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_SHIFT,
    MISSING_ZERO,
    ZERO,
    Tree,
    not_above,
)

_BITS = 8
_PATTERNS = 1 << _BITS
_MOST_TABLE_BYTES = 128 << 20
_BLOCK_ROWS = 64
_ZERO = float(ZERO)

Step = tuple[int, bool]
"""A node of a path, and whether the path goes left there."""


class NotTabulated(Exception):
    """A model's values fit into no tables: says why."""


@dataclass(slots=True)
class _Group:
    """Leaves with their paths, over at most _BITS nodes."""

    nodes: list[int]
    paths: dict[int, list[Step]] = field(default_factory=dict)


class TreeExplainer:
    """
    Explains float32 rows by the counted trees of a model over `features` features.

    Raises NotTabulated for categorical nodes, a leaf more than eight nodes deep, tables above 128
    MiB, and where nothing compiles.
    """

    def __init__(self, trees: list[Tree], features: int) -> None:
        self._features = features
        self._mean = sum(tree.mean() for tree in trees)
        grown = [tree for tree in trees if len(tree.features)]
        if any((tree.decisions & CATEGORICAL).any() for tree in grown):
            msg = "it asks for categories"
            raise NotTabulated(msg)
        groups = [list(_groups(tree)) for tree in grown]
        try:
            _explain.ready()
        except NotCompiled as error:
            raise NotTabulated(str(error)) from None
        tests: list[_Tests] = []
        explained: list[int] = []
        tables: list[NDArray[np.float64]] = []
        test_ends, slot_ends = [0], [0]
        for tree, of_grown in zip(grown, groups, strict=True):
            of_tree = _Tests.of(tree)
            for group in of_grown:
                found = _tables(tree, group)
                tests.append(of_tree.at(group.nodes))
                explained += found
                # Of each pattern the values of all features, one after the other.
                tables.append(np.column_stack(list(found.values())).reshape(-1))
                test_ends.append(test_ends[-1] + len(group.nodes))
                slot_ends.append(slot_ends[-1] + len(found))
                if slot_ends[-1] * _PATTERNS * 8 > _MOST_TABLE_BYTES:
                    msg = f"its tables take more than {_MOST_TABLE_BYTES >> 20} MiB"
                    raise NotTabulated(msg)
        together = _Tests.together(tests)
        self._groups = (
            np.array(test_ends, np.int64),
            np.array(slot_ends, np.int64),
            together.features,
            together.bounds,
            together.nan_left,
            together.zero_left,
            np.array(explained, np.int64),
            np.concatenate([*tables, np.empty(0)]),
        )

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """
        Explain float32[n, features]: Shapley values of the log-odds, float64[n, features + 1].

        The last column is the model's mean. A row has the same bits alone and in any batch.
        """
        found = np.zeros((len(matrix), self._features + 1))
        found[:, -1] = self._mean
        _explain(np.ascontiguousarray(matrix), *self._groups, found)
        return found


@dataclass(frozen=True, slots=True)
class _Tests:
    """
    The tests of m nodes: a feature, and what goes left, with the answers that LightGBM gives.

    A bound becomes the largest float32 that is not above it, the same for every float32.
    """

    features: NDArray[np.int64]
    bounds: NDArray[np.float32]
    nan_left: NDArray[np.bool_]
    zero_left: NDArray[np.bool_]

    @classmethod
    def of(cls, tree: Tree) -> "_Tests":
        """Take a tree's nodes."""
        missing = tree.decisions >> MISSING_SHIFT
        default_left = (tree.decisions & DEFAULT_LEFT) > 0
        # Where NaN does not mean missing it counts as zero.
        below = tree.thresholds >= 0
        return cls(
            tree.features,
            not_above(tree.thresholds, np.dtype(np.float32)),
            np.where(missing > 0, default_left, below),
            np.where(missing == MISSING_ZERO, default_left, below),
        )

    def at(self, nodes: list[int]) -> "_Tests":
        """Take some nodes."""
        return _Tests(
            self.features[nodes], self.bounds[nodes], self.nan_left[nodes], self.zero_left[nodes]
        )

    @classmethod
    def together(cls, parts: "list[_Tests]") -> "_Tests":
        """Lay nodes one after the other."""
        none = cls(
            np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, bool), np.empty(0, bool)
        )
        all_of = [none, *parts]
        return cls(
            np.concatenate([one.features for one in all_of]),
            np.concatenate([one.bounds for one in all_of]),
            np.concatenate([one.nan_left for one in all_of]),
            np.concatenate([one.zero_left for one in all_of]),
        )


@compiles(
    types.void(
        types.Array(types.float32, 2, "C", readonly=True),
        *(LONGS, LONGS, LONGS),
        types.Array(types.float32, 1, "C", readonly=True),
        *(FLAGS, FLAGS, LONGS, DOUBLES),
        types.float64[:, ::1],
    ),
    node_tests,
)
def _explain(
    matrix: Any,
    test_ends: Any,
    slot_ends: Any,
    features: Any,
    bounds: Any,
    nan_left: Any,
    zero_left: Any,
    explained: Any,
    tables: Any,
    found: Any,
) -> None:
    rows = len(matrix)
    for first in range(0, rows, _BLOCK_ROWS):
        last = min(first + _BLOCK_ROWS, rows)
        for group in range(len(test_ends) - 1):
            slot, slots = slot_ends[group], slot_ends[group + 1] - slot_ends[group]
            for row in range(first, last):
                pattern = 0
                for bit, test in enumerate(range(test_ends[group], test_ends[group + 1])):
                    value = matrix[row, features[test]]
                    if abs(value) <= _ZERO:
                        left = zero_left[test]
                    elif value == value:  # noqa: PLR0124 - no NaN
                        left = value <= bounds[test]
                    else:
                        left = nan_left[test]
                    pattern |= left << bit
                at = slot * _PATTERNS + pattern * slots
                for number in range(slots):
                    found[row, explained[slot + number]] += tables[at + number]


def _groups(tree: Tree) -> Iterator[_Group]:
    waiting: list[tuple[int, list[Step]]] = [(0, [])]
    while waiting:
        top, above = waiting.pop()
        nodes, paths = _below(tree, top, above)
        if len(nodes) <= _BITS:
            yield _Group(nodes, paths)
            continue
        if len(above) + 1 >= _BITS + 1:
            msg = f"a leaf is more than {_BITS} nodes deep"
            raise NotTabulated(msg)
        waiting += [
            (int(tree.right[top]), [*above, (top, False)]),
            (int(tree.left[top]), [*above, (top, True)]),
        ]


def _below(tree: Tree, top: int, above: list[Step]) -> tuple[list[int], dict[int, list[Step]]]:
    """Give the nodes of the paths through `top` to its leaves, and each leaf's path."""
    nodes = [node for node, _ in above]
    paths: dict[int, list[Step]] = {}
    waiting = [(top, above)]
    while waiting:
        at, path = waiting.pop()
        if at < 0:
            paths[~at] = path
            continue
        nodes.append(at)
        waiting += [
            (int(tree.right[at]), [*path, (at, False)]),
            (int(tree.left[at]), [*path, (at, True)]),
        ]
    return nodes, paths


def _tables(tree: Tree, group: _Group) -> dict[int, NDArray[np.float64]]:
    """Compute each feature's values for every pattern: float64[_PATTERNS]."""
    patterns = np.arange(_PATTERNS)
    goes_left = {node: (patterns >> bit & 1) > 0 for bit, node in enumerate(group.nodes)}
    tables: dict[int, NDArray[np.float64]] = {}
    for leaf, path in group.paths.items():
        followed: dict[int, NDArray[np.bool_]] = {}
        shares: dict[int, float] = {}
        for node, left in path:
            feature = int(tree.features[node])
            follows = goes_left[node] if left else ~goes_left[node]
            followed[feature] = followed[feature] & follows if feature in followed else follows
            shares[feature] = shares.get(feature, 1.0) * _share(tree, node, left=left)
        values = _shapley(
            float(tree.leaf_values[leaf]),
            np.array(list(followed.values()), dtype=np.float64),
            np.array(list(shares.values())),
        )
        for feature, value in zip(followed, values, strict=True):
            tables[feature] = tables[feature] + value if feature in tables else value
    return tables


def _share(tree: Tree, node: int, *, left: bool) -> float:
    child = int(tree.left[node] if left else tree.right[node])
    count = tree.leaf_counts[~child] if child < 0 else tree.counts[child]
    return float(count / tree.counts[node])


def _shapley(
    value: float, followed: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """
    Give what each of D features adds to a leaf's value, for p patterns: float64[D, p].

    `followed` (0 or 1) is float64[D, p], `shares` float64[D]. The Shapley weight a! b! / (a+b+1)!
    is the integral of t^a (1-t)^b over [0, 1]; so a feature's value is that of the product, over
    the other features, of o t + z (1-t): a polynomial of degree D - 1, for which Gauss-Legendre
    with half of D points is exact.
    """
    features = len(shares)
    points, weights = _gauss_legendre((features + 1) // 2)
    t = (points + 1) / 2
    z = shares[:, None, None]
    factors = followed[:, :, None] * t + z * (1 - t)
    before, after = np.ones_like(factors), np.ones_like(factors)
    for at in range(1, features):
        before[at] = before[at - 1] * factors[at - 1]
        after[features - at - 1] = after[features - at] * factors[features - at]
    integral = (before * after) @ (weights / 2)
    found: NDArray[np.float64] = value * (followed - shares[:, None]) * integral
    return found


@cache
def _gauss_legendre(points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.polynomial.legendre.leggauss(points)
