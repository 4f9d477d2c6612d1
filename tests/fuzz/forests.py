"""LightGBM models of any shape, written as text, and rows that meet their bounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]

ZERO = float(np.float32(1e-35))
"""What LightGBM takes for zero, up to it."""
_ODD = (
    *(0.0, 5e-324, 1e-310, 1e-45, 1e-40, 1e-38, 1.0, 0.1, 2.5, 7.0, 31.0, 1e300),
    *(ZERO, float(np.nextafter(ZERO, 0)), float(np.nextafter(ZERO, 1))),
    *(float(np.nextafter(np.float32(ZERO), np.float32(to))) for to in (0, 1)),
    *(float(np.finfo(np.float32).max), 3.5e38, float("inf")),
)
_OBJECTIVES = (
    *("binary sigmoid:1", "binary sigmoid:0.7", "binary sigmoid:12.345", "binary sigmoid:1.5e-05"),
    *("cross_entropy", "regression", "regression_l1", "quantile", "huber"),
)
_STRANGE = (-1.0, -0.5, 0.5, 1.9, 31.0, 32.0, 63.5, 1e6, 2.0**31 - 1, 2.0**31, 2.0**32 + 1, 1e30)


@dataclass
class Shape:
    """What a model is to be like; categories and missing kinds are chosen a node."""

    trees: int
    most_leaves: int
    features: int
    categorical: bool
    averaged: bool
    missing: tuple[int, ...]
    objective: str
    grown: tuple[str, ...] = ("any", "first", "last", "widest")


def a_shape(random: Random) -> Shape:
    """Choose what a model is like: mostly small, at times of 2,000 trees or 300 leaves."""
    trees = (
        round(2 ** random.uniform(0, 7)) if random.random() < 0.97 else random.randint(500, 2_000)
    )
    leaves = random.choice((1, 2, 4, 8, 16, 31, 32, 33, 63, 64, 65, 96, 97, 130, 300))
    if trees > 100:
        leaves = min(leaves, 16)
    missing = random.choice(((0,), (1,), (2,), (0, 1, 2)))
    return Shape(
        trees=trees,
        most_leaves=leaves,
        features=random.choice((1, 2, 3, 5, 17, 40)),
        categorical=random.random() < 0.4,
        averaged=random.random() < 0.2,
        missing=missing,
        objective=random.choice(_OBJECTIVES),
    )


@dataclass
class _Tree:
    features: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    decisions: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    bounds: list[int] = field(default_factory=lambda: [0])
    words: list[int] = field(default_factory=list)


def a_text(random: Random, shape: Shape) -> str:
    """Write a model of such a shape."""
    blocks = [f"Tree={number}\n{_tree_text(random, shape)}\n\n" for number in range(shape.trees)]
    names = " ".join(f"f{number}" for number in range(shape.features))
    head = [
        *("tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0"),
        f"max_feature_idx={shape.features - 1}",
        f"objective={shape.objective}",
        *(["average_output"] if shape.averaged else []),
        f"feature_names={names}",
        f"feature_infos={' '.join(['none'] * shape.features)}",
        f"tree_sizes={' '.join(str(len(block)) for block in blocks)}",
    ]
    return "\n".join(head) + "\n\n" + "".join(blocks) + "end of trees\n"


def _tree_text(random: Random, shape: Shape) -> str:
    leaves = random.choice((1, shape.most_leaves, random.randint(1, shape.most_leaves)))
    tree = _grown(random, shape, leaves)
    values = [_leaf_value(random) for _ in range(leaves)]
    lines: dict[str, Sequence[object]] = {
        "num_leaves": [leaves],
        "num_cat": [len(tree.bounds) - 1],
        "split_feature": tree.features,
        "split_gain": [1] * (leaves - 1),
        "threshold": tree.thresholds,
        "decision_type": tree.decisions,
        "left_child": tree.left,
        "right_child": tree.right,
        "leaf_value": values,
        "leaf_weight": [1] * leaves if leaves > 1 else [],
        "leaf_count": [1] * leaves if leaves > 1 else [],
        "internal_value": [0] * (leaves - 1),
        "internal_weight": [1] * (leaves - 1),
        "internal_count": [2] * (leaves - 1),
        **({"cat_boundaries": tree.bounds, "cat_threshold": tree.words} if tree.words else {}),
        "is_linear": [0],
        "shrinkage": [1],
    }
    return "\n".join(f"{name}={' '.join(map(repr, of))}" for name, of in lines.items())


def _grown(random: Random, shape: Shape, leaves: int) -> _Tree:
    """Split leaf by leaf, numbered as LightGBM does; all ways or only at one end."""
    tree = _Tree()
    how = random.choice(shape.grown)
    places: list[tuple[list[int], int]] = [([], 0)] * leaves  # of each leaf: in whose children
    for node in range(leaves - 1):
        waiting = range(node + 1)
        leaf = {"any": random.choice(waiting), "first": 0, "last": node}.get(how, node // 2)
        children, at = places[leaf]
        if node:
            children[at] = node
        tree.left.append(~leaf)
        tree.right.append(~(node + 1))
        places[leaf] = (tree.left, node)
        places[node + 1] = (tree.right, node)
        _test(random, shape, tree)
    return tree


def _test(random: Random, shape: Shape, tree: _Tree) -> None:
    tree.features.append(random.randrange(shape.features))
    if shape.categorical and random.random() < 0.5:
        words = [random.getrandbits(32) for _ in range(random.choice((1, 1, 1, 2, 5)))]
        tree.thresholds.append(len(tree.bounds) - 1)
        tree.decisions.append(1)
        tree.words += words
        tree.bounds.append(len(tree.words))
        return
    tree.thresholds.append(_number(random))
    tree.decisions.append(random.choice(shape.missing) << 2 | random.choice((0, 2)))


def _number(random: Random) -> float:
    how = random.random()
    if how < 0.3:
        return random.choice(_ODD) * random.choice((1, -1))
    if how < 0.5:
        return float(random.randint(-3, 3))
    if how < 0.7:
        return float(np.float32(random.gauss(0, 2)))
    return random.gauss(0, 2)


def _leaf_value(random: Random) -> float:
    if random.random() < 0.05:
        return random.choice((0.0, -0.0, 5e-324, 1e-310, 1e15, -1e15, 1e290))
    return random.gauss(0, 0.1)


def some_rows(random: Random, text: str, features: int, count: int) -> Rows:
    """Make float64[count, features] of a model's bounds, steps beside them, and odd values."""
    bounds: list[list[float]] = [[] for _ in range(features)]
    tested: list[int] = []
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "split_feature":
            tested = [int(one) for one in value.split()]
        elif name == "threshold":
            for feature, bound in zip(tested, value.split(), strict=True):
                bounds[feature].append(float(bound))
    numbers = np.random.default_rng(random.getrandbits(64))
    rows = np.empty((count, features))
    odd = np.array([*_ODD, *(-one for one in _ODD), float("nan"), *_STRANGE])
    for feature, of_feature in enumerate(bounds):
        at = np.unique(np.array(of_feature, dtype=np.float64))
        with np.errstate(over="ignore"):
            single = at.astype(np.float32)
            steps = [np.nextafter(single, np.float32(to)) for to in (-np.inf, np.inf)]
            near = [np.nextafter(at, to) for to in (-np.inf, np.inf)]
        codes = numbers.integers(0, 70, 30).astype(np.float64)
        usual = numbers.normal(0, 2, 20)
        pools = (at, single, *steps, *near, odd, codes, usual, np.full(5, np.nan))
        pool = np.concatenate([np.asarray(one, dtype=np.float64) for one in pools])
        rows[:, feature] = numbers.choice(pool, count)
    return rows
