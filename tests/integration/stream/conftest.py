"""Topics at a real broker with a worker that decides what is on them."""

import asyncio

import pytest

from stream.kafka.topics import create_topics
from tests.integration.stream.parked import Installation
from tests.integration.stream.topics import kafka_at


@pytest.fixture
def there(real_broker: str) -> Installation:
    kafka = kafka_at(real_broker)
    asyncio.run(create_topics(kafka))
    return Installation(kafka)
