"""What ClickHouse has of applications, by where they stood: sums, and rows where sums differ."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from sinks.checksum import DECISION_HASH_SQL, PARKED_HASH_SQL
from stream.asking.questions import Asked
from stream.reconcile.accounts import BLOCK, HOUR_MS, Stored, Sum

# Offsets that one query looks at: within the limits that readers have, of time and of memory.
_OFFSETS = 250_000
_BLOCKS = 20
_KEYS = 200


class Table(NamedTuple):
    """A table of what became of applications: SQL of a row's hash, id and key, and which rows."""

    name: str
    hashed: str
    identity: str
    key: str
    which: str = "true"


LEDGER = Table(
    "decision_ledger", DECISION_HASH_SQL, "lower(hex(decision_id))", "application_id, decision_id"
)
PARKED = Table("parked_events", PARKED_HASH_SQL, "''", "origin_topic", "stage != 'sink'")

# Not FINAL, which would read the whole table: of what stood at one place, the versions that win.
# What another place's version hides is still there until ClickHouse merges it away.
_ROWS = """
SELECT origin_partition AS partition, origin_offset AS at,
    intDiv(toUnixTimestamp64Milli(argMax(produced_at, earliest)), {hour_ms}) AS hour,
    argMax({hashed}, earliest) AS hash, {identity} AS identity
FROM {table}
WHERE origin_topic = '{topic}' AND {which} AND ({spans})
GROUP BY partition, at, {key}"""
_BY_HOUR = """
SELECT partition, hour, count() AS rows, countIf(at < must) AS compared,
    sumIf(hash, at < must) AS checksum
FROM (SELECT *, transform(partition, {numbers}, {limits}, toInt64(0)) AS must FROM ({rows}))
GROUP BY partition, hour"""
_BY_BLOCK = """
SELECT intDiv(at, {block}) AS block, count() AS rows, sum(hash) AS checksum FROM ({rows})
GROUP BY block"""
_KEYED = """
SELECT application_id, lower(hex(decision_id)) AS identity,
    argMax(origin_partition, earliest) AS partition, argMax(origin_offset, earliest) AS at,
    toUnixTimestamp64Micro(argMax(decided_at, earliest)) AS decided_us
FROM decision_ledger
WHERE origin_topic = '{topic}'
    AND application_id IN ({applications}) AND decision_id IN ({identities})
GROUP BY application_id, identity"""


class Place(NamedTuple):
    """Offsets of a partition from one to before another, and before which ClickHouse has all."""

    partition: int
    begin: int
    end: int
    limit: int


class HourOf(NamedTuple):
    """An hour of a partition."""

    partition: int
    hour: int


class Row(NamedTuple):
    """A row of ClickHouse's; `hash` is the sum where several say that they are of one place."""

    hash: int
    identity: str


class Shown(NamedTuple):
    """The row that is shown of a key: when it was made, in microseconds, and of which place."""

    decided_us: int
    partition: int
    offset: int


class StoreRows:
    """Asks ClickHouse what it has of a topic of applications. Calls block."""

    def __init__(self, asked: Asked, topic: str) -> None:
        self._asked = asked
        self._topic = topic

    def by_hour(
        self, table: Table, places: Sequence[Place]
    ) -> tuple[dict[HourOf, int], dict[HourOf, Sum]]:
        """Count the rows of each hour, and sum up those that ClickHouse must have."""
        counts: dict[HourOf, int] = {}
        sums: dict[HourOf, Sum] = {}
        for several in _grouped(places):
            numbers = sorted({place.partition for place in several})
            limits = {place.partition: place.limit for place in several}
            sql = _BY_HOUR.format(
                rows=self._rows(table, several),
                numbers=f"[{', '.join(f'toInt32({number})' for number in numbers)}]",
                limits=f"[{', '.join(f'toInt64({limits[number]})' for number in numbers)}]",
            )
            for row in self._asked.query(sql).to_pylist():
                at = HourOf(row["partition"], row["hour"])
                counts[at] = counts.get(at, 0) + row["rows"]
                if row["compared"]:
                    before = sums.get(at, Sum(0, 0))
                    total = (before.checksum + row["checksum"]) % 2**64
                    sums[at] = Sum(before.rows + row["compared"], total)
        return counts, sums

    def compare(self, table: Table, place: Place, stored: Stored) -> dict[int, str]:
        """Find the rows that differ, and note them; give the ids of those that only it has."""
        place = place._replace(end=min(place.end, place.limit))
        found: dict[int, Sum] = {}
        for several in _grouped([place]):
            sql = _BY_BLOCK.format(rows=self._rows(table, several), block=BLOCK)
            for row in self._asked.query(sql).to_pylist():
                # A block may lie across two queries.
                before = found.get(row["block"], Sum(0, 0))
                total = (before.checksum + row["checksum"]) % 2**64
                found[row["block"]] = Sum(before.rows + row["rows"], total)
        differing = stored.differing_blocks(found)
        for block in differing:
            if block not in found:
                stored.compare(block, {})
        asked = [block for block in differing if block in found]
        only: dict[int, str] = {}
        for start in range(0, len(asked), _BLOCKS):
            for block, rows in self._blocks(table, place, asked[start : start + _BLOCKS]):
                missing = stored.compare(block, {at: row.hash for at, row in rows.items()})
                only |= {at: rows[at].identity for at in missing}
        return only

    def shown(self, keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], Shown]:
        """Give the rows that are shown, where there are any, of application and decision id."""
        found: dict[tuple[int, str], Shown] = {}
        several = list(keys)
        for start in range(0, len(several), _KEYS):
            some = several[start : start + _KEYS]
            sql = _KEYED.format(
                topic=self._topic,
                applications=", ".join(str(application) for application, _ in some),
                identities=", ".join(f"toFixedString(unhex('{key}'), 16)" for _, key in some),
            )
            for row in self._asked.query(sql).to_pylist():
                key = (row["application_id"], row["identity"])
                found[key] = Shown(row["decided_us"], row["partition"], row["at"])
        return found

    def _blocks(
        self, table: Table, place: Place, blocks: Sequence[int]
    ) -> Iterator[tuple[int, dict[int, Row]]]:
        places = [
            place._replace(
                begin=max(place.begin, block * BLOCK), end=min(place.end, (block + 1) * BLOCK)
            )
            for block in blocks
        ]
        rows: dict[int, dict[int, Row]] = {block: {} for block in blocks}
        for row in self._asked.query(self._rows(table, places)).to_pylist():
            of_block = rows[row["at"] // BLOCK]
            before = of_block.get(row["at"], Row(0, ""))
            total = (before.hash + row["hash"]) % 2**64
            of_block[row["at"]] = Row(total, row["identity"])
        yield from rows.items()

    def _rows(self, table: Table, places: Iterable[Place]) -> str:
        spans = " OR ".join(
            f"(origin_partition = {place.partition} AND origin_offset >= {place.begin} "
            f"AND origin_offset < {place.end})"
            for place in places
        )
        return _ROWS.format(
            hour_ms=HOUR_MS,
            hashed=table.hashed,
            identity=table.identity,
            key=table.key,
            which=table.which,
            table=table.name,
            topic=self._topic,
            spans=spans,
        )


def _grouped(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Part places into groups that one query may look at."""
    group: list[Place] = []
    size = 0
    for place in places:
        for begin in range(place.begin, place.end, _OFFSETS):
            part = place._replace(begin=begin, end=min(place.end, begin + _OFFSETS))
            if group and size + part.end - part.begin > _OFFSETS:
                yield group
                group, size = [], 0
            group.append(part)
            size += part.end - part.begin
    if group:
        yield group
