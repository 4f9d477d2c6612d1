"""Whether the kernel gives LightGBM's scores, seen on rows that are made to part them."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scoring.forest import NotCovered
from scoring.kernel import Kernel
from scoring.trees import CATEGORICAL, ZERO, Tree, not_above

_FEW, _MOST_ROWS = 64, 1_024
_MOST_WALKS = 600_000
"""Rows times trees: at most 0.1 s of LightGBM's time."""
_FLOAT = np.dtype(np.float32)
_LARGEST = np.finfo(_FLOAT).max
_ABOVE_ZERO = (0.0, 1e-45, 1e-38, np.nextafter(ZERO, _FLOAT.type(0)), ZERO, 1.0, _LARGEST, np.inf)
_EVERYWHERE = (np.nan, *_ABOVE_ZERO, *(-value for value in _ABOVE_ZERO))
_NO_CATEGORIES = (-1.0, -0.5, 0.5, 2.0**31, 2.0**32 + 1)


class Booster(Protocol):
    """LightGBM's own scorer."""

    def predict(self, data: NDArray[Any], *, raw_score: bool = ..., num_threads: int = ...) -> Any:
        """Score rows."""
        ...


def check(kernel: Kernel, booster: Booster, rows: NDArray[np.float32]) -> None:
    """Hold the scores of float32[n, features] against LightGBM's; raises NotCovered."""
    raw = np.asarray(booster.predict(rows, raw_score=True, num_threads=1))
    for some in (slice(None), slice(_FEW), slice(1)):
        if kernel.raw_scores(rows[some]).tobytes() != raw[some].tobytes():
            msg = "the kernel's raw scores differ from its own: please report this model"
            raise NotCovered(msg)
    given = np.asarray(booster.predict(rows[:_FEW], num_threads=1))
    if kernel.predictions(rows[:_FEW]).tobytes() != given.tobytes():
        msg = "the kernel's probabilities differ from its own: please report this model"
        raise NotCovered(msg)


def hard_rows(trees: list[Tree], features: int) -> NDArray[np.float32]:
    """
    Make rows of values at each threshold, a step beside it, and of all that floats may be.

    They are as many as the feature with most thresholds needs, but at most 1,024, and fewer for
    thousands of trees: a feature with more gets some of its values. The same trees have the same.
    """
    values = _values(trees)
    most = min(_MOST_ROWS, max(_FEW, _MOST_WALKS // len(trees)))
    count = min(max([_FEW, *map(len, values.values())]), most)
    random = np.random.default_rng(0)
    rows = np.zeros((count, features), dtype=_FLOAT)
    for feature, of_feature in values.items():
        some = np.resize(random.permutation(of_feature), count)
        rows[:, feature] = random.permutation(some)
    return rows


def _values(trees: list[Tree]) -> dict[int, NDArray[np.float32]]:
    """Give the values that are worth a row, of each feature that a node tests."""
    features = np.concatenate([tree.features for tree in trees])
    asks = np.concatenate([tree.decisions for tree in trees]) & CATEGORICAL > 0
    bounds = not_above(np.concatenate([tree.thresholds for tree in trees]), _FLOAT)
    categories = _categories(trees)
    found = {}
    for feature in np.unique(features).tolist():
        at = bounds[(features == feature) & ~asks]
        with np.errstate(over="ignore"):
            beside = [np.nextafter(at, _FLOAT.type(end)) for end in (-np.inf, np.inf)]
        known = categories.get(feature, np.empty(0))
        strange = _NO_CATEGORIES if len(known) else ()
        values = (at, *beside, _EVERYWHERE, known, known + 1, strange)
        found[feature] = np.unique(np.concatenate(values).astype(_FLOAT))
    return found


def _categories(trees: list[Tree]) -> dict[int, NDArray[np.int64]]:
    """Give the categories that some set holds, of each feature that is asked for its category."""
    found: dict[int, set[int]] = {}
    for tree in trees:
        for node in np.flatnonzero(tree.decisions & CATEGORICAL).tolist():
            begin = int(tree.thresholds[node])
            words = tree.category_words[slice(*tree.category_bounds[begin : begin + 2])]
            bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
            found.setdefault(int(tree.features[node]), set()).update(np.flatnonzero(bits).tolist())
    return {feature: np.array(sorted(codes)) for feature, codes in found.items()}
