"""Brokers for the tests: librdkafka's mock, and a real one where there is any to be had."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stream.brokers import ApacheKafka, BrokerUnavailable, MockBroker

_ADDRESS = "CREDITSTREAM_TEST_KAFKA"
_not_run: dict[str, str] = {}


@pytest.fixture(scope="session")
def mock_broker() -> Iterator[str]:
    """The mock's address."""
    with MockBroker() as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session")
def _real_broker() -> Iterator[str | BrokerUnavailable]:
    address = os.environ.get(_ADDRESS)
    if address:
        yield address
        return
    container = _container()
    if container is not None:
        with container as kafka:
            yield kafka.get_bootstrap_server()
        return
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(ApacheKafka())
        except BrokerUnavailable as unavailable:
            yield unavailable
            return
        yield broker.bootstrap_servers


@pytest.fixture
def real_broker(request: pytest.FixtureRequest, _real_broker: str | BrokerUnavailable) -> str:
    """A real broker's address: a given one, or from Docker, or from the jars on Java."""
    if isinstance(_real_broker, BrokerUnavailable):
        _not_run[request.node.nodeid] = str(_real_broker)
        pytest.skip(f"no real broker: {_real_broker}")
    return _real_broker


def _container() -> Any:
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()):
        return None
    from testcontainers.community.kafka import KafkaContainer

    return KafkaContainer("apache/kafka-native:4.1.0")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say, by number, which tests had no real broker."""
    if _not_run:
        terminalreporter.section("no real broker")
        why = next(iter(_not_run.values()))
        terminalreporter.line(f"{len(_not_run)} tests need one and were not run: {why}")
