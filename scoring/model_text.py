"""
Whether a model's text is what LightGBM writes, before its parser sees it.

The parser trusts sizes and numbers: from a text whose trees are none it reads and writes outside
its arrays, or goes in circles, at loading or only at some row.
"""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from scoring.errors import ModelRefused

_TREE, _END = b"Tree=", b"end of trees\n"
_INTEGERS = re.compile(rb"(?:-?[0-9]{1,18}(?: |$))*")
_NUMBER = rb"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,4})?"
_NUMBERS = re.compile(rb"(?:%b(?: |$))*" % _NUMBER)
_LARGEST_COUNT = 2**31 - 1
_LARGEST_WORD = 2**32 - 1
# Bits of `decision_type`: categorical, default left, and the kind of what is missing (none, zero,
# NaN) above them.
_CATEGORICAL, _LARGEST_DECISION = 1, 0b1011
# Of a tree, for each inner node and for each leaf. Where one is not there, it is not asked for.
_OF_NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_OF_NODES_TOO = ("split_gain", "internal_value", "internal_weight", "internal_count")
_OF_LEAVES_TOO = ("leaf_weight", "leaf_count")

_Fields = Mapping[str, bytes]


def checked_model_text(model_text: str, features: int) -> str:
    """
    See that a text holds one model over so many features, of whole trees; give it up to their end.

    What follows, importances and the parameters of training, changes no score, and half a line of
    it ends the process. Raises ModelRefused, which names the tree and the field.
    """
    text = model_text.encode()
    if not text.startswith(b"tree\n") or b"\r" in text:
        raise _refused("", "it does not begin as LightGBM's text does")
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
    if not mark or not len(sizes):
        raise _refused("", "it holds no trees")
    for number, size in enumerate(sizes.tolist()):
        block, begin = text[at : at + size], b"Tree=%d\n" % number
        where = f"tree {number}: "
        at += size
        if not block.startswith(begin) or block.find(_TREE, 1) >= 0 or block[-1:] != b"\n":
            raise _refused(where, "it does not stand where tree_sizes says")
        _check_tree(_fields(block[len(begin) :], where), where, features)
    if not text.startswith(_END, at):
        raise _refused("", "the trees do not end where tree_sizes says")
    return text[: at + len(_END)].decode()


def _check_tree(fields: _Fields, where: str, features: int) -> None:
    leaves = _one(fields, "num_leaves", where, 1, _LARGEST_COUNT)
    categorical = _one(fields, "num_cat", where, 0, _LARGEST_COUNT)
    if fields.get("is_linear", b"0") != b"0":
        raise _refused(where, f"is_linear is {_shown(fields, 'is_linear')}, not 0")
    for name in ("leaf_value", "shrinkage"):
        if len(_numbers(fields, name, where)) != (leaves if name == "leaf_value" else 1):
            raise _refused(where, f"{name} is not of {leaves} leaves")
    inner = leaves - 1
    for name in (*_OF_NODES, *_OF_NODES_TOO, *_OF_LEAVES_TOO):
        wanted = leaves if name in _OF_LEAVES_TOO else inner
        found = len(_numbers(fields, name, where))
        # A tree of one leaf has no weights; other programs write no gains.
        if found != wanted and (found or (inner and name in _OF_NODES)):
            raise _refused(where, f"{name} has {found} values, not {wanted}")
    for name in ("internal_count", "leaf_count"):
        _integers(fields, name, where, 0, _LARGEST_COUNT)
    _integers(fields, "split_feature", where, 0, features - 1)
    decisions = _integers(fields, "decision_type", where, 0, _LARGEST_DECISION)
    _check_categories(fields, where, decisions & _CATEGORICAL > 0, categorical)
    left = _integers(fields, "left_child", where, -leaves, inner - 1)
    right = _integers(fields, "right_child", where, -leaves, inner - 1)
    _check_shape(left.tolist(), right.tolist(), where)


def _check_categories(
    fields: _Fields, where: str, asks: NDArray[np.bool_], categorical: int
) -> None:
    words = len(_integers(fields, "cat_threshold", where, 0, _LARGEST_WORD))
    bounds = _integers(fields, "cat_boundaries", where, 0, words)
    if not categorical:
        if asks.any() or len(bounds) or words:
            raise _refused(where, "num_cat is 0, and a node asks for categories")
        return
    whole = len(bounds) == categorical + 1 and bounds[0] == 0 and bounds[-1] == words
    if not whole or not bool((np.diff(bounds) > 0).all()):
        raise _refused(where, "cat_boundaries do not divide cat_threshold")
    sets = _numbers(fields, "threshold", where)[asks]
    if not bool(np.isin(sets, np.arange(categorical)).all()):
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
    return int(found[0])


def _integers(fields: _Fields, name: str, where: str, least: int, most: int) -> NDArray[np.int64]:
    value = fields.get(name, b"")
    if not _INTEGERS.fullmatch(value):
        raise _refused(where, f"{name} are not whole numbers: {_shown(fields, name)}")
    found = np.array(value.split(), dtype=np.int64)
    wrong = found[(found < least) | (found > most)]
    if len(wrong):
        raise _refused(where, f"{name} {wrong[0]} is not {least} to {most}")
    return found


def _numbers(fields: _Fields, name: str, where: str) -> NDArray[np.float64]:
    value = fields.get(name, b"")
    if not _NUMBERS.fullmatch(value):
        raise _refused(where, f"{name} are not finite numbers: {_shown(fields, name)}")
    found = np.array(value.split(), dtype=np.float64)
    if not bool(np.isfinite(found).all()):
        raise _refused(where, f"{name} are not all finite")
    return found


def _shown(fields: _Fields, name: str) -> str:
    return ascii(fields.get(name, b"").decode(errors="replace")[:40])


def _refused(where: str, reason: str) -> ModelRefused:
    return ModelRefused(f"it is no model as LightGBM writes it: {where}{reason}")
