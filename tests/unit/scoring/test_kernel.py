"""The kernel's scores are LightGBM's, to the last bit."""

import platform
import re
import threading
from functools import cache
from random import Random

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray

from scoring.forest import NotCovered
from scoring.kernel import Kernel, _signature, _walk
from scoring.model_text import checked_model
from tests.fuzz.forests import Shape, a_shape, a_text, some_rows
from tests.fuzz.scores import differs

RANDOM = np.random.default_rng(7)
FEATURES = 6
ROWS = RANDOM.normal(size=(900, FEATURES)).astype(np.float32)
ROWS[:, 4] = RANDOM.integers(0, 200, len(ROWS))  # categories
ROWS[:, 5] = RANDOM.integers(-2, 3, len(ROWS))
ROWS[RANDOM.random(ROWS.shape) < 0.2] = np.nan
LABEL = (np.nan_to_num(ROWS) @ RANDOM.normal(size=FEATURES) > 0).astype(int)


def a_model(rounds: int = 20, categories: tuple[int, ...] = (), **parameters: object) -> str:
    usual = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 2}
    data = lightgbm.Dataset(ROWS, LABEL, categorical_feature=list(categories))
    return str(lightgbm.train(usual | parameters, data, rounds).model_to_string())


def a_kernel(text: str, features: int = FEATURES) -> Kernel:
    objective = next(line for line in text.splitlines() if line.startswith("objective="))
    averaged = "\naverage_output\n" in text
    return Kernel(
        checked_model(text, features).trees,
        features,
        objective.partition("=")[2],
        averaged=averaged,
    )


@cache
def of_lightgbm(text: str, *, raw: bool) -> NDArray[np.float64]:
    found = lightgbm.Booster(model_str=text).predict(ROWS, raw_score=raw, num_threads=1)
    return np.asarray(found)


TRAINED = {
    "missing is NaN": a_model(),
    "missing is zero": a_model(zero_as_missing=True),
    "nothing is missing": a_model(use_missing=False),
    "categories": a_model(categories=(4, 5), min_data_per_group=5, cat_smooth=1),
    "few leaves": a_model(num_leaves=2, rounds=2_000),
    "64 leaves": a_model(num_leaves=64),
    "words and categories": a_model(num_leaves=200, categories=(4,), min_data_per_group=2),
    "one leaf": a_model(min_data_in_leaf=10_000),
    "one tree": a_model(rounds=1),
    "forest": a_model(boosting="rf", bagging_fraction=0.6, bagging_freq=1),
    "dart": a_model(boosting="dart"),
    "steep": a_model(sigmoid=0.7),
    "cross entropy": a_model(objective="cross_entropy"),
    "regression": a_model(objective="regression"),
}


@pytest.mark.parametrize("text", TRAINED.values(), ids=TRAINED)
def test_a_trained_model_scores_as_by_lightgbm(text: str) -> None:
    kernel = a_kernel(text)

    for rows in (ROWS, ROWS.astype(np.float64), np.asfortranarray(ROWS)):
        assert kernel.raw_scores(rows).tobytes() == of_lightgbm(text, raw=True).tobytes()
        assert kernel.predictions(rows).tobytes() == of_lightgbm(text, raw=False).tobytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_model_of_any_shape_scores_as_by_lightgbm(seed: int) -> None:
    random = Random(seed)
    shape = a_shape(random)
    text = a_text(random, shape)

    assert differs(random, shape, text, some_rows(random, text, shape.features, 150)) == ""


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(list(TRAINED)),
    st.lists(st.lists(st.floats(), min_size=FEATURES, max_size=FEATURES), min_size=1, max_size=40),
)
def test_any_row_scores_as_by_lightgbm(name: str, values: list[list[float]]) -> None:
    text = TRAINED[name]
    booster = lightgbm.Booster(model_str=text)
    rows = np.array(values)
    with np.errstate(over="ignore"):
        single = rows.astype(np.float32)

    for same in (rows, single):
        expected = np.asarray(booster.predict(same, raw_score=True, num_threads=1))
        assert a_kernel(text).raw_scores(same).tobytes() == expected.tobytes()


def test_a_row_has_the_same_bits_in_every_batch_and_place() -> None:
    text = TRAINED["words and categories"]
    kernel, together = a_kernel(text), of_lightgbm(text, raw=True)

    for size in range(1, 200):
        start = size * 3
        part = slice(start, start + size)
        assert kernel.raw_scores(ROWS[part]).tobytes() == together[part].tobytes()


def test_no_rows_have_no_scores() -> None:
    assert a_kernel(TRAINED["one tree"]).predictions(ROWS[:0]).shape == (0,)


def test_rows_that_may_not_be_written_are_scored() -> None:
    shared = ROWS.copy()
    shared.flags.writeable = False

    found = a_kernel(TRAINED["one tree"]).raw_scores(shared)

    assert found.tobytes() == of_lightgbm(TRAINED["one tree"], raw=True).tobytes()


@pytest.mark.parametrize("rows", [ROWS[:, :-1], ROWS[0], np.zeros((5, FEATURES), np.int64)])
def test_what_is_no_matrix_of_the_models_features_is_not_read(rows: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="are no rows of 6 features"):
        a_kernel(TRAINED["one tree"]).raw_scores(rows)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (a_model(objective="poisson"), "objective 'poisson'"),
        (a_model(objective="regression", reg_sqrt=True), "objective 'regression sqrt'"),
        (TRAINED["one tree"].replace("sigmoid:1", "sigmoid:x"), "a sigmoid of 'x'"),
    ],
)
def test_what_it_does_not_know_it_does_not_score(text: str, reason: str) -> None:
    with pytest.raises(NotCovered, match=reason):
        a_kernel(text)


def a_chain(leaves: int) -> str:
    """Write one tree that splits only its first leaf."""
    random = Random(0)
    shape = Shape(1, leaves, FEATURES, False, False, (2,), "binary sigmoid:1", ("first",))
    while True:
        text = a_text(random, shape)
        if f"num_leaves={leaves}\n" in text:
            return text


def test_trees_that_are_walked_faster_are_left_to_lightgbm() -> None:
    with pytest.raises(NotCovered, match=r"in trees of [\d,]+ nodes it is faster"):
        a_kernel(a_chain(4_000))


def test_trees_that_would_take_all_memory_are_left_to_lightgbm() -> None:
    with pytest.raises(NotCovered, match="its trees are more than 4,194,304 tests"):
        a_kernel(a_chain(40_000))


def test_few_rows_pay_by_the_size_of_trees() -> None:
    small, large = a_kernel(TRAINED["64 leaves"]), a_kernel(a_chain(400))

    assert small.pays(1)
    assert [large.pays(rows) for rows in (1, 16, 8_192)] == [False, True, True]


def test_other_threads_run_meanwhile() -> None:
    kernel, rows = a_kernel(TRAINED["few leaves"]), np.tile(ROWS, (40, 1))
    kernel.raw_scores(ROWS[:1])
    done = threading.Event()

    def score() -> None:
        kernel.raw_scores(rows)
        done.set()

    scoring = threading.Thread(target=score)
    scoring.start()
    turns = 0
    while not done.is_set():
        turns += 1
    scoring.join()

    assert turns > 1_000


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86's assembly")
def test_every_comparison_is_one_of_many_rows() -> None:
    walk = njit(_walk(16))
    walk.compile(_signature(np.dtype(np.float32)))
    (assembly,) = walk.inspect_asm().values()

    packed = re.findall(r"\bv?cmp\w*ps\b.*%[xyz]mm", assembly)
    wide = {"zmm": 1, "ymm": 2, "xmm": 4}
    widest = next(name for name in wide if any(name in line for line in packed))
    assert len(packed) >= 2 * wide[widest]  # above, and above or NaN
