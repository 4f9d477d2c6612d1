"""Brokers for the tests, and a plain word about the tests that had none."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NoReturn

import pytest

from stream.brokers import ApacheKafka, BrokerUnavailable, MockBroker
from stream.brokers.jars import find_kafka
from tests.brokers import ADDRESS, REQUIRED, real_kafka

_ADDRESS = pytest.StashKey[str | None]()
_REQUIRED = pytest.StashKey[bool]()
_NOT_RUN = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Take our variables out of the environment, in which settings refuse names unknown to them."""
    config.stash[_ADDRESS] = os.environ.pop(ADDRESS, None)
    config.stash[_REQUIRED] = os.environ.pop(REQUIRED, "") not in {"", "0"}
    config.stash[_NOT_RUN] = {}


@pytest.fixture(scope="session")
def mock_broker() -> Iterator[str]:
    """The address of librdkafka's mock."""
    with MockBroker() as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session")
def _session_broker(pytestconfig: pytest.Config) -> Iterator[str | BrokerUnavailable]:
    # An error here would be raised once; kept as a value, each test can be counted.
    with ExitStack() as stack:
        try:
            servers = stack.enter_context(real_kafka(pytestconfig.stash[_ADDRESS]))
        except BrokerUnavailable as unavailable:
            yield unavailable
        else:
            yield servers


@pytest.fixture
def real_broker(request: pytest.FixtureRequest, _session_broker: str | BrokerUnavailable) -> str:
    """The address of a real broker, which all tests share: use topics and groups of your own."""
    if isinstance(_session_broker, BrokerUnavailable):
        _not_run(request, _session_broker)
    return _session_broker


@pytest.fixture
def kafka_jars(request: pytest.FixtureRequest) -> None:
    """Java and the broker's jars are here: for tests that start one themselves."""
    try:
        find_kafka()
    except BrokerUnavailable as unavailable:
        _not_run(request, unavailable)


@pytest.fixture
def apache_kafka(kafka_jars: None) -> Iterator[ApacheKafka]:  # noqa: ARG001 - it skips
    """A real broker of the test's own, to be killed and restarted; always from the jars."""
    with ApacheKafka() as broker:
        yield broker


def _not_run(request: pytest.FixtureRequest, why: BrokerUnavailable) -> NoReturn:
    if request.config.stash[_REQUIRED]:
        pytest.fail(f"{REQUIRED} is set, and there is no real broker: {why}")
    request.config.stash[_NOT_RUN][request.node.nodeid] = str(why)
    pytest.skip(f"no real broker: {why}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say, by number, which tests had no real broker."""
    not_run = config.stash[_NOT_RUN]
    if not_run:
        terminalreporter.section("no real broker", yellow=True)
        reasons = "; ".join(sorted(set(not_run.values())))
        count = len(not_run)
        terminalreporter.line(f"{count} tests need a real broker and were not run: {reasons}")
