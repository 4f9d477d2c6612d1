"""One worker process: a role's agents on their app, with metrics, status service and watchdog."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import faust
import numpy as np
import pyarrow as pa
import structlog
from faust.exceptions import ConsumerNotStarted

from monitoring.metrics import Metrics
from monitoring.status import SqlFailed, check_address
from scoring.compiled import make_ready
from sinks.store import ClickHouse, StoreRefused, StoreUnavailable
from stream.app import consumer_of, new_app, register, transport_of
from stream.kafka.connection import Connection, KafkaRefused, KafkaUnavailable, connection_of
from stream.kafka.rights import RightsMissing, check_rights
from stream.kafka.roles import Role, inputs_of, outputs_of, rights_of
from stream.kafka.topic_settings import check_parking, check_topic_settings
from stream.kafka.topics import check_outputs, check_topics
from stream.process.memory import calm_memory
from stream.process.neighbours import await_neighbour
from stream.process.watchdog import Watchdog
from stream.settings import KafkaSettings, Settings
from stream.status import Facts, add_status, last_progress_of, waiting_of
from stream.store import store_of
from stream.transport.consumer import PollConsumer
from stream.transport.gone import Gone, RecordsGone

logger = structlog.get_logger(__name__)

_ASK_AGAIN_SECONDS = 10.0


class Worker(faust.Worker):
    """
    Faust's worker, which tells the watchdog when it is asked to stop, or stops of an error.

    Asked a second time in the same way it ends at once. (Ctrl-C reaches a whole terminal; a
    supervisor's SIGTERM that follows it is no second time.)
    """

    _told_by: signal.Signals | None = None

    watchdog: Watchdog

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        if signal == self._told_by:
            # Whatever is under way comes again, as after a crash.
            logger.warning("worker.stopped_at_once", signal=signal.name)
            os._exit(128 + signal)
        self._told_by = signal
        self.watchdog.stopping()
        super()._schedule_shutdown(signal)

    def on_worker_shutdown(self) -> None:
        """Be about to stop, for whatever reason."""
        self.watchdog.stopping()


def run_worker(settings: Settings, role: Role, parts: "Parts | None" = None) -> None:
    """Run a role until it is told to stop; exits the process. Raises CannotListen."""
    parts = parts or Parts()
    if settings.status.port:
        check_address(settings.status.host, settings.status.port)
    await_neighbour(
        "kafka",
        lambda: asyncio.run(_check_kafka(settings, role)),
        KafkaUnavailable,
        settings.start_seconds,
    )
    metrics = Metrics.create()
    app = new_app(settings, role)
    transport_of(app).on_gone = _on_gone(settings, role, metrics)
    transport_of(app).consumer = parts.consumer
    facts = Facts()
    run_sql = None
    if role == "scoring":
        _add_scoring(app, settings, metrics, facts, parts)
    elif role == "sink":
        run_sql = _add_sink(app, settings, metrics, facts, parts)
    else:
        _add_monitor(app, settings, metrics)
    # Before it is one of a group: the first time it takes longer than a session.
    make_ready()
    watchdog = Watchdog(
        lambda: waiting_of(app), lambda: last_progress_of(app), settings.stall_seconds
    )
    _ask_for_rights_again(app, settings, role)
    add_status(app, settings.status, role, metrics, facts, watchdog, run_sql)
    worker = Worker(app, redirect_stdouts=False, quiet=True, override_logging=False)
    worker.watchdog = watchdog
    worker.spinner = None  # it would write control characters between the lines of the log
    watchdog.start()
    calm_memory()
    said = {"delivery": facts.delivery} if facts.delivery else {}
    kafka = connection_of(settings.kafka)
    logger.info("worker.starting", role=role, kafka=kafka.servers, by=kafka.protocol, **said)
    worker.execute_from_commandline()


def _on_gone(settings: Settings, role: Role, metrics: Metrics) -> Callable[[Gone], None]:
    # What the monitor has not seen it never watches; nothing else hangs on it.
    skip = role == "monitor" or settings.kafka.records_gone == "skip"

    def on_gone(gone: Gone) -> None:
        if not skip:
            refused = RecordsGone(gone)
            logger.critical("kafka.records_gone", cause=str(refused))
            raise refused
        logger.error("kafka.records_skipped", cause=str(gone))
        metrics.records_gone.inc(gone.records)

    return on_gone


async def _check_kafka(settings: Settings, role: Role) -> None:
    kafka = settings.kafka
    await _check_rights(settings, role)
    topics = inputs_of(kafka, role) + outputs_of(kafka, role)
    await check_topics(kafka, topics)
    for doubt in await check_topic_settings(kafka, topics):
        logger.warning("topics.doubtful", doubt=doubt)
    await check_outputs(kafka, role)
    if kafka.parked in outputs_of(kafka, role):
        await check_parking(kafka)


async def _check_rights(settings: Settings, role: Role) -> None:
    await check_rights(connection_of(settings.kafka), rights_of(settings, role))


def _ask_for_rights_again(app: faust.App, settings: Settings, role: Role) -> None:
    @app.timer(_ASK_AGAIN_SECONDS)  # type: ignore[untyped-decorator]
    async def ask_again() -> None:
        # A client whose login is refused when it comes back tries for ever, and says so to its
        # log alone: with no records it would stand still, and look well.
        try:
            await _check_rights(settings, role)
        except KafkaUnavailable:
            return  # it may come back
        except (KafkaRefused, RightsMissing) as error:
            logger.critical("worker.not_allowed", cause=str(error))
            await app.crash(error)


def _add_scoring(
    app: faust.App, settings: Settings, metrics: Metrics, facts: Facts, parts: "Parts"
) -> None:
    from stream.agents.scoring import scoring_agent
    from stream.composition import parking_limit
    from stream.delivery.choice import delivery_of
    from stream.swap import CurrentPipeline

    kafka = settings.kafka
    delivery = asyncio.run(delivery_of(settings, app.conf.id, parts.connection(kafka)))
    facts.delivery = delivery.way
    transport_of(app).owner = delivery
    current = facts.current = CurrentPipeline(settings, metrics)
    limit = parking_limit(settings)
    agent = scoring_agent(kafka, delivery, current, metrics, limit=limit)
    register(app, kafka.applications, "score", agent)

    @app.timer(settings.swap_seconds)  # type: ignore[untyped-decorator]
    async def look_for_another() -> None:
        await asyncio.to_thread(current.look)


def _add_sink(
    app: faust.App, settings: Settings, metrics: Metrics, facts: Facts, parts: "Parts"
) -> Callable[[str], bytes] | None:
    from sinks.clickhouse import ClickHouseSink
    from sinks.migrations import migrate
    from stream.agents.parking import parking
    from stream.agents.sink import sink_agent

    def ready() -> ClickHouse:
        store = parts.store(settings)
        migrate(store)
        return store

    store = await_neighbour("clickhouse", ready, StoreUnavailable, settings.start_seconds)
    topics = {
        "decision_ledger": settings.kafka.ledger,
        "parked_events": settings.kafka.parked,
        "drift_alarms": settings.kafka.alarms,
    }
    sink = ClickHouseSink(store)
    park = parking(settings.kafka, metrics, parts.connection(settings.kafka))
    for table, topic in topics.items():
        apart_s = settings.store.insert_seconds
        agent = sink_agent(table, sink, park, metrics, facts.waiting, apart_s)
        register(app, topic, f"write_{table}", agent)
    _reconcile_regularly(app, settings, metrics)
    if not settings.store.url.startswith("chdb://"):
        return None  # a server has a door of its own, with users and rights
    reader = store_of(settings, read_only=True)

    def run_sql(sql: str) -> bytes:
        try:
            answer = reader.query(sql)
        except (StoreRefused, StoreUnavailable) as error:
            raise SqlFailed(str(error)) from error
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, answer.schema) as writer:
            writer.write_table(answer)
        content: bytes = stream.getvalue().to_pybytes()
        return content

    return run_sql


def _reconcile_regularly(app: faust.App, settings: Settings, metrics: Metrics) -> None:
    from stream.reconcile.schedule import Schedule, in_a_process

    if not settings.reconcile_minutes:
        return

    def partitions() -> set[int]:
        try:
            assigned = consumer_of(app).assignment()
        except ConsumerNotStarted:
            return set()
        return {tp.partition for tp in assigned if tp.topic == settings.kafka.ledger}

    run = in_a_process(settings)
    schedule = Schedule(settings.reconcile_minutes, partitions, metrics, run)

    @app.task  # type: ignore[untyped-decorator]
    async def reconcile_regularly() -> None:
        await schedule.keep_on()


def _add_monitor(app: faust.App, settings: Settings, metrics: Metrics) -> None:
    from models.release import open_release
    from monitoring.drift import DriftMonitor
    from monitoring.psi import ReferenceBins
    from sinks.ledger import LedgerBatch
    from stream.agents.monitor import monitor_agent
    from stream.composition import release_folder

    def new_monitor(batch: LedgerBatch) -> DriftMonitor:
        release = open_release(release_folder(settings.release, batch.release))
        rows = np.column_stack(
            (release.reference.default_probability, release.reference.features.astype(np.float64))
        )
        return DriftMonitor(release.id, batch.feature_names, ReferenceBins.of(rows))

    agent = monitor_agent(settings.kafka, settings.monitor.checkpoint, new_monitor, metrics)
    register(app, settings.kafka.ledger, "watch", agent)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker reaches its neighbours by; tests put others in their place."""

    connection: Callable[[KafkaSettings], Connection] = connection_of
    consumer: Callable[..., PollConsumer] = PollConsumer
    store: Callable[[Settings], ClickHouse] = store_of
