"""The AsyncAPI document: topics, what stands on them, and who reads and writes them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from sinks.ledger import LEDGER_SCHEMA, MAX_MESSAGE_BYTES
from stream.contracts.headers import AlarmHeaders, ApplicationHeaders, DecisionHeaders
from stream.settings import KafkaSettings

Document = dict[str, Any]

_JSON = "application/json"
_ARROW = "application/vnd.apache.arrow.stream"

_ABOUT = (
    "Credit applications in; decisions, their ledger, parked events and drift alarms out. What is "
    "sent goes to the partition of the record that it comes from, so all topics have equally many "
    "partitions, and what is decided of one applicant stays in the order of the applications. "
    "Retention is the broker's default: creditstream sets none."
)
# Topic, role whose consumer group receives it, and why.
_OPERATIONS = {
    "decide": ("applications", "scoring", "Decides each application, or parks it."),
    "publishDecisions": ("decisions", None, "One for each application that was decided."),
    "recordDecisions": ("ledger", None, "The decisions of a poll, as columns."),
    "park": ("parked", None, "One for each record that can never be decided, or never stored."),
    "storeDecisions": ("ledger", "sink", "Into ClickHouse."),
    "storeParked": ("parked", "sink", "Into ClickHouse."),
    "storeAlarms": ("alarms", "sink", "Into ClickHouse."),
    "watch": ("ledger", "monitor", "Looks for drift."),
    "alarm": ("alarms", None, "One when a subject begins to drift."),
}


def asyncapi(
    kafka: KafkaSettings, files: Mapping[str, str], examples: Mapping[str, list[Document]]
) -> Document:
    """
    Build the document, seen from creditstream: it receives applications and sends the rest.

    `files` are the JSON Schemas of applications, decisions, parked (headers) and alarms, relative
    to the document, and `examples` theirs.
    """
    messages = _messages(files, examples, kafka.parked_max_bytes)
    addresses = {name: getattr(kafka, name) for name in messages}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "creditstream",
            "version": "1.0.0",  # the major that the topics' names carry
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "channels": {
            name: {
                "address": address,
                "messages": {name: {"$ref": f"#/components/messages/{name}"}},
                "bindings": _kafka(topic=address, partitions=kafka.partitions),
            }
            for name, address in addresses.items()
        },
        "operations": {
            name: {
                "action": "receive" if role else "send",
                "channel": {"$ref": f"#/channels/{channel}"},
                "summary": summary,
                **({"bindings": _group(f"{kafka.group_prefix}-{role}")} if role else {}),
            }
            for name, (channel, role, summary) in _OPERATIONS.items()
        },
        "components": {"messages": messages},
    }


def _messages(
    files: Mapping[str, str], examples: Mapping[str, list[Document]], parked_max_bytes: int
) -> dict[str, Document]:
    references = {name: {"$ref": f"./{path}"} for name, path in files.items()}
    payloads = {
        name: [{"payload": example} for example in found] for name, found in examples.items()
    }
    columns = [
        {"name": field.name, "type": str(field.type), "nullable": field.nullable}
        for field in LEDGER_SCHEMA
    ]
    return {
        "applications": {
            "title": "Application",
            "headers": _headers(ApplicationHeaders),
            "payload": references["applications"],
            "examples": payloads["applications"],
            "bindings": _key("The applicant, so that the order of each one's events is kept."),
        },
        "decisions": {
            "title": "Decision",
            "headers": _headers(DecisionHeaders),
            "payload": references["decisions"],
            "examples": payloads["decisions"],
            "bindings": _key("`applicant_id`, or else `application_id` as text."),
        },
        "ledger": {
            "title": "Ledger batch",
            "contentType": _ARROW,
            "payload": {
                "description": "An Arrow IPC stream of one record batch: decisions of one "
                "poll by one release, with the features that were used. Without headers; the "
                "schema's metadata `creditstream.release` and `creditstream.features` name the "
                f"release and, as a JSON list, the features. At most {MAX_MESSAGE_BYTES:,} bytes.",
                "contentMediaType": _ARROW,
                "x-arrow-columns": columns,
            },
            "bindings": _kafka(),
        },
        "parked": {
            "title": "Parked event",
            "contentType": "application/octet-stream",
            "headers": references["parked"],
            "payload": {
                "description": "The event's own bytes, null where it had none; of an event above "
                f"{parked_max_bytes:,} bytes the head."
            },
            "examples": [{"headers": example} for example in examples["parked"]],
            "bindings": _key("The event's own bytes, null where it had none."),
        },
        "alarms": {
            "title": "Drift alarm",
            "headers": _headers(AlarmHeaders),
            "payload": references["alarms"],
            "examples": payloads["alarms"],
            "bindings": _key("The `subject`."),
        },
    }


def _headers(kind: type) -> Document:
    found: Document = msgspec.json.schema(kind)
    (schema,) = found["$defs"].values()
    return dict(schema)


def _key(description: str) -> Document:
    return _kafka(key={"type": "string", "description": description})


def _group(name: str) -> Document:
    return _kafka(groupId={"type": "string", "const": name})


def _kafka(**fields: Any) -> Document:
    return {"kafka": {**fields, "bindingVersion": "0.5.0"}}
