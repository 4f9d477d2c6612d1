"""
What became of every application, found from outside: topics, ClickHouse, the producer's own log.

It knows nothing of the workers. Contents are computed anew, offline, from the applications' topic.
"""

import asyncio
import copy
from collections import Counter
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from scoring.pipeline import Pipeline
from stream.settings import KafkaSettings
from tests.e2e.installation import Asked
from tests.faults.in_store import StoreLooks
from tests.faults.partitions import CheckedPartition, EventKey
from tests.faults.verdicts import Promise, Verdict

_READ_SECONDS = 120.0


class Checker:
    """
    Compares what stands on topics and in ClickHouse with what ought to.

    `pipelines` are all pairs of release and table that may have decided. Each look reads what is
    new since the one before and holds it against all there was; of what it has seen it keeps ids,
    places and digests. What was right at an earlier look must be in ClickHouse as it was then, by
    number and sum of hashes, and topics must not have become shorter. Whether they still hold what
    they held, a checker tells that looks for the first time.
    """

    def __init__(
        self, kafka: KafkaSettings, store: Asked, pipelines: Sequence[Pipeline], promise: Promise
    ) -> None:
        self._kafka = kafka
        self._looks = StoreLooks(store)
        self._pipelines = pipelines
        self._promise = promise
        self._partitions: dict[int, CheckedPartition] = {}
        self._events: Counter[EventKey | None] = Counter()
        self._positions: dict[TopicPartition, int] = {}
        self._verdict = Verdict()

    @property
    def decided(self) -> int:
        """How many applications have a decision on the topic that was read."""
        return sum(part.decided for part in self._partitions.values())

    @property
    def parked(self) -> int:
        """How many applications are parked, on the topic that was read."""
        return sum(part.parked for part in self._partitions.values())

    def read(self, partitions: int) -> None:
        """Read what is new on the topics, which have so many partitions."""
        kafka = self._kafka
        names = (kafka.applications, kafka.decisions, kafka.parked, kafka.ledger)
        asked = [TopicPartition(name, number) for number in range(partitions) for name in names]
        found = asyncio.run(read(kafka.bootstrap_servers, asked, self._positions, self._verdict))
        for number in range(partitions):
            part = self._partitions.setdefault(number, CheckedPartition(number, self._promise))
            part.take_in(*(found[TopicPartition(name, number)] for name in names))

    def check(self, acknowledged: Mapping[EventKey | None, int]) -> Verdict:
        """
        Check what was read since the last time; give the verdict over all there was.

        `acknowledged` is the producer's log: how often each event was acknowledged; by None those
        that have no readable id. What was read must be in ClickHouse.
        """
        verdict = self._verdict
        decided: dict[str, bytes] = {}
        parked: set[tuple[int, int]] = set()
        for part in self._partitions.values():
            found = part.check(verdict, self._pipelines)
            self._events += found.events
            decided |= found.decided
            parked |= {(part.number, offset) for offset in found.parked}
        for event, times in acknowledged.items():
            if self._events[event] < times:
                verdict.fault("acknowledged but not on the topic", event)
        self._looks.check_decisions(verdict, decided, self.decided)
        self._looks.check_parked(verdict, parked)
        self._looks.remember({part.number: part.next_offset for part in self._partitions.values()})
        return copy.deepcopy(verdict)


async def read(
    servers: str,
    asked: Sequence[TopicPartition],
    positions: dict[TopicPartition, int],
    verdict: Verdict,
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """Read partitions from the positions to their ends, committed records only; move those on."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", enable_auto_commit=False
    )
    found: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in asked}
    async with asyncio.timeout(_READ_SECONDS), consumer:
        consumer.assign(list(asked))
        ends = await consumer.end_offsets(asked)
        for tp in asked:
            if ends[tp] < positions.setdefault(tp, 0):
                verdict.fault("a topic has become shorter", f"{tp.topic}/{tp.partition}")
            consumer.seek(tp, positions[tp])
        waiting = {tp for tp in asked if ends[tp] > positions[tp]}
        while waiting:
            for tp, records in (await consumer.getmany(*waiting, timeout_ms=200)).items():
                found[tp] += records
            waiting = {tp for tp in waiting if await consumer.position(tp) < ends[tp]}
        for tp in asked:
            positions[tp] = await consumer.position(tp)
    return found
