"""The seven tables where they already are: on an engine that Ibis speaks to, such as ClickHouse."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import ibis
import ibis.expr.types as ir
from ibis.common.exceptions import IbisError

from features.home_credit.raw_files import Fault
from features.home_credit.tables import TABLES, RawTable

_OPTIONAL = "TARGET"


class EngineUnavailable(Exception):
    """No engine answers at an address, or it refuses; says which, without the password."""


def is_address(where: str) -> bool:
    """Whether this names an engine, as clickhouse://user:password@host:8123/database does."""
    return "://" in where


@contextmanager
def tables_at(address: str) -> Iterator[tuple[dict[str, ir.Table], list[Fault]]]:
    """
    Give the tables of an engine's database, under their names: numbers as float64.

    A table that lacks a column, or has one of another kind, gives faults and is left out. Raises
    EngineUnavailable.
    """
    place = urlsplit(address)
    if not place.hostname:
        msg = f"{place.scheme}://…: an engine's address names its host"
        raise EngineUnavailable(msg)
    shown = f"{place.scheme}://{place.hostname}{place.path}"
    try:
        engine = ibis.connect(address)
        names = set(engine.list_tables())
    except ValueError:  # its words hold the address with the password
        msg = f"{shown}: no address of an engine that Ibis knows"
        raise EngineUnavailable(msg) from None
    except Exception as error:
        if not _of_an_engine(error):
            raise
        msg = f"cannot read the tables at {shown}: {str(error).splitlines()[0]}"
        raise EngineUnavailable(msg) from None
    try:
        tables: dict[str, ir.Table] = {}
        faults: list[Fault] = []
        for name, table in TABLES.items():
            if name not in names:
                faults.append(Fault(name, f"the table is missing at {shown}"))
                continue
            relation = engine.table(name)
            wrong = _wrong(relation, table)
            faults += wrong
            if not wrong:
                tables[name] = _as_known(relation, table)
        yield tables, faults
    finally:
        engine.disconnect()


def _of_an_engine(error: Exception) -> bool:
    """Whether an engine's own client raised it: which one, the address alone decides."""
    library = type(error).__module__.split(".")[0]
    # ImportError: Ibis knows the scheme, and its client is not installed.
    return isinstance(error, (IbisError, OSError, ImportError)) or library in {
        "clickhouse_connect",
        "duckdb",
    }


def _wrong(relation: ir.Table, table: RawTable) -> list[Fault]:
    found: dict[str, Any] = dict(relation.schema().items())
    faults = [
        Fault(table.name, "a column is missing", name)
        for name in table
        if name not in found and name != _OPTIONAL
    ]
    for name in table:
        kind = found.get(name)
        if kind is None:
            continue
        text = table[name].kind == "text"
        if not (kind.is_string() if text else kind.is_numeric()):
            rule = f"holds {'texts' if text else 'numbers'}, not {kind}"
            faults.append(Fault(table.name, rule, name))
    return faults


def _as_known(relation: ir.Table, table: RawTable) -> ir.Table:
    nothing = ibis.null("float64")
    return relation.select(
        **{
            name: nothing
            if name not in relation.columns
            else relation[name]
            if table[name].kind == "text"
            else relation[name].cast("float64")
            for name in table
        }
    )
