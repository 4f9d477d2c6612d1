"""Parked events: a record of the parked topic says all that is needed to understand and send it."""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.decode import Rejection
from scoring.poll import Poll
from sinks.parked import (
    PARKED_SCHEMA,
    PREFIX,
    STAGES,
    ParkedDamaged,
    ParkedEvent,
    parked_table,
    parse,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
events = st.builds(
    ParkedEvent,
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=40),
    headers=st.lists(
        st.tuples(text.filter(lambda name: not name.startswith(PREFIX)), st.binary(max_size=8)),
        max_size=3,
    ).map(tuple),
    stage=st.sampled_from(STAGES),
    code=text,
    path=text,
    shown=text,
    rule=text,
    topic=st.from_regex(r"[a-z.]{1,20}", fullmatch=True),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    parked_at=st.datetimes(timezones=st.just(UTC), min_value=datetime(1980, 1, 1)),  # noqa: DTZ001
    produced_at_ms=st.integers(0, 2**42),
    release=text,
    redriven=st.integers(1, 10**9 - 1),
    redriven_of=st.from_regex(r"[a-z.]{1,20}/[0-9]{1,3}/[0-9]{1,19}", fullmatch=True),
)


def an_event() -> ParkedEvent:
    poll = Poll(
        topic="credit.applications.v1",
        partition=3,
        offsets=[40, 41],
        produced_at_ms=[1, 1_767_225_600_123],
        keys=[None, b"applicant-7"],
        values=[b"", b'{"AGE": "forty"}'],
        headers=[[], [("ce_source", b"shop"), ("creditstream-stage", b"an old one")]],
    )
    rejection = Rejection(1, "invalid", "$.attributes.AGE", "'forty'", "Expected `int`")
    return ParkedEvent.of(
        poll,
        rejection,
        stage="decode",
        parked_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        release="release-a",
        largest=1_000,
    )


@given(events)
def test_a_parked_event_survives_the_topic(event: ParkedEvent) -> None:
    assert parse(event.key, event.value, event.record_headers()) == event


@given(events)
def test_a_parked_event_is_a_row(event: ParkedEvent) -> None:
    table = parked_table([event])

    assert table.schema == PARKED_SCHEMA
    row = table.to_pylist()[0]
    assert (row["key"], row["value"], row["origin_offset"], row["parked_at"]) == (
        event.key,
        event.value,
        event.offset,
        event.parked_at,
    )


def test_a_rejection_parks_the_record_that_it_names() -> None:
    event = an_event()

    headers = dict(event.record_headers())

    assert (event.key, event.value) == (b"applicant-7", b'{"AGE": "forty"}')
    assert headers == {
        "ce_source": b"shop",
        "creditstream-stage": b"decode",
        "creditstream-code": b"invalid",
        "creditstream-path": b"$.attributes.AGE",
        "creditstream-value": b"'forty'",
        "creditstream-rule": b"Expected `int`",
        "creditstream-origin": b"credit.applications.v1/3/41",
        "creditstream-produced-at": b"1767225600123",
        "creditstream-parked-at": b"2026-01-02T03:04:05.000006+00:00",
        "creditstream-release": b"release-a",
    }


def test_an_event_that_is_parked_again_keeps_its_own_headers_only() -> None:
    assert an_event().headers == (("ce_source", b"shop"),)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("origin", None, "creditstream-origin is missing"),
        ("origin", b"topic/x/1", "its origin is 'topic/x/1'"),
        ("origin", b"/1/1", "its origin is"),
        ("stage", b"lunch", "its stage is 'lunch'"),
        ("code", b"\xff", "creditstream-code is not UTF-8"),
        ("parked-at", b"yesterday", "a time in its headers is none"),
        ("produced-at", b"1e9", "a time in its headers is none"),
    ],
)
def test_a_record_that_does_not_say_why_it_was_parked_is_refused(
    name: str, value: bytes | None, reason: str
) -> None:
    headers = [(n, v) for n, v in an_event().record_headers() if n != PREFIX + name]
    if value is not None:
        headers.append((PREFIX + name, value))

    with pytest.raises(ParkedDamaged, match=reason):
        parse(None, b"", headers)


def test_an_event_is_parked_whole_up_to_a_size_and_by_head_and_digest_above_it() -> None:
    value = b"x" * 100_000
    poll = Poll("t", 0, [0], [0], [None], [value], [[("h", b"12345")]])

    def parked(largest: int) -> ParkedEvent:
        return ParkedEvent.of(
            poll,
            Rejection(0, "malformed", "$", "x", "no"),
            stage="decode",
            parked_at=an_event().parked_at,
            release="",
            largest=largest,
        )

    whole, by_head = parked(100_016), parked(100_015)
    assert (whole.value, whole.headers, whole.cut) == (value, (("h", b"12345"),), "")
    assert (by_head.value, by_head.headers) == (value[:65_536], ())
    assert hashlib.sha256(value).hexdigest() in by_head.cut


def test_an_event_that_was_driven_again_is_parked_with_how_often_and_from_where() -> None:
    driven = [
        ("creditstream-redriven", b"2"),
        ("creditstream-redriven-of", b"credit.parked.v1/3/17"),
    ]
    poll = Poll("t", 0, [0], [0], [None], [b"{}"], [[("h", b"its own"), *driven]])

    parked = ParkedEvent.of(
        poll,
        Rejection(0, "malformed", "$", "x", "no"),
        stage="decode",
        parked_at=an_event().parked_at,
        release="",
        largest=1_000,
    )

    assert (parked.redriven, parked.redriven_of) == (2, "credit.parked.v1/3/17")
    assert parked.headers == (("h", b"its own"),)
    assert dict(parked.record_headers()).items() >= dict(driven).items()


def test_text_that_utf8_cannot_hold_is_parked_all_the_same() -> None:
    event = an_event()
    poll = Poll("t", 0, [0], [0], [None], [b"{}"], [[]])
    odd = ParkedEvent.of(
        poll,
        Rejection(0, "invalid", "$.\ud800", "'\ud800'", "no"),
        stage="decode",
        parked_at=event.parked_at,
        release="",
        largest=1_000,
    )

    read = parse(odd.key, odd.value, odd.record_headers())

    assert read.path == "$.?"
    assert parked_table([read]).num_rows == 1
