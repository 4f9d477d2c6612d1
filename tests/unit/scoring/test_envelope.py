import pytest

from scoring.envelope import Envelope, SourceInvalid, read_envelope
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
