"""Where the tests' ClickHouse server comes from: an address, Docker, or chDB behind HTTP."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

import httpx
import yaml

from sinks.store import ClickHouse, open_store
from stream.brokers.guarded import GuardedProcess
from tests.brokers import docker_answers
from tests.chdb_server import Fault

ADDRESS = "CREDITSTREAM_TEST_CLICKHOUSE"

_COMPOSE = Path(__file__).parents[1] / "docker-compose.yml"
_PROGRAM = Path(__file__).with_name("chdb_server.py")
_USER, _PASSWORD = "tester", "a pass:word"
_HTTP_PORT = 8123
_START_SECONDS = 120
_STAND_IN_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that takes HTTP; `origin` says where it comes from."""

    url: str
    user: str
    password: str
    origin: str

    def open(self, database: str, *, read_only: bool = False) -> ClickHouse:
        """Open a store there."""
        return open_store(
            self.url,
            user=self.user,
            password=self.password,
            database=database,
            read_only=read_only,
        )


@contextmanager
def real_clickhouse(address: str | None, folder: Path) -> Iterator[Server]:
    """Give a server that lives as long; `address` is http(s)://user:password@host:port."""
    with ExitStack() as stack:
        if address:
            yield _at(address)
        else:
            yield _in_docker(stack) or stack.enter_context(ChdbServer(folder)).server


def image() -> str:
    """Give the image that docker-compose.yml runs."""
    found: str = yaml.safe_load(_COMPOSE.read_text())["services"]["clickhouse"]["image"]
    return found


class ChdbServer:
    """
    The server over chDB (`chdb_server.py`): one to be killed, restarted, and told what shall fail.

    It ends with the process that started it, and does not touch what is beside its files in
    `folder`. With a `certificate` it speaks https; with an `authority` it asks clients for one of
    its own. Faults are ordered without either.
    """

    server: Server

    def __init__(
        self, folder: Path, certificate: Path | None = None, authority: Path | None = None
    ) -> None:
        self._folder = folder
        self._files = [str(path) for path in (certificate, authority) if path is not None]
        self._port = 0
        self._process: GuardedProcess | None = None

    @property
    def pid(self) -> int:
        """Its process's id, for limits and signals."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> Self:
        """Start it, or start it again on the same port and data; return when it serves."""
        engine, log = self._folder / "clickhouse", self._folder / "clickhouse.log"
        arguments = (str(engine), str(self._port), _USER, _PASSWORD, *self._files)
        command = [sys.executable, "-P", str(_PROGRAM), *arguments]
        self._process = GuardedProcess("the server over chDB", command, engine, log)
        line = self._process.await_line(r"^listening on (\d+)$", _STAND_IN_START_SECONDS)
        self._port = int(line[1])
        url = f"http{'s' if self._files else ''}://127.0.0.1:{self._port}"
        self.server = Server(url, _USER, _PASSWORD, f"chDB behind HTTP (not {image()})")
        return self

    def kill(self) -> None:
        """Kill it with SIGKILL, as a crash does; what it acknowledged stays for `start`."""
        if self._process is not None:
            self._process.kill()

    def mend(self) -> None:
        """Start it where it does not run, and take back all orders."""
        if self._process is None or not self._process.alive:
            self.start()
        self.order()

    def order(self, *faults: Fault) -> None:
        """Replace what is to befall coming requests; none: nothing."""
        orders = [asdict(fault) for fault in faults]
        httpx.post(f"{self.server.url}/faults", json=orders).raise_for_status()

    def wait_until_idle(self) -> None:
        """Return when no statement is under way; a test's own time-out is the deadline."""
        while int(httpx.get(f"{self.server.url}/busy").raise_for_status().text):
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def _at(address: str) -> Server:
    parts = urlsplit(address)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    user, password = unquote(parts.username or "default"), unquote(parts.password or "")
    return Server(url, user, password, url)


def _in_docker(stack: ExitStack) -> Server | None:
    """Start it in Docker; None where no engine answers or has the image."""
    from docker.errors import DockerException

    try:
        return stack.enter_context(_container()) if docker_answers() else None
    except DockerException:
        return None


@contextmanager
def _container() -> Iterator[Server]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy

    container = DockerContainer(image()).with_exposed_ports(_HTTP_PORT)
    for name, value in (("CLICKHOUSE_USER", _USER), ("CLICKHOUSE_PASSWORD", _PASSWORD)):
        container = container.with_env(name, value)
    started = HttpWaitStrategy(_HTTP_PORT, "/ping").with_startup_timeout(_START_SECONDS)
    with container.waiting_for(started):
        host, port = container.get_container_host_ip(), container.get_exposed_port(_HTTP_PORT)
        yield Server(f"http://{host}:{port}", _USER, _PASSWORD, f"{image()} in Docker")
