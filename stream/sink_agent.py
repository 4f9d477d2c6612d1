"""The sink's agents: ledger, parked events and alarms from their topics into ClickHouse."""

from collections.abc import Callable
from functools import partial

import structlog

from monitoring.metrics import Metrics
from scoring.poll import Poll
from sinks.clickhouse import ClickHouseSink, until_accepted
from sinks.ledger import decode
from sinks.parked import parse
from sinks.store import StoreUnavailable
from stream.app import Agent, Polls

logger = structlog.get_logger(__name__)


def sink_agent(table: str, insert: Callable[[Poll], int], metrics: Metrics) -> Agent:
    """
    Make an agent that inserts whole polls and then finishes them.

    While ClickHouse is away it waits and its partitions stay where they are; nothing else waits
    for it. What ClickHouse refuses for good ends the process aloud, uncommitted.
    """
    rows = metrics.sink_rows.labels(table=table)
    retries = metrics.sink_retries.labels(table=table)

    def on_retry(away: StoreUnavailable, pause_s: float) -> None:
        retries.inc()
        logger.warning("sink.waiting", table=table, pause_s=round(pause_s, 2), cause=str(away))

    async def write(polls: Polls) -> None:
        async for poll in polls:
            metrics.batch_events.observe(len(poll.poll))
            with metrics.stage("insert"):
                rows.inc(await until_accepted(partial(insert, poll.poll), on_retry))
            poll.finish()

    return write


def inserts(sink: ClickHouseSink) -> dict[str, Callable[[Poll], int]]:
    """Give, for each table, what inserts a poll of its topic."""

    def ledger(poll: Poll) -> int:
        return sink.insert_ledger([decode(value) for value in poll.values if value is not None])

    def parked(poll: Poll) -> int:
        records = zip(poll.keys, poll.values, poll.headers, strict=True)
        return sink.insert_parked([parse(key, value, headers) for key, value, headers in records])

    def alarms(poll: Poll) -> int:
        return sink.insert_alarms([value for value in poll.values if value is not None])

    return {"decision_ledger": ledger, "parked_events": parked, "drift_alarms": alarms}
