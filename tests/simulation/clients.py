"""Stand-ins for aiokafka's clients that talk to the simulated broker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import ConcurrentTransactions, KafkaError, KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import OffsetAndMetadata

from stream.kafka.connection import Connection
from tests.simulation.broker import Broker, Committed, Place, Stored, Unwritten
from tests.simulation.world import World

T = TypeVar("T")
_BACKOFF_SECONDS = 0.1


class SimulatedProducer:
    """
    An idempotent, perhaps transactional producer: batches of a partition go one after the other.

    What fails for a reason that passes is sent again until the request's time is over, as
    aiokafka's sender does.
    """

    def __init__(self, world: World, broker: Broker, **options: Any) -> None:
        self._world = world
        self._broker = broker
        self._name: str | None = options.get("transactional_id")
        self._request_seconds: float = options["request_timeout_ms"] / 1000
        self._producer = (-1, -1)
        self._sequences: dict[Place, int] = {}
        self._last_sent: dict[Place, asyncio.Future[None]] = {}
        self._added: set[Place] = set()
        self._failed: Exception | None = None

    async def start(self) -> None:
        name = self._name
        if name is None:
            self._producer = await self._until_done("enter", self._broker.new_producer)
        else:
            self._producer = await self._until_done("enter", partial(self._broker.enter, name))

    async def stop(self) -> None:
        for sent in list(self._last_sent.values()):
            await asyncio.wait([sent])

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> asyncio.Future[None]:
        if self._failed is not None:
            raise self._failed
        place = topic, partition
        before = self._last_sent.get(place)
        sent: asyncio.Future[None] = asyncio.ensure_future(
            self._send(place, _records_of(batch), before)
        )
        self._last_sent[place] = sent
        return sent

    async def begin_transaction(self) -> None:
        if self._failed is not None:
            raise self._failed
        self._added = set()

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: str
    ) -> None:
        places = {(tp.topic, tp.partition): Committed(*told) for tp, told in offsets.items()}
        await self._transactional(
            "offsets", lambda name, epoch: self._broker.add_offsets(name, epoch, group, places)
        )

    async def commit_transaction(self) -> None:
        await self._transactional(
            "commit", lambda name, epoch: self._broker.end(name, epoch, committing=True)
        )

    async def _send(
        self, place: Place, records: list[Unwritten], before: asyncio.Future[None] | None
    ) -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        if self._name is not None and place not in self._added:
            await self._transactional(
                "partition", lambda name, epoch: self._broker.add_place(name, epoch, place)
            )
            self._added.add(place)
        if self._failed is not None:
            raise self._failed
        sequence = self._sequences.get(place, 0)
        work = partial(self._broker.produce, place, records, self._producer, sequence, self._name)
        try:
            await self._until_done("produce", work, coordinator=False)
        except KafkaError as error:
            # Nobody knows whether it is there: what follows would be out of order.
            self._failed = error
            raise
        self._sequences[place] = sequence + len(records)

    async def _transactional(self, what: str, work: Callable[[str, int], None]) -> None:
        name = self._name
        assert name is not None
        try:
            await self._until_done(what, lambda: work(name, self._producer[1]))
        except KafkaError as error:
            self._failed = error
            raise

    async def _until_done(self, what: str, work: Callable[[], T], *, coordinator: bool = True) -> T:
        give_up_at = self._world.loop.now + self._request_seconds
        while True:
            try:
                return await self._world.ask(what, work, coordinator=coordinator)
            except KafkaError as error:
                if not (error.retriable or isinstance(error, ConcurrentTransactions)):
                    raise
                if self._world.loop.now >= give_up_at:
                    raise KafkaTimeoutError(what) from error
            await asyncio.sleep(_BACKOFF_SECONDS)


class SimulatedAdmin:
    """Answers what a group has committed."""

    def __init__(self, world: World, broker: Broker) -> None:
        self._world = world
        self._broker = broker

    async def start(self) -> Self:
        await self._world.ask("metadata", lambda: None)
        return self

    async def list_consumer_group_offsets(
        self, group: str, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        def work() -> dict[TopicPartition, OffsetAndMetadata]:
            # A broker that is the coordinator no more answers with nothing at all.
            if self._world.random.random() < self._world.weather.no_coordinator:
                return {}
            known = self._broker.committed
            return {
                tp: OffsetAndMetadata(*known.get((group, (tp.topic, tp.partition)), Committed(-1)))
                for tp in partitions
            }

        return await self._world.ask("committed", work, coordinator=True)


class SimulatedReader:
    """A consumer without a group that reads committed records of partitions given to it."""

    def __init__(self, world: World, broker: Broker, *topics: str, **options: Any) -> None:
        assert options["isolation_level"] == "read_committed"
        self._world = world
        self._broker = broker
        self._positions = {TopicPartition(*at): 0 for at in broker.logs if at[0] in topics}

    async def __aenter__(self) -> Self:
        await self._world.ask("metadata", lambda: None)
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._positions = dict.fromkeys(partitions, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition] = offset

    async def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[Any, int]:
        return await self._until_told("begins", lambda: dict.fromkeys(partitions, 0))

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[Any, int]:
        logs = self._broker.logs
        return await self._until_told(
            "ends", lambda: {tp: logs[tp.topic, tp.partition].stable_end for tp in partitions}
        )

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int
    ) -> dict[TopicPartition, list[Stored]]:
        def work() -> dict[TopicPartition, tuple[list[Stored], int]]:
            at_most = self._world.random.choice([2, 10, 500])
            return {
                tp: self._broker.logs[tp.topic, tp.partition].committed_records(
                    self._positions[tp], at_most
                )
                for tp in sorted(partitions)
            }

        try:
            found = await self._world.ask("fetch", work)
        except KafkaError:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        self._positions |= {tp: position for tp, (_, position) in found.items()}
        return {tp: records for tp, (records, _) in found.items() if records}

    async def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    async def _until_told(self, what: str, work: Callable[[], T]) -> T:
        while True:
            try:
                return await self._world.ask(what, work)
            except KafkaError:
                await asyncio.sleep(_BACKOFF_SECONDS)


@dataclass(frozen=True, kw_only=True)
class SimulatedConnection(Connection):
    """Makes clients that talk to the simulated broker."""

    world: World
    broker: Broker

    def producer(self, **options: Any) -> Any:
        return SimulatedProducer(self.world, self.broker, **options)

    def consumer(self, *topics: str, **options: Any) -> Any:
        return SimulatedReader(self.world, self.broker, *topics, **options)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        yield await SimulatedAdmin(self.world, self.broker).start()


def _records_of(batch: BatchBuilder) -> list[Unwritten]:
    found = []
    batches = MemoryRecords(bytes(batch._build()))
    while batches.has_next():
        found += [
            Unwritten(record.key, record.value, record.headers, record.timestamp)
            for record in batches.next_batch()
        ]
    return found
