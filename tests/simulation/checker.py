"""Says what is wrong with what a run left in topics and tables; it knows no worker."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pyarrow as pa

from scoring.decision import Decision
from scoring.pipeline import Decided
from scoring.poll import Poll
from sinks.parked import parse
from tests.simulation.broker import Stored
from tests.simulation.clickhouse import LEDGER_COLUMNS
from tests.simulation.installation import RELEASES, Installation, pipeline_of

_Row = dict[str, Any]


class Expected(NamedTuple):
    """What the event at an offset must lead to."""

    kind: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Promises:
    """What a way of delivery promises."""

    once: bool
    """Each decision stands once on its topic."""
    one_content: bool
    """However often an event was decided, all its decisions are the same."""


EXACTLY_ONCE = Promises(once=True, one_content=True)
AT_LEAST_ONCE = Promises(once=False, one_content=False)


def problems_of(installation: Installation, promises: Promises) -> list[str]:
    """Check everything; an empty list is a run without a fault."""
    found: list[str] = []
    ledger = _ledger_rows(installation)
    for partition in range(installation.broker.partitions):
        found += _of_partition(installation, promises, partition, ledger)
    found += _of_store(installation, ledger)
    return found


def _of_partition(
    installation: Installation, promises: Promises, partition: int, ledger: list[_Row]
) -> Iterator[str]:
    kafka = installation.kafka
    events = _records(installation, kafka.applications, partition)
    decisions = [
        msgspec.json.decode(record.value or b"", type=Decision)
        for record in _records(installation, kafka.decisions, partition)
    ]
    parked = [
        parse(record.key, record.value, record.headers)
        for record in _records(installation, kafka.parked, partition)
    ]
    if not events:
        return
    poll = _poll(kafka.applications, partition, events)
    releases = dict.fromkeys([RELEASES[0], *(decision.release for decision in decisions)])
    recomputed = {release: pipeline_of(release).decide(poll, 0) for release in releases}
    expected = _expected(recomputed[RELEASES[0]], poll, installation)

    decided_at = Counter(decision.origin.offset for decision in decisions)
    parked_at = Counter(event.offset for event in parked)
    for offset, wanted in expected.items():
        times = decided_at.pop(offset, 0), parked_at.pop(offset, 0)
        for fault in _fate(wanted, *times, once=promises.once):
            yield f"{kafka.applications}/{partition}/{offset} {fault}"
    for offset in [*decided_at, *parked_at]:
        yield f"{partition}/{offset} is decided or parked, but there is no such event"

    yield from _contents(decisions, recomputed, promises)
    yield from _order(decisions, promises)
    for event in parked:
        value = events[event.offset].value
        if event.value != value:
            yield f"parked {event.offset} has other bytes than its event"
        if event.code != expected[event.offset].code:
            yield f"parked {event.offset} says {event.code}, not {expected[event.offset].code}"
    of_partition = [row for row in ledger if row["origin_partition"] == partition]
    yield from _ledger(partition, decisions, of_partition, promises)


def _fate(wanted: Expected, decided: int, parked: int, *, once: bool) -> Iterator[str]:
    if wanted.kind == "repeated":
        if decided or parked:
            yield f"was sent again, and is decided {decided}, parked {parked} times"
        return
    there, elsewhere = (decided, parked) if wanted.kind == "decided" else (parked, decided)
    if not there:
        yield f"is lost: it must be {wanted.kind} {wanted.code}"
    if there > 1 and once:
        yield f"is {wanted.kind} {there} times"
    if elsewhere:
        yield f"must be {wanted.kind} {wanted.code}, and is something else, too"


def _expected(decided: Decided, poll: Poll, installation: Installation) -> dict[int, Expected]:
    window = installation.kafka.resend_window
    rows = dict(zip(decided.batch.offsets.tolist(), range(len(decided.batch)), strict=True))
    codes = {poll.offsets[one.position]: one.code for one in decided.rejections}
    recent: dict[bytes, bytes] = {}
    found = {}
    for offset in poll.offsets:
        if offset in codes:
            found[offset] = Expected("parked", codes[offset])
            continue
        identity = decided.batch.decision_ids[rows[offset]] or b""
        digest = decided.batch.event_digests[rows[offset]] or b""
        if identity in recent:
            same = recent[identity] == digest
            found[offset] = (
                Expected("repeated") if same else Expected("parked", "conflicting_duplicate")
            )
            continue
        found[offset] = Expected("decided")
        recent[identity] = digest
        assert len(recent) <= window
    return found


def _contents(
    decisions: list[Decision], recomputed: dict[str, Decided], promises: Promises
) -> Iterator[str]:
    by_release = {
        release: {decision.origin.offset: decision for decision in decided.batch.decisions()}
        for release, decided in recomputed.items()
    }
    contents: dict[tuple[str, int], Decision] = {}
    for decision in decisions:
        offset = decision.origin.offset
        offline = by_release[decision.release].get(offset)
        if offline is None:
            continue  # said already
        decided_at = decision.decided_at
        if msgspec.structs.replace(offline, decided_at=decided_at) != decision:
            yield f"decision {offset} is not what {decision.release} gives offline"
        first = contents.setdefault((decision.decision_id, offset), decision)
        if promises.one_content and first != decision:
            yield f"decision {offset} has two contents"


def _order(decisions: list[Decision], promises: Promises) -> Iterator[str]:
    last: dict[int, int] = {}
    seen: set[int] = set()
    for decision in decisions:
        offset, applicant = decision.origin.offset, decision.application_id
        if not promises.once and offset in seen:
            continue
        seen.add(offset)
        if offset <= last.get(applicant, -1):
            yield f"decision {offset} of {applicant} stands behind {last[applicant]}"
        last[applicant] = offset


def _ledger(
    partition: int, decisions: list[Decision], rows: list[_Row], promises: Promises
) -> Iterator[str]:
    told = [
        (
            str(UUID(bytes=row["decision_id"])),
            row["origin_offset"],
            row["decided_at"],
            row["outcome"],
            row["default_probability"],
            row["release"],
        )
        for row in rows
    ]
    said = [
        (
            decision.decision_id,
            decision.origin.offset,
            decision.decided_at,
            decision.outcome,
            decision.default_probability,
            decision.release,
        )
        for decision in decisions
    ]
    same = told == said if promises.once else set(told) == set(said)
    if not promises.one_content:
        # After a crash between the two topics an event is decided again, and differently.
        same = {row[:2] for row in told} == {row[:2] for row in said}
    if not same:
        yield f"ledger {partition} has {len(told)} decisions, its topic {len(said)}, or others"


def _ledger_rows(installation: Installation) -> list[_Row]:
    found: list[_Row] = []
    for partition in range(installation.broker.partitions):
        for record in _records(installation, installation.kafka.ledger, partition):
            with pa.ipc.open_stream(record.value) as reader:
                found += reader.read_all().select(LEDGER_COLUMNS).to_pylist()
    return found


def _of_store(installation: Installation, ledger: list[_Row]) -> Iterator[str]:
    first: dict[tuple[int, bytes], _Row] = {}
    for row in ledger:
        key = row["application_id"], row["decision_id"]
        known = first.get(key)
        if known is None or _version(row) < _version(known):
            first[key] = row
    shown = installation.store.rows("decision_ledger")
    yield from _differences("decision", first.keys(), shown.keys())
    for key in first.keys() & shown.keys():
        if first[key] != shown[key]:
            yield f"decision {key[1].hex()} in ClickHouse is not the first of the ledger"
    releases = {row["release"] for row in ledger}
    yield from _differences(
        "features of release",
        {(release,) for release in releases},
        installation.store.rows("release_features").keys(),
    )
    kafka = installation.kafka
    parked = {
        (event.topic, event.partition, event.offset)
        for partition in range(installation.broker.partitions)
        for event in (
            parse(record.key, record.value, record.headers)
            for record in _records(installation, kafka.parked, partition)
        )
    }
    yield from _differences("parked", parked, installation.store.rows("parked_events").keys())


def _version(row: dict[str, Any]) -> tuple[Any, int]:
    return row["decided_at"], row["origin_offset"]


def _differences(what: str, wanted: Iterable[Any], there: Iterable[Any]) -> Iterator[str]:
    for key in sorted(set(wanted) - set(there)):
        yield f"{what} {key} is missing in ClickHouse"
    for key in sorted(set(there) - set(wanted)):
        yield f"{what} {key} stands in ClickHouse alone"


def _records(installation: Installation, topic: str, partition: int) -> list[Stored]:
    """Read a partition as a reader of committed records does, from beginning to end."""
    log = installation.broker.logs[topic, partition]
    return log.committed_records(0, log.end)[0]


def _poll(topic: str, partition: int, events: list[Stored]) -> Poll:
    return Poll(
        topic,
        partition,
        [event.offset for event in events],
        [event.timestamp for event in events],
        [event.key for event in events],
        [event.value for event in events],
        [event.headers for event in events],
    )
