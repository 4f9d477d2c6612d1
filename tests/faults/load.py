"""A producer of applications, in a thread of its own, that logs what the broker acknowledged."""

import asyncio
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Self

from aiokafka.errors import KafkaError

from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.sending.simulator import Applicant, Simulator, send_all
from stream.settings import KafkaSettings
from tests.faults.partitions import EventKey, event_key

_BAD, _AGAIN, _CONFLICTING = 0.03, 0.01, 0.002
_KEPT = 5_000
_CHUNK_SECONDS = 0.05
_LARGEST_CHUNK = 2_000
_DEADLINE_S = 20.0
_END_SECONDS = 90.0


class Load:
    """
    Sends `rate` applications a second while it is not paused; 0: as fast as the broker takes them.

    3 % can never be decided, 1 % are sent again as they were, 0.2 % under the id of another, out of
    the last few thousand; none of that where it is not `mixed`. What the broker did not acknowledge
    is sent again until it does.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        applicants: Sequence[Applicant],
        run: str,
        seed: int,
        rate: int,
        *,
        mixed: bool = True,
    ) -> None:
        self._kafka = kafka
        self._random = random.Random(seed)
        self._sent: deque[OutRecord] = deque(maxlen=_KEPT)
        simulator = Simulator(applicants, run, bad_share=_BAD * mixed, seed=seed)
        self._records = (
            self._mixed(simulator) if mixed else (record for record, _ in simulator.events())
        )
        self._unsent: list[OutRecord] = []
        self._thread = threading.Thread(target=self._run, name="load")
        self._flows = threading.Event()
        self._idle = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self.rate = rate
        self.acknowledged: Counter[EventKey | None] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._flows.set()
        self._thread.join(_END_SECONDS)

    @property
    def events(self) -> int:
        """How many were acknowledged."""
        return self.acknowledged.total()

    def flow(self) -> None:
        """Send from now on."""
        self._idle.clear()
        self._flows.set()

    def pause(self) -> None:
        """Send nothing more; return when all that was sent is acknowledged."""
        self._flows.clear()
        assert self._idle.wait(_END_SECONDS), "the broker acknowledges nothing"
        if self._error is not None:
            raise self._error

    def send(self, count: int, most_s: float = math.inf) -> None:
        """
        Send so many more as fast as the broker takes them, then at the rate of before.

        After `most_s` seconds those that are sent by then must do.
        """
        wanted, deadline = self.events + count, time.monotonic() + most_s
        self.rate, before = 0, self.rate
        while self.events < wanted and time.monotonic() < deadline:
            time.sleep(_CHUNK_SECONDS)
            assert self._thread.is_alive(), self._error
        self.rate = before

    def widen(self, partitions: int) -> None:
        """Send to so many partitions from now on; nothing again of before, which went elsewhere."""
        self.pause()
        self._kafka = self._kafka.model_copy(update={"partitions": partitions})
        self._sent.clear()
        self.flow()

    def _mixed(self, simulator: Simulator) -> Iterator[OutRecord]:
        sent = self._sent
        for record, good in simulator.events():
            if good:
                sent.append(record)
            yield record
            chance = self._random.random()
            if sent and chance < _AGAIN + _CONFLICTING:
                before = self._random.choice(sent)
                assert before.value is not None
                other = before._replace(value=before.value + b" ")
                yield before if chance < _AGAIN else other

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as error:  # noqa: BLE001 - raised again by `pause`
            self._error = error
        finally:
            self._idle.set()

    async def _send(self) -> None:
        while not self._ended:
            try:
                async with Publisher(
                    connection_of(self._kafka), client_id="load", deadline=_DEADLINE_S
                ) as publisher:
                    await self._send_by(publisher)
            except (KafkaError, TimeoutError, OSError):
                await asyncio.sleep(0.5)  # by another producer: this one's state is unknown

    async def _send_by(self, publisher: Publisher) -> None:
        kafka = self._kafka
        rate, began, offered = self.rate, time.monotonic(), 0
        while not self._ended and kafka is self._kafka:
            if self.rate != rate:
                rate, began, offered = self.rate, time.monotonic(), 0
            if not self._flows.is_set() and not self._unsent:
                self._idle.set()
                await asyncio.sleep(_CHUNK_SECONDS)
                began, offered = time.monotonic(), 0
                continue
            if not self._unsent:
                due = int((time.monotonic() - began) * rate) - offered
                due = min(due, _LARGEST_CHUNK) if rate else _LARGEST_CHUNK
                self._unsent = [next(self._records) for _ in range(due)]
                offered += due
            await send_all(publisher, kafka.applications, kafka.partitions, self._unsent)
            self.acknowledged.update(
                event_key(record.value, record.headers) for record in self._unsent
            )
            self._unsent = []
            if rate:
                await asyncio.sleep(_CHUNK_SECONDS)
