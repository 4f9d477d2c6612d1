"""The way of delivering that the settings ask for and the broker can do."""

from stream.composition import parking_limit
from stream.delivery.at_least_once import AtLeastOnce
from stream.delivery.exactly_once import ExactlyOnce
from stream.kafka.connection import Connection
from stream.kafka.topic_settings import keeps_transactions
from stream.settings import Settings


class DeliveryImpossible(Exception):
    """The broker cannot do what the settings ask for; says what to set instead."""


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
