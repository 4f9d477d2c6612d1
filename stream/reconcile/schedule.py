"""Reconciles on a schedule, beside a sink: in a process of its own, and into metrics."""

import asyncio
import os
import random
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Collection, Sequence
from time import time

import msgspec
import structlog

from monitoring.difference import KINDS, Kind
from monitoring.metrics import Metrics
from stream.process.supervisor import console_script
from stream.settings import Settings, environment_of

logger = structlog.get_logger(__name__)

_NICE = 10
_LONGEST_SECONDS = 1_800.0
_INTERVALS = 2
"""How many intervals a run looks back: each application is seen once when all is done with it."""

Ran = Callable[[Sequence[str]], Awaitable[tuple[int, bytes, bytes]]]
"""Runs `creditstream` with arguments; gives its exit code and what it wrote."""


class _Total(msgspec.Struct):
    consumed: int = 0


class _Hour(msgspec.Struct):
    counts: _Total


class _Report(msgspec.Struct):
    differences: dict[Kind, int]
    hours: list[_Hour]


class Schedule:
    """
    Reconciles the partitions that a sink has, again and again.

    Each partition has one sink, so the work is spread over them. What fails is logged and counted,
    and tried again at the next turn.
    """

    def __init__(
        self,
        minutes: float,
        partitions: Callable[[], Collection[int]],
        metrics: Metrics,
        run: Ran,
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        self._minutes = minutes
        self._partitions = partitions
        self._metrics = metrics
        self._run = run
        self._clock = clock

    async def keep_on(self) -> None:
        """Reconcile for ever; the first time within one interval, others apart by it."""
        await asyncio.sleep(self._minutes * 60 * random.uniform(0.1, 1.0))  # noqa: S311 - no secret
        while True:
            await self.once()
            await asyncio.sleep(self._minutes * 60)

    async def once(self) -> None:
        """Reconcile once, what lately came to the partitions that are assigned now."""
        numbers = sorted(self._partitions())
        if not numbers:
            # What was found of others before is now another sink's to tell.
            self._show(dict.fromkeys(KINDS, 0))
            return
        hours = max(0.01, _INTERVALS * self._minutes / 60)
        arguments = ["reconcile", "--json", "--hours", f"{hours:.4f}"]
        for number in numbers:
            arguments += ["--partition", str(number)]
        try:
            code, out, err = await self._run(arguments)
            # With exit code 1 and no report there was an error, which it says.
            report = msgspec.json.decode(out, type=_Report) if code in {0, 1} and out else None
        except (OSError, TimeoutError, ValueError) as error:
            self._fail(str(error) or type(error).__name__)
            return
        if report is None:
            lines = err.decode(errors="replace").splitlines() or ["it wrote nothing"]
            self._fail(f"exit code {code}: {lines[-1][:500]}")
            return
        self._metrics.reconcile_runs.labels(result="done").inc()
        self._show(report.differences)
        found = {kind: count for kind, count in report.differences.items() if count}
        consumed = sum(hour.counts.consumed for hour in report.hours)
        of = {"partitions": numbers, "hours": round(hours, 2), "consumed": consumed}
        if found:
            logger.error("reconcile.differs", **of, differences=found)
        else:
            logger.info("reconcile.done", **of)

    def _fail(self, cause: str) -> None:
        self._metrics.reconcile_runs.labels(result="failed").inc()
        logger.warning("reconcile.failed", cause=cause)

    def _show(self, differences: dict[Kind, int]) -> None:
        self._metrics.reconcile_last_success.set(self._clock())
        for kind, count in differences.items():
            self._metrics.reconcile_differences.labels(kind=kind).set(count)


def in_a_process(settings: Settings) -> Ran:
    """
    Run in a process that gives way to all others, and ends with the task that waits for it.

    An embedded store is asked through the status service of this process, which hosts it.
    """
    environment = os.environ | environment_of(settings)
    if settings.store.url.startswith("chdb://") and settings.status.port:
        host = settings.status.host
        at = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - asked, not bound
        environment["CREDITSTREAM_STORE__DOOR"] = f"http://{at}:{settings.status.port}"

    async def run(arguments: Sequence[str]) -> tuple[int, bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            console_script(),
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            async with asyncio.timeout(_LONGEST_SECONDS):
                out, err = await process.communicate()
        finally:
            await _end(process)
        assert process.returncode is not None
        return process.returncode, out, err

    return run


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
