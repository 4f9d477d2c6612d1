"""The simulated ClickHouse: tables that replace by key, and forget tokens after a while."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from sinks.store import ArrowRows, StoreRefused, StoreUnavailable
from tests.simulation.world import World

_WINDOW = 6
"""So many blocks a table remembers; the product's has 10,000."""

_KEYS = {
    "decision_ledger": ("application_id", "decision_id"),
    "parked_events": ("origin_topic", "origin_partition", "origin_offset"),
    "release_features": ("release",),
}
LEDGER_COLUMNS = [
    "application_id",
    "decision_id",
    "decided_at",
    "outcome",
    "default_probability",
    "release",
    "origin_topic",
    "origin_partition",
    "origin_offset",
]
"""Those of the ledger that are compared."""

_EARLIEST = {
    "decision_ledger": ("decided_at", "origin_offset"),
    "parked_events": ("parked_at",),
    "release_features": (),
}


@dataclass(slots=True)
class StoreWeather:
    """How ClickHouse is at present; shares are of inserts."""

    away: bool = False
    refuses: bool = False
    lost_before: float = 0.0
    lost_after: float = 0.0
    late: float = 0.0


@dataclass(slots=True)
class _Table:
    blocks: list[pa.Table] = field(default_factory=list)
    tokens: "deque[str]" = field(default_factory=lambda: deque(maxlen=_WINDOW))


class SimulatedStore:
    """
    A store, as the product's sink knows one.

    `rows` gives what the views show: of the rows of one key the first, by the table's version.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.weather = StoreWeather()
        self._tables = {name: _Table() for name in _KEYS}

    def insert(self, table: str, rows: ArrowRows) -> None:
        """Insert a block, or fail before or after that as the weather has it."""
        weather, random = self.weather, self._world.random
        if weather.refuses:
            raise StoreRefused(60, table)
        if weather.away or random.random() < weather.lost_before:
            raise StoreUnavailable(table)
        if random.random() < weather.late:
            self._world.loop.later(random.uniform(1.0, 60.0), self._take, table, rows)
            raise StoreUnavailable(table)
        self._take(table, rows)
        if random.random() < weather.lost_after:
            raise StoreUnavailable(table)

    def query(self, sql: str) -> pa.Table:
        """Answer nothing: no sink asks."""
        raise NotImplementedError(sql)

    def command(self, sql: str) -> None:
        """Do nothing: no sink commands."""
        raise NotImplementedError(sql)

    def close(self) -> None:
        """Nothing is held."""

    def rows(self, table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Give a table's rows by key, each once."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        version = _version(table)
        for block in self._tables[table].blocks:
            shown = block.select(LEDGER_COLUMNS) if table == "decision_ledger" else block
            for row in shown.to_pylist():
                key = tuple(row[name] for name in _KEYS[table])
                if key not in found or version(row) < version(found[key]):
                    found[key] = row
        return found

    def _take(self, table: str, inserted: ArrowRows) -> None:
        taken = self._tables[table]
        rows, token = inserted.table(), inserted.token
        if token in taken.tokens:
            self._world.note(f"{table} knows {token[:8]}: {len(rows)} rows are left out")
            return
        taken.tokens.append(token)
        taken.blocks.append(rows)
        self._world.note(f"{table} takes {len(rows)} rows as {token[:8]}")


def _version(table: str) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    names = _EARLIEST[table]
    return lambda row: tuple(row[name] for name in names)
