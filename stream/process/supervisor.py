"""Several roles on one machine: a process each, started again when it ends by itself."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import structlog

from stream.kafka.roles import Role
from stream.process.children import await_end
from stream.settings import PREFIX, Settings, environment_of

logger = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.2
_RESTART_SECONDS = 1.0
_STOP_SECONDS = 35.0  # the worker's own watchdog ends it after 30


class Command:
    """
    A creditstream command in a process; its log goes to `log`, else to standard error.

    `program` is what runs it, if not the installed one.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        arguments: Sequence[str],
        log: Path | None = None,
        program: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = [*(program or [console_script()]), *arguments]
        # None of the settings of this process but those that were given: it may have others.
        inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith(PREFIX)}
        self._environment = inherited | environment_of(settings)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_at = 0.0

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, or start again."""
        log = self._log.open("ab") if self._log else None
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        finally:
            if log:
                log.close()
        self.starts += 1

    def look_after(self) -> None:
        """Start again, a moment later, what has ended."""
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            self._ended_at = 0.0
        elif not self._ended_at:
            self._ended_at = time.monotonic()
            logger.warning("supervisor.ended", name=self.name, exit_code=code)
        elif time.monotonic() - self._ended_at > _RESTART_SECONDS:
            self._ended_at = 0.0
            self.start()

    def stop(self) -> None:
        """Ask the process to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float = _STOP_SECONDS) -> int:
        """Wait for its end, and kill it where it has not in time; give the exit code."""
        if self._process is None:
            return 0
        return await_end(self._process, seconds)


class RoleProcess(Command):
    """A role's process, which ends with the one that started it."""

    def __init__(
        self,
        settings: Settings,
        role: Role,
        log: Path | None = None,
        program: Sequence[str] = (),
    ) -> None:
        arguments = ["worker", "--agents", role, "--with-parent"]
        super().__init__(settings, role, arguments, log, program)


def supervise(settings: Settings, roles: Sequence[Role]) -> int:
    """Run roles until a signal says stop; give 0 if all ended well, else 1."""
    stopping = told_to_stop()
    processes = [RoleProcess(with_port(settings, i), role) for i, role in enumerate(roles)]
    for process in processes:
        process.start()
    while not stopping.wait(_LOOK_SECONDS):
        for process in processes:
            process.look_after()
    return stop_all(processes)


def told_to_stop() -> threading.Event:
    """Give an event that SIGTERM and Ctrl-C set from now on."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def stop_all(processes: Sequence[Command]) -> int:
    """Stop processes side by side; give 0 if all ended well, else 1."""
    for process in processes:
        process.stop()
    codes = [process.wait() for process in processes]
    return int(any(codes))


def with_port(settings: Settings, index: int) -> Settings:
    """Give the settings of the index-th of several processes: a status port of its own."""
    port = settings.status.port
    status = settings.status.model_copy(update={"port": port + index if port else 0})
    return settings.model_copy(update={"status": status})


def end_with_parent() -> None:
    """End this process, orderly, when the one that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def console_script() -> str:
    """Find the `creditstream` command of this interpreter."""
    beside = Path(sys.executable).parent / "creditstream"
    found = str(beside) if beside.is_file() else shutil.which("creditstream")
    if found is None:
        msg = "the creditstream command is not installed"
        raise FileNotFoundError(msg)
    return found
