"""Everything embedded on one machine: example, release, broker and a process for each role."""

import fcntl
import shlex
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from models.prepared import Prepared
from models.train import train_prepared
from sinks.door import SqlDoor
from stream.asking.questions import status_of
from stream.brokers import MockBroker
from stream.demo.examples import Example
from stream.kafka.roles import ROLES, Role
from stream.process.supervisor import RoleProcess, stop_all
from stream.settings import Settings, environment_of, read_settings

_READY_SECONDS = 60.0
_LOOK_SECONDS = 0.1


class NotReady(Exception):
    """A role did not get ready in time; says which, and where its log is."""


class FolderBusy(Exception):
    """Another process has an installation in that folder."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What runs: the example and its files, and each role's settings and process."""

    folder: Path
    example: Example
    prepared: Prepared
    settings: Mapping[Role, Settings]
    processes: Mapping[Role, RoleProcess]

    @property
    def shell_settings(self) -> Path:
        """Give the file that a shell reads to ask this installation."""
        return self.folder / "settings.sh"

    @property
    def report_log(self) -> Path:
        """Give the file of what the drift report's process says."""
        return self.folder / "report.log"

    def url(self, role: Role) -> str:
        """Give the address of a role's status service."""
        return f"http://127.0.0.1:{self.settings[role].status.port}"

    @property
    def door(self) -> SqlDoor:
        """The store, asked through the sink that hosts it."""
        return SqlDoor(self.url("sink"))

    def look_after(self) -> None:
        """Start again what has ended."""
        for process in self.processes.values():
            process.look_after()


@contextmanager
def installed(
    console: Console,
    example: Example,
    folder: Path,
    roles: Sequence[Role] = ROLES,
) -> Iterator[Installation]:
    """
    Prepare, train and start everything in `folder`, which is emptied first; stop it at the end.

    Raises NotReady, FolderBusy.
    """
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder = folder.resolve()
        with _steps(console) as step:
            step("starting the broker")
            broker = stack.enter_context(MockBroker())
            step(example.preparing)
            prepared = example.prepare(example.tables, folder / "data")
            step("training a release")
            train_prepared(prepared, folder / "releases")
            step("starting " + ", ".join(roles))
            common = _embedded(folder, prepared, broker.bootstrap_servers)
            of_role = _with_ports({**common, **example.settings}, roles)
            processes = {
                role: RoleProcess(of_role[role], role, folder / f"{role}.log") for role in roles
            }
            stack.callback(stop_all, list(processes.values()))
            running = Installation(folder, example, prepared, of_role, processes)
            for process in processes.values():
                process.start()
            _write_settings(running)
            await_ready({role: running.url(role) for role in roles}, folder)
        yield running


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder for this process: who comes second would empty it under the first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"another process has an installation in {folder}: wait for it, or end it"
            raise FolderBusy(msg) from None
        yield


def _embedded(folder: Path, prepared: Prepared, servers: str) -> dict[str, str]:
    return {
        "release": str(folder / "releases"),
        "features": str(prepared.features),
        "kafka.bootstrap_servers": servers,
        "kafka.session_timeout": "6",
        # The mock broker gives one produced batch a fetch, and wakes no fetch that waits.
        "kafka.fetch_max_wait_ms": "10",
        "store.url": f"chdb://{folder / 'chdb'}",
        "monitor.checkpoint": str(folder / "monitor.checkpoint"),
        "monitor.reports": str(folder / "reports"),
    }


def _with_ports(common: Mapping[str, str], roles: Sequence[Role]) -> dict[Role, Settings]:
    ports = dict(zip(roles, free_ports(len(roles)), strict=True))
    doors = {"store.door": f"http://127.0.0.1:{ports['sink']}"} if "sink" in ports else {}
    return {
        role: _unsecured(read_settings({**common, **doors, "status.port": str(port)}))
        for role, port in ports.items()
    }


def _unsecured(settings: Settings) -> Settings:
    """Leave logins and certificates out: they are of servers elsewhere, and would be written."""
    kafka = settings.kafka.reset("security_", "sasl_", "ssl_")
    store = settings.store.reset("password", "ssl_")
    return settings.model_copy(update={"kafka": kafka, "store": store})


def _write_settings(running: Installation) -> None:
    """Write what a shell needs to ask the installation, but not what would start it again."""
    settings = next(iter(running.settings.values()))
    lines = [
        f"export {name}={shlex.quote(value)}\n"
        for name, value in environment_of(settings).items()
        if not name.startswith("CREDITSTREAM_STATUS__")
    ]
    running.shell_settings.write_text("".join(lines))


def await_ready(
    urls: Mapping[Role, str], folder: Path, look_seconds: float = _LOOK_SECONDS
) -> None:
    """Wait until each role says so at its address; raises NotReady, naming the folder of logs."""
    deadline = time.monotonic() + _READY_SECONDS
    waiting = set(urls)
    while waiting:
        for role in list(waiting):
            status = status_of(urls[role])
            if status is not None and not status["not_ready"]:
                waiting.remove(role)
        if waiting and time.monotonic() > deadline:
            msg = (
                f"not ready after {_READY_SECONDS:.0f} s: {', '.join(sorted(waiting))}; "
                f"see {folder}/*.log"
            )
            raise NotReady(msg)
        time.sleep(look_seconds)


@contextmanager
def _steps(console: Console) -> Iterator[Any]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        tasks: list[Any] = []

        def step(text: str) -> None:
            if tasks:
                progress.update(tasks[-1], total=1, completed=1)
            tasks.append(progress.add_task(text, total=None))

        yield step
        progress.update(tasks[-1], total=1, completed=1)


def free_ports(count: int) -> list[int]:
    """Find so many ports of this machine on which nobody listens."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
