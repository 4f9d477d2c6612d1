"""A fetcher at an embedded broker, where fetching fails."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.fetch import FetchRequest

from stream.kafka.connection import Connection
from stream.kafka.topics import create_topics
from stream.transport.sound import SoundFetcher
from tests.integration.stream.topics import kafka_at

PATIENCE_S = 10.0


@pytest.fixture
async def consumer(
    mock_broker: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AIOKafkaConsumer]:
    monkeypatch.setattr("aiokafka.consumer.consumer.Fetcher", SoundFetcher)
    kafka = kafka_at(mock_broker)
    await create_topics(kafka)
    consumer = Connection(mock_broker).consumer()
    await consumer.start()
    consumer.assign([TopicPartition(kafka.applications, 0)])
    yield consumer
    await consumer.stop()


async def fetching_fails(consumer: AIOKafkaConsumer, error: Exception) -> None:
    """Return when a fetch has failed; all later ones will."""
    client, failed = consumer._client, asyncio.Event()
    send = client.send

    async def fail(node: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node, request, **options)
        asyncio.get_running_loop().call_soon(failed.set)
        raise error

    client.send = fail
    async with asyncio.timeout(PATIENCE_S):
        await failed.wait()


async def read_on(consumer: AIOKafkaConsumer) -> None:
    while True:
        await consumer.getmany(timeout_ms=100)


async def test_it_is_closed_while_it_pauses_after_a_failed_fetch(
    consumer: AIOKafkaConsumer,
) -> None:
    await fetching_fails(consumer, KafkaConnectionError("as a test wants it"))

    await consumer.stop()  # raises nothing

    assert not any(connection.connected() for connection in consumer._client._conns.values())


async def test_its_reader_hears_that_it_has_ended(consumer: AIOKafkaConsumer) -> None:
    await fetching_fails(consumer, RuntimeError("as a test wants it"))

    with pytest.raises(KafkaError, match="Unexpected error during data retrieval"):
        await asyncio.wait_for(read_on(consumer), PATIENCE_S)
