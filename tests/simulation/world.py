"""The simulated world between processes: time, chance, the network's faults, and the trace."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from aiokafka.errors import KafkaConnectionError, NotCoordinatorError, RequestTimedOutError

from tests.builders import NOW_MS
from tests.simulation.loop import PROCESS, Process, VirtualLoop

T = TypeVar("T")


@dataclass(slots=True)
class Weather:
    """How the network and the broker are at present; shares are of requests."""

    away: bool = False
    lost_before: float = 0.0
    lost_after: float = 0.0
    slow: float = 0.0
    no_coordinator: float = 0.0
    late_markers: float = 0.0


class World:
    """What all processes share, and nobody can stop."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.loop = VirtualLoop(self.thread_delays)
        self.weather = Weather()
        self.clock_jump_ns = 0
        self.trace: list[str] = []
        self.slow_threads = 0.0

    def digest(self) -> str:
        """Name all that has happened."""
        return hashlib.blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()

    def note(self, what: str) -> None:
        """Write into the trace what happens, when, and to whom."""
        process = PROCESS.get()
        who = process.name if process is not None else "world"
        self.trace.append(f"{self.loop.now:10.4f} {who:<12} {what}")

    def wall_ns(self) -> int:
        """Give the time that a wall clock shows, which may jump."""
        return NOW_MS * 1_000_000 + int(self.loop.now * 1e9) + self.clock_jump_ns

    def thread_delays(self) -> tuple[float, float]:
        """Say how long a thread takes to begin, and to be heard of when it is done."""
        random = self.random
        slow = random.random() < self.slow_threads
        before = random.expovariate(1 / 0.002) + (
            random.choice([0.5, 3.0, 10.0]) * random.random() if slow else 0.0
        )
        return before, random.expovariate(1 / 0.001)

    def transit(self) -> float:
        """Say how long a message takes."""
        random = self.random
        if random.random() < self.weather.slow:
            return random.uniform(0.05, 2.5)
        return random.uniform(0.0005, 0.004)

    async def ask(self, what: str, effect: Callable[[], T], *, coordinator: bool = False) -> T:
        """
        Send a request to the broker and wait for its answer.

        Once it is on its way it takes effect whatever becomes of who sent it. Raises a retriable
        KafkaError where it is lost before or after that.
        """
        process, random, weather = PROCESS.get(), self.random, self.weather
        reply: asyncio.Future[T] = self.loop.create_future()
        if self._unreachable(process) or random.random() < weather.lost_before:
            self.loop.later(random.uniform(0.01, 0.3), _fail, reply, KafkaConnectionError(what))
            return await reply
        there, back = self.transit(), self.transit()
        lost = random.random() < weather.lost_after
        refused = coordinator and random.random() < weather.no_coordinator

        def arrive() -> None:
            if self._unreachable(process):
                self.loop.later(0.2, _fail, reply, RequestTimedOutError(what))
                return
            if refused:
                self.loop.later(back, _fail, reply, NotCoordinatorError(what))
                return
            try:
                result = effect()
            except Exception as error:  # noqa: BLE001 - the answer
                self.loop.later(back, _fail, reply, error)
            else:
                self.loop.later(back, _answer, reply, result)
            if lost:
                self.note(f"{process.name if process else ''}: the answer to {what} is lost")
                self.loop.later(0.0, _fail, reply, RequestTimedOutError(what))

        self.loop.later(there, arrive)
        return await reply

    def _unreachable(self, process: Process | None) -> bool:
        return self.weather.away or (process is not None and process.cut)


def _fail(reply: asyncio.Future[T], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)


def _answer(reply: asyncio.Future[T], result: T) -> None:
    if not reply.done():
        reply.set_result(result)
