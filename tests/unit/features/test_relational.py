"""One declaration, two ways to compute it: the engine's rows and the event's have the same bits."""

import math
from collections.abc import Sequence
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.definition import Columns
from features.relational.expression import (
    APPLICATION,
    Across,
    Aggregate,
    Column,
    Expression,
    ExpressionInvalid,
    How,
)
from features.relational.in_engine import query
from features.relational.in_memory import InMemory, finished

KEY = "key"
ENGINE = ibis.duckdb.connect()
CATEGORIES = ("one", "two")
LIMIT = Column(APPLICATION, "limit", -1e9, 1e9)
OTHER = Column(APPLICATION, "other", -1e9, 1e9)
KIND = Column(APPLICATION, "kind", categories=CATEGORIES)
PAID = Column("payments", "paid", -1e6, 1e6)
DUE = Column("payments", "due", 0, 1e6)
STATE = Column("payments", "state", categories=CATEGORIES)
HOWS: tuple[How, ...] = ("min", "max", "sum", "mean", "count", "nunique")
MOST = 50

Row = dict[str, Any]


def aggregate(how: How, value: Expression, decimals: int = 3) -> Aggregate:
    return Aggregate(how, value, decimals, MOST)


EXPRESSIONS: dict[str, Expression] = {
    "limit": LIMIT,
    "known": LIMIT.unless(7.0),
    "is_one": KIND.equals("one"),
    "positive": LIMIT > 0,
    "ratio": LIMIT / (OTHER + 1),
    "over": LIMIT / OTHER,
    **{f"{how}_of_both": Across(how, (LIMIT, OTHER)) for how in ("min", "max", "sum", "mean")},
    **{f"{how}_paid": aggregate(how, PAID) for how in HOWS},
    **{f"{how}_gap": aggregate(how, PAID - DUE) for how in HOWS},
    **{f"{how}_ratio": aggregate(how, PAID / (DUE + 1), 8) for how in HOWS},
    "late": aggregate("mean", (PAID - DUE) > 0),
    "ones": aggregate("sum", STATE.equals("one"), 0),
    "share": aggregate("sum", PAID) / (aggregate("sum", DUE) + 1),
}


def amounts(least: float) -> st.SearchStrategy[float]:
    return st.floats(least, 1e6).map(lambda amount: round(amount, 4))


values = st.none() | amounts(-1e6) | st.sampled_from([0.0, -0.0, 7.0, 0.0005, -1.0])
positive = st.none() | amounts(0)
texts = st.sampled_from([None, "one", "two", "three"])
payments = st.fixed_dictionaries({"paid": values, "due": positive, "state": texts})
applicants = st.lists(
    st.tuples(
        st.fixed_dictionaries({"limit": values, "other": values, "kind": texts}),
        st.lists(payments, max_size=6),
    ),
    min_size=1,
    max_size=5,
)
Applicant = tuple[Row, list[Row]]


def columns(given: Sequence[Applicant]) -> Columns:
    def column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
        cells = [row[name] for row in rows]
        if name in {"kind", "state"}:
            code = {text: place for place, text in enumerate(CATEGORIES)}
            cells = [None if cell is None else code.get(cell, -1) for cell in cells]
        return np.array(cells, dtype=np.float64)

    own = [row for row, _ in given]
    rows = [row for _, several in given for row in several]
    return {
        **{f"{APPLICATION}.{name}": column(own, name) for name in ("limit", "other", "kind")},
        **{f"payments.{name}": column(rows, name) for name in ("paid", "due", "state")},
        "payments": np.array([len(several) for _, several in given], dtype=np.float64),
    }


def in_engine(
    given: Sequence[Applicant], expressions: dict[str, Expression]
) -> NDArray[np.float32]:
    own = [{KEY: key, **row} for key, (row, _) in enumerate(given)]
    rows = [{KEY: key, **row} for key, (_, several) in enumerate(given) for row in several]
    number, text = pa.float64(), pa.string()
    first = pa.schema({KEY: pa.int64(), "limit": number, "other": number, "kind": text})
    second = pa.schema({KEY: pa.int64(), "paid": number, "due": number, "state": text})
    tables = {
        APPLICATION: ibis.memtable(pa.Table.from_pylist(own, first)),
        # Backwards: no order of rows makes another feature.
        "payments": ibis.memtable(pa.Table.from_pylist(rows[::-1], second)),
    }
    found = ENGINE.to_pyarrow(query(expressions, tables, KEY).order_by(KEY))
    return finished([found[name].to_numpy() for name in expressions])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(applicants)
def test_engine_and_memory_agree_bit_for_bit(given: list[Applicant]) -> None:
    one_by_one = InMemory(list(EXPRESSIONS.values()))

    together = one_by_one.features(columns(given))
    alone = np.concatenate([one_by_one.features(columns([applicant])) for applicant in given])
    asked = in_engine(given, EXPRESSIONS)

    names = list(EXPRESSIONS)
    for of, found in (("alone", alone), ("the engine", asked)):
        differing = (found.view(np.uint32) != together.view(np.uint32)).any(axis=0)
        assert not differing.any(), (of, [names[at] for at in np.flatnonzero(differing)])


def of_one(expression: Expression, rows: list[Row], **own: object) -> float:
    applicant = ({"limit": None, "other": None, "kind": None} | own, rows)
    (value,) = InMemory([expression]).values(columns([applicant]))
    return float(value[0])


def paid(*amounts: float | None) -> list[Row]:
    return [{"paid": amount, "due": None, "state": None} for amount in amounts]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (aggregate("min", PAID), 1.5),
        (aggregate("max", PAID), 3.0),
        (aggregate("sum", PAID), 6.0),
        (aggregate("mean", PAID), 2.0),
        (aggregate("count", PAID), 3.0),
        (aggregate("nunique", PAID), 2.0),
    ],
)
def test_an_aggregate_takes_the_values_that_are_there(
    expression: Expression, expected: float
) -> None:
    assert of_one(expression, paid(1.5, None, 3.0, 1.5)) == expected


@pytest.mark.parametrize("how", HOWS)
def test_an_applicant_without_rows_has_no_aggregate(how: How) -> None:
    assert math.isnan(of_one(aggregate(how, PAID), []))


@pytest.mark.parametrize(
    ("how", "expected"), [("sum", math.nan), ("count", 0.0), ("max", math.nan)]
)
def test_rows_without_a_value_have_no_sum_but_a_count(how: How, expected: float) -> None:
    assert of_one(aggregate(how, PAID), paid(None, None)) == pytest.approx(expected, nan_ok=True)


def test_a_quotient_over_zero_is_missing() -> None:
    assert math.isnan(of_one(LIMIT / OTHER, [], limit=1.0, other=0.0))


def test_a_text_is_compared_and_a_missing_one_is_no_category() -> None:
    assert [of_one(KIND.equals("one"), [], kind=text) for text in ("one", "three", None)] == [
        1,
        0,
        0,
    ]


def test_a_mixture_of_rows_is_refused_by_its_tables() -> None:
    with pytest.raises(ExpressionInvalid, match="mixes rows of application, payments"):
        _ = LIMIT - PAID


def test_a_category_that_the_column_does_not_have_is_refused() -> None:
    with pytest.raises(ExpressionInvalid, match=r"'three' is no category of application\.kind"):
        KIND.equals("three")


def test_a_sum_that_may_not_fit_is_refused() -> None:
    with pytest.raises(ExpressionInvalid, match="do not fit into 64 bits"):
        Aggregate("sum", Column("payments", "paid", 0, 1e18), 3, 10)


def test_bounds_follow_from_the_columns() -> None:
    assert (PAID - DUE).bounds == (-2e6, 1e6)
    assert aggregate("sum", DUE).bounds == (0, 1e6 * MOST)
    assert (aggregate("sum", PAID) / (aggregate("sum", DUE) + 1)).bounds == (
        -1e6 * MOST,
        1e6 * MOST,
    )
    assert (LIMIT / OTHER).bounds == (-math.inf, math.inf)
