"""Workers of the fault suite: started, signalled, started again when they end by themselves."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from stream.kafka.roles import Role
from stream.process.supervisor import RoleProcess, stop_all
from stream.settings import Settings
from tests.faults.points import Points

_LOOK_SECONDS = 0.1
_END_SECONDS = 30.0
_PROGRAM = (sys.executable, "-m", "tests.faults.probed")


class Processes:
    """
    Workers by name, looked after in a thread: what ends is started again unless it is away.

    `settings_of` gives a role's settings.
    """

    def __init__(
        self, settings_of: Callable[[Role], Settings], points: Points, folder: Path
    ) -> None:
        self._settings_of = settings_of
        self._points = points
        self._folder = folder
        self._running: dict[str, RoleProcess] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="supervisor", daemon=True)
        self._thread.start()

    def start(self, name: str, role: Role) -> RoleProcess:
        """Start another worker."""
        program = (*_PROGRAM, str(self._points.folder))
        log = self._folder / f"{name}.log"
        process = RoleProcess(self._settings_of(role), role, log, program)
        process.start()
        with self._lock:
            self._running[name] = process
        return process

    def end(self, *names: str) -> int:
        """Stop workers in order, for good; give 0 if all ended well."""
        with self._lock:
            ending = [self._running.pop(name) for name in names]
        return stop_all(ending)

    def leave(self, name: str) -> RoleProcess:
        """Ask a worker to stop, for good, and do not wait for it."""
        with self._lock:
            leaving = self._running.pop(name)
        leaving.stop()
        return leaving

    def end_all(self) -> None:
        """Stop everything, and looking after it."""
        self._ended.set()
        self._thread.join()
        self.end(*self._running)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a worker a signal; give its process id."""
        with self._lock:
            pid = self._running[name].pid
        with contextlib.suppress(ProcessLookupError):  # it has just ended, and is started again
            os.kill(pid, number)
        return pid

    def pid(self, name: str) -> int:
        """Give a worker's process id."""
        with self._lock:
            return self._running[name].pid

    def hears(self, name: str) -> bool:
        """Say whether a worker has come so far that it ends in order when it is told to."""
        try:
            status = Path(f"/proc/{self.pid(name)}/status").read_text()
        except OSError:
            return False
        caught = int(status.partition("SigCgt:")[2].split(maxsplit=1)[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def await_end(self, pid: int) -> None:
        """Wait until a process of ours has ended by itself."""
        deadline = time.monotonic() + _END_SECONDS
        while psutil.pid_exists(pid):  # until we have asked how it ended
            assert time.monotonic() < deadline, f"process {pid} did not end"
            time.sleep(_LOOK_SECONDS / 4)

    @property
    def names(self) -> list[str]:
        """All workers."""
        with self._lock:
            return list(self._running)

    def _look_after(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with self._lock:
                for process in self._running.values():
                    process.look_after()
