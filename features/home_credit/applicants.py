"""The seven tables by applicant: each one's rows as an event's attributes hold them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.home_credit.build import Raw
from features.home_credit.definition import KEY
from features.home_credit.raw_files import FILE, ROW
from features.home_credit.tables import TABLES, RawTable
from features.relational.expression import APPLICATION

CHUNK = 500
"""Applicants that are read at once: some five megabytes."""
_BUREAU_KEY = "SK_ID_BUREAU"
_NO_ATTRIBUTES = {KEY, "TARGET"}


def attributes_of(raw: Raw, keys: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    Give the attributes of those of the applicants who have an application, ascending by key.

    They are ready for JSON: numbers, texts, None; rows stand in file order, and who has none in a
    table has an empty list there. The tables must have passed their check.
    """
    for table in nested(raw, keys):
        for attributes in table.to_pylist():
            yield attributes.pop(KEY), attributes


def nested(raw: Raw, keys: Iterable[int]) -> Iterator[pa.Table]:
    """
    Give what `attributes_of` does as Arrow tables of at most CHUNK applicants.

    Beside KEY there is a column for each of the seven tables: the application a struct, the others
    lists of structs.
    """
    wanted = np.unique(np.fromiter(keys, np.int64))
    with ExitStack() as stack:
        rows = {name: stack.enter_context(_sorted(raw, name, wanted)) for name in TABLES}
        there = rows[APPLICATION].select(KEY).order_by(KEY).to_pyarrow()[KEY].to_numpy()
        for start in range(0, len(there), CHUNK):
            yield _chunk(rows, there[start : start + CHUNK])


@contextmanager
def _sorted(raw: Raw, name: str, wanted: NDArray[np.int64]) -> Iterator[ir.Table]:
    """Give the applicants' rows so that a chunk's lie together, and the engine skips all others."""
    engine = raw.tables[name].get_backend()
    rows = _rows(raw, name, wanted).order_by(KEY, FILE, ROW)
    made = ibis.util.gen_name("by_applicant")
    try:
        yield engine.create_table(made, rows, temp=True)
    finally:
        # Ibis' own `drop_table` leaves the name out.
        engine.raw_sql(f"DROP TABLE IF EXISTS {made}")


def _rows(raw: Raw, name: str, wanted: NDArray[np.int64]) -> ir.Table:
    """Give the applicants' rows of a table, each with its applicant's key."""
    rows = raw.tables[name]
    if KEY not in TABLES[name]:
        bureau = raw.tables["bureau"].select(KEY, _BUREAU_KEY)
        rows = rows.inner_join(bureau, _BUREAU_KEY)
    chosen = ibis.memtable(pa.table({KEY: wanted.astype(np.float64)}))
    return rows.semi_join(chosen, KEY)


def _chunk(rows: dict[str, ir.Table], of_chunk: NDArray[np.float64]) -> pa.Table:
    first, last = float(of_chunk[0]), float(of_chunk[-1])
    found = {
        name: of.filter(of[KEY].between(first, last)).order_by(KEY, FILE, ROW).to_pyarrow()
        for name, of in rows.items()
    }
    keys = of_chunk.astype(np.int64)
    columns: dict[str, pa.Array] = {KEY: pa.array(keys)}
    for name, table in found.items():
        structs = _structs(TABLES[name], table)
        columns[name] = structs if name == APPLICATION else _lists(structs, table[KEY], keys)
    return pa.table(columns)


def _structs(known: RawTable, table: pa.Table) -> pa.StructArray:
    names = [name for name in known if name not in _NO_ATTRIBUTES]
    columns = [table[name].combine_chunks() for name in names]
    return pa.StructArray.from_arrays(
        [
            pc.cast(column, pa.int64()) if known[name].whole else column
            for name, column in zip(names, columns, strict=True)
        ],
        names,
    )


def _lists(structs: pa.StructArray, of: pa.ChunkedArray, keys: NDArray[np.int64]) -> pa.ListArray:
    """Part rows, which are sorted by applicant, into a list for each of the keys."""
    ends = np.searchsorted(of.to_numpy(), [*keys.tolist(), np.inf])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs)
