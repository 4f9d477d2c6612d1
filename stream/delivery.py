"""How a poll's output and its offset reach Kafka: in one transaction, or one after the other."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, Self

from scoring.parking import ParkingHistory
from scoring.poll import Poll
from scoring.recent import RecentEvents
from stream.at_least_once import AtLeastOnce
from stream.composition import parking_limit
from stream.connection import Connection
from stream.exactly_once import ExactlyOnce
from stream.publisher import Output
from stream.settings import Settings
from stream.topic_settings import keeps_transactions


class DeliveryImpossible(Exception):
    """The broker cannot do what the settings ask for; says what to set instead."""


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


async def delivery_of(
    settings: Settings, group: str, connection: Connection | None = None
) -> AtLeastOnce | ExactlyOnce:
    """
    Make what the settings ask for or, where they do not, the best that the broker can do.

    Raises DeliveryImpossible, KafkaUnavailable.
    """
    kafka, wanted = settings.kafka, settings.delivery
    able = await keeps_transactions(kafka)
    if wanted == "exactly_once" and not able:
        msg = (
            f"the broker at {kafka.bootstrap_servers} keeps no transactions: "
            "set CREDITSTREAM_DELIVERY=at_least_once"
        )
        raise DeliveryImpossible(msg)
    if wanted == "at_least_once" or not able:
        return AtLeastOnce(kafka, group, parking_limit(settings), connection)
    return ExactlyOnce(kafka, group, connection)
