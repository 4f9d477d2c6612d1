"""
Servers for the tests, and a plain word about the tests that had none.

pytest-xdist runs the tests in several processes: each has servers of its own, or shares those whose
address it was given, and what it knows goes to the one that prints.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NoReturn

import hypothesis
import pytest

from stream.brokers import ApacheKafka, BrokerUnavailable, MockBroker
from stream.brokers.jars import find_kafka
from stream.process.loops import Loop
from tests.brokers import ADDRESS, REQUIRED, real_kafka
from tests.clickhouse import ADDRESS as CLICKHOUSE_ADDRESS
from tests.clickhouse import ChdbServer, Server, real_clickhouse
from tests.secured import PASSWORD, USERS, SecuredKafka, secured_kafka

_GIVEN = pytest.StashKey[dict[str, str]]()
_CLICKHOUSE = pytest.StashKey[set[str]]()
_NO_BROKER = "no real broker: "


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a seed of the simulation be run alone."""
    parser.addoption("--seed", type=int, help="run this seed of tests/simulation, and show it")


def pytest_configure(config: pytest.Config) -> None:
    """Take our variables out of the environment, in which settings refuse names unknown to them."""
    # Machines are noisy, and what is compiled is so at its first use.
    hypothesis.settings.register_profile("creditstream", deadline=None)
    hypothesis.settings.load_profile("creditstream")
    names = (ADDRESS, CLICKHOUSE_ADDRESS, REQUIRED)
    given = {name: os.environ.pop(name) for name in names if name in os.environ}
    config.stash[_GIVEN] = getattr(config, "workerinput", {}).get("given", given)
    config.stash[_CLICKHOUSE] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, type[Loop]]:
    """Run tests on the loops that commands run on."""
    return {"libuv": Loop}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a process of xdist what was taken out of the environment."""
    node.workerinput["given"] = node.config.stash[_GIVEN]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take from a process of xdist what it knows."""
    origins = node.config.stash[_CLICKHOUSE]
    origins.update(getattr(node, "workeroutput", {}).get("clickhouse", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave what this process knows to the one that prints."""
    if hasattr(session.config, "workeroutput"):
        origins = session.config.stash[_CLICKHOUSE]
        session.config.workeroutput["clickhouse"] = sorted(origins)


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
            servers = stack.enter_context(real_kafka(pytestconfig.stash[_GIVEN].get(ADDRESS)))
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


@pytest.fixture(scope="session")
def _session_secured_kafka(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SecuredKafka | BrokerUnavailable]:
    with ExitStack() as stack:
        try:
            secured = stack.enter_context(secured_kafka(tmp_path_factory.mktemp("secured")))
        except BrokerUnavailable as unavailable:
            yield unavailable
        else:
            yield secured


@pytest.fixture
def secured(
    request: pytest.FixtureRequest, _session_secured_kafka: SecuredKafka | BrokerUnavailable
) -> SecuredKafka:
    """A real broker with TLS, logins and ACLs, which all tests share; no user has a right yet."""
    if isinstance(_session_secured_kafka, BrokerUnavailable):
        _not_run(request, _session_secured_kafka)
    for user in USERS:
        _session_secured_kafka.revoke(user)
        _session_secured_kafka.set_password(user, PASSWORD)
    return _session_secured_kafka


@pytest.fixture(scope="session")
def clickhouse_server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A ClickHouse server over HTTP, which all tests share: use a database of your own."""
    address = pytestconfig.stash[_GIVEN].get(CLICKHOUSE_ADDRESS)
    with real_clickhouse(address, tmp_path_factory.mktemp("clickhouse")) as server:
        pytestconfig.stash[_CLICKHOUSE].add(server.origin)
        yield server


@pytest.fixture(scope="session")
def _session_chdb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChdbServer]:
    with ChdbServer(tmp_path_factory.mktemp("chdb_server")) as server:
        yield server


@pytest.fixture
def chdb_server(_session_chdb_server: ChdbServer) -> Iterator[ChdbServer]:
    """A server to be killed, restarted and made to fail, always over chDB; whole before a test."""
    _session_chdb_server.mend()
    yield _session_chdb_server
    _session_chdb_server.mend()


def _not_run(request: pytest.FixtureRequest, why: BrokerUnavailable) -> NoReturn:
    if request.config.stash[_GIVEN].get(REQUIRED, "") not in {"", "0"}:
        pytest.fail(f"{REQUIRED} is set, and there is no real broker: {why}")
    pytest.skip(f"{_NO_BROKER}{why}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which ClickHouse answered and, by number, which tests had no real broker."""
    origins = config.stash[_CLICKHOUSE]
    for origin in sorted(origins):
        terminalreporter.line(f"ClickHouse server of the tests: {origin}")
    skipped = (str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()))
    why = [reason.split(_NO_BROKER, 1)[1] for reason in skipped if _NO_BROKER in reason]
    if why:
        terminalreporter.section("no real broker", yellow=True)
        reasons = "; ".join(sorted(set(why)))
        terminalreporter.line(f"{len(why)} tests need a real broker and were not run: {reasons}")
