"""The sink's agents: ledger, parked events and alarms from their topics into ClickHouse."""

from collections.abc import Callable, MutableMapping, Sequence
from functools import partial

import structlog

from monitoring.metrics import Metrics
from scoring.poll import Poll
from sinks.clickhouse import ClickHouseSink, until_accepted
from sinks.ledger import decode
from sinks.parked import parse
from sinks.store import StoreUnavailable
from stream.app import Agent, Polls
from stream.in_flight import PollInFlight
from stream.lanes import in_lanes

# A poll is at most 4 MB, and usually a few kB: a block of a second's decisions.
_POLLS_TOGETHER = 32

logger = structlog.get_logger(__name__)


def sink_agent(
    table: str,
    insert: Callable[[Sequence[Poll]], int],
    metrics: Metrics,
    waiting: MutableMapping[str, str],
) -> Agent:
    """
    Make an agent that inserts whole polls, all that wait in one block, and then finishes them.

    While ClickHouse is away it waits, `waiting` says by table for what, and its partitions stay
    where they are; nothing else waits for it. What ClickHouse refuses for good ends the process
    aloud, uncommitted.
    """
    rows = metrics.sink_rows.labels(table=table)
    retries = metrics.sink_retries.labels(table=table)

    async def write_block(taken: Sequence[PollInFlight]) -> None:
        polls = [poll.poll for poll in taken]
        metrics.batch_events.observe(sum(map(len, polls)))

        def on_retry(away: StoreUnavailable, pause_s: float) -> None:
            retries.inc()
            waiting[table] = str(away)
            for poll in taken:
                poll.wait(pause_s)
            logger.warning("sink.waiting", table=table, pause_s=round(pause_s, 2), cause=str(away))

        with metrics.stage("insert"):
            rows.inc(await until_accepted(partial(insert, polls), on_retry))
        waiting.pop(table, None)
        for poll in taken:
            poll.finish()

    async def write(polls: Polls) -> None:
        await in_lanes(
            polls, lambda _: table, write_block, waiting=_POLLS_TOGETHER, together=_POLLS_TOGETHER
        )

    return write


def inserts(sink: ClickHouseSink) -> dict[str, Callable[[Sequence[Poll]], int]]:
    """Give, for each table, what inserts polls of its topic."""

    def ledger(polls: Sequence[Poll]) -> int:
        return sink.insert_ledger([decode(value) for value in _values(polls)])

    def parked(polls: Sequence[Poll]) -> int:
        return sink.insert_parked(
            [
                parse(key, value, headers)
                for poll in polls
                for key, value, headers in zip(poll.keys, poll.values, poll.headers, strict=True)
            ]
        )

    def alarms(polls: Sequence[Poll]) -> int:
        return sink.insert_alarms(_values(polls))

    return {"decision_ledger": ledger, "parked_events": parked, "drift_alarms": alarms}


def _values(polls: Sequence[Poll]) -> list[bytes]:
    return [value for poll in polls for value in poll.values if value is not None]
