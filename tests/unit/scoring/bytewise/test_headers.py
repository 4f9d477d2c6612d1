"""Headers read as columns against `read_envelope`, one record at a time."""

from hypothesis import given
from hypothesis import strategies as st

from scoring.bytewise.headers import envelopes_of
from scoring.envelope import SourceInvalid, read_envelope
from scoring.poll import HeaderColumns

TRACE = b"00-" + b"0af7651916cd43dd8448eb211c80319c" + b"-" + b"b7ad6b7169203331" + b"-01"
NAMES = st.sampled_from(["ce_source", "traceparent", "ce_sourc", "ce_id", ""]) | st.text(max_size=3)
VALUES = st.none() | st.sampled_from(
    [
        *(b"", b"shop", b"s" * 256, b"s" * 257, "größer".encode(), b"a\x00", b"\xff", b"a b"),
        *(TRACE, TRACE.upper(), TRACE[:-1], TRACE + b"0", b"01" + TRACE[2:], TRACE[:35] + b"x"),
        TRACE.replace(b"-", b"0"),
    ]
)
RECORDS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=4), max_size=6)


@given(RECORDS)
def test_headers_say_the_same_as_columns(records: list[list[tuple[str, bytes | None]]]) -> None:
    found = envelopes_of(HeaderColumns.of(records), "topic")

    for row, headers in enumerate(records):
        try:
            wanted = read_envelope(headers, "topic")
        except SourceInvalid:
            assert found.odd[row]
            continue
        assert found.traceparents[row] == wanted.traceparent
        if not found.odd[row]:
            assert found.sources[row] == wanted.source.encode()


def test_a_plain_source_is_not_odd() -> None:
    records: list[list[tuple[str, bytes | None]]]
    records = [[], [("ce_source", b"shop")], [("ce_source", b"a b~!")], [("ce_source", None)]]

    found = envelopes_of(HeaderColumns.of(records), "topic")

    assert list(found.sources) == [b"topic", b"shop", b"a b~!", b"topic"]
    assert not found.odd.any()


@given(RECORDS)
def test_headers_come_out_as_they_went_in(records: list[list[tuple[str, bytes | None]]]) -> None:
    columns = HeaderColumns.of(records)

    assert [list(headers) for headers in columns] == records
    assert columns.size() == sum(
        len(name.encode()) + len(value or b"") for headers in records for name, value in headers
    )
