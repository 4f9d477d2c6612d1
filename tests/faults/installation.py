"""An installation on a ground of faults: workers, a producer before them, the checker behind."""

import asyncio
import itertools
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Self

import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from features.snapshot import load_snapshot, write_snapshot
from features.taiwan_default import DEFINITION
from models.prepared import Prepared
from scoring.pipeline import Pipeline
from sinks.store import ClickHouse
from stream.composition import build_pipeline
from stream.kafka.connection import connection_of
from stream.kafka.rights import Right
from stream.kafka.roles import ROLES, Role, rights_of
from stream.kafka.topics import create_topics, describe_topics
from stream.sending.simulator import Applicant
from stream.settings import KafkaSettings, Settings, read_settings
from tests.builders import a_release
from tests.committed import transaction_open
from tests.e2e.installation import count
from tests.faults.checker import Checker
from tests.faults.ground import Ground
from tests.faults.load import Load
from tests.faults.points import AT_REBALANCE, Point, Points
from tests.faults.processes import Processes
from tests.faults.verdicts import EXACTLY_ONCE, Promise, Verdict
from tests.secured import PASSWORD

SESSION_S = 3.0
COMMIT_S = 0.3
HOLD_S = 4 * COMMIT_S
"""Long enough for what is finished to be committed, and for what ought not to be."""

_PATIENCE_S = 120.0
_BEGIN_SECONDS = 0.1
_TAIL = 50
_TOPICS = ("applications", "decisions", "ledger", "parked", "alarms")
_ROWS = "SELECT uniqExact({key}) AS n FROM {table}"
_PLACE = "(origin_partition, origin_offset)"


@dataclass(frozen=True)
class Stock:
    """Applicants, and two releases and two feature tables to decide them by."""

    applicants: list[Applicant]
    releases: tuple[Path, Path]
    tables: tuple[Path, Path]

    @classmethod
    def of(cls, prepared: Prepared, folder: Path) -> "Stock":
        """Make it in a folder."""
        rows = pq.read_table(prepared.applications).to_pylist()
        return cls(
            [Applicant(row.pop("application_id"), row) for row in rows],
            (a_release(folder), a_release(folder, refer=0.2)),
            _two_tables(folder, prepared.features),
        )

    @cached_property
    def pipelines(self) -> list[Pipeline]:
        """All pairs of release and table."""
        return [
            build_pipeline(read_settings({"release": str(release), "features": str(table)}))
            for release in self.releases
            for table in self.tables
        ]


class Installation:
    """
    Workers on a ground of faults, `partitions` wide, a producer before them and a checker behind.

    What is in `stock` lies ready to `take`. With `logins` each role comes in as the
    user of its name, who has the rights that it needs and no other. Not `mixed`, all applications
    are good, and none is sent twice.
    """

    def __init__(
        self,
        ground: Ground,
        stock: Stock,
        folder: Path,
        name: str,
        *,
        seed: int,
        partitions: int,
        rate: int,
        workers: int,
        promise: Promise = EXACTLY_ONCE,
        logins: bool = False,
        mixed: bool = True,
    ) -> None:
        self.ground = ground
        self.folder = folder
        self.name = name
        self.partitions = partitions
        self.promise = promise
        (folder / "points").mkdir()
        self.points = Points(folder / "points")
        self._stock = stock
        self.take(release=0, table=0)
        server = ground.store.server
        self.settings = read_settings(
            {f"kafka.{topic}": f"{topic}.{name}" for topic in _TOPICS}
            | {
                "delivery": self.way,
                "kafka.bootstrap_servers": f"127.0.0.1:{ground.broker_line.port}",
                "kafka.group_prefix": name,
                "kafka.partitions": str(partitions),
                "kafka.session_timeout": str(SESSION_S),
                "kafka.commit_interval": str(COMMIT_S),
                "kafka.max_poll_records": "500",
                "release": str(folder / "release"),
                "features": str(folder / "features.parquet"),
                "swap.as_of_may_go_back": "true",
                "swap_seconds": "0.3",
                "store.insert_seconds": "0.2",
                "store.url": f"http://127.0.0.1:{ground.store_line.port}",
                "store.user": server.user,
                "store.password": server.password,
                "store.database": name,
                "monitor.checkpoint": str(folder / "monitor"),
                "status.port": "0",
            }
            | (_logins(ground, folder) if logins else {})
        )
        plain = self.settings.kafka.reset("security_", "sasl_", "ssl_")
        at = {"bootstrap_servers": ground.broker.bootstrap_servers}
        self.outside = plain.model_copy(update=at)
        asyncio.run(create_topics(self.outside))
        for role in ROLES if logins else ():
            ground.secured.grant(role, *self.rights_of(role))
        self.load = Load(self.outside, stock.applicants, name, seed, rate, mixed=mixed)
        self.processes = Processes(self._of_role, self.points, folder)
        self._workers = workers
        self._checker: Checker | None = None

    def __enter__(self) -> Self:
        self.load.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.load.__exit__()
        self.processes.end_all()

    @property
    def way(self) -> str:
        """How it delivers."""
        return "exactly_once" if self.promise.once else "at_least_once"

    def rights_of(self, role: Role) -> list[Right]:
        """Give the rights that a role needs."""
        return rights_of(self.settings, role)

    def said(self, role: Role) -> str:
        """Give all that the workers of a role have logged."""
        return "".join(log.read_text() for log in sorted(self.folder.glob(f"{role}*.log")))

    def await_said(self, role: Role, words: str, times: int) -> None:
        """Wait until workers of a role have said something so many times."""
        self.wait_until(lambda: self.said(role).count(words) >= times, f"{role} says {words!r}")

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
            ("release", self._stock.releases[release]),
            ("features.parquet", self._stock.tables[table]),
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

    def strike(
        self, point: Point, number: signal.Signals = signal.SIGKILL, hold_s: float = 0.0
    ) -> int:
        """
        Let whoever first comes to a point get a signal there, or so much later; give its id.

        Returns when it is killed or, of another signal, has taken it.
        """
        (struck,) = self.strike_each({point: hold_s}, number)
        return struck

    def strike_each(
        self, holds_s: Mapping[Point, float], number: signal.Signals = signal.SIGKILL
    ) -> list[int]:
        """Do so at several points at the same time, each with a hold of its own."""
        for point, hold_s in holds_s.items():
            self.points.arm(point, number, hold_s)
        if not holds_s.keys().isdisjoint(AT_REBALANCE):
            self.processes.signal(self.scoring[0], signal.SIGTERM)
        return [self._await_struck(point, number) for point in holds_s]

    def _await_struck(self, point: Point, number: signal.Signals) -> int:
        deadline = time.monotonic() + _PATIENCE_S
        while not (struck := self.points.taken_by(point)):
            assert time.monotonic() < deadline, f"no worker came to {point!r}"
            time.sleep(0.02)
        if number == signal.SIGKILL:
            self.processes.await_end(struck)
        return struck

    def overload(self, backlog: int = 3_000) -> None:
        """Let more applications wait than the scoring workers decide at once, and them begin."""
        self.wait_until(
            lambda: all(map(self.processes.hears, self.scoring)), "all scoring workers hear"
        )
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for name in self.scoring:
                self.processes.signal(name, number)
            if number == signal.SIGSTOP:
                # Asleep for longer, a worker would be fenced off, and fail when it stops.
                self.load.send(backlog, SESSION_S / 2)
        time.sleep(_BEGIN_SECONDS)

    def longest_pause_s(self, since: float) -> float:
        """Give the longest time in which a partition had no decision that a reader sees."""
        return asyncio.run(_longest_pause(self._decisions(), self.outside, since))

    def flow(self) -> None:
        """Be whole and under load, every partition at work."""
        self.mend()
        self.load.flow()
        self.await_all_partitions_after(time.time())

    def rest(self) -> None:
        """Leave the machine to another installation, until `flow`."""
        self.load.pause()
        self.processes.end(*self.processes.names)

    def widen(self, partitions: int) -> None:
        """Give all topics so many partitions, that of applications last, and send to them all."""
        kafka = self.outside
        others = [name for name in kafka.topics if name != kafka.applications]
        for names in (others, [kafka.applications]):
            asyncio.run(_add_partitions(kafka, names, partitions))
        self.wait_until(
            lambda: asyncio.run(_have(kafka, partitions)), "the broker tells of the partitions"
        )
        self.partitions = partitions
        self.load.widen(partitions)

    def await_decision_after(self, moment: float) -> float:
        """Wait for a decision that was made after a moment; give when a reader saw it."""
        return asyncio.run(_await_decisions(self._decisions(), self.outside, moment, 1))

    def await_all_partitions_after(self, moment: float, *, committed: bool = True) -> float:
        """
        Wait until each partition has a decision made after a moment; give when it was seen.

        Not `committed`, one in a transaction that is still open will do.
        """
        asked = self._decisions()
        level = "read_committed" if committed else "read_uncommitted"
        return asyncio.run(_await_decisions(asked, self.outside, moment, len(asked), level))

    def _decisions(self) -> list[TopicPartition]:
        return [TopicPartition(self.outside.decisions, number) for number in range(self.partitions)]

    def await_all_members(self) -> None:
        """Wait until the scoring group is all of its workers, assigned, and nobody else."""
        group = f"{self.settings.kafka.group_prefix}-scoring"
        self.wait_until(
            lambda: asyncio.run(_at_work(self.outside, group)) == len(self.scoring),
            "the scoring group is its workers",
        )

    def settle(self, *, whole: bool = False) -> Verdict:
        """
        Send no more, wait until all that was sent is through, and check it.

        The checker reads on from where it was or, for the `whole`, all from the beginning.
        """
        self.load.pause()
        self.wait_until(lambda: self.lag() == 0, "the scoring group has read all")
        # A commit moves the offset; its markers come to the other topics a moment later.
        kafka = self.outside.model_copy(update={"partitions": self.partitions})
        outputs = kafka.decisions, kafka.parked, kafka.ledger
        self.wait_until(
            lambda: not asyncio.run(transaction_open(kafka, *outputs)),
            "all transactions have their markers",
        )
        store = self.store()
        if self._checker is None or whole:
            self._checker = Checker(self.outside, store, self._stock.pipelines, self.promise)
        checker = self._checker
        checker.read(self.partitions)
        decided, parked = checker.decided, checker.parked
        with suppress(pytest.fail.Exception):  # the checker says what is missing
            self.wait_until(
                lambda: (
                    count(store, _ROWS.format(key="decision_id", table="decision_ledger"))
                    >= decided
                    and count(store, _ROWS.format(key=_PLACE, table="parked_events")) >= parked
                ),
                f"ClickHouse has {decided} decisions and {parked} parked events",
            )
        return checker.check(self.load.acknowledged)

    def lag(self) -> int:
        """Count the applications that the scoring group has not committed; -1: nobody can tell."""
        group = f"{self.settings.kafka.group_prefix}-scoring"
        return asyncio.run(_lag(self.outside, self.partitions, group))

    def _of_role(self, role: Role) -> Settings:
        if self.settings.kafka.sasl_username is None:
            return self.settings
        kafka = self.settings.kafka.model_copy(update={"sasl_username": role})
        return self.settings.model_copy(update={"kafka": kafka})

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; where it never does, workers say where they stand."""
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                for name in self.processes.names:
                    self.processes.signal(name, signal.SIGQUIT)  # says where it stands
                time.sleep(1.0)
                pytest.fail(f"not within {_PATIENCE_S:.0f} s: {what}; logs in {self.folder}")
            time.sleep(0.2)


async def _await_decisions(
    asked: Sequence[TopicPartition],
    kafka: KafkaSettings,
    moment: float,
    partitions: int,
    level: str = "read_committed",
) -> float:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        isolation_level=level,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    seen: set[TopicPartition] = set()
    async with asyncio.timeout(_PATIENCE_S), consumer:
        consumer.assign(list(asked))
        ends = await consumer.end_offsets(asked)
        for tp in asked:
            consumer.seek(tp, max(0, ends[tp] - _TAIL))
        while len(seen) < partitions:
            for tp, records in (await consumer.getmany(timeout_ms=50)).items():
                if records[-1].timestamp > moment * 1e3:
                    seen.add(tp)
    return time.time()


async def _at_work(kafka: KafkaSettings, group: str) -> int:
    """Count a group's members; 0 while it is not settled who reads what."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    (told,) = answer.to_object()["groups"]
    members = told["members"]
    settled = told["state"] == "Stable" and all(one["member_assignment"] for one in members)
    return len(members) if settled else 0


async def _longest_pause(
    asked: Sequence[TopicPartition], kafka: KafkaSettings, since: float
) -> float:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed"
    )
    longest = 0.0
    async with asyncio.timeout(_PATIENCE_S), consumer:
        begins = await consumer.offsets_for_times(dict.fromkeys(asked, int(since * 1e3)))
        ends = await consumer.end_offsets(asked)
        for tp in asked:
            times = [since * 1e3]
            found = begins[tp]
            consumer.assign([tp])
            at = found.offset if found else ends[tp]
            consumer.seek(tp, at)
            while at < ends[tp]:
                for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                    times += [record.timestamp for record in records]
                at = await consumer.position(tp)
            longest = max([longest, *(b - a for a, b in itertools.pairwise(times))])
    return longest / 1e3


async def _lag(kafka: KafkaSettings, partitions: int, group: str) -> int:
    asked = [TopicPartition(kafka.applications, number) for number in range(partitions)]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    async with consumer:
        ends = await consumer.end_offsets(asked)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(group, partitions=asked)
    finally:
        await admin.close()
    if len(committed) < len(asked):  # the group has no coordinator at present
        return -1
    return sum(ends[tp] - max(0, committed[tp].offset) for tp in asked)


async def _have(kafka: KafkaSettings, partitions: int) -> bool:
    described = await describe_topics(connection_of(kafka), kafka.topics)
    return all(len(one["partitions"]) >= partitions for one in described)


async def _add_partitions(kafka: KafkaSettings, topics: Sequence[str], partitions: int) -> None:
    async with connection_of(kafka).admin() as admin:
        wanted = {name: NewPartitions(partitions) for name in topics}
        answer = await admin.create_partitions(wanted)
        failed = [error for error in answer.topic_errors if error[1]]
        assert not failed, failed


def _logins(ground: Ground, folder: Path) -> dict[str, str]:
    """Give the settings of who comes in with a login; the user is another for each role."""
    password = folder / "password"
    password.write_text(PASSWORD)
    return {
        "kafka.bootstrap_servers": ground.broker.addresses["SCRAM"],
        "kafka.security_protocol": "SASL_SSL",
        "kafka.sasl_username": "nobody",
        "kafka.sasl_password_file": str(password),
        "kafka.ssl_cafile": str(ground.secured.authority.cafile),
    }


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
