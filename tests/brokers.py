"""Where the tests' real broker comes from: an address, Docker, or Kafka's jars on Java."""

import gc
import socket
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from stream.brokers import ApacheKafka
from stream.brokers.apache_kafka import SINGLE_NODE
from stream.brokers.jars import kafka_version

ADDRESS = "CREDITSTREAM_TEST_KAFKA"
REQUIRED = "CREDITSTREAM_TEST_KAFKA_REQUIRED"

_IMAGE = "apache/kafka"
_START_SECONDS = 120


@contextmanager
def real_kafka(address: str | None) -> Iterator[str]:
    """Give the address of a real broker that lives as long; raises BrokerUnavailable."""
    with ExitStack() as stack:
        yield address or _in_docker(stack) or stack.enter_context(ApacheKafka()).bootstrap_servers


def _in_docker(stack: ExitStack) -> str | None:
    """Start it in Docker; None where no engine answers or has the image."""
    from docker.errors import DockerException

    try:
        return stack.enter_context(_container()) if docker_answers() else None
    except DockerException:
        return None


def docker_answers() -> bool:
    """Whether a Docker engine is there."""
    import docker
    from docker.errors import DockerException

    try:
        with closing(docker.from_env(timeout=5)) as client:
            return bool(client.ping())
    except DockerException:
        pass
    # docker-py leaves the socket open on which no engine answered, for pytest to complain of.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()
    return False


@contextmanager
def _container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    # testcontainers' KafkaContainer knows Confluent's image only. A port of the host that is
    # chosen here can be advertised from the start, so no script need run inside.
    port = _free_port()
    container = DockerContainer(f"{_IMAGE}:{kafka_version()}").with_bind_ports(9092, port)
    host = container.get_docker_client().host()
    for name, value in (SINGLE_NODE | _listeners(host, port)).items():
        container = container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    started = LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(_START_SECONDS)
    with container.waiting_for(started):
        yield f"{host}:{port}"


def _listeners(host: str, port: int) -> dict[str, str]:
    return {
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "controller.quorum.voters": "1@localhost:9093",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
