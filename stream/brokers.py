"""Brokers to run here: librdkafka's mock for a first run, and Apache Kafka from its jars.

Each is a child process that ends when its parent does, however that ends.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

KAFKA_VERSION = "4.3.1"
_READY_SECONDS = 60.0
_FETCH_SECONDS = 600.0
_STOP_SECONDS = 15.0

# The mock lives as long as its standard input: an end of file there means the parent is gone.
_MOCK = """
import sys
from confluent_kafka import Producer
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "unused", "log_level": 0})
brokers = producer.list_topics(timeout=30).brokers.values()
print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
sys.stdin.buffer.read()
"""

# Starts a command and ends it, too, at the end of its own standard input.
_GUARD = """
import subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def watch():
    sys.stdin.buffer.read()
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
threading.Thread(target=watch, daemon=True).start()
sys.exit(child.wait())
"""

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>creditstream</groupId>
  <artifactId>broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""

_SERVER = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/log
num.partitions=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


class BrokerUnavailable(Exception):
    """A broker cannot be started here; says what is missing."""


class MockBroker:
    """librdkafka's mock cluster: for first runs and quick tests, durable in nothing."""

    def __init__(self) -> None:
        self.bootstrap_servers = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _MOCK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.bootstrap_servers = self._process.stdout.readline().strip()
        if not self.bootstrap_servers:
            msg = "the mock broker did not start: is the extra creditstream[demo] installed?"
            raise BrokerUnavailable(msg)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            _end(self._process)


class ApacheKafka:
    """
    Apache Kafka in one KRaft process on Java, from Maven's jars, in a temporary folder.

    Raises BrokerUnavailable where Java or Maven is missing, or it does not come up.
    """

    def __init__(self) -> None:
        self.bootstrap_servers = ""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        jars = fetch_jars()
        self._folder = tempfile.TemporaryDirectory(prefix="creditstream-kafka-")
        folder = Path(self._folder.name)
        port, controller = _free_port(), _free_port()
        properties = folder / "server.properties"
        properties.write_text(_SERVER.format(port=port, controller=controller, folder=folder))
        java = ["java", "-Xmx512m", "-cp", f"{jars}/*"]
        tool = [*java, "kafka.tools.StorageTool"]
        uuid = _run([*tool, "random-uuid"]).strip().splitlines()[-1]
        _run([*tool, "format", "-t", uuid, "-c", str(properties)])
        self._log = (folder / "broker.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _GUARD, *java, "kafka.Kafka", str(properties)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            text=True,
        )
        self._await_port(port, folder / "broker.log")
        self.bootstrap_servers = f"127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            _end(self._process)
        if self._log is not None:
            self._log.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _await_port(self, port: int, log: Path) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        last = log.read_text(errors="replace").splitlines()[-5:]
        self.__exit__(None, None, None)
        msg = "Apache Kafka did not come up: " + " | ".join(last)
        raise BrokerUnavailable(msg)


def fetch_jars() -> Path:
    """Give the folder of the broker's jars, fetched by Maven once and kept in the user's cache."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            msg = f"{program} is missing: install Java 17 or newer and Maven, or name a broker"
            raise BrokerUnavailable(msg)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jars = cache / "creditstream" / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent) as made:
        pom = Path(made) / "pom.xml"
        pom.write_text(_POM.format(version=KAFKA_VERSION))
        unfinished = Path(made) / "jars"
        goal = "dependency:copy-dependencies"
        _run(["mvn", "-q", "-B", "-f", str(pom), goal, f"-DoutputDirectory={unfinished}"])
        if not jars.is_dir():
            unfinished.rename(jars)
    return jars


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        msg = f"{command[0]} failed with {done.returncode}: {' | '.join(said)}"
        raise BrokerUnavailable(msg)
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
    if process.stdout is not None:
        process.stdout.close()
