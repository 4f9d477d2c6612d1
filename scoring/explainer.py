"""Exact Shapley values of trees, looked up: a table for each few nodes holds every answer.

Path-dependent TreeSHAP (Lundberg et al. 2018) gives each feature of a leaf's path a value that
depends only on which of the path's nodes a row passes. So leaves are put into groups whose paths
have at most eight nodes together: one byte says which of these send a row left, and a table of 256
entries holds the group's values for each byte, computed once. (Fast TreeSHAP v2, Yang 2021, keeps a
table of this kind a tree.) A row costs a comparison a node and a look-up a group and feature.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scoring.trees import NodeTests, Tree

_BITS = 8
_PATTERNS = 1 << _BITS
_MOST_TABLE_BYTES = 128 << 20
_BLOCK_BYTES = 2 << 20

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

    Raises NotTabulated for categorical nodes, a leaf more than eight nodes deep, and tables above
    128 MiB.
    """

    def __init__(self, trees: list[Tree], features: int) -> None:
        self._features = features
        self._mean = sum(tree.mean() for tree in trees)
        grown = [tree for tree in trees if len(tree.features)]
        self._tests = NodeTests(grown) if grown else None
        if self._tests is None:
            return
        if self._tests.categorical:
            msg = "it asks for categories"
            raise NotTabulated(msg)
        group_nodes: list[list[int]] = []
        slots: list[tuple[int, int, NDArray[np.float64]]] = []
        first = 0
        for tree in grown:
            for group in _groups(tree):
                for feature, table in _tables(tree, group).items():
                    slots.append((feature, len(group_nodes), table))
                group_nodes.append([first + node for node in group.nodes])
                if len(slots) * _PATTERNS * 8 > _MOST_TABLE_BYTES:
                    msg = f"its tables take more than {_MOST_TABLE_BYTES >> 20} MiB"
                    raise NotTabulated(msg)
            first += len(tree.features)
        slots.sort(key=lambda slot: slot[0])
        of_slot = np.array([feature for feature, _, _ in slots])
        self._explained, self._starts = np.unique(of_slot, return_index=True)
        self._group_of_slot = np.array([group for _, group, _ in slots])
        self._table = np.concatenate([table for _, _, table in slots])
        self._table_starts = (np.arange(len(slots)) * _PATTERNS)[:, None]
        # Bits that a group does not use ask a node that is not there: never left.
        nowhere = first
        padded = [nodes + [nowhere] * (_BITS - len(nodes)) for nodes in group_nodes]
        self._node_of_bit = np.array(padded).T
        self._rows = max(1, _BLOCK_BYTES // (8 * len(slots)))

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """
        Explain float32[n, features]: Shapley values of the log-odds, float64[n, features + 1].

        The last column is the model's mean. A row has the same bits alone and in any batch.
        """
        found = np.zeros((len(matrix), self._features + 1))
        found[:, -1] = self._mean
        if self._tests is not None:
            for start in range(0, len(matrix), self._rows):
                block = slice(start, start + self._rows)
                found[block, self._explained] = self._values(matrix[block]).T
        return found

    def _values(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        assert self._tests is not None
        left = self._tests.go_left(np.ascontiguousarray(matrix.T))
        left = np.concatenate((left, np.zeros((1, len(matrix)), dtype=bool))).view(np.uint8)
        patterns = left[self._node_of_bit[0]]
        for bit in range(1, _BITS):
            patterns |= left[self._node_of_bit[bit]] << np.uint8(bit)
        values = self._table.take(self._table_starts + patterns[self._group_of_slot])
        # Not a matrix product: its sums would depend on how many rows are explained together.
        found: NDArray[np.float64] = np.add.reduceat(values, self._starts, axis=0)
        return found


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
    points, weights = np.polynomial.legendre.leggauss((features + 1) // 2)
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
