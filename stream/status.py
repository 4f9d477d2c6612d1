"""What a worker tells of itself: lag, readiness, counters, and whether it stands still."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

import faust
import structlog
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from monitoring.metrics import Metrics
from monitoring.status import NotReady, Status
from stream.app import consumer_of
from stream.kafka.roles import Role
from stream.process.watchdog import Watchdog
from stream.settings import StatusSettings

if TYPE_CHECKING:
    from stream.swap import CurrentPipeline

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Facts:
    """What a role adds to its status; `waiting` says by table what its sink waits for."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    delivery: str | None = None
    current: "CurrentPipeline | None" = None
    waiting: dict[str, str] = field(default_factory=dict)


def lag_of(app: faust.App) -> Mapping[TP, int]:
    """Count the records of each partition that are not finished; none while it starts."""
    try:
        return consumer_of(app).lag()
    except ConsumerNotStarted:
        return {}


def last_progress_of(app: faust.App) -> float:
    """Say when a poll was last finished or partitions assigned, in monotonic seconds."""
    try:
        return consumer_of(app).last_progress
    except ConsumerNotStarted:
        return 0.0


def waiting_of(app: faust.App) -> int:
    """Count the records that wait; at least 1 where partitions are held up and nobody can know."""
    return sum(lag_of(app).values()) or int(_held_up(app))


def _held_up(app: faust.App) -> bool:
    try:
        return consumer_of(app).held_up()
    except ConsumerNotStarted:
        return False


def add_status(
    app: faust.App,
    settings: StatusSettings,
    role: Role,
    metrics: Metrics,
    facts: Facts,
    watchdog: Watchdog,
    run_sql: Callable[[str], bytes] | None,
) -> None:
    """Measure a worker's lag and, where it has a port, serve its status and metrics."""

    def snapshot() -> Status:
        return _status(app, role, metrics, facts, watchdog)

    @app.timer(1.0)  # type: ignore[untyped-decorator]
    async def measure_lag() -> None:
        for tp, lag in lag_of(app).items():
            metrics.consumer_lag.labels(topic=tp.topic, partition=str(tp.partition)).set(lag)

    if not settings.port:
        return
    stack = AsyncExitStack()
    # A quarter of all that a worker imports: beside its joining the group, which mostly waits.
    beside = ThreadPoolExecutor(1, thread_name_prefix="status")
    importing = beside.submit(import_module, "monitoring.service")
    beside.shutdown(wait=False)

    @app.task  # type: ignore[untyped-decorator]
    async def serve_status() -> None:
        service = await asyncio.wrap_future(importing)
        api = service.status_api(snapshot, metrics.registry, run_sql)
        served = service.served(api, settings.host, settings.port)
        port = await stack.enter_async_context(served)
        logger.info("status.listening", role=role, url=f"http://{settings.host}:{port}")

    @app.on_before_shutdown.connect
    async def stop_status(*_: object, **__: object) -> None:
        await stack.aclose()


def _status(
    app: faust.App, role: Role, metrics: Metrics, facts: Facts, watchdog: Watchdog
) -> Status:
    not_ready = []
    lag = lag_of(app)
    try:
        assigned = consumer_of(app).assignment()
    except ConsumerNotStarted as error:
        assigned = set()
        not_ready.append(NotReady(check="kafka", detail=str(error) or "no consumer yet"))
    if not assigned and not not_ready:
        not_ready.append(NotReady(check="kafka", detail="no partition is assigned yet"))
    if _held_up(app):
        not_ready.append(NotReady(check="kafka", detail="partitions are being taken over"))
    not_ready += [
        NotReady(check=f"clickhouse {table}", detail=why) for table, why in facts.waiting.items()
    ]
    counters = {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        if family.type == "counter"
        for sample in family.samples
    }
    pipeline = facts.current() if facts.current else None
    as_of = pipeline.table.as_of if pipeline else None
    return Status(
        role=role,
        started_at=facts.started_at,
        alive=not (waiting_of(app) and watchdog.stalled),
        not_ready=not_ready,
        delivery=facts.delivery,
        release=pipeline.release if pipeline else None,
        feature_table_rows=len(pipeline.table) if pipeline else None,
        feature_table_digest=pipeline.table.digest if pipeline else None,
        features_as_of=as_of.isoformat() if as_of else None,
        refused=facts.current.refused if facts.current else "",
        lag={f"{tp.topic}/{tp.partition}": number for tp, number in lag.items()},
        counters=counters,
        seconds_since_progress=watchdog.still_seconds(),
    )
