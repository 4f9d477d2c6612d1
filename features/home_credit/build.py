"""From the seven tables to the feature table."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import ibis
import ibis.expr.types as ir
import numpy as np
from numpy.typing import NDArray

from features.home_credit.definition import EXPRESSIONS, KEY, SCHEMA
from features.home_credit.quality import Quality, check
from features.home_credit.raw_engine import is_address, tables_at
from features.home_credit.raw_files import FILE, Fault, RawFiles, find, read
from features.home_credit.tables import TABLES
from features.relational.expression import APPLICATION
from features.relational.in_engine import query
from features.relational.in_memory import finished
from features.snapshot import check_name, load_snapshot, write_snapshot


class TablesRefused(Exception):
    """The tables make no feature table; `faults` say why, file by file."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(
            f"{len(faults)} faults in the tables, first: {faults[0].file}: {faults[0].rule}"
        )
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Built:
    """A feature table that was written: its rows, and how many of them were computed anew."""

    rows: int
    computed: int
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Raw:
    """The seven tables on an engine, with where they came from."""

    tables: Mapping[str, ir.Table]
    files: RawFiles


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Raw | None, list[Fault]]]:
    """Read a folder's tables into an engine that lives as long; None where files are faulty."""
    with TemporaryDirectory(prefix="creditstream-") as scratch:
        engine = ibis.duckdb.connect(Path(scratch) / "raw.duckdb")
        try:
            engine.raw_sql(f"SET temp_directory = '{scratch}'")
            files, faults = find(folder)
            tables, unreadable = read(engine, files)
            faults += unreadable
            yield (None if faults else Raw(tables, files)), faults
        finally:
            engine.disconnect()


@contextmanager
def _source(
    where: str | Path,
) -> Iterator[tuple[Mapping[str, ir.Table], RawFiles | None, list[Fault]]]:
    """Give the tables of a folder, with its files, or those at an engine's address."""
    if is_address(str(where)):
        with tables_at(str(where)) as (tables, faults):
            yield tables, None, faults
    else:
        with opened(Path(where)) as (raw, faults):
            yield (raw.tables, raw.files, faults) if raw else ({}, None, faults)


def checked(where: str | Path) -> Quality:
    """Check the tables of a folder, or at an engine's address; raises EngineUnavailable."""
    with _source(where) as (tables, files, faults):
        return Quality(faults=faults) if faults else check(tables, files)


def build(
    where: str | Path,
    out: Path,
    *,
    as_of: datetime | None = None,
    changed_since: datetime | None = None,
    said: Callable[[str], None],
    checked: Callable[[Quality], None],
) -> Built:
    """
    Check tables and write their feature table, whole or not at all.

    They are a folder's, or at the address of an engine, which then computes: for tables that
    outgrow this machine. `as_of` is by default when a folder's newest file was written. With
    `changed_since`, an applicant with no row in a file written since then keeps the row that `out`
    has; the file's bytes are those of a full build. `checked` is told what the check found.
    Raises TablesRefused, SnapshotRefused, TableInvalid, EngineUnavailable.
    """
    if is_address(str(where)) and (as_of is None or changed_since is not None):
        rule = "tells neither a date nor what is new: give --as-of, and no --changed-since"
        raise TablesRefused([Fault("an engine", rule)])
    check_name(out)
    said("reading")
    with _source(where) as (tables, files, faults):
        if files and out.resolve() in {path.resolve() for path in files.all}:
            rule = "is one of the tables, and may not become their features"
            raise TablesRefused([Fault(out.name, rule)])
        if faults:
            checked(Quality(faults=faults))
            raise TablesRefused(faults)
        said("checking")
        quality = check(tables, files)
        checked(quality)
        if quality.faults:
            raise TablesRefused(quality.faults)
        said("computing")
        if changed_since is None or files is None:
            keys, matrix = computed(tables)
            anew = len(keys)
        else:
            keys, matrix, anew = _refreshed(Raw(tables, files), out, changed_since)
        as_of = as_of or (files.latest if files else None)
        assert as_of is not None
        said("writing")
        write_snapshot(out, KEY, keys, matrix, SCHEMA, as_of)
    return Built(len(keys), anew, as_of)


def computed(tables: Mapping[str, ir.Table]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Compute all applicants' features: keys int64[n], ascending, and float32[n, features]."""
    found = query(EXPRESSIONS, tables, KEY).order_by(KEY).to_pyarrow()
    keys = found[KEY].to_numpy().astype(np.int64)
    return keys, finished([found[name].to_numpy() for name in SCHEMA.names])


def _refreshed(
    raw: Raw, before: Path, since: datetime
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Compute what is new, and take the rest from the table before."""
    old = load_snapshot(before, SCHEMA)
    newer = raw.files.since(since)
    places = [place for place, path in enumerate(raw.files.all) if path in newer]
    touched: list[ir.Table] = []
    for name, relation in raw.tables.items():
        if KEY in TABLES[name]:
            touched.append(relation.filter(relation[FILE].isin(places)).select(KEY).distinct())
    changed = ibis.union(*touched, distinct=True)
    only = {
        name: relation.semi_join(changed, KEY) if KEY in TABLES[name] else relation
        for name, relation in raw.tables.items()
    }
    everyone = raw.tables[APPLICATION].select(KEY).order_by(KEY).to_pyarrow()[KEY]
    keys = everyone.to_numpy().astype(np.int64)
    new_keys, new_rows = computed(only)
    matrix = np.empty((len(keys), len(SCHEMA.names)), dtype=np.float32)
    fresh = np.isin(keys, new_keys, assume_unique=True)
    kept = old.rows(keys[~fresh])
    if (kept < 0).any():
        # Of an applicant whom the old table lacks nothing is known to be unchanged.
        lacking = keys[~fresh][kept < 0]
        rule = f"lacks applicant {lacking[0]}: build it whole"
        raise TablesRefused([Fault(str(before), rule, KEY)])
    matrix[fresh] = new_rows
    matrix[~fresh] = old.matrix[kept]
    return keys, matrix, len(new_keys)
