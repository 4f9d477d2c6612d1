"""The monitor's agent: the ledger in, drift alarms out; its state saved, then polls finished."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import structlog

from features.whole_file import whole_file
from monitoring.alarm import Alarm
from monitoring.drift import CheckpointDamaged, DriftMonitor
from monitoring.metrics import Metrics
from scoring.poll import Poll
from sinks.ledger import LedgerBatch, LedgerDamaged, decode
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.settings import KafkaSettings
from stream.transport.in_flight import Agent, PollInFlight, Polls

logger = structlog.get_logger(__name__)

_SAVE_SECONDS = 2.0
# Of polls that were counted since the state was last saved: reading all that was ever decided, it
# would hold a hundred times as much.
_MOST_UNSAVED_BYTES = 16 << 20


def monitor_agent(
    kafka: KafkaSettings,
    checkpoint: Path,
    new_monitor: Callable[[LedgerBatch], DriftMonitor],
    metrics: Metrics,
) -> Agent:
    """
    Make the agent that watches decisions.

    Polls are finished only when the state that counts them is on disk, so after a restart the
    state and the offsets go on together.
    """

    async def watch(polls: Polls) -> None:
        state = _State(_restore(checkpoint))
        name = "creditstream-monitor"
        async with (
            Publisher(connection_of(kafka), client_id=name) as publisher,
            asyncio.TaskGroup() as group,
        ):
            saving = group.create_task(_save_regularly(checkpoint, state))
            async for poll in polls:
                metrics.batch_events.observe(len(poll.poll))
                async with state.lock:
                    with metrics.stage("watch"):
                        alarms = await asyncio.to_thread(_watch_poll, state, poll.poll, new_monitor)
                    metrics.ledger_unread.inc(state.unread)
                    state.unread = 0
                    await _raise_alarms(publisher, kafka, poll.poll.partition, alarms, metrics)
                    state.unsaved.append(poll)
                    state.unsaved_bytes += poll.poll.nbytes
                    if state.unsaved_bytes > _MOST_UNSAVED_BYTES:
                        await _save_and_finish(checkpoint, state)
            saving.cancel()

    return watch


@dataclass(slots=True)
class _State:
    """
    The monitor, and the polls that it has counted since it was last saved.

    `unread` counts messages of the poll under way that are no ledger's.
    """

    monitor: DriftMonitor | None
    unread: int = 0
    unsaved: list[PollInFlight] = field(default_factory=list)
    unsaved_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


async def _save_regularly(checkpoint: Path, state: _State) -> None:
    while True:
        await asyncio.sleep(_SAVE_SECONDS)
        async with state.lock:
            await _save_and_finish(checkpoint, state)


async def _save_and_finish(checkpoint: Path, state: _State) -> None:
    if state.unsaved and state.monitor is not None:
        await asyncio.to_thread(_save, checkpoint, state.monitor)
    for counted in state.unsaved:
        counted.finish()
    state.unsaved.clear()
    state.unsaved_bytes = 0


async def _raise_alarms(
    publisher: Publisher,
    kafka: KafkaSettings,
    partition: int,
    alarms: list[Alarm],
    metrics: Metrics,
) -> None:
    for alarm in alarms:
        metrics.drift_alarms.labels(detector=alarm.detector).inc()
        logger.warning("drift.alarm", subject=alarm.subject, text=alarm.text)
    if alarms:
        await publisher.publish(kafka.alarms, partition, [_record(alarm) for alarm in alarms])


def _watch_poll(
    state: _State, poll: Poll, new_monitor: Callable[[LedgerBatch], DriftMonitor]
) -> list[Alarm]:
    alarms: list[Alarm] = []
    for offset, value in zip(poll.offsets, poll.values, strict=True):
        if value is None:
            continue
        try:
            batch = decode(value)
        except LedgerDamaged as damaged:
            # The sink parks it; nobody could ever watch it.
            state.unread += 1
            logger.warning("monitor.unread", offset=int(offset), cause=damaged.reason)
            continue
        at = (batch.rows.column("decided_at")[-1].as_py(), poll.partition, int(offset))
        if state.monitor is None or state.monitor.succeeded_by(batch.release, *at):
            before = {} if state.monitor is None else state.monitor.next_offsets
            state.monitor = new_monitor(batch)
            state.monitor.next_offsets.update(before)
        probability = batch.default_probability()
        known = ~np.isnan(probability)
        alarms += state.monitor.update(
            batch.features()[known], probability[known], *at, release=batch.release
        )
    return alarms


def _record(alarm: Alarm) -> OutRecord:
    at_ms = int(alarm.raised_at.timestamp() * 1000)
    headers = [("content-type", b"application/json")]
    return OutRecord(alarm.subject.encode(), msgspec.json.encode(alarm), headers, at_ms)


def _restore(checkpoint: Path) -> DriftMonitor | None:
    if not checkpoint.is_file():
        return None
    try:
        return DriftMonitor.from_bytes(checkpoint.read_bytes())
    except CheckpointDamaged as damaged:
        logger.warning("monitor.starts_anew", path=str(checkpoint), cause=str(damaged))
        return None


def _save(checkpoint: Path, monitor: DriftMonitor) -> None:
    with whole_file(checkpoint) as unfinished:
        unfinished.write_bytes(monitor.to_bytes())
        unfinished.chmod(0o600)
