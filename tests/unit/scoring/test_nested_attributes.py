"""Attributes that hold an applicant's rows of other tables: checked and laid out by column."""

from typing import Any

import msgspec
import numpy as np
import pytest

from features.definition import UNKNOWN_TEXT, Attribute, FeatureDefinition
from features.schema import Feature, FeatureSchema
from scoring.application import application_type
from scoring.columns import columns_of
from scoring.decode import ApplicationDecoder, Decoded, EventLimits
from scoring.poll import Poll

ROWS = (
    Attribute("AMOUNT", "number", 0, 1e6, nullable=True),
    Attribute("MONTHS", "whole", -100, 0, nullable=True),
    Attribute("STATE", "text", nullable=True, categories=("on", "off")),
    Attribute("NOTE", "text", required=False, nullable=True, read=False),
)
ATTRIBUTES = (
    Attribute("own", "object", fields=(Attribute("LIMIT", "number", 0, 1e6, nullable=True),)),
    Attribute("payments", "rows", fields=ROWS, most=3),
    Attribute("others", "rows", required=False, nullable=True, read=False, fields=ROWS),
)
SCHEMA = FeatureSchema((Feature("limit"),))
DEFINITION = FeatureDefinition(
    "nested", ATTRIBUTES, SCHEMA, lambda columns: columns["own.LIMIT"].astype(np.float32)[:, None]
)
PAYMENT = {"AMOUNT": 1.5, "MONTHS": -3, "STATE": "on"}


def event(attributes: Any) -> bytes:
    return msgspec.json.encode(
        {
            "event_id": "e-1",
            "application_id": 7,
            "submitted_at": "2026-01-01T00:00:00Z",
            "attributes": attributes,
        }
    )


def decoded(value: bytes) -> Decoded:
    poll = Poll("t", 0, [0], [1_767_225_600_000], [None], [value], [[]])
    return ApplicationDecoder(DEFINITION, EventLimits()).decode(poll)


def of(*payments: Any, **beside: Any) -> dict[str, Any]:
    return {"own": {"LIMIT": 10.0}, "payments": list(payments), **beside}


def test_rows_become_columns_with_how_many_each_applicant_has() -> None:
    decode = msgspec.json.Decoder(application_type(DEFINITION)).decode
    odd = PAYMENT | {"STATE": "neither", "AMOUNT": None, "MONTHS": -1.0}
    none = PAYMENT | {"STATE": None}
    applications = [decode(event(of(PAYMENT, odd))), decode(event(of())), decode(event(of(none)))]

    columns = columns_of([one.attributes for one in applications], DEFINITION)

    assert sorted(columns) == [
        "own.LIMIT",
        "payments",
        "payments.AMOUNT",
        "payments.MONTHS",
        "payments.STATE",
    ]
    assert columns["payments"].tolist() == [2, 0, 1]
    np.testing.assert_array_equal(columns["payments.AMOUNT"], [1.5, np.nan, 1.5])
    np.testing.assert_array_equal(columns["payments.MONTHS"], [-3, -1, -3])
    np.testing.assert_array_equal(columns["payments.STATE"], [0, UNKNOWN_TEXT, np.nan])


def test_no_applicant_has_any_row() -> None:
    decode = msgspec.json.Decoder(application_type(DEFINITION)).decode

    columns = columns_of([decode(event(of())).attributes], DEFINITION)

    assert columns["payments.AMOUNT"].shape == columns["payments.STATE"].shape == (0,)


@pytest.mark.parametrize(
    ("attributes", "path", "rule"),
    [
        ({"own": {"LIMIT": 1}}, "$.attributes.payments", "required field is missing"),
        (of() | {"own": {}}, "$.attributes.own.LIMIT", "required field is missing"),
        (of() | {"own": None}, "$.attributes.own", "Expected `object`"),
        (of(PAYMENT | {"AMOUNT": "x"}), "$.attributes.payments[0].AMOUNT", "Expected `float"),
        (of(PAYMENT | {"AMOUNT": -1}), "$.attributes.payments[0].AMOUNT", ">= 0"),
        (of(PAYMENT | {"MONTHS": -1.5}), "$.attributes.payments[0].MONTHS", "multiple of 1"),
        (of(PAYMENT | {"STATE": "x" * 65}), "$.attributes.payments[0].STATE", "length <= 64"),
        (of(*[PAYMENT] * 4), "$.attributes.payments", "length <= 3"),
        (of({"AMOUNT": 1, "MONTHS": 0}), "$.attributes.payments[0].STATE", "is missing"),
        (of(PAYMENT | {"NOTE": 7}), "$.attributes.payments[0].NOTE", "Expected `str"),
    ],
)
def test_a_fault_within_rows_is_named_by_its_path(attributes: Any, path: str, rule: str) -> None:
    (rejection,) = decoded(event(attributes)).rejections

    assert (rejection.code, rejection.path) == ("invalid", path)
    assert rule in rejection.rule


def test_the_value_within_rows_is_shown() -> None:
    (rejection,) = decoded(event(of(PAYMENT, PAYMENT | {"AMOUNT": "much"}))).rejections

    assert (rejection.path, rejection.value) == ("$.attributes.payments[1].AMOUNT", "'much'")


@pytest.mark.parametrize(
    ("attributes", "unknown"),
    [
        (of(PAYMENT), 0),
        (of(PAYMENT | {"NOTE": "n"}, others=[PAYMENT]), 0),
        (of(PAYMENT | {"COLOUR": "red"}, PAYMENT | {"COLOUR": 1}), 2),
        (of(PAYMENT, more=[{"a": 1}]), 1),
        (of(PAYMENT, others=[PAYMENT | {"odd": None}]), 1),
        (of(PAYMENT | {"NOTE": 'with "quotes"', "odd": 1}), 1),
    ],
)
def test_unknown_fields_are_counted_in_every_row(attributes: Any, unknown: int) -> None:
    found = decoded(event(attributes))

    assert (len(found.positions), found.unknown_fields) == (1, unknown)


@pytest.mark.parametrize("odd", [b"", b'"NOTE":"a \\"b\\"",'])
def test_a_key_that_stands_twice_in_a_row_is_refused(odd: bytes) -> None:
    twice = event(of(PAYMENT)).replace(b'"MONTHS":', odd + b'"AMOUNT":2,"MONTHS":')

    (rejection,) = decoded(twice).rejections

    assert (rejection.code, rejection.path) == (
        "duplicate_key",
        "$.attributes.payments[0].AMOUNT",
    )


def test_bad_bytes_in_a_field_that_nobody_knows_are_malformed() -> None:
    value = event(of(PAYMENT, odd="x")).replace(b'"x"', b'"\xff"')

    (rejection,) = decoded(value).rejections

    assert rejection.code == "malformed"


def test_a_fault_in_rows_that_are_said_once_more_is_shown_without_its_value() -> None:
    value = event(of(PAYMENT, PAYMENT | {"AMOUNT": -1}))
    twice = value.replace(b"}]}", b'}],"payments":[]}')

    found = decoded(twice).rejections

    assert [(one.code, one.path, one.value) for one in found] == [
        ("invalid", "$.attributes.payments[1].AMOUNT", "")
    ]


@pytest.mark.parametrize("closed", [b"]" * 30_000, b""])
def test_a_field_that_nobody_knows_is_too_deep_to_read(closed: bytes) -> None:
    value = event(of(PAYMENT))[:-1] + b',"x":' + b"[" * 30_000 + closed + b"}"

    found = decoded(value)

    assert [(one.code, one.path) for one in found.rejections] == [("too_deep", "$")]
