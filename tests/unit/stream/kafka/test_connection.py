"""Clients of Kafka are made in one place, so that none is without TLS and login."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[4]
CLIENTS = {"AIOKafkaProducer", "AIOKafkaConsumer", "AIOKafkaAdminClient", "AIOKafkaClient"}


def test_no_client_of_kafka_is_made_but_by_a_connection() -> None:
    makers = set()
    for room in ("stream", "monitoring", "sinks", "models", "scoring", "features"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                called = node.func if isinstance(node, ast.Call) else None
                if isinstance(called, ast.Name | ast.Attribute):
                    name = called.id if isinstance(called, ast.Name) else called.attr
                    if name in CLIENTS:
                        makers.add(path.relative_to(ROOT))

    assert makers == {Path("stream/kafka/connection.py")}
