"""The makers of Kafka clients: aiokafka's, unless a caller has others."""

from collections.abc import Callable
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient


@dataclass(frozen=True, slots=True)
class KafkaClients:
    """Each takes the keyword arguments of aiokafka's class."""

    producer: Callable[..., AIOKafkaProducer] = AIOKafkaProducer
    consumer: Callable[..., AIOKafkaConsumer] = AIOKafkaConsumer
    admin: Callable[..., AIOKafkaAdminClient] = AIOKafkaAdminClient


AIOKAFKA = KafkaClients()
