"""Columns of byte strings against lists of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.byte_strings import ByteStrings
from scoring.bytewise.strings import in_hex, in_one_width, or_number, packed

STRINGS = st.lists(st.none() | st.binary(max_size=12), max_size=12)


@given(STRINGS)
def test_strings_come_out_as_they_went_in(strings: list[bytes | None]) -> None:
    column = ByteStrings.of(strings)

    assert list(column) == strings
    assert [column[at] for at in range(len(column))] == strings
    assert list(column[1:4]) == strings[1:4]
    assert column.size() == sum(len(one or b"") for one in strings)
    assert ByteStrings.of(column) is column


@given(STRINGS, st.data())
def test_rows_are_picked_and_others_put_in_their_place(
    strings: list[bytes | None], data: st.DataObject
) -> None:
    of_rows = st.lists(st.sampled_from(range(len(strings))), unique=True) if strings else None
    rows = [] if of_rows is None else data.draw(of_rows)
    others = [data.draw(st.none() | st.binary(max_size=5)) for _ in rows]
    column = ByteStrings.of(strings)

    changed = list(strings)
    for row, other in zip(rows, others, strict=True):
        changed[row] = other
    assert list(column.at(rows)) == [strings[row] for row in rows]
    assert list(column.with_some(rows, others)) == changed
    assert list(column) == strings


@given(STRINGS, st.data())
def test_strings_are_packed_without_gaps(strings: list[bytes | None], data: st.DataObject) -> None:
    picked = data.draw(st.lists(st.sampled_from(range(len(strings))))) if strings else []

    found = packed(ByteStrings.of(strings).at(picked))

    wanted = [strings[row] for row in picked]
    assert list(found) == wanted
    assert found.data.tobytes() == b"".join(one or b"" for one in wanted)


@given(st.lists(st.tuples(st.none() | st.binary(max_size=9), st.integers(-(2**63), 2**63 - 1))))
def test_what_is_not_there_is_a_number_instead(rows: list[tuple[bytes | None, int]]) -> None:
    numbers = np.array([number for _, number in rows], dtype=np.int64)

    found = or_number(ByteStrings.of(text for text, _ in rows), numbers)

    assert list(found) == [text or str(number).encode() for text, number in rows]


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda one: not one.endswith(b"\0"))))
def test_strings_of_one_width_are_numpys(strings: list[bytes]) -> None:
    assert in_one_width(ByteStrings.of(strings)).tolist() == strings


@given(st.lists(st.binary(min_size=8, max_size=8)))
def test_bytes_are_written_in_hexadecimal_digits(strings: list[bytes]) -> None:
    assert list(in_hex(ByteStrings.of(strings))) == [one.hex().encode() for one in strings]


@given(st.lists(STRINGS, min_size=1, max_size=4), st.data())
def test_columns_are_joined_also_those_that_share_a_buffer(
    lists: list[list[bytes | None]], data: st.DataObject
) -> None:
    columns = []
    for strings in lists:
        column = ByteStrings.of(strings)
        cut = data.draw(st.integers(0, len(strings)))
        columns += [column[:cut], column[cut:]]

    assert list(ByteStrings.joined(columns)) == [one for strings in lists for one in strings]
