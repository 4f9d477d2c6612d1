import pytest

from scoring.envelope import Envelope, Redriven, SourceInvalid, read_envelope, redriven_of
from scoring.poll import Headers

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Envelope("t", None)),
        ([("ce_source", b"shop"), ("traceparent", TRACE)], Envelope("shop", TRACE)),
        ([("ce_source", None), ("traceparent", None)], Envelope("t", None)),
        ([("traceparent", b"x" * 900_000)], Envelope("t", None)),
        ([("traceparent", b"x" * 55)], Envelope("t", None)),
        ([("traceparent", TRACE + b"\n")], Envelope("t", None)),
        ([("other", b"\xff")], Envelope("t", None)),
    ],
)
def test_headers_give_source_and_trace(headers: Headers, expected: Envelope) -> None:
    assert read_envelope(headers, "t") == expected


@pytest.mark.parametrize("source", [b"", b"x" * 257, b"\xff", b"\x1b[31m", "\u202e".encode()])
def test_a_source_that_is_none_is_refused(source: bytes) -> None:
    with pytest.raises(SourceInvalid, match="ce_source"):
        read_envelope([("ce_source", source)], "t")


PLACE = ("creditstream-redriven-of", b"credit.parked.v1/3/17")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([PLACE, ("creditstream-redriven", b"12")], Redriven(12, "credit.parked.v1/3/17")),
        ([PLACE], None),
        ([("creditstream-redriven", b"1")], None),
        *(
            ([PLACE, ("creditstream-redriven", times)], None)
            for times in (None, b"", b"0", b"-1", b"1e9", b"9" * 10, b"1\n", b"x" * 900_000)
        ),
        *(
            ([("creditstream-redriven", b"1"), ("creditstream-redriven-of", place)], None)
            for place in (None, b"", b"credit.parked.v1/3", b"\xff/3/17", b"t" * 250 + b"/3/17")
        ),
    ],
)
def test_an_event_was_driven_again_only_where_its_headers_say_so_in_our_form(
    headers: Headers, expected: Redriven | None
) -> None:
    assert redriven_of(headers) == expected
