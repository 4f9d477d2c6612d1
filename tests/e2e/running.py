"""A command in a process of its own, with all that it starts."""

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from features.taiwan_default import DEFINITION
from stream.process.supervisor import console_script

MARK = "TEST_COMMANDS_MARK"


@dataclass(frozen=True, slots=True)
class Running:
    """A creditstream process, the files it writes to, and what its family is known by."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    mark: str

    def family(self) -> list[psutil.Process]:
        """Find it and all it started, also what has another parent or session by now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def said(self) -> str:
        """Give all it has written, whatever its lines."""
        return " ".join((self.out.read_text() + self.err.read_text()).split())

    def await_said(self, pattern: str, seconds: float) -> re.Match[str]:
        """Wait until it has written what the pattern tells."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)
        return match


@contextmanager
def started(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[Running]:
    """Run the console script in a folder; at the end nothing of its family lives on."""
    mark = uuid.uuid4().hex
    out, err = folder / f"{mark}.out", folder / f"{mark}.err"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [console_script(), *arguments],
            cwd=folder,
            env=os.environ | (environment or {}) | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
        )
    running = Running(process, out, err, mark)
    try:
        yield running
    finally:
        for one in running.family():
            with suppress(psutil.Error):
                one.kill()
        process.wait()


def wait_until(reached: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.2)


def assert_gone(running: Running) -> None:
    """See that no process of a command is left; the last may take a moment to notice the end."""
    wait_until(lambda: not running.family(), 10, f"no process left of {running.family()}")


def assert_report(html: Path, rows: int) -> None:
    """See that a report has its HTML and its JSON, over at least so many decisions."""
    assert "<html" in html.read_text()
    summary = json.loads(html.with_suffix(".json").read_text())["summary"]
    assert summary["rows"] >= rows
    assert len(summary["features"]) == len(DEFINITION.schema.names)
