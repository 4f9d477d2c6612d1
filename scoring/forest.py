"""
A model's trees as the arrays that the kernel walks, with the answers that LightGBM gives.

Each tree's leaves are numbered from left to right, 32 to a word, the first in the highest bit. A
node whose test is false clears the leaves of its left subtree; the first leaf that is left is the
row's (QuickScorer, Lucchese et al. 2015). A tree of more leaves has more words, each with the nodes
that clear bits of it: the first word that is not empty holds the leaf.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.trees import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_SHIFT,
    MISSING_ZERO,
    ZERO,
    Tree,
    not_above,
)

LEAVES = 32
"""Leaves of a word."""
_ALL = np.uint64(2**LEAVES - 1)

COLUMN = np.dtype([("feature", np.uint32), ("zero_is_missing", np.uint32)])
SET = np.dtype([(name, np.uint32) for name in ("column", "keeps", "first", "words")])
_Spans = tuple[list[int], NDArray[np.int64], NDArray[np.int64]]

SEGMENT = np.dtype([(name, np.uint32) for name in ("right", "stop", "stop_sets")])


_MOST_TESTS = 4 << 20


class NotCovered(Exception):
    """A model, or this installation, is none that the kernel scores for: says why."""


class Forest(NamedTuple):
    """
    What the kernel walks: words of trees ("segments"), a tree's last first, each with its nodes.

    `columns` are the features that tests ask for, once as they are and once with NaN in the place
    of zeros where zero is missing; `code_columns` those whose categories are asked for. A segment's
    `nodes` are first those that send NaN left, from `right` on those that send it right, and then
    its `sets` of categories, of `words` of bits. Tree t has the segments up to `trees[t]`, and
    segment s the leaves from `LEAVES * s` on.
    """

    columns: NDArray[Any]
    code_columns: NDArray[np.uint32]
    nodes: NDArray[Any]
    sets: NDArray[Any]
    segments: NDArray[Any]
    trees: NDArray[np.uint32]
    leaves: NDArray[np.float64]
    words: NDArray[np.uint32]


def node_dtype(values: np.dtype[Any]) -> np.dtype[Any]:
    """Give the type of a node that is asked about such values."""
    return np.dtype([("column", np.uint32), ("keeps", np.uint32), ("bound", values)], align=True)


def forest_of(trees: list[Tree], values: np.dtype[Any]) -> Forest:
    """Lay out trees for rows of `values`, float32 or float64; raises NotCovered for too many."""
    spans = [_spans(tree) for tree in trees]
    sizes = np.array([-(-len(tree.leaf_values) // LEAVES) for tree in trees])
    ends = np.cumsum(sizes)
    leaves = np.zeros((ends[-1] + 2) * LEAVES)  # an empty word looks behind its own
    for (order, _, _), end, tree in zip(spans, ends, trees, strict=True):
        at = np.arange(len(order))
        leaves[(end - 1 - at // LEAVES) * LEAVES + at % LEAVES] = tree.leaf_values[order]
    tests = _tests_of(trees, spans, ends)
    columns, nodes, right, stop = _nodes(tests.of(tests.sets < 0), int(ends[-1]), values)
    code_columns, sets, stop_sets = _sets(tests.of(tests.sets >= 0), trees, int(ends[-1]))
    segments = np.empty(ends[-1], dtype=SEGMENT)
    segments["right"], segments["stop"], segments["stop_sets"] = right, stop, stop_sets
    return Forest(
        columns=columns,
        code_columns=code_columns,
        nodes=nodes,
        sets=sets,
        segments=segments,
        trees=ends.astype(np.uint32),
        leaves=leaves,
        words=_words(trees),
    )


@dataclass(frozen=True, slots=True)
class _Tests:
    """Tests of words, one for each node and word of which it clears bits; `sets` -1: a number."""

    features: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    decisions: NDArray[np.int64]
    sets: NDArray[np.int64]
    segments: NDArray[np.int64]
    keeps: NDArray[np.uint64]

    def of(self, which: NDArray[Any]) -> "_Tests":
        return _Tests(*(getattr(self, field.name)[which] for field in fields(self)))


def _tests_of(trees: list[Tree], spans: list[_Spans], ends: NDArray[np.int64]) -> _Tests:
    first = np.concatenate([first for _, first, _ in spans])
    end = np.concatenate([end for _, _, end in spans])
    words = (end - 1) // LEAVES - first // LEAVES + 1
    if words.sum() > _MOST_TESTS:
        msg = f"its trees are more than {_MOST_TESTS:,} tests"
        raise NotCovered(msg)
    node = np.repeat(np.arange(len(words)), words)
    word = np.arange(len(node)) - np.repeat(np.cumsum(words) - words, words)
    word += first[node] // LEAVES
    begin = np.maximum(first[node] - word * LEAVES, 0).astype(np.uint64)
    stop = np.minimum(end[node] - word * LEAVES, LEAVES).astype(np.uint64)
    cleared = (_ALL >> begin) & ~(_ALL >> stop)
    nodes = [len(tree.features) for tree in trees]
    decisions = np.concatenate([tree.decisions for tree in trees])
    thresholds = np.concatenate([tree.thresholds for tree in trees])
    sets_before = np.cumsum([0, *(tree.sets for tree in trees)])[:-1]
    asks = (decisions & CATEGORICAL) > 0
    sets = np.full(len(decisions), -1)
    sets[asks] = thresholds[asks].astype(np.int64) + np.repeat(sets_before, nodes)[asks]
    return _Tests(
        features=np.concatenate([tree.features for tree in trees])[node],
        thresholds=thresholds[node],
        decisions=decisions[node],
        sets=sets[node],
        segments=np.repeat(ends, nodes)[node] - 1 - word,
        keeps=_ALL & ~cleared,
    )


def _nodes(
    tests: _Tests, segments: int, values: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Give columns and nodes, and each segment's first node that sends NaN right and its end."""
    missing = tests.decisions >> MISSING_SHIFT
    default_left = (tests.decisions & DEFAULT_LEFT) > 0
    # Where NaN does not mean missing it counts as zero.
    nan_right = ~np.where(missing > 0, default_left, tests.thresholds >= 0)
    zero_missing = missing == MISSING_ZERO
    keys, column = np.unique(zero_missing * _ALL + tests.features, return_inverse=True)
    columns = np.empty(len(keys), dtype=COLUMN)
    columns["feature"], columns["zero_is_missing"] = keys % _ALL, keys // _ALL
    order = np.lexsort((column, nan_right, tests.segments))
    nodes = np.empty(len(order), dtype=node_dtype(values))
    nodes["column"] = column[order]
    nodes["keeps"] = tests.keeps[order]
    nodes["bound"] = _bounds(tests.thresholds, values)[order]
    stop = np.cumsum(np.bincount(tests.segments, minlength=segments))
    right = stop - np.bincount(tests.segments[nan_right], minlength=segments)
    return columns, nodes, right, stop


def _bounds(thresholds: NDArray[np.float64], values: np.dtype[Any]) -> NDArray[Any]:
    """
    Give bounds b such that `x <= b` answers for each x of `values` as LightGBM's `x <= threshold`.

    LightGBM takes what is within 1e-35 of zero for zero, and compares in float64.
    """
    zero = values.type(ZERO)
    below_zero = np.nextafter(-zero, values.type(-np.inf))
    bounds = not_above(thresholds, values)
    bounds[(thresholds >= -zero) & (thresholds < 0)] = below_zero
    bounds[(thresholds >= 0) & (thresholds < zero)] = zero
    return bounds


def _sets(
    tests: _Tests, trees: list[Tree], segments: int
) -> tuple[NDArray[np.uint32], NDArray[Any], NDArray[np.int64]]:
    """Give the columns of codes and the tests for categories, and where each segment's end."""
    sizes = np.concatenate([np.diff(tree.category_bounds) for tree in trees])
    starts = np.cumsum(sizes + 1) - sizes - 1
    code_columns, column = np.unique(tests.features, return_inverse=True)
    order = np.lexsort((column, tests.segments))
    sets = np.empty(len(order), dtype=SET)
    sets["column"], sets["keeps"] = column[order], tests.keeps[order]
    sets["first"], sets["words"] = starts[tests.sets[order]], sizes[tests.sets[order]]
    stop = np.cumsum(np.bincount(tests.segments, minlength=segments))
    return code_columns.astype(np.uint32), sets, stop


def _words(trees: list[Tree]) -> NDArray[np.uint32]:
    """Give the bits of all sets, with a word of zeros behind each."""
    ended = [np.insert(tree.category_words, tree.category_bounds[1:], 0) for tree in trees]
    return np.concatenate([*ended, [0]]).astype(np.uint32)


def _spans(tree: Tree) -> _Spans:
    """Give the leaves from left to right, and where each node's left subtree begins and ends."""
    if not len(tree.features):
        return [0], np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    left, right = tree.left.tolist(), tree.right.tolist()
    first, end = [0] * len(left), [0] * len(left)
    order: list[int] = []
    waiting = [(0, False)]
    while waiting:
        at, left_done = waiting.pop()
        if at < 0:
            order.append(~at)
        elif left_done:
            end[at] = len(order)
            waiting.append((right[at], False))
        else:
            first[at] = len(order)
            waiting += [(at, True), (left[at], False)]
    return order, np.array(first), np.array(end)
