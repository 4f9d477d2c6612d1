"""Texts that LightGBM would crash on, or go in circles with, before it sees them."""

import re

import lightgbm
import numpy as np
import pytest

from scoring.errors import ModelRefused
from scoring.model_text import checked_model
from tests.fuzz.releases import resized

ROWS = np.random.default_rng(0).integers(0, 50, (600, 3)).astype(float)
LABEL = np.isin(ROWS[:, 0] % 7, (1, 3)).astype(int)


def a_model(rows: np.ndarray = ROWS, **parameters: object) -> str:
    data = lightgbm.Dataset(rows, LABEL, categorical_feature=[0])
    plain = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 5}
    return str(lightgbm.train(plain | parameters, data, 5).model_to_string())


MODEL = a_model()
PARTED_FROM_NOTHING = a_model(np.where(LABEL[:, None] > 0, np.nan, ROWS + 7), max_bin=2)


@pytest.mark.parametrize(
    "text",
    [
        MODEL,
        a_model(boosting="rf", bagging_freq=1, bagging_fraction=0.5),
        a_model(boosting="dart"),
        a_model(boosting="goss"),
        a_model(objective="cross_entropy"),
        a_model(zero_as_missing=True),
        a_model(np.ones((600, 3))),  # trees of one leaf
        a_model(rows=np.where(ROWS > 40, np.nan, ROWS)),
        PARTED_FROM_NOTHING,
    ],
)
def test_what_lightgbm_writes_passes(text: str) -> None:
    checked = checked_model(text, 3).text

    assert text.startswith(checked)
    as_it_was, found = (lightgbm.Booster(model_str=one).predict(ROWS) for one in (text, checked))
    assert np.asarray(found).tobytes() == np.asarray(as_it_was).tobytes()


def test_a_node_that_parts_what_is_missing_from_all_else_has_an_infinite_threshold() -> None:
    assert re.search("^threshold=(.* )?inf( |$)", PARTED_FROM_NOTHING, re.MULTILINE)


def test_nothing_behind_the_trees_reaches_lightgbm() -> None:
    cut = MODEL[: MODEL.index("parameters:") + 40]  # LightGBM crashes on it

    assert checked_model(cut, 3).text == checked_model(MODEL, 3).text


def of_first_tree(field: str, other: str) -> str:
    return resized(re.sub(rf"^{field}=.*$", f"{field}={other}", MODEL, count=1, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin as"),
        (MODEL.replace("\n", "\r\n"), "its lines end in CR LF"),
        ("\ufeff" + MODEL, "it begins with a byte-order mark"),
        (MODEL.replace("num_class=1", "num_class=2"), "num_class is '2', not 1"),
        (MODEL.replace("_idx=2", "_idx=2147483647"), "max_feature_idx is '2147483647', not 2"),
        (MODEL.replace("max_feature_idx=2\n", ""), "max_feature_idx is '', not 2"),
        (MODEL.replace("max_feature_idx", "version=v4\nmax_feature_idx"), "version stands twice"),
        (re.sub("feature_infos=.*", "feature_infos=none", MODEL), "feature_infos are not of 3"),
        (re.sub("tree_sizes=.*\n", "", MODEL), "it holds no trees"),
        (re.sub("tree_sizes=", "tree_sizes=9 ", MODEL), "tree 0: it does not stand where"),
        (re.sub("tree_sizes=.*", "tree_sizes=4294967296", MODEL), "tree_sizes 4294967296 is not"),
        (re.sub(r"(tree_sizes=.*) \d+", r"\1", MODEL), "the trees do not end where tree_sizes"),
        (of_first_tree("num_leaves", "2147483647"), "leaf_value has 5 values, not 2147483647"),
        (of_first_tree("num_leaves", "0"), "num_leaves 0 is not 1 to"),
        (of_first_tree("num_leaves", "5 5"), "num_leaves is '5 5', not one number"),
        (of_first_tree("left_child", "-1 -2 3"), "left_child has 3 values, not 4"),
        (of_first_tree("left_child", "-1 -2 99 -3"), "left_child 99 is not -5 to 3"),
        (of_first_tree("right_child", "1 2 -4 -6"), "right_child -6 is not -5 to 3"),
        (of_first_tree("left_child", "0 -2 3 -3"), "node or leaf 0 is reached twice"),
        (of_first_tree("left_child", "-1 -1 3 -3"), "node or leaf -1 is reached twice"),
        (of_first_tree("split_feature", "0 0 3 1"), "split_feature 3 is not 0 to 2"),
        (of_first_tree("split_feature", "0 0 1_0 1"), "split_feature are not whole numbers"),
        (of_first_tree("split_gain", "1 2 1_0 4"), "split_gain are not numbers"),
        (of_first_tree("leaf_weight", "1 2 3 4"), "leaf_weight has 4 values, not 5"),
        (of_first_tree("threshold", "0 1 nan 0.5"), "threshold are not all numbers"),
        (of_first_tree("split_feature", "0 0 1.5 1"), "split_feature are not whole numbers"),
        (of_first_tree("leaf_value", "1 2 nan 4 5"), "leaf_value are not all finite"),
        (of_first_tree("leaf_value", "1 2 1e999 4 5"), "leaf_value are not all finite"),
        (of_first_tree("shrinkage", ""), "shrinkage has 0 values, not 1"),
        (of_first_tree("is_linear", "01"), "is_linear is '01', not 0"),
        (of_first_tree("decision_type", "9 9 16 2"), "decision_type 16 is not 0 to 11"),
        (of_first_tree("num_cat", "0"), "num_cat is 0, and a node asks for categories"),
        (of_first_tree("num_cat", "3"), "cat_boundaries do not divide cat_threshold"),
        (of_first_tree("cat_boundaries", "0 9 2"), "cat_boundaries 9 is not 0 to"),
        (of_first_tree("threshold", "7 1 0.5 0.5"), "asks for none of"),
        (of_first_tree("leaf_count", "1 2 3 4 9999999999"), "leaf_count 9999999999 is not 0 to"),
    ],
)
def test_what_it_does_not_write_is_refused_by_tree_and_field(text: str, reason: str) -> None:
    with pytest.raises(ModelRefused, match=reason):
        checked_model(text, 3)
