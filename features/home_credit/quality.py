"""What the seven tables are worth: keys, ranges, categories and missing values, before any use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir

from features.home_credit.raw_files import FILE, ROW, Fault, RawFiles, damaged
from features.home_credit.tables import CRITICAL, TABLES, KnownColumn, Parent, RawTable
from features.relational.expression import APPLICATION

_APPLICANT = "SK_ID_CURR"
_THERE = 0.85
"""So many of the critical columns must be there, each with so much of the reference's values."""
_OTHER_SHARE = 0.2
_SHARES_FROM = 1_000
"""Shares of fewer rows say little."""


@dataclass(slots=True)
class Quality:
    """
    What a check found.

    `faults` forbid a feature table; `notes` are told. `rows` are the tables' sizes, `there` says
    of each critical column whether it is.
    """

    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    there: dict[str, bool] = field(default_factory=dict)


def check(tables: Mapping[str, ir.Table], files: RawFiles | None = None) -> Quality:
    """
    Check the seven tables on their engine.

    With `files`, from which `read` took them, faults name file and row, else the table alone.
    """
    quality = Quality()
    try:
        for name, relation in tables.items():
            _check_table(quality, _Place(TABLES[name], relation, files), tables)
    except duckdb.Error:
        found = damaged(tables[APPLICATION].get_backend(), files) if files else []
        if not found:
            raise
        quality.faults += found
    _check_critical(quality)
    return quality


def _check_table(quality: Quality, here: "_Place", tables: Mapping[str, ir.Table]) -> None:
    table = here.table
    counted = _count(table, here.relation)
    quality.rows[table.name] = rows = counted["rows"]
    for known in table.values():
        quality.faults += _values(here, known, counted)
        quality.notes += _shares(here, known, counted)
        if known.name in CRITICAL.get(table.name, ()):
            present = 1 - counted[f"{known.name} missing"] / max(rows, 1)
            enough = present >= _THERE * (1 - known.missing)
            quality.there[f"{table.name}.{known.name}"] = enough
    quality.faults += _repeated(here)
    quality.faults += _too_many(here)
    for parent in table.parents:
        if parent.table in tables:
            orphans = _orphans(here, parent, tables[parent.table])
            (quality.notes if parent.tolerated else quality.faults).extend(orphans)


def _check_critical(quality: Quality) -> None:
    away = [name for name, there in quality.there.items() if not there]
    rule = f"a critical column has {_THERE:.0%} of the values that the reference has"
    for name in away:
        table, _, column = name.partition(".")
        quality.notes.append(Fault(table, rule, column))
    if quality.there and 1 - len(away) / len(quality.there) < _THERE:
        rule = f"{_THERE:.0%} of the critical columns are there; these are not: {', '.join(away)}"
        quality.faults.append(Fault("all tables", rule, count=len(away)))


@dataclass(frozen=True, slots=True)
class _Place:
    """A table on its engine, and how to say where in it something is."""

    table: RawTable
    relation: ir.Table
    files: RawFiles | None

    def fault(self, broken: ir.BooleanValue, rule: str, column: str, count: int) -> Fault:
        """Tell of rows that break a rule by the first of them."""
        if self.files is None:
            return Fault(self.table.name, rule, column, count=count)
        first = (
            self.relation.filter(broken)
            .order_by(FILE, ROW)
            .limit(1)
            .select(FILE, ROW, value=self.relation[column].cast("string"))
            .to_pyarrow()
            .to_pylist()[0]
        )
        path = self.files.all[first[FILE]]
        return Fault(path.name, rule, column, first[ROW], str(first["value"] or ""), count)


def _broken(known: KnownColumn, column: ir.Column) -> Iterator[tuple[str, str, ir.BooleanValue]]:
    """Give the rules of a column: a short name, in words, and where it is broken."""
    if known.kind == "text":
        return
    least, greatest = known.column.bounds
    # What is no number is neither between the two nor not: it is told as beyond.
    inside = (column >= least) & (column <= greatest) & ~column.isnan()
    yield "range", f"is between {least:,g} and {greatest:,g}", column.notnull() & ~inside
    if known.whole:
        yield "whole", "is a whole number", inside & (column % 1 != 0)
    if known.kind == "key":
        yield "key", "a key is there", column.isnull()


def _count(table: RawTable, relation: ir.Table) -> dict[str, int]:
    counts: dict[str, Any] = {"rows": relation.count()}
    for known in table.values():
        column = relation[known.name]
        counts[f"{known.name} missing"] = column.isnull().sum()
        for name, _, broken in _broken(known, column):
            counts[f"{known.name} {name}"] = broken.sum()
        if known.kind == "text":
            other = column.notnull() & column.notin(list(known.column.categories or ()))
            counts[f"{known.name} other"] = other.sum()
    (counted,) = relation.aggregate(**counts).to_pyarrow().to_pylist()
    return {name: int(count or 0) for name, count in counted.items()}


def _values(here: _Place, known: KnownColumn, counted: Mapping[str, int]) -> Iterator[Fault]:
    for name, rule, broken in _broken(known, here.relation[known.name]):
        if count := counted[f"{known.name} {name}"]:
            yield here.fault(broken, rule, known.name, count)


def _shares(here: _Place, known: KnownColumn, counted: Mapping[str, int]) -> Iterator[Fault]:
    rows, name = counted["rows"], known.name
    if name == "TARGET" or rows < _SHARES_FROM:
        return
    missing = counted[f"{name} missing"] / rows
    if abs(missing - known.missing) > _OTHER_SHARE:
        rule = f"{missing:.0%} of the rows have no value; in the reference {known.missing:.0%}"
        yield Fault(here.table.name, rule, name, count=counted[f"{name} missing"])
    if other := counted.get(f"{name} other", 0):
        column = here.relation[name]
        unknown = column.notnull() & column.notin(list(known.column.categories or ()))
        yield here.fault(unknown, "is a category of the reference, or counts as none", name, other)


def _repeated(here: _Place) -> Iterator[Fault]:
    unique = here.table.unique
    if not unique:
        return
    relation = here.relation
    several = relation.group_by(unique).aggregate(times=relation.count()).filter(ibis._.times > 1)
    (found,) = several.aggregate(keys=several.count()).to_pyarrow().to_pylist()
    if found["keys"]:
        first = several.order_by(*unique).limit(1).to_pyarrow().to_pylist()[0]
        same = [relation[name] == first[name] for name in unique]
        broken = same[0] if len(same) == 1 else same[0] & same[1]
        rule = f"{' and '.join(unique)} stand together once"
        yield here.fault(broken, rule, unique[0], found["keys"])


def _too_many(here: _Place) -> Iterator[Fault]:
    if _APPLICANT not in here.table or here.table.name == APPLICATION:
        return
    relation, most = here.relation, here.table.most
    rows = relation.group_by(_APPLICANT).aggregate(rows=relation.count())
    (found,) = rows.filter(rows.rows > most).limit(1).to_pyarrow().to_pylist() or [None]
    if found:
        broken = relation[_APPLICANT] == found[_APPLICANT]
        yield here.fault(
            broken, f"an applicant has at most {most:,} rows", _APPLICANT, found["rows"]
        )


def _orphans(here: _Place, parent: Parent, of: ir.Table) -> Iterator[Fault]:
    key, rule = parent.key, f"{parent.key} stands in {parent.table}"
    without = here.relation.anti_join(of, key)
    count = int(without.count().to_pyarrow().as_py())
    if count and here.files is None:
        yield Fault(here.table.name, rule, key, count=count)
    elif count:
        first = without.order_by(FILE, ROW).limit(1).to_pyarrow().to_pylist()[0]
        broken = (here.relation[FILE] == first[FILE]) & (here.relation[ROW] == first[ROW])
        yield here.fault(broken, rule, key, count)
