"""Polls in flight: what is under way in a partition, and what may be committed of it."""

from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field

from scoring.poll import Poll


class PollInFlight:
    """
    The value of a Faust message: a poll's records, and whether everything they led to is out.

    An agent calls `finish` when the broker has acknowledged all output of the poll; that alone
    makes its offsets committable. One that it has said to `begin` is waited for before a partition
    is given back. Faust's own acknowledgements count for nothing: it gives them
    also where an agent failed or was cancelled. `end_offset` is where the partition ended when the
    poll was fetched. One that is `stale` is of an earlier assignment: it comes again, and one that
    was not begun yet must not be, as those before it may have been left out.
    """

    __slots__ = ("_on_finish", "_on_wait", "begun", "end_offset", "finished", "poll", "stale")

    def __init__(
        self,
        poll: Poll,
        on_finish: Callable[["PollInFlight"], None],
        on_wait: Callable[[float], None] = lambda _: None,
        *,
        end_offset: int | None = None,
    ) -> None:
        self.poll = poll
        self.end_offset = end_offset
        self.begun = False
        self.finished = False
        self.stale = False
        self._on_finish = on_finish
        self._on_wait = on_wait

    @property
    def next_offset(self) -> int:
        """The offset to commit once this poll and all before it are finished."""
        return int(self.poll.offsets[-1]) + 1

    def begin(self) -> None:
        """Say that the poll is being worked on."""
        self.begun = True

    def wait(self, seconds: float) -> None:
        """Say that the poll now waits so long for a neighbour, which is no standstill."""
        self._on_wait(seconds)

    def finish(self) -> None:
        """Say that all output of the poll is acknowledged."""
        self.finished = True
        self._on_finish(self)


Polls = AsyncIterable[PollInFlight]
Agent = Callable[[Polls], Awaitable[None]]


@dataclass(slots=True)
class PartitionProgress:
    """What is under way in one partition: polls in flight, first in first out."""

    in_flight: deque[PollInFlight] = field(default_factory=deque)
    committable: int | None = None

    @property
    def busy(self) -> bool:
        """Whether a poll is being worked on."""
        return any(poll.begun and not poll.finished for poll in self.in_flight)

    def forget(self) -> None:
        """Leave the polls to the next owner of the partition."""
        for poll in self.in_flight:
            poll.stale = True

    def advance(self) -> None:
        """Take finished polls off the front."""
        while self.in_flight and self.in_flight[0].finished:
            self.committable = self.in_flight.popleft().next_offset
