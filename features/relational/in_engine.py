"""Expressions as a query: the features of all applicants, on whatever engine Ibis speaks to."""

from collections.abc import Iterable, Mapping
from functools import reduce, singledispatch
from operator import add
from typing import Any

import ibis
import ibis.expr.types as ir

from features.relational.expression import (
    APPLICATION,
    Above,
    Across,
    Aggregate,
    Column,
    Difference,
    Equals,
    Expression,
    Plus,
    Quotient,
    Unless,
    walk,
)


def query(
    expressions: Mapping[str, Expression], tables: Mapping[str, ir.Table], key: str
) -> ir.Table:
    """
    Ask for expressions by name: a row for each of the application table, with its `key`.

    `tables` are the application table, one row an applicant, and the history tables, each with
    `key`; their columns are float64 or text. Each expression is a float64 column, null where
    missing, in no order of rows; it has the bits that InMemory computes.
    """
    aggregates = _aggregates(expressions.values())
    names = {aggregate: f"aggregate_{at}" for at, aggregate in enumerate(aggregates)}
    joined = tables[APPLICATION]
    for table in dict.fromkeys(aggregate.value.table for aggregate in aggregates):
        of_table = {a: name for a, name in names.items() if a.value.table == table}
        grouped = _grouped(of_table, tables[table], key)
        joined = joined.left_join(grouped, key).drop(f"{key}_right")
    features = {name: _value(e, joined, names) for name, e in expressions.items()}
    return joined.select(joined[key], **features)


def _aggregates(expressions: Iterable[Expression]) -> list[Aggregate]:
    found = (part for expression in expressions for part in walk(expression))
    return list(dict.fromkeys(part for part in found if isinstance(part, Aggregate)))


def _grouped(names: Mapping[Aggregate, str], table: ir.Table, key: str) -> ir.Table:
    """Give a row for each applicant with rows in a history table."""
    values = list(dict.fromkeys(aggregate.value for aggregate in names))
    places = {value: f"value_{at}" for at, value in enumerate(values)}
    rows = table.select(
        table[key], **{place: _value(value, table, {}) for value, place in places.items()}
    )
    several = {a: name for a, name in names.items() if a.how != "nunique"}
    grouped = rows.group_by(key).aggregate(
        **{name: _aggregated(a, rows[places[a.value]]) for a, name in several.items()}
    )
    for aggregate, name in names.items():
        if aggregate.how == "nunique":
            # Engines' own distinct counts may be estimates.
            place = places[aggregate.value]
            different = rows.select(key, place).distinct()
            counted = different.group_by(key).aggregate(
                **{name: different[place].count().cast("float64")}
            )
            grouped = grouped.left_join(counted, key).drop(f"{key}_right")
    return grouped


def _aggregated(aggregate: Aggregate, value: ir.NumericColumn) -> ir.NumericScalar:
    count = value.count().cast("float64")
    match aggregate.how:
        case "min":
            return value.min()
        case "max":
            return value.max()
        case "count":
            return count
    unit = 10.0**aggregate.decimals
    total = (value * unit + 0.5).floor().cast("int64").sum().cast("float64")
    return total / unit if aggregate.how == "sum" else total / (count * unit).nullif(0.0)


def _value(
    expression: Expression, table: ir.Table, aggregates: Mapping[Aggregate, str]
) -> ir.NumericColumn:
    if isinstance(expression, Aggregate):
        return table[aggregates[expression]]
    given = [_value(inner, table, aggregates) for inner in expression.inner]
    return _of_row(expression, table, given)


@singledispatch
def _of_row(expression: Expression, table: ir.Table, given: list[ir.NumericColumn]) -> Any:
    """Ask for an expression over the values of its inner ones."""
    raise NotImplementedError(type(expression), table, given)


@_of_row.register
def _(column: Column, table: ir.Table, _: list[ir.NumericColumn]) -> Any:
    return table[column.name]


@_of_row.register
def _(unless: Unless, _: ir.Table, given: list[ir.NumericColumn]) -> Any:
    return given[0].nullif(unless.marker)


@_of_row.register
def _(equals: Equals, _: ir.Table, given: list[ir.NumericColumn]) -> Any:
    return (given[0] == equals.category).fill_null(False).cast("float64")


@_of_row.register
def _(above: Above, _: ir.Table, given: list[ir.NumericColumn]) -> Any:
    return (given[0] > above.bound).cast("float64")


@_of_row.register
def _(plus: Plus, _: ir.Table, given: list[ir.NumericColumn]) -> Any:
    return given[0] + plus.constant


@_of_row.register
def _(_: Difference, _table: ir.Table, given: list[ir.NumericColumn]) -> Any:
    return given[0] - given[1]


@_of_row.register
def _(_: Quotient, _table: ir.Table, given: list[ir.NumericColumn]) -> Any:
    return given[0] / given[1].nullif(0.0)


@_of_row.register
def _(across: Across, _: ir.Table, given: list[ir.NumericColumn]) -> Any:
    nothing = ibis.null("float64")
    count = reduce(add, [one.notnull().cast("float64") for one in given])
    if across.how in {"min", "max"}:
        best = ibis.least if across.how == "min" else ibis.greatest
        # Engines differ in what least and greatest make of a null.
        beyond = float("inf") if across.how == "min" else float("-inf")
        return ibis.ifelse(count > 0, best(*(one.fill_null(beyond) for one in given)), nothing)
    total = reduce(add, [one.fill_null(0.0) for one in given])
    return (
        ibis.ifelse(count > 0, total, nothing) if across.how == "sum" else total / count.nullif(0.0)
    )
