"""An installation on a ground of faults: workers, a producer before them, the checker behind."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Self

import pyarrow.parquet as pq
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from features.snapshot import load_snapshot, write_snapshot
from features.taiwan_default import DEFINITION
from models.prepared import Prepared
from scoring.pipeline import Pipeline
from sinks.store import ClickHouse
from stream.composition import build_pipeline
from stream.kafka.roles import Role
from stream.kafka.topics import create_topics
from stream.sending.simulator import Applicant
from stream.settings import KafkaSettings, read_settings
from tests.builders import a_release
from tests.e2e.installation import count
from tests.faults.checker import Checker, Verdict, read
from tests.faults.ground import Ground
from tests.faults.load import Load
from tests.faults.points import Points
from tests.faults.processes import Processes

SESSION_S = 3.0
_PATIENCE_S = 120.0
_TAIL = 50
_TOPICS = ("applications", "decisions", "ledger", "parked", "alarms")
_ROWS = "SELECT uniqExact({key}) AS n FROM {table}"


class Installation:
    """
    Workers on a ground of faults, `partitions` wide, a producer before them and a checker behind.

    Two releases and two feature tables lie ready to `take`.
    """

    def __init__(
        self,
        ground: Ground,
        prepared: Prepared,
        folder: Path,
        seed: int,
        *,
        partitions: int,
        rate: int,
        workers: int,
    ) -> None:
        self.ground = ground
        self.folder = folder
        (folder / "points").mkdir()
        self.points = Points(folder / "points")
        self._tables = _two_tables(folder, prepared.features)
        self._releases = (
            a_release(folder / "releases"),
            a_release(folder / "releases", refer=0.2),
        )
        self.take(release=0, table=0)
        name = f"f{seed}"
        server = ground.store.server
        self.settings = read_settings(
            {f"kafka.{topic}": f"{topic}.{name}" for topic in _TOPICS}
            | {
                "kafka.bootstrap_servers": f"127.0.0.1:{ground.broker_line.port}",
                "kafka.group_prefix": name,
                "kafka.partitions": str(partitions),
                "kafka.session_timeout": str(SESSION_S),
                "kafka.max_poll_records": "500",
                "release": str(folder / "release"),
                "features": str(folder / "features.parquet"),
                "swap.as_of_may_go_back": "true",
                "swap_seconds": "0.3",
                "store.url": f"http://127.0.0.1:{ground.store_line.port}",
                "store.user": server.user,
                "store.password": server.password,
                "store.database": name,
                "monitor.checkpoint": str(folder / "monitor"),
                "status.port": "0",
            }
        )
        self.outside = self.settings.kafka.model_copy(
            update={"bootstrap_servers": ground.broker.bootstrap_servers}
        )
        asyncio.run(create_topics(self.outside))
        self.load = Load(self.outside, _applicants(prepared), seed, rate)
        self.processes = Processes(self.settings, self.points, folder)
        self._workers = workers

    def __enter__(self) -> Self:
        self.mend()
        self.load.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.load.__exit__()
        self.processes.end_all()
        self.store().close()

    @property
    def scoring(self) -> list[str]:
        """The names of the scoring workers."""
        return [name for name in self.processes.names if name.startswith("scoring")]

    def store(self) -> ClickHouse:
        """Open the store from outside, past the line that may be spoilt."""
        return self.ground.store.server.open(self.settings.store.database)

    def take(self, *, release: int, table: int) -> None:
        """Point to one of two releases and one of two feature tables."""
        for link, target in (
            ("release", self._releases[release]),
            ("features.parquet", self._tables[table]),
        ):
            (self.folder / "next").symlink_to(target)
            (self.folder / "next").replace(self.folder / link)

    def mend(self) -> None:
        """Take back all that was done: the same workers as in the beginning run, or will soon."""
        self.ground.mend()
        self.points.disarm_all()
        self.points.shift_clock(0.0)
        wanted: dict[str, Role] = {f"scoring-{index}": "scoring" for index in range(self._workers)}
        wanted |= {"sink": "sink", "monitor": "monitor"}
        there = set(self.processes.names)
        self.processes.end(*(there - wanted.keys()))
        for name in wanted.keys() - there:
            self.processes.start(name, wanted[name])

    def await_decision_after(self, moment: float) -> float:
        """Wait for a decision that was made after a moment; give when a reader saw it."""
        return asyncio.run(_await_decisions(self.outside, moment, 1))

    def await_all_partitions_after(self, moment: float) -> float:
        """Wait until each partition has a decision made after a moment; give when it was seen."""
        return asyncio.run(_await_decisions(self.outside, moment, self.outside.partitions))

    def settle(self) -> Verdict:
        """Send no more, wait until all that was sent is through, and check it."""
        self.load.pause()
        self._await(self._is_decided, "the scoring group has read all")
        decided, parked = self._on_topics()
        self._await(
            lambda: (
                self._count("decision_ledger", "decision_id") >= decided
                and self._count("parked_events", "(origin_partition, origin_offset)") >= parked
            ),
            f"ClickHouse has {decided} decisions and {parked} parked events",
        )
        checker = Checker(self.outside, self.store(), self._pipelines())
        return checker.check(self.load.acknowledged)

    def _await(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"not within {_PATIENCE_S:.0f} s: {what}"
            time.sleep(0.2)

    def _is_decided(self) -> bool:
        return asyncio.run(_lag(self.outside, f"{self.settings.kafka.group_prefix}-scoring")) == 0

    def _on_topics(self) -> tuple[int, int]:
        """Count the decisions and the parked events that a committed reader sees."""
        kafka = self.outside
        found = [
            asyncio.run(read(kafka.bootstrap_servers, (kafka.decisions, kafka.parked), number))
            for number in range(kafka.partitions)
        ]
        decided, parked = zip(*found, strict=True)
        return sum(map(len, decided)), sum(map(len, parked))

    def _count(self, table: str, key: str) -> int:
        return count(self.store(), _ROWS.format(table=table, key=key))

    def _pipelines(self) -> list[Pipeline]:
        changes = (
            {"release": release, "features": table}
            for release in self._releases
            for table in self._tables
        )
        return [build_pipeline(self.settings.model_copy(update=change)) for change in changes]


async def _await_decisions(kafka: KafkaSettings, moment: float, partitions: int) -> float:
    asked = [TopicPartition(kafka.decisions, number) for number in range(kafka.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    seen: set[TopicPartition] = set()
    async with asyncio.timeout(_PATIENCE_S), consumer:
        consumer.assign(asked)
        ends = await consumer.end_offsets(asked)
        for tp in asked:
            consumer.seek(tp, max(0, ends[tp] - _TAIL))
        while len(seen) < partitions:
            for tp, records in (await consumer.getmany(timeout_ms=50)).items():
                if records[-1].timestamp > moment * 1e3:
                    seen.add(tp)
    return time.time()


async def _lag(kafka: KafkaSettings, group: str) -> int:
    """Count what a group has not committed of the applications, as the broker tells it."""
    asked = [TopicPartition(kafka.applications, number) for number in range(kafka.partitions)]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    async with consumer:
        ends = await consumer.end_offsets(asked)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(group, partitions=asked)
    finally:
        await admin.close()
    return sum(ends[tp] - max(0, committed[tp].offset) for tp in asked if tp in committed)


def _applicants(prepared: Prepared) -> list[Applicant]:
    rows = pq.read_table(prepared.applications).to_pylist()
    return [Applicant(row.pop("application_id"), row) for row in rows]


def _two_tables(folder: Path, first: Path) -> tuple[Path, Path]:
    """Give the table, and one of a day later in which everybody's limit is another."""
    table = load_snapshot(first, DEFINITION.schema)
    assert table.as_of is not None
    matrix = table.matrix.copy()
    matrix[:, DEFINITION.schema.names.index("limit")] *= 1.5
    second = folder / "second.parquet"
    as_of = table.as_of + timedelta(days=1)
    write_snapshot(second, "application_id", table.keys, matrix, DEFINITION.schema, as_of)
    return first, second
