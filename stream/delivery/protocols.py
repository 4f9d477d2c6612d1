"""What an agent asks of delivery: a lease of each partition, and a poll's output written."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, Self

from scoring.parking import ParkingHistory
from scoring.poll import Poll
from scoring.recent import RecentEvents
from stream.kafka.publisher import Output


class Lease(Protocol):
    """
    One partition of the input in the hands of one owner, until the next `take_over`.

    `recent` are the events that were decided lately; `parking` is what became of the latest events.
    """

    recent: RecentEvents
    parking: ParkingHistory

    async def take_up(
        self, poll: Poll, end_offset: int | None, text_of: Callable[[str], str]
    ) -> Poll:
        """
        Give what of a poll is still to be decided; what was begun of it before is finished.

        `end_offset` is its partition's end; `text_of` has the words of a reason.
        """

    async def deliver(
        self, poll: Poll, outputs: Sequence[Output], parking: ParkingHistory | None = None
    ) -> None:
        """
        Return once all output of a poll is out; raises, and then the process ends.

        `parking` is the history with this poll, where the poll makes it another.
        """


class Delivery(Protocol):
    """Writes what scoring makes of polls, each to the partition that the poll came from."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def take_over(self, partitions: Collection[int]) -> None:
        """Own these partitions of the input, and no others, before anything is read of them."""

    def lease(self, partition: int) -> Lease | None:
        """Give a partition's present lease, for one poll from beginning to end; None: another's."""
