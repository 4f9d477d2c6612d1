"""Plain documents are read as msgspec reads them; all others are left to it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.definition import Attribute
from features.taiwan_default import DEFINITION
from scoring.application import Application, application_type
from scoring.byte_strings import ByteStrings
from scoring.bytewise.documents import PlainEvents, PlainReader
from scoring.columns import columns_of
from tests.builders import ATTRIBUTES, NOW_MS, an_event

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AGE_US, AHEAD_US = 400 * 86_400_000_000, 300_000_000

ODD = replace(
    DEFINITION,
    attributes=(
        Attribute("whole", "whole", -5, 1e12, nullable=True),
        Attribute("integer", "integer", -(10.0**17), 10.0**17),
        Attribute("number", "number", required=False),
        Attribute("not read", "number", 0, 1, required=False, read=False),
        Attribute("number_", "number", -1e300, 1e300, required=False),
    ),
)
ODD_ATTRIBUTES = {"whole": 3.0, "integer": -7, "number": 0.125, "number_": 1e-7}


def reader(definition: Any = DEFINITION, **limits: int) -> PlainReader:
    given = {"longest": 4_096, "deepest": 16, "age_us": AGE_US, "ahead_us": AHEAD_US} | limits
    found = PlainReader.of(definition.attributes, **given)
    assert found is not None
    return found


def read(value: bytes | None, of: PlainReader, produced_ms: int = NOW_MS) -> PlainEvents:
    # Another document on either side: nothing of one may get into the other.
    values = [b'{"event_id":"', value, b'":"x"}']
    return of.read(ByteStrings.of(values), np.full(3, produced_ms))


def check(value: bytes, definition: Any = DEFINITION) -> bool:
    """Hold a document that is read against msgspec's reading; say whether it was."""
    found = read(value, reader(definition))
    assert found.plain.tolist()[::2] == [False, False]
    if not found.plain[1]:
        return False
    wanted: Application = msgspec.json.decode(value, type=application_type(definition))
    assert found.event_ids[1] == wanted.event_id.encode()
    assert found.application_ids[1] == wanted.application_id
    applicant = found.applicant_ids[1]
    assert (None if applicant is None else applicant.decode()) == wanted.applicant_id
    submitted_us = (wanted.submitted_at - EPOCH) // timedelta(microseconds=1)
    assert found.submitted_at_us[1] == submitted_us
    assert found.carried[1] == (wanted.attributes is not None)
    if wanted.attributes is not None:
        columns = columns_of([wanted.attributes], definition)
        same(np.array([column[0] for column in columns.values()]), found.cells[1])
    return True


def same(one: NDArray[np.float64], other: NDArray[np.float64]) -> None:
    assert one.view(np.uint64).tolist() == other.view(np.uint64).tolist()


def test_what_producers_write_is_plain() -> None:
    assert check(msgspec.json.encode(an_event()))
    assert check(msgspec.json.encode(an_event(applicant_id="a b", attributes=None)))
    pretty = msgspec.json.format(msgspec.json.encode(an_event()), indent=3)
    assert check(b" \n" + pretty + b"\r\n\t ")


def test_fields_come_in_any_order() -> None:
    turned = dict(reversed(an_event(attributes=dict(reversed(ATTRIBUTES.items()))).items()))

    assert check(msgspec.json.encode(turned))


BODY = msgspec.json.encode(an_event())[:-1]

NOT_PLAIN = [
    None,
    b"",
    b"{}",
    b"[]",
    BODY,
    BODY + b"}}",
    BODY + b"} x",
    BODY + b",}",
    BODY + b',"x":1}',
    BODY + b',"applicant_id":""}',
    BODY + b',"applicant_id":"a\\u0062"}',
    BODY + b',"applicant_id":"' + "é".encode() + b'"}',
    BODY + b',"applicant_id":"' + b"x" * 65 + b'"}',
    BODY + b',"applicant_id":"a\x7f"}',
    BODY + b',"event_id":"again"}',
    BODY.replace(b'"event_id":"e-1"', b'"event_id":"e 1"') + b"}",
    BODY.replace(b'"event_id":"e-1"', b'"event_id":""') + b"}",
    BODY.replace(b'"event_id":"e-1"', b'"event_id":null') + b"}",
    BODY.replace(b'"application_id":7', b'"application_id":07') + b"}",
    BODY.replace(b'"application_id":7', b'"application_id":7.0') + b"}",
    BODY.replace(b'"application_id":7', b'"application_id":-7') + b"}",
    BODY.replace(b'"application_id":7', b'"application_id":0') + b"}",
    BODY.replace(b'"application_id":7', b'"application_id":9223372036854775808') + b"}",
    BODY.replace(b'"application_id":7', b'"application_id":18446744073709551617') + b"}",
    BODY.replace(b'"AGE":41', b'"AGE":41.0') + b"}",
    BODY.replace(b'"AGE":41', b'"AGE":null') + b"}",
    BODY.replace(b'"AGE":41', b'"AGE":-0') + b"}",
    BODY.replace(b'"AGE":41', b'"AGE":') + b"}",
    BODY.replace(b'"AGE":41', b'"AGE":nul') + b"}",
    BODY.replace(b'"AGE":41', b'"AGE":41,"AGE":41') + b"}",
    BODY.replace(b'"AGE":41,', b"") + b"}",
    BODY.replace(b'"AGE":41', b'"AGE":4') + b"}",
    BODY.replace(b'"AGE":41', b'"AGE ":41') + b"}",
]


@pytest.mark.parametrize("value", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_others(value: bytes | None) -> None:
    assert not read(value, reader()).plain.any()


@pytest.mark.parametrize(
    "text",
    [
        *("2026-09-21T12:53:20Z", "2026-09-21T12:53:20.5Z", "2026-09-21T12:53:20.123456Z"),
        *("2026-09-21T14:53:20+02:00", "2026-09-20T23:23:20.000001-13:30", "2026-02-28T23:59:59Z"),
    ],
)
def test_a_time_is_read_as_msgspec_reads_it(text: str) -> None:
    assert check(msgspec.json.encode(an_event(submitted_at=text)))


@given(st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)))  # noqa: DTZ001 - of UTC, below
def test_every_day_is_read_as_it_is(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    event = msgspec.json.encode(an_event(submitted_at=moment.isoformat()))
    produced_ms = (moment - EPOCH) // timedelta(milliseconds=1)

    found = read(event, reader(), produced_ms)

    assert found.submitted_at_us[1] == (moment - EPOCH) // timedelta(microseconds=1)
    assert found.plain[1]


@pytest.mark.parametrize(
    "text",
    [
        *("2026-09-21T12:53:20", "2026-09-21 12:53:20Z", "2026-09-31T12:53:20Z", "2026-09-21T12Z"),
        *("2026-02-29T12:53:20Z", "2026-13-21T12:53:20Z", "2026-09-00T12:53:20Z", ""),
        *("2026-09-21T24:53:20Z", "2026-09-21T12:60:20Z", "2026-09-21T12:53:60Z"),
        *("2026-09-21T12:53:20.Z", "2026-09-21T12:53:20.1234567Z", "2026-09-21T12:53:20+0200"),
        *("2026-09-21T12:53:20+24:00", "2026-09-21T12:53:20+02:60", "2026-09-21T12:53:20ZZ"),
        *("1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "2026-09-21T1a:53:20Z"),
        *("2026-09-21T12:53:20z", "2024-01-01T00:00:00Z", "2026-09-21T14:19:20Z"),
    ],
)
def test_a_time_in_another_form_or_from_far_away_is_left_to_others(text: str) -> None:
    value = msgspec.json.encode(an_event(submitted_at=text))

    assert not read(value, reader()).plain.any()


@pytest.mark.parametrize("produced_ms", [-(2**63), -1, 2**62, 2**63 - 1])
def test_a_records_own_time_may_be_any(produced_ms: int) -> None:
    assert not read(msgspec.json.encode(an_event()), reader(), produced_ms).plain.any()


NUMBERS = [
    *(b"0", b"-1", b"12.5", b"1e3", b"1E+2", b"2.50e-1", b"0.1", b"123456789.123456789"),
    *(b"1.7976931348623157e308", b"5e-324", b"1e400", b"-0.0", b"-0", b"0.0", b"00", b"01", b".5"),
    *(b"1.", b"1e", b"1e+", b"+1", b"0x1", b"NaN", b"Infinity", b"1_0", b"--1", b"null", b"true"),
    *(b"12345678901234567890", b"1234567890123456789", b"0.30000000000000004", b"1e99999"),
    *(b"100000000000000000", b"-100000000000000000", b"100000000000000001", b"3.0", b"1e12", b"-5"),
    *(b"4.0000000000000001", b"0.5", b'"1"', b"[]", b"{}", b"", b"1 2", b"99999999999999999.9"),
]


@pytest.mark.parametrize("name", [*ODD_ATTRIBUTES, "not read"])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_read_as_msgspec_reads_it_or_left_to_it(name: str, number: bytes) -> None:
    attributes = b",".join(
        msgspec.json.encode(other) + b":" + msgspec.json.encode(value)
        for other, value in ODD_ATTRIBUTES.items()
        if other != name
    )
    body = msgspec.json.encode(an_event(attributes=None))[:-1]
    within = attributes + b"," + msgspec.json.encode(name) + b" : " + number
    value = body + b',"attributes":{' + within + b"}}"

    if check(value, ODD):
        return
    # What is not plain is wrong, or rare.
    rare = number in (b"-0", b"-0.0", b"5e-324", b"12345678901234567890", b"0.30000000000000004")
    rare = rare or len(number) > 15
    try:
        msgspec.json.decode(value, type=application_type(ODD))
    except msgspec.DecodeError:
        return
    assert rare


@settings(max_examples=300)
@given(
    st.fixed_dictionaries(
        {"whole": st.none() | st.integers(-6, 10**13), "integer": st.integers(-(2**60), 2**60)},
        optional={
            "number": st.none() | st.floats(allow_nan=False),
            "number_": st.floats(allow_nan=False, allow_infinity=False),
            "not read": st.floats(-1, 2),
            "unknown": st.none(),
        },
    ),
    st.randoms(use_true_random=False),
)
def test_any_attributes_are_read_as_msgspec_reads_them(attributes: Any, random: Any) -> None:
    shuffled = list(attributes.items())
    random.shuffle(shuffled)

    check(msgspec.json.encode(an_event(attributes=dict(shuffled))), ODD)


def test_a_document_is_of_so_many_bytes_at_most() -> None:
    value = msgspec.json.encode(an_event())

    assert read(value, reader(longest=len(value))).plain[1]
    assert not read(value, reader(longest=len(value) - 1)).plain[1]


def test_texts_and_rows_are_read_by_another() -> None:
    limits = {"longest": 100, "deepest": 16, "age_us": 1, "ahead_us": 1}
    text = Attribute("text", "text")

    assert PlainReader.of([text], **limits) is None
    assert PlainReader.of([Attribute("number")], **(limits | {"deepest": 1})) is None
