"""What has to hold of any poll, whatever its records are."""

import json
from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec
import numpy as np
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from scoring.decision import MISSING_SOURCE, Decision, instant
from scoring.decode import CODES
from scoring.pipeline import Decided, Pipeline
from scoring.poll import Headers, Poll
from sinks import ledger
from sinks.parked import PREFIX, ParkedEvent, parked_table, parse
from stream.contracts.codec import decision_records
from stream.kafka.packing import OutRecord
from tests.builders import NOW_MS

LARGEST = 2_000_000
_NOW_US = NOW_MS * 1000
_DECISION = msgspec.json.Decoder(Decision, strict=True)
_SHOWN = 120


def check_poll(pipeline: Pipeline, poll: Poll) -> Decided:
    """
    Decide a poll, and write and read again all that follows of it.

    Raises AssertionError where a record is neither decided nor parked, or both; where something
    reads back otherwise than it was written, is not finite, or is not the same when made again.
    """
    decided = pipeline.decide(poll, _NOW_US)
    rejected = [rejection.position for rejection in decided.rejections]
    offsets = [*decided.batch.offsets.tolist(), *(poll.offsets[at] for at in rejected)]
    assert sorted(offsets) == list(poll.offsets), "each record is decided or parked, once"
    _check_decisions(decided)
    _check_ledger(decided)
    _check_parked(poll, decided)
    return decided


def check_alone(pipeline: Pipeline, poll: Poll, decided: Decided) -> None:
    """See that each record of a poll is decided, or parked, alone as it was beside the others."""
    together = _by_offset(decided)
    parked = {poll.offsets[one.position]: one for one in decided.rejections}
    for at, offset in enumerate(poll.offsets):
        one = pipeline.decide(_row(poll, at), _NOW_US)
        if offset in parked:
            (alone,) = one.rejections
            assert msgspec.structs.asdict(_told(alone)) == msgspec.structs.asdict(
                _told(parked[offset])
            )
        else:
            assert _by_offset(one) == {offset: together[offset]}


class _Told(msgspec.Struct):
    code: str
    path: str
    value: str
    rule: str


def _told(rejection: Any) -> _Told:
    return _Told(rejection.code, rejection.path, rejection.value, rejection.rule)


def _row(poll: Poll, at: int) -> Poll:
    part = slice(at, at + 1)
    return Poll(
        poll.topic,
        poll.partition,
        poll.offsets[part],
        poll.produced_at_ms[part],
        poll.keys[part],
        poll.values[part],
        poll.headers[part],
    )


def _by_offset(decided: Decided) -> dict[int, tuple[Any, bytes]]:
    batch = decided.batch
    rows = zip(batch.offsets.tolist(), decision_records(batch), batch.features, strict=True)
    return {offset: (record.value, features.tobytes()) for offset, record, features in rows}


def _check_decisions(decided: Decided) -> None:
    batch = decided.batch
    missing = batch.feature_sources == MISSING_SOURCE
    probability = batch.default_probability
    assert bool(np.isnan(probability[missing]).all())
    assert bool(((probability >= 0) & (probability <= 1))[~missing].all())
    assert bool(np.isfinite(batch.features_age_s[batch.features_as_of_us != -1]).all())
    records = list(decision_records(batch))
    for record, decision in zip(records, batch.decisions(), strict=True):
        assert record.value is not None
        assert _DECISION.decode(record.value) == decision
        json.loads(record.value, parse_constant=_refuse)  # the plainest of readers takes it
        assert all(np.isfinite(reason.contribution) for reason in decision.reasons)
    _check_record_batch(records)


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is no JSON"
    raise AssertionError(msg)


def _check_ledger(decided: Decided) -> None:
    batch = decided.batch
    found = [ledger.decode(message) for message in ledger.encode(batch)]
    assert sum(map(len, found)) == len(batch)
    if not found:
        return
    features = np.concatenate([one.features() for one in found])
    missing = batch.feature_sources == MISSING_SOURCE
    assert features[~missing].tobytes() == batch.features[~missing].tobytes()
    ids = [identity for one in found for identity in one.rows.column("decision_id").to_pylist()]
    assert ids == list(batch.decision_ids)
    stands = [place for one in found for place in one.rows.column("origin_offset").to_pylist()]
    assert stands == batch.offsets.tolist()
    probability = np.concatenate([one.default_probability() for one in found])
    assert probability.tobytes() == batch.default_probability.tobytes()


def _check_parked(poll: Poll, decided: Decided) -> None:
    events, records = [], []
    for rejection in decided.rejections:
        assert rejection.code in CODES
        assert rejection.path
        assert rejection.rule
        assert max(len(rejection.path), len(rejection.value)) <= _SHOWN
        event = ParkedEvent.of(
            poll,
            rejection,
            stage="decode",
            parked_at=instant(_NOW_US),
            release="r",
            largest=LARGEST,
        )
        headers = event.record_headers()
        back = parse(event.key, event.value, headers)
        assert back.record_headers() == headers
        assert (back.key, back.value) == (event.key, event.value)
        assert (back.topic, back.partition, back.offset) == ("applications", 0, event.offset)
        assert (back.code, back.produced_at_ms) == (event.code, event.produced_at_ms)
        if not event.cut:
            assert event.value == poll.values[rejection.position]
            assert event.key == poll.keys[rejection.position]
            assert _of_others(headers) == _of_others(poll.headers[rejection.position])
        events.append(back)
        records.append(OutRecord(event.key, event.value, headers, NOW_MS))
    assert parked_table(events).num_rows == len(events)
    _check_record_batch(records)


def _of_others(headers: Headers) -> list[tuple[str, bytes | None]]:
    return [one for one in headers if not one[0].startswith(PREFIX)]


def _check_record_batch(records: Iterable[OutRecord]) -> None:
    """Write records as Kafka holds them, and read them back."""
    wanted = list(records)
    builder = BatchBuilder(LARGEST * max(1, len(wanted)), 0, is_transactional=False)
    for key, value, headers, timestamp in wanted:
        builder.append(key=key, value=value, timestamp=timestamp, headers=headers)
    if not wanted:
        return
    builder.close()
    batch = MemoryRecords(bytes(builder._build())).next_batch()
    assert batch is not None
    found = [(one.key, one.value, list(one.headers)) for one in batch]
    assert found == [(one.key, one.value, list(one.headers)) for one in wanted]
