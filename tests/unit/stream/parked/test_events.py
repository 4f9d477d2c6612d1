"""Parked events as an operator asks for them: places, choices, what is shown, what is sent."""

import json
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.parked import ParkedEvent
from stream.parked.events import Newest, Parked, PlaceInvalid, Places, Tally, Wanted
from stream.parked.redriving import redriven_record, refusal
from stream.parked.shown import events_table, page, tally_table, told, told_in_full
from stream.settings import KafkaSettings
from tests.unit.sinks.test_parked import events as parked_events

KAFKA = KafkaSettings()
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EVENT = ParkedEvent(
    key=b"applicant-7",
    value=b'{"name": "Ann"}',
    headers=(("ce_source", b"shop"),),
    stage="decode",
    code="invalid",
    path="$.attributes.AGE",
    shown="'forty'",
    rule="Expected `int`",
    topic=KAFKA.applications,
    partition=3,
    offset=41,
    parked_at=AT,
    produced_at_ms=1_767_225_600_123,
    release="r",
)
DAMAGED = Parked(KAFKA.parked, 3, 9, None, "header creditstream-origin is missing")


def parked(offset: int = 17, **changes: Any) -> Parked:
    return Parked(KAFKA.parked, 3, offset, replace(EVENT, **changes))


@given(
    st.from_regex(r"([a-zA-Z0-9._-]{1,20})?", fullmatch=True),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**62),
    st.integers(1, 2**20),
)
def test_a_place_survives_its_text(topic: str, partition: int, first: int, count: int) -> None:
    places = Places(topic, partition, range(first, first + count))

    assert Places.parse(str(places)) == places


@pytest.mark.parametrize(
    "text", ["", "3", "3/", "/3/4", "3/9-8", "3/x", "t/3/-1", "3/1-", "a/b/3/4"]
)
def test_a_text_that_is_no_place_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(PlaceInvalid, match="PARTITION/OFFSET or PARTITION/FIRST-LAST"):
        Places.parse(text)


@pytest.mark.parametrize(
    "text", ["3/17", "3/10-20", "credit.parked.v1/3/17", "credit.applications.v1/3/41"]
)
def test_an_event_is_found_by_where_it_is_parked_and_by_where_it_came_from(text: str) -> None:
    wanted = Wanted(places=(Places.parse("0/0"), Places.parse(text)))

    assert wanted.takes(parked())
    elsewhere = Parked(KAFKA.parked, 2, 17, replace(EVENT, partition=2))
    assert not wanted.takes(elsewhere)


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Wanted(), True),
        (Wanted(code="invalid", stage="decode", since=AT), True),
        (Wanted(code="malformed"), False),
        (Wanted(stage="score"), False),
        (Wanted(until=AT), False),
        (Wanted(until=AT + timedelta(microseconds=1)), True),
        (Wanted(since=AT + timedelta(microseconds=1)), False),
    ],
)
def test_all_that_is_asked_for_must_hold(wanted: Wanted, takes: bool) -> None:
    assert wanted.takes(parked()) is takes


def test_what_is_no_parked_event_is_wanted_only_where_no_cause_or_time_is_asked_for() -> None:
    assert Wanted().takes(DAMAGED)
    assert Wanted(places=(Places.parse("3/9"),)).takes(DAMAGED)
    assert not Wanted(code="invalid").takes(DAMAGED)
    assert not Wanted(since=AT).takes(DAMAGED)


def test_the_newest_are_kept_in_the_order_of_parking() -> None:
    newest = Newest(2)
    for offset, hours in ((1, 5), (2, 3), (3, 9), (4, 1)):
        newest.add(parked(offset, parked_at=AT + timedelta(hours=hours)))
    newest.add(DAMAGED)

    assert [one.offset for one in newest] == [1, 3]
    assert not list(Newest(0))


def test_causes_are_counted_by_few_names_whatever_events_made_up() -> None:
    tally = Tally()
    for number in range(50):
        tally.add(parked(code="duplicate_key", path=f"$.made-up-{number}"))
    tally.add(parked(parked_at=AT + timedelta(hours=1)))
    tally.add(DAMAGED)

    assert tally.events == 52
    assert tally_table(tally).to_pylist() == [
        {
            "events": 50,
            "stage": "decode",
            "code": "duplicate_key",
            "path": "",
            "latest": "2026-01-02 03:04:05",
        },
        {
            "events": 1,
            "stage": "decode",
            "code": "invalid",
            "path": "$.attributes.AGE",
            "latest": "2026-01-02 04:04:05",
        },
        {"events": 1, "stage": "", "code": "damaged", "path": "", "latest": ""},
    ]


@pytest.mark.parametrize(
    ("code", "path"),
    [("timestamp", "$.submitted_at"), ("conflicting_duplicate", "$.event_id")],
)
def test_a_list_says_which_field_of_the_contract_was_refused(code: str, path: str) -> None:
    one = parked(code=code, path=path)

    assert told(one)["path"] == told_in_full(one)["path"] == path
    assert events_table([one], driven=False)["path"].to_pylist() == [path]


def test_a_list_tells_nothing_of_whom_an_event_is_about_and_a_page_all() -> None:
    listed = json.dumps(told(parked())) + str(events_table([parked(), DAMAGED], driven=True))
    shown = page(parked())

    for personal in ("Ann", "applicant-7", "forty", "shop"):
        assert personal not in listed
        assert personal in shown


@given(parked_events)
def test_a_page_is_safe_for_a_terminal_and_its_json_gives_every_byte_back(
    event: ParkedEvent,
) -> None:
    one = Parked(KAFKA.parked, 3, 17, event)

    shown = page(one)
    document = json.loads(json.dumps(told_in_full(one)))

    assert all(character.isprintable() or character == "\n" for character in shown)
    assert bytes_of(document, "value") == event.value
    assert bytes_of(document, "key") == event.key
    headers = [(header["name"], bytes_of(header, "value")) for header in document["headers"]]
    assert tuple(headers) == event.headers


def bytes_of(document: dict[str, Any], name: str) -> bytes | None:
    if f"{name}_base64" in document:
        return b64decode(document[f"{name}_base64"])
    text = document[name]
    return None if text is None else str(text).encode()


def test_no_field_of_an_event_makes_a_line_of_its_own() -> None:
    one = parked(key=b"k\nrelease  another", shown="\nrule  none")

    assert "\nrelease  another" not in page(one)
    assert "\nrule  none" not in page(one)


def test_an_event_is_driven_again_as_it_came_with_how_often_and_from_where() -> None:
    once, thrice = parked(), parked(redriven=2, redriven_of="credit.parked.v1/3/9")

    record = redriven_record(once, 5)
    assert record == (
        EVENT.key,
        EVENT.value,
        [
            ("ce_source", b"shop"),
            ("creditstream-redriven", b"1"),
            ("creditstream-redriven-of", b"credit.parked.v1/3/17"),
        ],
        5,
    )
    assert dict(redriven_record(thrice, 5).headers)["creditstream-redriven"] == b"3"


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (parked(), ""),
        (parked(partition=4), "has no partition 4 any more"),
        (parked(topic="other"), "it came from other"),
        (parked(cut="3000000 bytes"), "only its head is there"),
        (parked(stage="sink", code="refused"), "its value belongs on the ledger's topic"),
        (parked(code="conflicting_duplicate"), "its id stands for another event"),
        (DAMAGED, "not a parked event: header creditstream-origin is missing"),
    ],
)
def test_what_cannot_be_driven_again_is_refused_with_the_reason(one: Parked, reason: str) -> None:
    assert reason in refusal(one, KAFKA, 4)
    assert bool(refusal(one, KAFKA, 4)) == bool(reason)
