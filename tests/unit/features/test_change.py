from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.change import Bounds, ChangeRefused, MissingShare, check_change, missing_shares
from features.schema import Feature, FeatureSchema
from features.table import FeatureTable

SEPTEMBER, OCTOBER = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)


def a_table(
    rows: int = 100,
    *,
    names: str = "ab",
    missing: dict[str, int] | None = None,
    as_of: datetime | None = SEPTEMBER,
    keys: NDArray[np.int64] | list[str] | None = None,
) -> FeatureTable:
    """A table of ones, of which so many of a column are missing."""
    matrix = np.ones((rows, len(names)), dtype=np.float32)
    for name, count in (missing or {}).items():
        matrix[:count, names.index(name)] = np.nan
    schema = FeatureSchema(tuple(Feature(name) for name in names))
    return FeatureTable(schema, np.arange(rows) if keys is None else keys, matrix, as_of=as_of)


def refusal(old: FeatureTable, new: FeatureTable, bounds: Bounds | None = None) -> ChangeRefused:
    with pytest.raises(ChangeRefused) as refused:
        check_change(old, new, bounds or Bounds())
    return refused.value


@pytest.mark.parametrize("rows", [90, 100, 150])
def test_a_table_may_lose_a_tenth_of_its_rows_and_gain_half(rows: int) -> None:
    check_change(a_table(100), a_table(rows), Bounds())


@pytest.mark.parametrize("rows", [1, 89, 151])
def test_a_table_that_loses_or_gains_more_is_refused_with_both_numbers(rows: int) -> None:
    refused = refusal(a_table(100), a_table(rows))

    assert refused.rows == (100, rows)
    assert refused.columns == ()
    assert refused.reasons == (f"{rows} rows after 100, not 90 to 150",)


def test_a_share_on_its_bound_is_within_it() -> None:
    check_change(a_table(missing={"a": 10}), a_table(missing={"a": 15}), Bounds())
    check_change(a_table(missing={"a": 10}), a_table(missing={"a": 5}), Bounds())


def test_each_column_that_is_out_of_bounds_is_listed_with_its_shares() -> None:
    old = a_table(names="abc", missing={"a": 10, "c": 50})
    new = a_table(names="abc", missing={"a": 16, "b": 5, "c": 20})

    refused = refusal(old, new)

    assert refused.columns == (MissingShare("a", 0.10, 0.16), MissingShare("c", 0.50, 0.20))
    assert "missing share of a 0.1600 after 0.1000, more than 0.05 apart" in str(refused)
    assert len(refused.reasons) == 2


def test_only_columns_that_both_have_are_compared_wherever_they_stand() -> None:
    old = a_table(names="ab", missing={"b": 10})
    new = a_table(names="xba", missing={"x": 100, "b": 10})

    check_change(old, new, Bounds())

    assert missing_shares(old, new) == [MissingShare("a", 0, 0), MissingShare("b", 0.1, 0.1)]


def test_a_table_of_an_earlier_date_needs_a_word() -> None:
    old, new = a_table(as_of=OCTOBER), a_table(as_of=SEPTEMBER)

    assert "as_of 2026-09-01T00:00:00+00:00 goes back from 2026-10-01" in str(refusal(old, new))
    check_change(old, new, Bounds(as_of_may_go_back=True))
    check_change(new, old, Bounds())


@pytest.mark.parametrize("dates", [(None, SEPTEMBER), (SEPTEMBER, None), (None, None)])
def test_a_date_that_is_not_known_is_not_compared(
    dates: tuple[datetime | None, datetime | None],
) -> None:
    check_change(a_table(as_of=dates[0]), a_table(as_of=dates[1]), Bounds())


def test_keys_of_another_kind_would_find_nobody() -> None:
    refused = refusal(a_table(2), a_table(2, keys=["ada", "bob"]))

    assert refused.reasons == ("keys are texts, not numbers",)


def test_all_that_is_wrong_is_said_at_once() -> None:
    refused = refusal(a_table(as_of=OCTOBER), a_table(50, missing={"a": 50, "b": 50}))

    assert len(refused.reasons) == 4


tables = st.builds(
    a_table,
    st.integers(1, 40),
    names=st.permutations("abc").map("".join),
    missing=st.dictionaries(st.sampled_from("abc"), st.integers(0, 40)),
    as_of=st.sampled_from([SEPTEMBER, OCTOBER]),
)
shares = st.floats(0, 1)


@given(tables)
def test_a_table_never_differs_from_itself(table: FeatureTable) -> None:
    check_change(table, table, Bounds(0, 0, 0))


@given(tables, tables)
def test_bounds_that_allow_everything_refuse_nothing(old: FeatureTable, new: FeatureTable) -> None:
    check_change(old, new, Bounds(1, 100, 1, as_of_may_go_back=True))


@given(tables, tables, shares, shares, shares)
def test_what_is_refused_is_out_of_bounds_and_nothing_else_is(
    old: FeatureTable, new: FeatureTable, lost: float, gained: float, change: float
) -> None:
    bounds = Bounds(lost, gained, change, as_of_may_go_back=True)
    differing = [m for m in missing_shares(old, new) if abs(m.new - m.old) > change + 1e-9]
    within = len(old) * (1 - lost) - 1e-9 <= len(new) <= len(old) * (1 + gained) + 1e-9

    if within and not differing:
        check_change(old, new, bounds)
    else:
        refused = refusal(old, new, bounds)
        assert list(refused.columns) == differing
        assert len(refused.reasons) == len(differing) + (not within)
