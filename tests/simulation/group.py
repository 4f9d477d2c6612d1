"""The simulated coordinator of a consumer group: members, generations, sessions."""

import asyncio
from dataclasses import dataclass, field

from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from tests.simulation.broker import Broker, Committed, Place
from tests.simulation.world import World

SESSION_SECONDS = 6.0
_REBALANCE_SECONDS = 20.0

Joined = tuple[int, int, list[Place]]
"""A member's number, the generation, and what is assigned to it."""


@dataclass(slots=True)
class _Member:
    seen_at: float
    joining: "asyncio.Future[Joined] | None" = None
    places: list[Place] = field(default_factory=list)


class Group:
    """Gives each partition of some topics to one member, anew whenever members come or go."""

    def __init__(self, world: World, broker: Broker, name: str, topics: tuple[str, ...]) -> None:
        self.name = name
        self._world = world
        self._broker = broker
        self._topics = topics
        self._members: dict[int, _Member] = {}
        self._last = 0
        self._round = 0
        self._joining = False
        self.generation = 0
        world.loop.later(1.0, self._expire)

    def join(self, number: int | None) -> "asyncio.Future[Joined]":
        """Join or rejoin; answered when all have."""
        if number is not None and number not in self._members:
            raise UnknownMemberIdError
        if number is None:
            self._last += 1
            number = self._last
            self._members[number] = _Member(self._world.loop.now)
        joining = self._members[number].joining = self._world.loop.create_future()
        self._begin()
        self._complete_if_all()
        return joining

    def heartbeat(self, number: int, generation: int) -> None:
        """Say that a member is alive."""
        self._check(number, generation)
        self._members[number].seen_at = self._world.loop.now
        if self._joining:
            raise RebalanceInProgressError

    def leave(self, number: int) -> None:
        """Take a member out."""
        if self._members.pop(number, None) is not None:
            self._begin()
            self._complete_if_all()

    def commit(self, number: int | None, generation: int, offsets: dict[Place, int]) -> None:
        """Store offsets for a member of the present generation."""
        if number not in self._members or generation != self.generation:
            msg = "the group has already rebalanced"
            raise CommitFailedError(msg)
        for place, offset in offsets.items():
            self._broker.committed[self.name, place] = Committed(offset)
        self._world.note(f"{self.name} commits {sorted(offsets.items())}")

    def excuse(self) -> None:
        """Begin all sessions anew, as a coordinator does that has come back."""
        for member in self._members.values():
            member.seen_at = self._world.loop.now

    def _check(self, number: int, generation: int) -> None:
        if number not in self._members:
            raise UnknownMemberIdError
        if generation != self.generation:
            raise IllegalGenerationError

    def _begin(self) -> None:
        if not self._joining:
            self._joining = True
            self._round += 1
            self._world.loop.later(_REBALANCE_SECONDS, self._drop_absent, self._round)

    def _drop_absent(self, of_round: int) -> None:
        if self._joining and of_round == self._round:
            self._members = {n: m for n, m in self._members.items() if m.joining is not None}
            self._complete_if_all()

    def _complete_if_all(self) -> None:
        if not self._joining or any(m.joining is None for m in self._members.values()):
            return
        self._joining = False
        self.generation += 1
        numbers = list(self._members)
        self._world.random.shuffle(numbers)
        for member in self._members.values():
            member.places = []
        for partition in range(self._broker.partitions if numbers else 0):
            taker = self._members[numbers[partition % len(numbers)]]
            taker.places += [(topic, partition) for topic in self._topics]
        for number, member in self._members.items():
            member.seen_at = self._world.loop.now
            joining, member.joining = member.joining, None
            assert joining is not None
            if not joining.done():
                joining.set_result((number, self.generation, member.places))
        self._world.note(f"{self.name} is in generation {self.generation} with {sorted(numbers)}")

    def _expire(self) -> None:
        now = self._world.loop.now
        self._world.loop.later(1.0, self._expire)
        if self._world.weather.away:
            return
        for number, member in list(self._members.items()):
            if member.joining is None and now - member.seen_at > SESSION_SECONDS:
                self._world.note(f"{self.name}: the session of {number} is over")
                self.leave(number)
