"""The sink's agents: ledger, parked events and alarms from their topics into ClickHouse."""

import asyncio
from collections.abc import Callable, Iterable, MutableMapping, Sequence

import structlog

from monitoring.metrics import Metrics
from scoring.poll import Poll
from sinks.blocks import Block, alarm_block, ledger_block, parked_block
from sinks.clickhouse import ClickHouseSink
from sinks.isolation import Inserter
from sinks.refusals import CAUSES
from sinks.store import StoreUnavailable
from stream.agents.lanes import in_lanes
from stream.agents.parking import Park
from stream.transport.in_flight import Agent, PollInFlight, Polls

BLOCK_BYTES = 8 << 20
"""Of records that are inserted together, and of those that wait; a larger poll goes alone."""

# A poll is usually a few kB.
_POLLS_TOGETHER = 128

BLOCKS: dict[str, Callable[[Iterable[Poll]], Block]] = {
    "decision_ledger": ledger_block,
    "parked_events": parked_block,
    "drift_alarms": alarm_block,
}
"""What reads the polls of each table's topic."""

logger = structlog.get_logger(__name__)


def sink_agent(
    table: str,
    sink: ClickHouseSink,
    park: Park,
    metrics: Metrics,
    waiting: MutableMapping[str, str],
    apart_s: float = 0.0,
) -> Agent:
    """
    Make an agent that inserts whole polls, all that wait in one block, and then finishes them.

    An insert costs ClickHouse nearly the same whatever it holds, and a merge later: so they begin
    `apart_s` seconds apart, unless BLOCK_BYTES wait.

    While ClickHouse does not take a block it waits, `waiting` says by table for what, and its
    partitions stay where they are; nothing else waits for it. What can never be inserted is parked
    before its poll is finished.
    """
    rows = metrics.sink_rows.labels(table=table)
    unfit_rows = metrics.sink_unfit.labels(table=table)
    told = _Told(table, metrics, waiting)
    inserter = Inserter(sink, told)

    async def write_block(taken: Sequence[PollInFlight]) -> None:
        polls = [poll.poll for poll in taken]
        metrics.batch_events.observe(sum(map(len, polls)))
        told.of = taken
        block = await asyncio.to_thread(BLOCKS[table], polls)
        with metrics.stage("insert"):
            refused = await inserter.insert(block)
        told.accepted()
        rows.inc(block.rows.num_rows - len(refused))
        unfit = [*block.damaged, *(block.unfit(row, str(why)) for row, why in refused.items())]
        if unfit:
            unfit_rows.inc(len(unfit))
            codes = sorted({why.code for why in refused.values()})
            logger.error("sink.unfit", table=table, damaged=len(block.damaged), refused=codes)
        if to_park := [one for one in unfit if one is not None]:
            await park(to_park)
        for poll in taken:
            poll.finish()

    async def write(polls: Polls) -> None:
        await in_lanes(
            polls,
            lambda _: table,
            write_block,
            waiting=_POLLS_TOGETHER,
            together=_POLLS_TOGETHER,
            most_bytes=BLOCK_BYTES,
            apart_s=apart_s,
        )

    return write


class _Told:
    """Tells the status, the metrics and the watchdog how the inserts of a table go."""

    def __init__(self, table: str, metrics: Metrics, waiting: MutableMapping[str, str]) -> None:
        self.of: Sequence[PollInFlight] = ()
        self._table = table
        self._metrics = metrics
        self._waiting = waiting
        self.accepted()

    def trying(self, longest_s: float) -> None:
        self._progress(longest_s)

    def overdue(self, away: StoreUnavailable) -> None:
        self._say(away)
        logger.warning("sink.overdue", table=self._table, cause=str(away))

    def pausing(self, away: StoreUnavailable, pause_s: float) -> None:
        self._say(away)
        self._metrics.sink_retries.labels(table=self._table, cause=away.cause).inc()
        self._progress(pause_s)
        logger.warning(
            "sink.waiting",
            table=self._table,
            pause_s=round(pause_s, 2),
            cause=away.cause,
            detail=str(away),
        )

    def accepted(self) -> None:
        self._waiting.pop(self._table, None)
        self._show(None)

    def _say(self, away: StoreUnavailable) -> None:
        self._waiting[self._table] = f"{away.cause}: {away}"
        self._show(away.cause)

    def _show(self, cause: str | None) -> None:
        for one in CAUSES:
            shown = self._metrics.sink_waiting.labels(table=self._table, cause=one)
            shown.set(one == cause)

    def _progress(self, seconds: float) -> None:
        for poll in self.of:
            poll.wait(seconds)
