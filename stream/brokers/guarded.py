"""A broker's process: in a session of its own, unable to outlive the process that started it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_GUARD = Path(__file__).with_name("guard.py")
_BEGIN_SECONDS = 30.0
_END_SECONDS = 15.0
_POLL_SECONDS = 0.02


class BrokerUnavailable(Exception):
    """A broker cannot be started here; says what is missing and how to get it."""


class Broker(ABC):
    """A broker on 127.0.0.1, for a `with` block or from `start` to `stop`."""

    bootstrap_servers: str = ""

    @abstractmethod
    def start(self) -> Self:
        """Start it and wait until it serves. Raises BrokerUnavailable."""

    @abstractmethod
    def stop(self) -> None:
        """End it and remove what it wrote; does nothing where it does not run."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class GuardedProcess:
    """
    A command under a guard (`guard.py`), its output appended to `log`.

    The session of its own keeps a terminal's Ctrl-C from the broker: workers drain first.
    Raises BrokerUnavailable where the command ends before it says who it is.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, log: Path) -> None:
        self._name = name
        self._log = log
        with log.open("ab") as sink:
            self._start = sink.seek(0, os.SEEK_END)
            self._guard = subprocess.Popen(  # noqa: S603 - our own file, our own command
                [sys.executable, "-I", str(_GUARD), str(os.getpid()), str(folder), *command],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.pid = int(self.await_line(r"^process (\d+)$", _BEGIN_SECONDS)[1])
        except BrokerUnavailable:
            self._release()
            raise

    @property
    def alive(self) -> bool:
        """Whether the command still runs."""
        return self._guard.poll() is None

    def await_line(self, pattern: str, seconds: float) -> re.Match[str]:
        """Wait until a line of the output matches. Raises BrokerUnavailable with its last lines."""
        deadline = time.monotonic() + seconds
        while True:
            ended = not self.alive  # looked up before the output: what it said last counts
            if found := re.search(pattern, self._output(), re.MULTILINE):
                return found
            if ended or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        fate = "ended" if ended else f"was not ready within {seconds:.0f} s"
        last = " | ".join(self._output().splitlines()[-5:]) or "it said nothing"
        msg = f"{self._name} {fate}: {last}"
        raise BrokerUnavailable(msg)

    def terminate(self, seconds: float) -> None:
        """Ask it to end (SIGTERM), and kill it where it has not within `seconds`."""
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL), and wait until it is gone."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
        self._release()

    def _release(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        try:
            self._guard.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()  # its child follows, by PDEATHSIG
            self._guard.wait(_END_SECONDS)

    def _output(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._start)
            return log.read().decode(errors="replace")
