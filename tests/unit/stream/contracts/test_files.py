"""The contracts: as the types say, as the files in the tree say, and as code really behaves."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from features.definition import Attribute
from features.taiwan_default import DEFINITION
from monitoring.alarm import DETECTORS, Alarm, alarm_id
from scoring.byte_strings import ByteStrings
from scoring.decision import OUTCOMES
from scoring.decode import CODES, ApplicationDecoder, EventLimits
from scoring.reasons import Reason
from sinks.parked import PREFIX, ParkedDamaged, ParkedEvent, SinkCode, parse
from stream.agents.monitor import _record as alarm_record
from stream.contracts.codec import decision_records
from stream.contracts.files import contract_files, schemas, tables, with_tables, write_contracts
from stream.kafka.roles import ROLES
from stream.sending.simulator import cloud_event
from stream.settings import EventSettings, KafkaSettings
from tests.builders import ATTRIBUTES, NOW_MS, a_pipeline, a_poll, an_event
from tests.unit.scoring.test_decode import BAD, JSON
from tests.unit.sinks.decisions import a_batch
from tests.unit.sinks.test_parked import events as parked_events

DOCS = Path(__file__).parents[4] / "docs"
STALE = "is not what the types say: run `uv run creditstream contracts -o docs`"

FORMATS = FormatChecker(["uuid"])
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@FORMATS.checks("date-time")
def is_date_time(value: object) -> bool:
    return not isinstance(value, str) or bool(RFC_3339.fullmatch(value))


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=FORMATS)


KAFKA, EVENTS = KafkaSettings(), EventSettings()
FILES = contract_files(KAFKA, EVENTS)
SCHEMAS = schemas(KAFKA, EVENTS)
VALID = {name: validator(schema) for name, schema in SCHEMAS.items()}
ASYNCAPI = json.loads(FILES["asyncapi.json"])
MESSAGES = ASYNCAPI["components"]["messages"]

DECODER = ApplicationDecoder(DEFINITION, EventLimits())
# Formats only tell, so what they would refuse the decoder may take: an offset without its colon.
APPLICATION = Draft202012Validator(SCHEMAS["applications"])


# The files in the tree


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_the_tree_is_what_the_types_say(name: str) -> None:
    path = DOCS / name

    assert path.is_file(), f"docs/{name} {STALE}"
    assert path.read_text("utf-8") == FILES[name], f"docs/{name} {STALE}"


def test_the_tree_has_no_schema_of_a_topic_that_is_gone() -> None:
    assert {f"schemas/{path.name}" for path in (DOCS / "schemas").iterdir()} == {
        name for name in FILES if name.startswith("schemas/")
    }


def test_the_tables_on_the_page_are_what_the_types_say() -> None:
    page = (DOCS / "contracts.md").read_text("utf-8")
    found = tables(KAFKA, EVENTS)

    assert set(re.findall("<!-- generated: (.*) -->", page)) == set(found)
    assert with_tables(page, found) == page, f"docs/contracts.md {STALE}"


def test_writing_fills_a_folder_and_the_tables_of_its_page(tmp_path: Path) -> None:
    page = tmp_path / "contracts.md"
    page.write_text("before\n<!-- generated: ledger -->\nold\n<!-- end -->\nafter\n", "utf-8")

    written = write_contracts(tmp_path, KAFKA, EVENTS)

    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    table = tables(KAFKA, EVENTS)["ledger"]
    assert page.read_text("utf-8") == (
        f"before\n<!-- generated: ledger -->\n{table}<!-- end -->\nafter\n"
    )


def test_an_installation_s_own_topics_and_limits_stand_in_its_contracts() -> None:
    kafka = KafkaSettings(applications="bank.applications.v2", partitions=12)

    files = contract_files(kafka, EventSettings(max_bytes=2_048))

    assert "above 2,048 bytes" in files["schemas/bank.applications.v2.json"]
    channel = json.loads(files["asyncapi.json"])["channels"]["applications"]
    assert (channel["address"], channel["bindings"]["kafka"]["partitions"]) == (
        "bank.applications.v2",
        12,
    )


# The documents in themselves


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_its_examples_validate(name: str) -> None:
    schema = SCHEMAS[name]

    Draft202012Validator.check_schema(schema)
    assert f"schemas/{schema['$id'].rpartition('/')[2]}" in FILES
    assert schema["examples"]
    for example in schema["examples"]:
        VALID[name].validate(example)


def test_the_example_applications_are_decoded() -> None:
    values = [json.dumps(example).encode() for example in SCHEMAS["applications"]["examples"]]

    assert DECODER.decode(a_poll(*values)).rejections == []


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


@pytest.mark.parametrize("name", FILES)
def test_every_reference_leads_somewhere(name: str) -> None:
    document = json.loads(FILES[name])

    for reference in references(document):
        file, _, pointer = reference.partition("#")
        node = json.loads(FILES[file.removeprefix("./")]) if file else document
        for step in pointer.split("/")[1:]:
            node = node[step]


def test_every_topic_is_a_channel_and_every_role_a_group_that_receives() -> None:
    addresses = {channel["address"] for channel in ASYNCAPI["channels"].values()}
    groups = {
        operation["bindings"]["kafka"]["groupId"]["const"]
        for operation in ASYNCAPI["operations"].values()
        if operation["action"] == "receive"
    }

    topics = {KAFKA.applications, KAFKA.decisions, KAFKA.ledger, KAFKA.parked, KAFKA.alarms}
    assert addresses == topics
    assert groups == {f"{KAFKA.group_prefix}-{role}" for role in ROLES}


# Applications: the schema and the decoder say the same

numbers = {
    attribute.name: st.integers(int(attribute.minimum or 0), int(attribute.maximum or 0))
    if attribute.kind == "integer"
    else st.floats(attribute.minimum, attribute.maximum)
    for attribute in DEFINITION.attributes
}
applicants = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"]), min_size=1, max_size=64)
times = st.integers(NOW_MS - 400 * 86_400_000, NOW_MS + 300_000).map(
    lambda ms: datetime.fromtimestamp(ms / 1000, UTC).isoformat()
)


def _is_json(value: object) -> bool:
    try:
        return bool(json.dumps(value, allow_nan=False))
    except ValueError:  # an infinity or NaN, which Python writes all the same
        return False


written = JSON.filter(_is_json)
applications = st.fixed_dictionaries(
    {
        "event_id": st.from_regex(r"[!-~]{1,64}", fullmatch=True),
        "application_id": st.integers(1, 2**63 - 1),
        "submitted_at": times,
    },
    optional={
        "applicant_id": st.none() | applicants,
        "attributes": st.none() | st.fixed_dictionaries(numbers, optional={"SEX": written}),
        "channel": st.text(st.characters(exclude_categories=["Cs"])),
    },
)


@given(applications)
def test_an_event_within_the_ranges_is_decoded_and_validates(event: dict[str, Any]) -> None:
    decoded = DECODER.decode(a_poll(json.dumps(event, allow_nan=False).encode()))

    assert decoded.rejections == []
    VALID["applications"].validate(event)


@pytest.mark.parametrize("attribute", DEFINITION.attributes, ids=lambda one: one.name)
def test_an_attribute_s_limits_are_the_same_for_schema_and_decoder(attribute: Attribute) -> None:
    assert attribute.minimum is not None
    assert attribute.maximum is not None
    low, high = int(attribute.minimum), int(attribute.maximum)
    events = [
        an_event(attributes=ATTRIBUTES | {attribute.name: value})
        for value in (low - 1, low, high, high + 1)
    ]

    decoded = DECODER.decode(a_poll(*events))

    assert decoded.positions.tolist() == [1, 2]
    assert [APPLICATION.is_valid(event) for event in events] == [False, True, True, False]


GONE = object()
odd = JSON | st.sampled_from([GONE, 0, 2**63 - 1, 2**63, 2**70, 7.0, 1e308, "", "7", "x" * 65])
odd_times = st.sampled_from(
    ["2026-09-21T12:53:20", "2026-09-21 12:53:20Z", "2026-09-21T12:53:60Z", "2026-02-30T00:00:00Z"]
)
changes = st.one_of(
    st.tuples(st.sampled_from(sorted(an_event(applicant_id="A-7"))), odd),
    st.tuples(st.just("submitted_at"), odd_times),
    st.tuples(st.just("event_id"), st.sampled_from(["a\n", "a b", "a\x00", "\ud800"])),
    st.tuples(st.just("applicant_id"), st.sampled_from(["a\n", "a b", "\u202e", "\ud800"])),
)
inner_changes = st.tuples(st.sampled_from(sorted(ATTRIBUTES)), odd)


def changed(document: dict[str, Any], change: tuple[str, object]) -> dict[str, Any]:
    return {name: value for name, value in (document | dict([change])).items() if value is not GONE}


@given(
    st.builds(changed, st.just(an_event(applicant_id="A-7")), changes)
    | inner_changes.map(lambda change: an_event(attributes=changed(ATTRIBUTES, change)))
)
def test_what_the_schema_refuses_is_refused_and_no_unnamed_rule_is_beyond_it(
    event: dict[str, Any],
) -> None:
    value = json.dumps(event)

    rejections = DECODER.decode(a_poll(value.encode())).rejections

    if not APPLICATION.is_valid(json.loads(value)):
        assert rejections
    elif rejections:
        assert said_beyond_the_schema(rejections[0].code, rejections[0].path, rejections[0].rule)


def said_beyond_the_schema(code: str, path: str, rule: str) -> bool:
    """The rules that JSON Schema cannot say; the schema's description names each."""
    if code == "invalid":
        fraction = rule == "Expected `int`, got `float`"
        return fraction or path in {"$.submitted_at", "header ce_source"}
    return f"`{code}`" in SCHEMAS["applications"]["description"]


def test_the_description_of_the_schema_names_every_code_and_rule_beyond_it() -> None:
    description = SCHEMAS["applications"]["description"]

    rules = ["fraction or an exponent", "`submitted_at` that is no real time", "`ce_source`"]
    assert [
        word for word in [*(f"`{code}`" for code in CODES), *rules] if word not in description
    ] == []


@pytest.mark.parametrize(("value", "code", "path"), BAD)
def test_a_bad_event_is_refused_by_the_schema_or_by_a_rule_named_beyond_it(
    value: bytes | None, code: str, path: str
) -> None:
    try:
        document = json.loads(value or b"null")
    except (ValueError, RecursionError):
        assert code in {"malformed", "too_large", "too_deep"}
        return

    assert not APPLICATION.is_valid(document) or said_beyond_the_schema(code, path, "")


@pytest.mark.parametrize("source", [b"", b"x" * 257, b"\xff"])
def test_a_source_is_refused_by_what_the_headers_or_the_description_say(source: bytes) -> None:
    poll = replace(a_poll(an_event()), headers=[[("ce_source", source)]])

    (rejection,) = DECODER.decode(poll).rejections

    assert said_beyond_the_schema(rejection.code, rejection.path, rejection.rule)


# What creditstream sends


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
rows = st.tuples(
    st.sampled_from(range(len(OUTCOMES))),
    st.none() | st.floats(0, 1),
    st.lists(st.builds(Reason, text, text, finite, text), max_size=4).map(tuple),
    st.none() | text,
    st.none() | st.just(b"0" * 55),
)


@given(st.lists(rows, min_size=1, max_size=4))
def test_every_decision_that_is_encoded_validates(found: list[Any]) -> None:
    outcomes, probabilities, reasons, applicant_ids, traces = zip(*found, strict=True)
    batch = a_batch(
        len(found),
        missing=[row for row, probability in enumerate(probabilities) if probability is None],
        probabilities=[probability or 0.0 for probability in probabilities],
        outcomes=outcomes,
        reasons=reasons,
        applicant_ids=applicant_ids,
    )

    records = list(decision_records(replace(batch, traceparents=ByteStrings.of(traces))))

    assert len(records) == len(found)
    for record, probability in zip(records, probabilities, strict=True):
        decision = json.loads(record.value or b"")
        VALID["decisions"].validate(decision)
        assert set(decision) == set(SCHEMAS["decisions"]["properties"])
        assert decision["default_probability"] == probability
        validator(MESSAGES["decisions"]["headers"]).validate(decoded_headers(record.headers))


def test_decisions_of_a_pipeline_validate_whatever_their_features_came_from() -> None:
    poll = a_poll(
        an_event(), an_event(application_id=8), an_event(application_id=8, attributes=None)
    )

    batch = a_pipeline().decide(poll, NOW_MS * 1000).batch

    decisions = [json.loads(record.value or b"") for record in decision_records(batch)]
    assert [one["feature_source"] for one in decisions] == ["table", "computed", "missing"]
    for decision in decisions:
        VALID["decisions"].validate(decision)


parked_codes = st.sampled_from([*CODES, *get_args(SinkCode)])


@given(st.builds(replace, parked_events, code=parked_codes, cut=st.just("") | text))
def test_the_headers_of_every_parked_event_validate(event: ParkedEvent) -> None:
    ours = decoded_headers(event.record_headers(), PREFIX)

    VALID["parked"].validate(ours)
    assert set(ours) <= set(SCHEMAS["parked"]["properties"])


@pytest.mark.parametrize(
    ("value", "code"), [pytest.param(*bad.values[:2], id=bad.id) for bad in BAD]
)
def test_the_headers_of_a_bad_event_validate(value: bytes | None, code: str) -> None:
    poll = a_poll(value)
    (rejection,) = DECODER.decode(poll).rejections

    at = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    event = ParkedEvent.of(
        poll, rejection, stage="decode", parked_at=at, release="r", largest=100_000
    )

    ours = decoded_headers(event.record_headers(), PREFIX)
    VALID["parked"].validate(ours)
    assert ours["creditstream-code"] == code


@pytest.mark.parametrize("name", SCHEMAS["parked"]["required"])
def test_a_parked_event_without_a_required_header_is_refused(name: str) -> None:
    (example,) = SCHEMAS["parked"]["examples"]
    headers = [(header, text.encode()) for header, text in example.items() if header != name]

    with pytest.raises(ParkedDamaged, match=name):
        parse(None, None, headers)


instants = st.datetimes(timezones=st.just(UTC))
alarms = st.builds(
    Alarm,
    alarm_id=st.builds(alarm_id, text, text, text, st.integers(0), st.integers(0)),
    raised_at=instants,
    kind=st.just("drift"),
    detector=st.sampled_from(DETECTORS),
    subject=text,
    value=finite,
    threshold=finite,
    since=instants,
    release=text,
    decisions=st.integers(0, 2**31),
    text=text,
)


@given(alarms)
def test_every_alarm_validates(alarm: Alarm) -> None:
    record = alarm_record(alarm)

    alarmed = json.loads(record.value or b"")
    VALID["alarms"].validate(alarmed)
    assert set(alarmed) == set(SCHEMAS["alarms"]["properties"])
    validator(MESSAGES["alarms"]["headers"]).validate(decoded_headers(record.headers))


def test_the_headers_of_our_own_applications_validate() -> None:
    headers = decoded_headers(cloud_event("e-1", "2026-09-21T12:53:20Z", "shop"))

    validator(MESSAGES["applications"]["headers"]).validate(headers)
    assert set(headers) <= set(MESSAGES["applications"]["headers"]["properties"])


def decoded_headers(headers: Any, prefix: str = "") -> dict[str, str]:
    return {name: value.decode() for name, value in headers if name.startswith(prefix)}
