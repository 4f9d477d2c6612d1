"""
Whether a model's text is what LightGBM writes, before its parser sees it.

The parser trusts sizes and numbers: from a text whose trees are none it reads and writes outside
its arrays, or goes in circles, at loading or only at some row.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.errors import ModelRefused
from scoring.trees import CATEGORICAL, Tree

_TREE, _END = b"Tree=", b"end of trees\n"
_BYTE_ORDER_MARK = "\ufeff".encode()
_INTEGERS = re.compile(rb"(?:-?[0-9]{1,18}(?: |$))*")
_NUMBER = rb"[-+]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,4})?|inf|nan)"
_NUMBERS = re.compile(rb"(?:%b(?: |$))*" % _NUMBER)
_LARGEST_COUNT = 2**31 - 1
_LARGEST_WORD = 2**32 - 1
# Bits of `decision_type`: categorical, default left, and the kind of what is missing (none, zero,
# NaN) above them.
_LARGEST_DECISION = 0b1011
# What each node has. What tells of the training alone may be anything, or not there.
_OF_NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_OF_TRAINING = ("split_gain", "internal_value", "internal_weight", "leaf_weight")

_Fields = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """The part of a model's text that decides scores, and its trees."""

    text: str
    trees: list[Tree]


def checked_model(model_text: str, features: int) -> CheckedModel:
    """
    See that a text holds one model over so many features, of whole trees; give it up to their end.

    What follows, importances and the parameters of training, changes no score, and half a line of
    it ends the process. Raises ModelRefused, which names the tree and the field.
    """
    text = model_text.encode()
    _check_lines(text)
    head, mark, _ = text.partition(b"\n" + _TREE)
    fields = _fields(head, "")
    for name, expected in (
        ("num_class", 1),
        ("num_tree_per_iteration", 1),
        ("max_feature_idx", features - 1),
    ):
        if fields.get(name) != b"%d" % expected:
            raise _refused("", f"{name} is {_shown(fields, name)}, not {expected}")
    if len(fields.get("feature_infos", b"").split()) != features:
        raise _refused("", f"feature_infos are not of {features} features")
    at = len(head) + 1
    sizes = _integers(fields, "tree_sizes", "", 1, len(text))
    if not mark or not sizes:
        raise _refused("", "it holds no trees")
    trees = []
    for number, size in enumerate(sizes):
        block, begin = text[at : at + size], b"Tree=%d\n" % number
        where = f"tree {number}: "
        at += size
        if not block.startswith(begin) or block.find(_TREE, 1) >= 0 or block[-1:] != b"\n":
            raise _refused(where, "it does not stand where tree_sizes says")
        trees.append(_tree(_fields(block[len(begin) :], where), where, features))
    if not text.startswith(_END, at):
        raise _refused("", "the trees do not end where tree_sizes says")
    return CheckedModel(text[: at + len(_END)].decode(), trees)


def _check_lines(text: bytes) -> None:
    if text.startswith(_BYTE_ORDER_MARK):
        raise _refused("", "it begins with a byte-order mark")
    if b"\r" in text:
        raise _refused("", "its lines end in CR LF, where LightGBM's end in LF")
    if not text.startswith(b"tree\n"):
        raise _refused("", "it does not begin as LightGBM's text does")


def _tree(fields: _Fields, where: str, features: int) -> Tree:
    """Read a tree; of a field that decides nothing, only that it holds numbers, and how many."""
    leaves = _one(fields, "num_leaves", where, 1, _LARGEST_COUNT)
    categorical = _one(fields, "num_cat", where, 0, _LARGEST_COUNT)
    if fields.get("is_linear", b"0") != b"0":
        raise _refused(where, f"is_linear is {_shown(fields, 'is_linear')}, not 0")
    inner = leaves - 1
    leaf_values, _ = (
        _finite(fields, name, where, wanted)
        for name, wanted in (("leaf_value", leaves), ("shrinkage", 1))
    )
    bounds = {
        "split_feature": (0, features - 1),
        "decision_type": (0, _LARGEST_DECISION),
        "left_child": (-leaves, inner - 1),
        "right_child": (-leaves, inner - 1),
        "internal_count": (0, _LARGEST_COUNT),
        "leaf_count": (0, _LARGEST_COUNT),
    }
    integers = {name: _integers(fields, name, where, *ends) for name, ends in bounds.items()}
    numbers = {name: _numbers(fields, name, where) for name in ("threshold", *_OF_TRAINING)}
    for name, found in (integers | numbers).items():
        wanted = leaves if name.startswith("leaf_") else inner
        # A tree of one leaf has no weights; other programs write no gains.
        if len(found) != wanted and (len(found) or (inner and name in _OF_NODES)):
            raise _refused(where, f"{name} has {len(found)} values, not {wanted}")
    thresholds = np.array(numbers["threshold"], dtype=np.float64)
    # Infinite where a node parts what is missing from all else.
    if bool(np.isnan(thresholds).any()):
        raise _refused(where, "threshold are not all numbers")
    words = _integers(fields, "cat_threshold", where, 0, _LARGEST_WORD)
    tree = Tree(
        features=np.array(integers["split_feature"], dtype=np.int64),
        thresholds=thresholds,
        decisions=np.array(integers["decision_type"], dtype=np.int64),
        left=np.array(integers["left_child"], dtype=np.int64),
        right=np.array(integers["right_child"], dtype=np.int64),
        counts=np.array(integers["internal_count"], dtype=np.float64),
        leaf_values=leaf_values,
        leaf_counts=np.array(integers["leaf_count"], dtype=np.float64),
        category_bounds=np.array(
            _integers(fields, "cat_boundaries", where, 0, len(words)), dtype=np.int64
        ),
        category_words=np.array(words, dtype=np.int64),
    )
    _check_categories(tree, where, categorical)
    _check_shape(integers["left_child"], integers["right_child"], where)
    return tree


def _check_categories(tree: Tree, where: str, categorical: int) -> None:
    bounds, words = tree.category_bounds, len(tree.category_words)
    asks = tree.decisions & CATEGORICAL > 0
    if not categorical:
        if asks.any() or len(bounds) or words:
            raise _refused(where, "num_cat is 0, and a node asks for categories")
        return
    whole = len(bounds) == categorical + 1 and bounds[0] == 0 and bounds[-1] == words
    if not whole or not bool((np.diff(bounds) > 0).all()):
        raise _refused(where, "cat_boundaries do not divide cat_threshold")
    if not bool(np.isin(tree.thresholds[asks], np.arange(categorical)).all()):
        raise _refused(where, f"a node asks for none of {categorical} sets of categories")


def _check_shape(left: list[int], right: list[int], where: str) -> None:
    """See that each node and leaf is reached from the first node on one way."""
    if not left:
        return
    reached: set[int] = {0}
    waiting = [0]
    while waiting:
        node = waiting.pop()
        for child in (left[node], right[node]):
            if child in reached:
                raise _refused(where, f"node or leaf {child} is reached twice")
            reached.add(child)
            if child >= 0:
                waiting.append(child)
    if len(reached) != 2 * len(left) + 1:
        raise _refused(where, f"{2 * len(left) + 1 - len(reached)} nodes are never reached")


def _fields(block: bytes, where: str) -> dict[str, bytes]:
    fields: dict[str, bytes] = {}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b"=")
        known = name.decode(errors="backslashreplace")
        if known in fields and name:
            raise _refused(where, f"{known} stands twice")
        fields[known] = value
    return fields


def _one(fields: _Fields, name: str, where: str, least: int, most: int) -> int:
    found = _integers(fields, name, where, least, most)
    if len(found) != 1:
        raise _refused(where, f"{name} is {_shown(fields, name)}, not one number")
    return found[0]


def _integers(fields: _Fields, name: str, where: str, least: int, most: int) -> list[int]:
    value = fields.get(name, b"")
    if not _INTEGERS.fullmatch(value):
        raise _refused(where, f"{name} are not whole numbers: {_shown(fields, name)}")
    found = list(map(int, value.split()))
    if found and not least <= min(found) <= max(found) <= most:
        wrong = next(number for number in found if not least <= number <= most)
        raise _refused(where, f"{name} {wrong} is not {least} to {most}")
    return found


def _finite(fields: _Fields, name: str, where: str, wanted: int) -> NDArray[np.float64]:
    found = np.array(_numbers(fields, name, where), dtype=np.float64)
    if len(found) != wanted:
        raise _refused(where, f"{name} has {len(found)} values, not {wanted}")
    if not bool(np.isfinite(found).all()):
        raise _refused(where, f"{name} are not all finite")
    return found


def _numbers(fields: _Fields, name: str, where: str) -> list[bytes]:
    """Give the numbers of a field as they are written."""
    value = fields.get(name, b"")
    if not _NUMBERS.fullmatch(value):
        raise _refused(where, f"{name} are not numbers: {_shown(fields, name)}")
    return value.split()


def _shown(fields: _Fields, name: str) -> str:
    return ascii(fields.get(name, b"").decode(errors="replace")[:40])


def _refused(where: str, reason: str) -> ModelRefused:
    return ModelRefused(f"it is no model as LightGBM writes it: {where}{reason}")
