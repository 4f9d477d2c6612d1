"""aiokafka: a plain loop, and one over `getmany`."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from work import Given, Work

POLLED = 1_000


def _clients(given: Given) -> tuple[AIOKafkaConsumer, AIOKafkaProducer]:
    consumer = AIOKafkaConsumer(
        given.applications,
        bootstrap_servers=given.servers,
        group_id=given.group,
        auto_offset_reset="earliest",
        enable_auto_commit=True,
    )
    return consumer, AIOKafkaProducer(bootstrap_servers=given.servers, linger_ms=5)


def one_by_one(given: Given) -> None:
    """Decide event by event."""
    work = Work(given.model, given.table)

    async def run() -> None:
        consumer, producer = _clients(given)
        async with consumer, producer:
            async for record in consumer:
                await producer.send(given.decisions, work.decide(record.value), record.key)

    asyncio.run(run())


def batched(given: Given) -> None:
    """Decide what a poll brought together."""
    work = Work(given.model, given.table)

    async def run() -> None:
        consumer, producer = _clients(given)
        async with consumer, producer:
            while True:
                polled = await consumer.getmany(timeout_ms=50, max_records=POLLED)
                records = [record for of_partition in polled.values() for record in of_partition]
                decided = work.decide_many([record.value for record in records]) if records else []
                for record, value in zip(records, decided, strict=True):
                    await producer.send(given.decisions, value, record.key)

    asyncio.run(run())
