"""The contracts as files, built from the types: JSON Schemas, AsyncAPI, the tables of the docs."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from features.taiwan_default import BILL, DEFINITION, PAID, STATUS
from monitoring.alarm import Alarm, alarm_id, unlike_text
from scoring.application import application_type
from scoring.decision import Decision, Origin, decision_id
from scoring.envelope import LONGEST_SOURCE
from scoring.reasons import Reason
from sinks.ledger import LEDGER_SCHEMA
from sinks.parked import ParkedEvent
from stream.contracts.asyncapi import asyncapi
from stream.contracts.headers import ParkedHeaders
from stream.settings import EventSettings, KafkaSettings

Document = dict[str, Any]

# A name that nobody can own and no tool will fetch (RFC 2606), and by which references between
# the files resolve as by any address. The topic's name in it carries the major version.
_ADDRESS = "https://creditstream.invalid/schemas/"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TABLE = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)

_AT = datetime(2026, 9, 21, 12, 53, 20, tzinfo=UTC)
_RELEASE = "0123456789abcdef"
_ATTRIBUTES: dict[str, float] = {
    "LIMIT_BAL": 120_000,
    "EDUCATION": 2,
    "AGE": 41,
    **dict.fromkeys(STATUS, 0),
    **dict.fromkeys(BILL, 40_000),
    **dict.fromkeys(PAID, 2_000),
}


def schemas(kafka: KafkaSettings, events: EventSettings) -> dict[str, Document]:
    """Build the JSON Schemas: applications, decisions, parked (headers) and alarms."""
    application = application_type(DEFINITION)
    return {
        "applications": _schema(application, kafka.applications, _applications(), _beyond(events)),
        "decisions": _schema(Decision, kafka.decisions, _decisions(kafka)),
        "parked": _schema(ParkedHeaders, f"{kafka.parked}.headers", [_parked(kafka)]),
        "alarms": _schema(Alarm, kafka.alarms, [_alarm()]),
    }


def tables(kafka: KafkaSettings, events: EventSettings) -> dict[str, str]:
    """Build the tables of docs/contracts.md, by the names of their markers."""
    columns = [
        (f"`{field.name}`", f"`{field.type}`", "yes" if field.nullable else "")
        for field in LEDGER_SCHEMA
    ]
    fields = {name: _fields(schema) for name, schema in schemas(kafka, events).items()}
    return {
        **{name: _table(("field", "type", "rule"), rows) for name, rows in fields.items()},
        "ledger": _table(("column", "Arrow type", "null allowed"), columns),
    }


def contract_files(kafka: KafkaSettings, events: EventSettings) -> dict[str, str]:
    """Build all files but the page with the tables, by their paths below docs/."""
    found = schemas(kafka, events)
    names = {name: f"schemas/{_file(schema)}" for name, schema in found.items()}
    documents = {names[name]: schema for name, schema in found.items()}
    examples = {name: schema["examples"] for name, schema in found.items()}
    documents["asyncapi.json"] = asyncapi(kafka, names, examples)
    # ASCII alone: one of the patterns holds characters that change the direction of text.
    return {path: json.dumps(value, indent=2) + "\n" for path, value in documents.items()}


def with_tables(page: str, found: dict[str, str]) -> str:
    """Put the tables between their markers on a page."""
    return _TABLE.sub(lambda marker: marker[1] + marker[2] + found[marker[1]], page)


def write_contracts(folder: Path, kafka: KafkaSettings, events: EventSettings) -> list[Path]:
    """Write the files below `folder`, and the tables into its contracts.md, if it has one."""
    files = contract_files(kafka, events)
    page = folder / "contracts.md"
    if page.is_file():
        files[page.name] = with_tables(page.read_text("utf-8"), tables(kafka, events))
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return [folder / name for name in files]


def _schema(kind: type, name: str, examples: list[Document], beyond: str = "") -> Document:
    found = msgspec.json.schema(kind)
    definitions = found["$defs"]
    # Taken out of the definitions: beside a `$ref`, older dialects see nothing else.
    root = definitions.pop(found["$ref"].rpartition("/")[2])
    description = " ".join(f"{root.pop('description')} {beyond}".split())
    head = {"$schema": _DIALECT, "$id": f"{_ADDRESS}{name}.json", "title": root.pop("title")}
    schema = {**head, "description": description, **root, "examples": examples}
    return {**schema, "$defs": definitions} if definitions else schema


def _beyond(events: EventSettings) -> str:
    return (
        "Unknown fields are ignored and counted. What this schema cannot say, by the code under "
        "which an event is parked: `tombstone`, a null value; "
        f"`too_large`, above {events.max_bytes:,} bytes; "
        f"`too_deep`, nested more than {events.max_depth} levels; "
        "`malformed`, no JSON in UTF-8 (NaN, infinity, a lone surrogate, and 1e400 "
        "in a field that is read, are none); "
        "`duplicate_key`, a key that stands twice in an object, escaped or not; "
        "`invalid`, a whole number written with a fraction or an exponent, a `submitted_at` that "
        "is no real time or has no offset or a leap second, and a header `ce_source` that is "
        f"empty, above {LONGEST_SOURCE} bytes, no UTF-8 or has characters of control or direction; "
        "`conflicting_duplicate`, the source and "
        "`event_id` of an event that was decided lately, with another value; "
        f"`timestamp`, submitted more than {events.max_age_days:g} days before or "
        f"{events.max_ahead_seconds:g} seconds after the record's own Kafka timestamp."
    )


def _file(schema: Document) -> str:
    return str(schema["$id"]).removeprefix(_ADDRESS)


def _fields(schema: Document) -> list[tuple[str, str, str]]:
    rows = []
    for name, field in schema["properties"].items():
        kinds = [_resolved(kind, schema) for kind in field.get("anyOf", [field])]
        inner = _resolved(kinds[0].get("items", kinds[0]), schema).get("properties", ())
        words = " or ".join(_kind(kind) for kind in kinds)
        optional = "" if name in schema["required"] else ", optional"
        rows.append((f"`{name}`", words + optional, _rule(kinds[0], inner)))
    return rows


def _resolved(field: Document, schema: Document) -> Document:
    reference = field.get("$ref", "")
    found: Document = schema["$defs"][reference.rpartition("/")[2]] if reference else field
    return found


def _kind(field: Document) -> str:
    form = f" ({field['format']})" if "format" in field else ""
    return f"{field.get('type', 'string')}{form}"


def _rule(field: Document, inner: Iterable[str]) -> str:
    said = str(field.get("description", ""))
    if "enum" in field:
        said += " One of " + ", ".join(f"`{word}`" for word in field["enum"]) + "."
    if "minimum" in field and "maximum" in field:
        said += f" {field['minimum']:,} to {field['maximum']:,}."
    if inner:
        said += " Holds " + ", ".join(f"`{name}`" for name in inner) + "."
    return said.strip()


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _applications() -> list[Document]:
    event = {"event_id": "e-1", "application_id": 7, "submitted_at": _AT.isoformat()}
    return [{**event, "attributes": _ATTRIBUTES}, {**event, "applicant_id": "A-7"}]


def _decisions(kafka: KafkaSettings) -> list[Document]:
    decided = Decision(
        decision_id=str(UUID(bytes=decision_id("shop", "e-1"))),
        event_id="e-1",
        application_id=7,
        submitted_at=_AT,
        decided_at=_AT,
        outcome="refer",
        default_probability=0.31,
        score=537,
        risk_band="medium",
        reasons=(Reason("R08", "bill_1", 0.42, "The balances owed are high."),),
        feature_source="computed",
        features_as_of=_AT,
        release=_RELEASE,
        origin=Origin(kafka.applications, 0, 41),
        features_age_s=0.0,
    )
    unknown = msgspec.structs.replace(
        decided,
        default_probability=None,
        score=None,
        risk_band=None,
        reasons=(Reason("N01", "", 0.0, "No information about the applicant is available."),),
        feature_source="missing",
        features_as_of=None,
        features_age_s=None,
    )
    return [_as_sent(decided), _as_sent(unknown)]


def _parked(kafka: KafkaSettings) -> Document:
    event = ParkedEvent(
        key=None,
        value=None,
        headers=(),
        stage="decode",
        code="invalid",
        path="$.attributes.AGE",
        shown="4",
        rule="Expected `int` >= 18",
        topic=kafka.applications,
        partition=0,
        offset=41,
        parked_at=_AT,
        produced_at_ms=int(_AT.timestamp()) * 1000,
        release=_RELEASE,
    )
    return {name: (text or b"").decode() for name, text in event.record_headers()}


def _alarm() -> Document:
    alarm = Alarm(
        alarm_id=alarm_id(_RELEASE, "psi", "age", 0, 7),
        raised_at=_AT,
        kind="drift",
        detector="psi",
        subject="age",
        value=0.41,
        threshold=0.25,
        since=_AT,
        release=_RELEASE,
        decisions=2_000,
        text=unlike_text("age", 0.41, 0.25, 2_000, _AT),
    )
    return _as_sent(alarm)


def _as_sent(record: Decision | Alarm) -> Document:
    return msgspec.json.decode(msgspec.json.encode(record), type=dict[str, Any])
