"""Features of the table against features of the event, bit for bit, over the same raw rows."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from features.home_credit.applicants import attributes_of
from features.home_credit.build import TablesRefused, computed, opened
from features.home_credit.definition import DEFINITION
from features.home_credit.raw_engine import is_address
from features.home_credit.raw_files import Fault
from features.table import FeatureTable
from scoring.decode import ApplicationDecoder, EventLimits
from scoring.poll import Poll

_CHUNK = 500
_AT_MS = 1_767_225_600_000
_AT = datetime.fromtimestamp(_AT_MS / 1000, UTC).isoformat()


@dataclass(slots=True)
class Parity:
    """
    How many values were compared, and which differ: applicant, feature, the table's, the event's.

    `rejected` says of whose event the decoder took none, and why.
    """

    applicants: int = 0
    features: int = len(DEFINITION.schema.names)
    event_bytes: int = 0
    event_seconds: float = 0.0
    differences: list[tuple[int, str, float, float]] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every value was compared, and none differs."""
        return self.applicants > 0 and not self.differences and not self.rejected


def parity(
    where: str | Path, applicants: int | None, seed: int, done: Callable[[int], None]
) -> Parity:
    """
    Compare the table built from a folder of raw tables with what events of the same rows give.

    Each event is the JSON of an applicant's rows, decoded as a worker does. `applicants` many are
    drawn by `seed`, or all are taken. Raises TablesRefused.
    """
    if is_address(str(where)):
        raise TablesRefused([Fault("an engine", "is not compared: give a folder of tables")])
    result = Parity()
    decoder = ApplicationDecoder(DEFINITION, EventLimits(bytes=100_000_000))
    with opened(Path(where)) as (raw, faults):
        if raw is None:
            raise TablesRefused(faults)
        keys, matrix = computed(raw.tables)
        table = FeatureTable(DEFINITION.schema, keys, matrix)
        if applicants is not None and applicants < len(keys):
            keys = np.random.default_rng(seed).choice(keys, applicants, replace=False)
        rows = attributes_of(raw, keys.tolist())
        while chunk := list(islice(rows, _CHUNK)):
            _compare(result, table, decoder, [(key, _event(key, a)) for key, a in chunk])
            done(result.applicants + len(result.rejected))
    return result


def _event(key: int, attributes: object) -> bytes:
    return msgspec.json.encode(
        {
            "event_id": str(key),
            "application_id": key,
            "submitted_at": _AT,
            "attributes": attributes,
        }
    )


def _compare(
    result: Parity,
    table: FeatureTable,
    decoder: ApplicationDecoder,
    events: list[tuple[int, bytes]],
) -> None:
    count = len(events)
    values = [value for _, value in events]
    poll = Poll(
        "parity", 0, list(range(count)), [_AT_MS] * count, [None] * count, values, [[]] * count
    )
    started = time.perf_counter()
    decoded = decoder.decode(poll)
    found = DEFINITION.compute(decoded.attributes.columns(np.arange(len(decoded.positions))))
    result.event_seconds += time.perf_counter() - started
    result.event_bytes += sum(map(len, values))
    for rejection in decoded.rejections:
        said = f"{rejection.path}: {rejection.rule} ({rejection.value})"
        result.rejected.append((events[rejection.position][0], said))
    keys = decoded.application_ids
    expected = table.matrix[table.rows(keys)]
    result.applicants += len(keys)
    result.differences += _differences(keys, expected, found)


def _differences(
    keys: np.ndarray, expected: np.ndarray, found: np.ndarray
) -> Iterator[tuple[int, str, float, float]]:
    for row, column in np.argwhere(expected.view(np.uint32) != found.view(np.uint32)).tolist():
        name = DEFINITION.schema.names[column]
        yield int(keys[row]), name, float(expected[row, column]), float(found[row, column])
