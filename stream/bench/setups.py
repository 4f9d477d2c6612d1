"""What `bench pipeline` can measure."""

from enum import StrEnum
from typing import NamedTuple


class Setup(NamedTuple):
    """At which broker, with ClickHouse or not, with how many scoring workers."""

    kafka: bool = False
    sink: bool = False
    workers: int = 1


class SetupName(StrEnum):
    """Setups by their name."""

    EMBEDDED = "embedded"
    EMBEDDED_SINK = "embedded-sink"
    KAFKA = "kafka"
    KAFKA_SINK = "kafka-sink"
    KAFKA_TWO = "kafka-two"

    @property
    def setup(self) -> Setup:
        """What it stands for."""
        broker, _, more = self.partition("-")
        return Setup(broker == "kafka", more == "sink", 2 if more == "two" else 1)
