"""The scoring agent: a poll in; decisions, ledger and parked events out; then it is finished."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from monitoring.metrics import Metrics
from scoring.decision import FEATURE_SOURCES, OUTCOMES, instant
from scoring.parking import ParkingHistory, ParkingLimit, ParkingLimitCrossed
from scoring.pipeline import Asked, Decided, Pipeline, source_share
from scoring.poll import Poll
from sinks.ledger import encode_parts
from sinks.parked import ParkedEvent
from stream.agents.desk import Desk
from stream.agents.lanes import in_lanes
from stream.contracts.codec import decision_records
from stream.delivery.protocols import Delivery, Lease
from stream.kafka.packing import OutRecord, pack_one, pack_parts
from stream.kafka.publisher import Output
from stream.kafka.topics import parked_record_bytes
from stream.settings import KafkaSettings
from stream.transport.in_flight import Agent, PollInFlight, Polls

Clock = Callable[[], int]
"""Gives the time in nanoseconds since 1970."""

_CAUSES = 3  # named in an error
# Small polls that wait are decided as one, which costs hardly more; at full load polls are large.
_WAITING = 16
_MOST_WAITING_BYTES = 1 << 20
# In which all comes that one fetch brought of several partitions.
_LINGER_TURNS = 16

logger = structlog.get_logger(__name__)


class TooMuchParked(Exception):
    """A poll would park more than the settings allow; says by which release, and the way out."""

    def __init__(
        self, poll: Poll, release: str, limit: ParkingLimit, crossed: ParkingLimitCrossed
    ) -> None:
        named = crossed.causes.most_common(_CAUSES)
        causes = [f"{number} x {code} {path}" for (code, path), number in named]
        if more := len(crossed.causes) - len(named):
            causes.append(f"{more} other causes")
        variable = f"CREDITSTREAM_PARKING__{crossed.bound.upper()}"
        if crossed.bound == "longest_run":
            said, none = f"{crossed.parked} events one after the other", 0
        else:
            said, none = f"{crossed.parked} of the last {limit.window} events", 1
        msg = (
            f"{poll.topic}/{poll.partition}: release {release} would park {said}; {variable} is "
            f"{getattr(limit, crossed.bound)}. In the poll from offset {poll.offsets[0]}: "
            f"{', '.join(causes)}. Nothing of it is parked or committed. If the release is wrong, "
            "put the one before back (CREDITSTREAM_RELEASE) and start again; if the events are, "
            f"raise {variable} to park them ({none}: no limit)"
        )
        super().__init__(msg)


def scoring_agent(
    kafka: KafkaSettings,
    delivery: Delivery,
    pipeline: Callable[[], Pipeline],
    metrics: Metrics,
    clock: Clock = time.time_ns,
    limit: ParkingLimit | None = None,
) -> Agent:
    """
    Make the agent that decides applications.

    `pipeline` gives the pipeline for the next poll; one poll is decided by one release and one
    feature table. A poll is finished when `delivery` has all its output out. One that would cross
    the `limit` raises TooMuchParked before anything of it is out.
    """
    limit = limit or ParkingLimit()

    def decide_all(asked: Sequence[Asked]) -> list[tuple[Decided, list[Output]]]:
        return decide_and_encode(kafka, pipeline(), asked, clock() // 1000)

    async def score(polls: Polls) -> None:
        desk = Desk(decide_all, size=_size, most=_MOST_WAITING_BYTES, linger=_LINGER_TURNS)

        async def decide(taken: Sequence[PollInFlight]) -> None:
            fresh = [poll for poll in taken if not poll.stale]
            # The same lease to the end: by a later one it would be delivered once more.
            lease = delivery.lease(fresh[0].poll.partition) if fresh else None
            if lease is None:
                return  # they waited until their partition was given back
            ends = [poll.end_offset for poll in fresh if poll.end_offset is not None]
            waited = Poll.joined([poll.poll for poll in fresh])
            text_of = pipeline().policy.text_of
            if left := await lease.take_up(waited, min(ends, default=None), text_of):
                await decide_and_deliver(left, lease)
            for poll in fresh:
                poll.finish()

        async def decide_and_deliver(poll: Poll, lease: Lease) -> None:
            with metrics.stage("decide"):
                decided, outputs = await desk.ask((poll, lease.recent))
            parking = _within(limit, lease.parking, poll, decided)
            with metrics.stage("publish"):
                await lease.deliver(poll, outputs, parking)
            lease.recent.remember(decided.batch.decision_ids, decided.batch.event_digests)
            _count(metrics, poll, decided, clock())

        with desk:
            async with delivery:
                await in_lanes(
                    polls,
                    lambda poll: poll.poll.partition,
                    decide,
                    waiting=_WAITING,
                    together=_WAITING,
                    most_bytes=_MOST_WAITING_BYTES,
                )

    return score


def _size(asked: Asked) -> int:
    return asked[0].nbytes


def _within(
    limit: ParkingLimit, parking: ParkingHistory, poll: Poll, decided: Decided
) -> ParkingHistory:
    try:
        return limit.after(parking, poll, decided)
    except ParkingLimitCrossed as crossed:
        error = TooMuchParked(poll, decided.batch.release, limit, crossed)
        # In a line of its own: the error's way up goes through groups and tracebacks.
        logger.critical("parking.limit_crossed", cause=str(error))
        raise error from None


def decide_and_encode(
    kafka: KafkaSettings, pipeline: Pipeline, asked: Sequence[Asked], now_us: int
) -> list[tuple[Decided, list[Output]]]:
    """Decide polls in one go; give what became of each, and all that it puts out."""
    together = pipeline.decide_together(asked, now_us)
    batch, cuts = together.batch, together.cuts
    packed = pack_parts(kafka.decisions, decision_records(batch), cuts)
    ledger = encode_parts(batch, cuts)
    found = []
    for (poll, _), decided, decisions, messages in zip(
        asked, together.of_each, packed, ledger, strict=True
    ):
        outputs = []
        if messages:
            rows = [pack_one(kafka.ledger, message, now_us // 1000) for message in messages]
            outputs += [Output(kafka.decisions, decisions), Output(kafka.ledger, rows)]
        if decided.rejections:
            outputs.append(_parked(kafka, poll, decided, now_us))
        found.append((decided, outputs))
    return found


def _parked(kafka: KafkaSettings, poll: Poll, decided: Decided, now_us: int) -> Output:
    parked = (
        ParkedEvent.of(
            poll,
            rejection,
            stage="decode",
            parked_at=instant(now_us),
            release=decided.batch.release,
            largest=kafka.parked_max_bytes,
        )
        for rejection in decided.rejections
    )
    records = (
        OutRecord(event.key, event.value, event.record_headers(), now_us // 1000)
        for event in parked
    )
    return Output(kafka.parked, records, parked_record_bytes(kafka))


def _count(metrics: Metrics, poll: Poll, decided: Decided, now_ns: int) -> None:
    batch = decided.batch
    metrics.events_consumed.inc(len(poll))
    metrics.batch_events.observe(len(poll))
    outcomes = np.bincount(batch.outcomes, minlength=len(OUTCOMES)).tolist()
    metrics.count(metrics.decisions, dict(zip(OUTCOMES, outcomes, strict=True)))
    metrics.count(metrics.feature_lookups, source_share(batch))
    metrics.count(metrics.features_stale, decided.stale)
    ages = batch.features_age_s[batch.feature_sources == FEATURE_SOURCES.index("table")]
    metrics.feature_age.observe(ages[~np.isnan(ages)])
    for rejection in decided.rejections:
        metrics.events_parked.labels(stage="decode", code=rejection.code).inc()
    metrics.events_repeated.inc(decided.repeated)
    metrics.unknown_field.inc(decided.unknown_fields)
    metrics.observe_ages((now_ns / 1e6 - batch.produced_at_ms.astype(np.float64)) / 1e3)
    metrics.last_progress.set(now_ns / 1e9)
