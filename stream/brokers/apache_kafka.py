"""Apache Kafka on Java, as one KRaft process in a temporary folder."""

import base64
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from stream.brokers.guarded import Broker, BrokerUnavailable, GuardedProcess
from stream.brokers.jars import Kafka, find_kafka, run

_READY_SECONDS = 90.0
_SHUTDOWN_SECONDS = 30.0
_PORTS = range(20_000, 32_000)

_PROTOCOLS = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"

# What one node needs to be a whole cluster, wherever it runs.
SINGLE_NODE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": _PROTOCOLS,
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # The default, 6 s, is the least that a worker could ask for.
    "group.min.session.timeout.ms": "1000",
    # A killed broker comes back when the session it had has run out; the default is 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # By default a record goes a week after its own time, and applications may be older when sent.
    "log.retention.ms": "-1",
    # The default, 128 MB, is a quarter of the heap; compacted topics are small here.
    "log.cleaner.dedupe.buffer.size": "4194304",
}


class ApacheKafka(Broker):
    """
    The real broker: durable, with transactions; its data are gone after `stop`.

    `kill` and `restart` are for tests of what happens then: address and data stay. Behind
    `proxy_port` it has a second address, `proxied_port`: who comes by the one is told the other.
    `listeners` are further ones, by name with their security protocol; each has an address in
    `addresses`, and `properties` of the broker say what they ask for. The first asks for nothing.
    """

    def __init__(
        self,
        proxy_port: int | None = None,
        listeners: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.proxied_port = 0
        self.addresses: dict[str, str] = {}
        self._proxy_port = proxy_port
        self._listeners = listeners or {}
        self._properties = properties or {}
        self._kafka: Kafka | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: GuardedProcess | None = None

    @property
    def pid(self) -> int:
        """The process id of Java, for signals."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> Self:
        """
        Start it on a free port.

        Raises BrokerUnavailable where Java or Maven is missing, or it does not come up.
        """
        self._kafka = find_kafka()
        self._folder = tempfile.TemporaryDirectory(prefix="creditstream-kafka-")
        folder = Path(self._folder.name)
        port, controller, self.proxied_port, *further = _free_ports(3 + len(self._listeners))
        properties = folder / "server.properties"
        ports = {"PLAINTEXT": port, **dict(zip(self._listeners, further, strict=True))}
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        served = ",".join(f"{name}://{address}" for name, address in self.addresses.items())
        protocols = (f"{name}:{protocol}" for name, protocol in self._listeners.items())
        own = {
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{served},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": served,
            "listener.security.protocol.map": ",".join((_PROTOCOLS, *protocols)),
            "log.dirs": f"{folder}/log",
        }
        if self._proxy_port is not None:
            own["listeners"] += f",PROXIED://127.0.0.1:{self.proxied_port}"
            own["advertised.listeners"] += f",PROXIED://127.0.0.1:{self._proxy_port}"
            own["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
        settings = {**SINGLE_NODE, **own, **self._properties}
        # They may hold passwords of a keystore.
        properties.touch(0o600)
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        try:
            run(self._kafka.format(properties, _cluster_id()))
            self._run_broker()
        except BrokerUnavailable:
            self.stop()
            raise
        self.bootstrap_servers = self.addresses["PLAINTEXT"]
        return self

    def stop(self) -> None:
        """End it at once and remove its data."""
        self.kill()
        self._process = None
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def kill(self) -> None:
        """Kill Java with SIGKILL, as a crash does; the data stay for `restart`."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Shut it down in order where it runs, and start it on the same address and data."""
        if self._process is not None:
            self._process.terminate(_SHUTDOWN_SECONDS)
        self._run_broker()

    def _run_broker(self) -> None:
        assert self._kafka is not None and self._folder is not None, "not started"  # noqa: PT018
        folder = Path(self._folder.name)
        command = self._kafka.server(folder / "server.properties")
        log = folder / "broker.log"
        self._process = GuardedProcess("Apache Kafka", command, folder, log)
        # The port answers earlier, when the broker has not yet joined its own cluster.
        self._process.await_line(r"Kafka Server started", _READY_SECONDS)


def _cluster_id() -> str:
    # Kafka's form of a UUID. It begins with an A: StorageTool takes a leading dash for an option.
    return base64.urlsafe_b64encode(b"\0" + os.urandom(15)).decode().rstrip("=")


def _free_ports(count: int) -> list[int]:
    # Below the range that outgoing connections take theirs from (32768 and up on Linux): there, a
    # client that tries a stopped broker's port again and again in the end connects to itself, and
    # the broker can never come back.
    ports = (port for port in random.sample(_PORTS, len(_PORTS)) if _is_free(port))
    return list(itertools.islice(ports, count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
