"""The ClickHouse sink: ledger, parked events and alarms into their tables, once in effect."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import pyarrow as pa

from sinks.ledger import LedgerBatch
from sinks.parked import ParkedEvent, parked_table
from sinks.store import Store, StoreUnavailable

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 15.0
# Above the driver's own time-out, below what the watchdog takes for a stall.
_DEADLINE_S = 45.0
# The same rows make the same token, in whatever order they came.
_ORIGIN = [
    ("origin_topic", "ascending"),
    ("origin_partition", "ascending"),
    ("origin_offset", "ascending"),
]


class _AlarmRow(msgspec.Struct, frozen=True):
    """The columns of `drift_alarms`, as an alarm's JSON names them."""

    alarm_id: str
    raised_at: datetime
    kind: str
    detector: str
    subject: str
    value: float
    threshold: float
    since: datetime
    release: str
    decisions: int
    text: str


class ClickHouseSink:
    """
    Inserts whole polls.

    A row's key makes a repeated insert change nothing that is read through the views; the
    deduplication token, made over the exact rows, spares most repeats. Calls block.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known_releases: set[str] = set()

    def insert_ledger(self, batches: Sequence[LedgerBatch]) -> int:
        """Insert decisions, all in one block; give the number of rows."""
        for batch in batches:
            self._remember_features(batch)
        if not batches:
            return 0
        plain = [pa.Table.from_batches([batch.rows]).replace_schema_metadata() for batch in batches]
        return self._insert("decision_ledger", pa.concat_tables(plain).sort_by(_ORIGIN))

    def insert_parked(self, events: Sequence[ParkedEvent]) -> int:
        """Insert parked events; give the number of rows."""
        return self._insert("parked_events", parked_table(events).sort_by(_ORIGIN)) if events else 0

    def insert_alarms(self, alarms: Sequence[bytes]) -> int:
        """Insert alarms, given as the JSON of their topic; give the number of rows."""
        if not alarms:
            return 0
        found = [msgspec.json.decode(alarm, type=_AlarmRow) for alarm in alarms]
        times = {name: pa.timestamp("us", tz="UTC") for name in ("raised_at", "since")}
        table = pa.table(
            {
                name: pa.array([getattr(row, name) for row in found], times.get(name))
                for name in _AlarmRow.__struct_fields__
            }
        )
        return self._insert("drift_alarms", table)

    def _remember_features(self, batch: LedgerBatch) -> None:
        if batch.release in self._known_releases:
            return
        names = pa.array([list(batch.feature_names)], pa.list_(pa.string()))
        self._insert("release_features", pa.table({"release": [batch.release], "names": names}))
        self._known_releases.add(batch.release)

    def _insert(self, table: str, rows: pa.Table) -> int:
        rows = rows.unify_dictionaries().combine_chunks()
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, rows.schema) as writer:
            writer.write_table(rows)
        digest = hashlib.blake2b(stream.getvalue(), digest_size=16)
        self._store.insert(table, rows, digest.hexdigest())
        return int(rows.num_rows)


async def until_accepted(
    insert: Callable[[], int],
    on_retry: Callable[[StoreUnavailable, float], None],
    *,
    first_pause_s: float = _FIRST_PAUSE_S,
    deadline_s: float = _DEADLINE_S,
) -> int:
    """
    Run a blocking insert in a thread until the store takes it; give its number of rows.

    While the store is away, or has not answered within the deadline, it waits, twice as long each
    time up to 15 s, with jitter; every other error goes up. `on_retry` gets the error and the pause
    in seconds. An insert that answers too late may still take effect: the row's key allows for it.
    """
    pause_s = first_pause_s
    while True:
        try:
            return await asyncio.wait_for(asyncio.to_thread(insert), deadline_s)
        except TimeoutError:
            msg = f"no answer within {deadline_s} s"
            away = StoreUnavailable(msg)
        except StoreUnavailable as error:
            away = error
        wait_s = pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        on_retry(away, wait_s)
        await asyncio.sleep(wait_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
