"""Topics of a test's own."""

import uuid

from stream.settings import KafkaSettings


def kafka_at(servers: str) -> KafkaSettings:
    name = uuid.uuid4().hex[:8]
    return KafkaSettings(
        bootstrap_servers=servers,
        applications=f"applications.{name}",
        decisions=f"decisions.{name}",
        ledger=f"ledger.{name}",
        parked=f"parked.{name}",
        alarms=f"alarms.{name}",
        partitions=2,
    )
