"""confluent-kafka: a plain loop over `poll`, and one over `consume`."""

from confluent_kafka import Consumer, KafkaException, Producer
from work import Given, Work

CONSUMED, SECONDS = 1_000, 0.05


def _clients(given: Given) -> tuple[Consumer, Producer]:
    consumer = Consumer(
        {
            "bootstrap.servers": given.servers,
            "group.id": given.group,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([given.applications])
    producer = Producer(
        {
            "bootstrap.servers": given.servers,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    return consumer, producer


def one_by_one(given: Given) -> None:
    """Decide event by event."""
    work = Work(given.model, given.table)
    consumer, producer = _clients(given)
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        producer.produce(given.decisions, work.decide(message.value()), message.key())
        producer.poll(0)


def batched(given: Given) -> None:
    """Decide what was consumed together."""
    work = Work(given.model, given.table)
    consumer, producer = _clients(given)
    while True:
        messages = consumer.consume(CONSUMED, SECONDS)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
        decided = work.decide_many([message.value() for message in messages]) if messages else []
        for message, value in zip(messages, decided, strict=True):
            producer.produce(given.decisions, value, message.key())
        producer.poll(0)
