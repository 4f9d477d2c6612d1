import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definition import by_name
from features.schema import Feature, FeatureSchema
from features.taiwan_default import DEFINITION
from scoring.decode import ApplicationDecoder, Decoded, EventLimits
from tests.builders import ATTRIBUTES, a_poll, an_event

DECODER = ApplicationDecoder(DEFINITION, EventLimits())


def decode(*values: bytes | None) -> Decoded:
    return DECODER.decode(a_poll(*values))


def encoded(**changes: object) -> bytes:
    return msgspec.json.encode(an_event(**changes))


BODY = encoded()[:-1]

BAD = [
    pytest.param(b"", "malformed", "$", id="empty"),
    pytest.param(b"{", "malformed", "$", id="truncated"),
    pytest.param(b"\xff\xfe", "malformed", "$", id="no UTF-8"),
    pytest.param(BODY + b',"x":"\xff"}', "malformed", "$", id="no UTF-8 in an unknown field"),
    pytest.param(BODY + b',"x":NaN}', "malformed", "$", id="NaN"),
    pytest.param(BODY + b',"x":Infinity}', "malformed", "$", id="infinity"),
    pytest.param(b"[]", "invalid", "$", id="another type"),
    pytest.param(None, "tombstone", "$", id="tombstone"),
    pytest.param(encoded(application_id="7"), "invalid", "$.application_id", id="text for id"),
    pytest.param(encoded(application_id=0), "invalid", "$.application_id", id="id 0"),
    pytest.param(encoded(application_id=2**63), "invalid", "$.application_id", id="id too big"),
    pytest.param(encoded(application_id=None), "invalid", "$.application_id", id="no id"),
    pytest.param(encoded(event_id=None), "invalid", "$.event_id", id="no event id"),
    pytest.param(encoded(event_id="x" * 65), "invalid", "$.event_id", id="long event id"),
    pytest.param(encoded(event_id="a\n"), "invalid", "$.event_id", id="newline in event id"),
    pytest.param(encoded(event_id="a\x00b"), "invalid", "$.event_id", id="NUL in event id"),
    pytest.param(encoded(event_id="a\u202eb"), "invalid", "$.event_id", id="bidi in event id"),
    # NumPy's texts lose NULs at their end: this would be another applicant's feature row.
    pytest.param(encoded(applicant_id="a\x00"), "invalid", "$.applicant_id", id="NUL in applicant"),
    pytest.param(encoded(applicant_id="a\u200b"), "invalid", "$.applicant_id", id="no shape"),
    pytest.param(encoded(applicant_id=""), "invalid", "$.applicant_id", id="empty applicant"),
    pytest.param(encoded(applicant_id="x" * 65), "invalid", "$.applicant_id", id="long applicant"),
    pytest.param(
        encoded(submitted_at="2026-09-21T12:53:20"), "invalid", "$.submitted_at", id="no offset"
    ),
    pytest.param(
        encoded(submitted_at="2020-01-01T00:00:00Z"), "timestamp", "$.submitted_at", id="long ago"
    ),
    pytest.param(
        encoded(submitted_at="2027-01-01T00:00:00Z"), "timestamp", "$.submitted_at", id="future"
    ),
    pytest.param(
        encoded(attributes=ATTRIBUTES | {"AGE": 4}), "invalid", "$.attributes.AGE", id="range"
    ),
    pytest.param(
        encoded(attributes=ATTRIBUTES | {"AGE": True}), "invalid", "$.attributes.AGE", id="bool"
    ),
    pytest.param(encoded(attributes={"AGE": 41}), "invalid", "$.attributes.LIMIT_BAL", id="lacks"),
    pytest.param(
        encoded().replace(b'"LIMIT_BAL":120000', b'"LIMIT_BAL":1e400'),
        "malformed",
        "$",
        id="a number past float64",
    ),
    pytest.param(BODY + b',"application_id":8}', "duplicate_key", "$.application_id", id="twice"),
    pytest.param(
        BODY + b',"application\\u005fid":8}', "duplicate_key", "$.application_id", id="escaped"
    ),
    pytest.param(
        encoded().replace(b'"AGE":41', b'"AGE":41 , "AGE" :42'),
        "duplicate_key",
        "$.attributes.AGE",
        id="twice with spaces",
    ),
    pytest.param(BODY + b',"x":' + b"[" * 100 + b"]" * 100 + b"}", "too_deep", "$", id="depth 100"),
    pytest.param(
        BODY + b',"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "too_deep", "$", id="depth 30,000"
    ),
    pytest.param(BODY + b',"x":"' + b"x" * 1_000_000 + b'"}', "too_large", "$", id="1 MB"),
]


@pytest.mark.parametrize(("value", "code", "path"), BAD)
def test_a_bad_event_is_rejected_by_code_and_path(
    value: bytes | None, code: str, path: str
) -> None:
    decoded = decode(encoded(), value, encoded())

    assert decoded.positions.tolist() == [0, 2]
    assert [(r.position, r.code) for r in decoded.rejections] == [(1, code)]
    assert decoded.rejections[0].path == path
    assert decoded.rejections[0].rule


def test_the_value_at_the_path_is_shown() -> None:
    decoded = decode(encoded(attributes=ATTRIBUTES | {"AGE": 4}))

    assert decoded.rejections[0].value == "4"


def test_unknown_fields_are_ignored_and_counted() -> None:
    more = ATTRIBUTES | {"SEX": 2}

    decoded = decode(encoded(channel="web", attributes=more), encoded())

    assert decoded.unknown_fields == 2
    assert len(decoded.positions) == 2


def test_an_event_without_attributes_is_accepted() -> None:
    assert decode(encoded(attributes=None)).attributes.carried.tolist() == [False]


def test_text_that_looks_like_a_key_is_no_key() -> None:
    decoded = decode(encoded(note='"application_id":'))

    assert decoded.unknown_fields == 1


@given(st.lists(st.binary(max_size=200) | st.none(), max_size=5))
def test_arbitrary_bytes_are_each_decoded_or_rejected(values: list[bytes | None]) -> None:
    decoded = decode(*values)

    places = [*decoded.positions, *(rejection.position for rejection in decoded.rejections)]
    assert sorted(places) == list(range(len(values)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(an_event())), JSON, st.sampled_from(sorted(ATTRIBUTES)), JSON)
def test_a_valid_event_with_any_field_replaced_is_decoded_or_rejected(
    field: str, value: object, attribute: str, inner: object
) -> None:
    event = {**an_event(), "attributes": ATTRIBUTES | {attribute: inner}, field: value}

    decoded = decode(msgspec.json.encode(event))

    assert len(decoded.positions) + len(decoded.rejections) == 1


@pytest.mark.parametrize(("value", "taken"), [(3.4028234663852886e38, True), (3.5e38, False)])
def test_a_feature_without_bounds_takes_what_a_float32_holds(value: float, *, taken: bool) -> None:
    decoder = ApplicationDecoder(by_name(FeatureSchema((Feature("a"),))), EventLimits())

    decoded = decoder.decode(a_poll(an_event(attributes={"a": value}), an_event(attributes={})))

    assert [one.path for one in decoded.rejections] == ([] if taken else ["$.attributes.a"])
