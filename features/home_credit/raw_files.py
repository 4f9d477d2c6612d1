"""The files of the seven tables, read into the engine; what is wrong with them is told by place."""

import codecs
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from features.home_credit.tables import TABLES, RawTable
from features.relational.expression import APPLICATION

ROW, FILE = "_row", "_file"
"""Columns that say where a row stood: its number in its file, from 1, and the file's place."""

_FORMATS = (".csv", ".parquet")
_PARTS = {APPLICATION: ("application_train", "application_test")}
_TRAINING_ONLY = "TARGET"
_BLOCK = 1 << 16
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OTHER_DELIMITERS = ";\t|"
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the tables: where, which rule, how often; `row` counts from 1, as data."""

    file: str
    rule: str
    column: str = ""
    row: int | None = None
    value: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The files of each table, in the order in which their rows are taken."""

    folder: Path
    of_table: Mapping[str, Sequence[Path]]

    @property
    def all(self) -> list[Path]:
        """Every file; a file's place here is its FILE."""
        return [path for table in TABLES for path in self.of_table.get(table, ())]

    @property
    def latest(self) -> datetime:
        """When the newest file was written, in UTC."""
        return datetime.fromtimestamp(max(path.stat().st_mtime for path in self.all), UTC)

    def since(self, moment: datetime) -> set[Path]:
        """Give the files written since a moment."""
        return {path for path in self.all if path.stat().st_mtime >= moment.timestamp()}


def find(folder: Path) -> tuple[RawFiles, list[Fault]]:
    """
    Find each table's files: NAME.csv or NAME.parquet, or a folder NAME of such parts.

    The application table may come as the competition's two files, for training and for test.
    """
    found: dict[str, list[Path]] = {}
    faults = []
    for table in TABLES:
        ways = [_parts(folder, name) for name in ((table,), _PARTS.get(table, ())) if name]
        present = [paths for paths in ways if paths]
        names = [path.stem for paths in present for path in paths]
        if not present:
            faults.append(Fault(f"{table}.csv", f"the table is missing in {folder}"))
        elif len(present) > 1 or len(set(names)) < len(names):
            told = ", ".join(str(path.relative_to(folder)) for paths in present for path in paths)
            faults.append(Fault(table, f"the table stands twice: {told}"))
        else:
            (found[table],) = present
    return RawFiles(folder, found), faults


def _parts(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Give the files of these names, or within folders of these names."""
    found = [folder / f"{name}{suffix}" for name in names for suffix in _FORMATS]
    inner = [part for name in names for part in sorted((folder / name).glob("*"))]
    return [path for path in found + inner if path.is_file() and path.suffix in _FORMATS]


def read(engine: Any, files: RawFiles) -> tuple[dict[str, ir.Table], list[Fault]]:
    """
    Read tables into DuckDB: numbers as float64, texts as they are, ROW and FILE.

    A file that cannot be read gives faults, and its table is left out. What a Parquet file holds is
    read when it is asked for: see `damaged`.
    """
    tables: dict[str, ir.Table] = {}
    faults: list[Fault] = []
    places = {path: place for place, path in enumerate(files.all)}
    for name, paths in files.of_table.items():
        of_table = [fault for path in paths for fault in _load(engine, path, places[path], name)]
        faults += of_table
        if not of_table:
            parts = [engine.table(_view(places[path])) for path in paths]
            tables[name] = ibis.union(*parts) if len(parts) > 1 else parts[0]
    return tables, faults


def _header(path: Path, table: RawTable) -> tuple[list[str], list[Fault]]:
    """Give a file's columns in its order, and what is wrong before its first row."""
    try:
        if path.suffix == ".parquet":
            found = pq.read_schema(path)
            columns, faults = found.names, _types(path, found, table)
        else:
            columns, faults = _csv_header(path)
    except (OSError, pa.ArrowException) as error:
        return [], [_unreadable(path, error)]
    return columns, faults or _names(path, columns, table)


def _csv_header(path: Path) -> tuple[list[str], list[Fault]]:
    with path.open("rb") as file:
        first = file.read(_BLOCK)
        file.seek(max(0, path.stat().st_size - 1))
        last = file.read(1)
    if not first:
        return [], [Fault(path.name, "is empty")]
    if first.startswith(_MARKS) or b"\0" in first:
        rule = "is UTF-8 without a byte order mark, and this is not: save it as plain UTF-8"
        return [], [Fault(path.name, rule, row=0, value=repr(first[:4]))]
    line = first.split(b"\n", 1)[0].rstrip(b"\r")
    try:
        columns = next(csv.reader([line.decode()]), [])
    except UnicodeDecodeError:
        return [], [
            Fault(path.name, "is UTF-8, and its first line is not", row=0, value=repr(line[:20]))
        ]
    other = next((mark for mark in _OTHER_DELIMITERS if mark in line.decode()), None)
    if len(columns) == 1 and other:
        return [], [Fault(path.name, "is separated by commas", row=0, value=repr(other))]
    if last != b"\n":
        return [], [Fault(path.name, "ends in the middle of a line: it was cut off")]
    return columns, []


def _names(path: Path, columns: list[str], table: RawTable) -> list[Fault]:
    expected = set(table)
    if path.stem == "application_test":
        expected.discard(_TRAINING_ONLY)
    optional = {_TRAINING_ONLY} if path.stem == APPLICATION else set()
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    return [
        Fault(path.name, rule, name)
        for rule, names in (
            ("a column is missing", [n for n in table if n in expected - optional - set(columns)]),
            ("is no column of this table", [n for n in columns if n not in expected]),
            ("a column stands twice", repeated),
        )
        for name in names
    ]


def _types(path: Path, found: pa.Schema, table: RawTable) -> list[Fault]:
    faults = []
    for field in found:
        known = table.get(field.name)
        text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if pa.types.is_dictionary(field.type):
            text = pa.types.is_string(field.type.value_type)
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        if known is not None and not (text if known.kind == "text" else number):
            rule = f"holds {'texts' if known.kind == 'text' else 'numbers'}, not {field.type}"
            faults.append(Fault(path.name, rule, field.name))
    return faults


def _load(engine: Any, path: Path, place: int, of: str) -> list[Fault]:
    """Make a file known to the engine, and give what is wrong with it."""
    table = TABLES[of]
    columns, faults = _header(path, table)
    if faults:
        return faults
    types = {name: "VARCHAR" if table[name].kind == "text" else "DOUBLE" for name in columns}
    quoted = str(path).replace("'", "''")
    source, row = f"read_parquet('{quoted}', file_row_number = true)", "file_row_number + 1"
    if path.suffix == ".csv":
        source, row = f"file_{place}", "rowid + 1"
        try:
            engine.raw_sql(f"CREATE TABLE {source} AS SELECT * FROM {_csv(quoted, types)}")
        except duckdb.Error as error:
            return [_unreadable(path, error)]
        if rejected := _rejects(engine, path):
            return rejected
    # The test part of the applications has no TARGET.
    casts = {name: f'CAST("{name}" AS {kind})' for name, kind in types.items()}
    values = ", ".join(f'{casts.get(name, "CAST(NULL AS DOUBLE)")} AS "{name}"' for name in table)
    engine.raw_sql(
        f"CREATE VIEW {_view(place)} AS SELECT {values}, CAST({row} AS BIGINT) AS {ROW}, "
        f"CAST({place} AS BIGINT) AS {FILE} FROM {source}"
    )
    empty = engine.table(_view(place)).count().to_pyarrow().as_py() == 0
    return [Fault(path.name, "holds no row")] if empty else []


def damaged(engine: Any, files: RawFiles) -> list[Fault]:
    """Read all files once more, whole and one by one, and name those that cannot be."""
    faults = []
    for place, path in enumerate(files.all):
        try:
            engine.raw_sql(f"SELECT max(COLUMNS(*)) FROM {_view(place)}").fetchall()
        except duckdb.Error as error:
            faults.append(_unreadable(path, error))
    return faults


def _unreadable(path: Path, error: Exception) -> Fault:
    return Fault(path.name, f"is no readable file: {str(error).splitlines()[0]}")


def _view(place: int) -> str:
    return f"rows_{place}"


def _csv(quoted: str, types: Mapping[str, str]) -> str:
    listed = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    return (
        f"read_csv('{quoted}', columns = {{{listed}}}, auto_detect = false, header = true, "
        "delim = ',', quote = '\"', escape = '\"', nullstr = '', store_rejects = true)"
    )


def _rejects(engine: Any, path: Path) -> list[Fault]:
    """Give what a CSV file's rows were refused for: the first of each kind, and how many."""
    found = engine.raw_sql(
        "SELECT coalesce(column_name, ''), error_type, min(line), count(*), "
        "arg_min(csv_line, line) FROM reject_errors GROUP BY ALL ORDER BY 3"
    ).fetchall()
    engine.raw_sql("TRUNCATE reject_errors")
    engine.raw_sql("TRUNCATE reject_scans")
    rules = {
        "CAST": "is a number",
        "MISSING COLUMNS": "the row has too few columns",
        "TOO MANY COLUMNS": "the row has too many columns",
        "INVALID ENCODING": "is UTF-8",
    }
    return [
        Fault(path.name, rules.get(kind, kind.lower()), column, line - 1, _shown(text), count)
        for column, kind, line, count, text in found
    ]


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
