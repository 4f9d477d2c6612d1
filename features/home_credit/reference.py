"""What the competition's seven tables look like: columns in file order, with their statistics.

The statistics come from samples of the tables; no row of the data is here. A category too rare for
the samples is missing from them, and the extremes of a column are those of its sample. Types are
those of the competition's files, where five columns of whole numbers are float64 (`-1180.0`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

Kind = Literal["int64", "float64", "string"]


@dataclass(frozen=True, slots=True)
class ColumnReference:
    """One column; a whole number with missing values is float64, as in the competition's files."""

    name: str
    kind: Kind
    missing: float
    """Share of rows without a value, 0 to 1."""
    quantiles: Mapping[float, float]
    """Value by share of the present values below it, from 0.0 to 1.0; empty for keys, strings."""
    categories: Mapping[str, float]
    """Share of the present values by value; also of numbers with few values, written as "0"."""


@dataclass(frozen=True, slots=True)
class TableReference:
    """One table: its rows in the competition, and its columns in file order."""

    name: str
    rows: int
    columns: tuple[ColumnReference, ...]

    def __getitem__(self, name: str) -> ColumnReference:
        """Find a column by name; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@cache
def reference() -> Mapping[str, TableReference]:
    """
    Read the tables by name; `application` is both application files, with TARGET.

    >>> reference()["bureau_balance"].rows
    27299925
    """
    text = files(__package__).joinpath("reference.json").read_text()
    tables: dict[str, TableReference] = {}
    for table, content in json.loads(text)["tables"].items():
        columns = tuple(
            ColumnReference(
                name,
                entry["kind"],
                entry["missing"],
                MappingProxyType(
                    {float(q): float(v) for q, v in entry.get("quantiles", {}).items()}
                ),
                MappingProxyType(entry.get("categories", {})),
            )
            for name, entry in content["columns"].items()
        )
        tables[table] = TableReference(table, content["rows"], columns)
    return MappingProxyType(tables)
