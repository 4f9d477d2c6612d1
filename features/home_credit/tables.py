"""The seven tables of Home Credit as they must come: columns, allowed values, keys."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from features.definition import Attribute
from features.home_credit.reference import reference
from features.relational.expression import APPLICATION, Column, Expression, walk

Kind = Literal["key", "integer", "number", "text"]

_LARGEST_KEY = 2**53  # as a float64 still exact
_MONEY = 1e9

_BOUNDS: tuple[tuple[str, str, tuple[float, float]], ...] = (
    # Table, column, least and greatest value: beyond what the competition's files hold, within
    # what such a value can be. The first line that fits is the column's.
    ("installments_payments", "AMT_", (0, 1e7)),
    ("bureau", "AMT_", (-_MONEY, _MONEY)),
    ("credit_card_balance", "AMT_", (-_MONEY, _MONEY)),
    ("previous_application", "AMT_DOWN_PAYMENT", (-_MONEY, _MONEY)),
    ("bureau", "DAYS_CREDIT_ENDDATE", (-50_000, 50_000)),
    ("bureau", "DAYS_CREDIT_UPDATE", (-50_000, 1_000)),
    ("previous_application", "DAYS_(FIRST|LAST|TERMINATION)", (-50_000, 365_243)),
    ("application", "DAYS_BIRTH", (-45_000, -5_000)),
    ("application", "DAYS_EMPLOYED", (-50_000, 365_243)),
    (".*", "DAYS_", (-50_000, 0)),
    (".*", "MONTHS_BALANCE", (-1_200, 0)),
    (".*", "AMT_REQ_|CNT_|NUM_|SK_DPD|OBS_|DEF_|CREDIT_DAY_OVERDUE", (0, 100_000)),
    (".*", "AMT_", (0, _MONEY)),
    (".*", "N?FLAG_|REG_|LIVE_|TARGET", (0, 1)),
    (".*", "HOUR_", (0, 23)),
    (".*", "OWN_CAR_AGE", (0, 150)),
    (".*", "REGION_RATING_", (-1, 3)),
    (".*", "RATE_", (-1, 100)),
    (".*", "SELLERPLACE_AREA", (-1, 1e9)),
    (".*", "REGION_POPULATION_RELATIVE|EXT_SOURCE_|.*_(AVG|MODE|MEDI)$", (0, 1)),
)


@dataclass(frozen=True, slots=True)
class KnownColumn:
    """
    A column of a raw table.

    `missing` is the share without a value in the competition's files; `whole` says that its numbers
    have no fraction.
    """

    column: Column
    kind: Kind
    missing: float

    @property
    def name(self) -> str:
        """Its name."""
        return self.column.name

    @property
    def whole(self) -> bool:
        """Whether its numbers have no fraction."""
        return self.kind in {"key", "integer"}


@dataclass(frozen=True, slots=True)
class Parent:
    """
    The table whose `key` a table's column of that name repeats.

    Where the competition's own files hold rows whose parent is missing, that is `tolerated`: told,
    and no fault.
    """

    table: str
    key: str
    tolerated: bool = False


@dataclass(frozen=True, slots=True)
class RawTable(Mapping[str, KnownColumn]):
    """
    A raw table: its columns by name in file order.

    `unique` are the columns that together stand once; `most` is how many rows an applicant has at
    most. `rows` is how many the competition's files hold.
    """

    name: str
    columns: Mapping[str, KnownColumn]
    unique: tuple[str, ...]
    parents: tuple[Parent, ...]
    most: int
    rows: int

    def __getitem__(self, name: str) -> KnownColumn:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


_APPLICANT = Parent(APPLICATION, "SK_ID_CURR")
_CREDIT = Parent("previous_application", "SK_ID_PREV", tolerated=True)
_SHAPES: Mapping[str, tuple[tuple[str, ...], tuple[Parent, ...], int]] = {
    APPLICATION: (("SK_ID_CURR",), (), 1),
    "bureau": (("SK_ID_BUREAU",), (_APPLICANT,), 2_000),
    "bureau_balance": (
        ("SK_ID_BUREAU", "MONTHS_BALANCE"),
        (Parent("bureau", "SK_ID_BUREAU", tolerated=True),),
        20_000,
    ),
    "previous_application": (("SK_ID_PREV",), (_APPLICANT,), 2_000),
    "POS_CASH_balance": (("SK_ID_PREV", "MONTHS_BALANCE"), (_APPLICANT, _CREDIT), 2_000),
    "installments_payments": ((), (_APPLICANT, _CREDIT), 2_000),
    "credit_card_balance": (("SK_ID_PREV", "MONTHS_BALANCE"), (_APPLICANT, _CREDIT), 2_000),
}

CRITICAL: Mapping[str, tuple[str, ...]] = {
    APPLICATION: (
        "SK_ID_CURR", "AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY", "AMT_GOODS_PRICE",
        "DAYS_BIRTH", "DAYS_EMPLOYED", "DAYS_ID_PUBLISH", "DAYS_REGISTRATION",
        "DAYS_LAST_PHONE_CHANGE", "EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3",
        "REGION_RATING_CLIENT", "NAME_EDUCATION_TYPE", "NAME_INCOME_TYPE", "NAME_CONTRACT_TYPE",
        "CNT_FAM_MEMBERS",
    ),
    "bureau": (
        "SK_ID_CURR", "CREDIT_ACTIVE", "DAYS_CREDIT", "DAYS_CREDIT_ENDDATE", "AMT_CREDIT_SUM",
        "AMT_CREDIT_SUM_DEBT", "CREDIT_DAY_OVERDUE",
    ),
    "previous_application": (
        "SK_ID_CURR", "NAME_CONTRACT_STATUS", "AMT_APPLICATION", "AMT_CREDIT", "DAYS_DECISION",
        "CNT_PAYMENT",
    ),
    "POS_CASH_balance": ("SK_ID_CURR", "MONTHS_BALANCE", "CNT_INSTALMENT_FUTURE", "SK_DPD"),
    "installments_payments": (
        "SK_ID_CURR", "DAYS_INSTALMENT", "DAYS_ENTRY_PAYMENT", "AMT_INSTALMENT", "AMT_PAYMENT",
    ),
}  # fmt: skip
"""The 40 columns that most of the model's features stand on."""


def _bounds(table: str, name: str, kind: Kind) -> tuple[float, float]:
    if kind == "key":
        return 1, _LARGEST_KEY
    for of, pattern, bounds in _BOUNDS:
        if re.fullmatch(of, table) and re.match(pattern, name):
            return bounds
    msg = f"no bounds for {table}.{name}"
    raise AssertionError(msg)


def _table(name: str) -> RawTable:
    unique, parents, most = _SHAPES[name]
    found = reference()[name]
    columns = {}
    for told in found.columns:
        if told.kind == "string":
            column = Column(name, told.name, categories=tuple(told.categories))
            columns[told.name] = KnownColumn(column, "text", told.missing)
            continue
        kind: Kind = "integer" if told.kind == "int64" else "number"
        kind = "key" if told.name.startswith("SK_ID_") else kind
        column = Column(name, told.name, *_bounds(name, told.name, kind))
        columns[told.name] = KnownColumn(column, kind, told.missing)
    return RawTable(name, columns, unique, parents, most, found.rows)


TABLES: Mapping[str, RawTable] = {name: _table(name) for name in _SHAPES}
"""The seven tables by name, each after those whose keys it repeats."""


def attributes(expressions: Iterable[Expression]) -> tuple[Attribute, ...]:
    """
    Give an event's attributes: the applicant's rows of the seven tables.

    A column that an expression reads must be there, be it null; the others may be left out, and so
    may a table of which none is read.
    """
    parts = (part for expression in expressions for part in walk(expression))
    read = {(part.of, part.name) for part in parts if isinstance(part, Column)}
    return tuple(
        _attribute(table, {name for of, name in read if of == table.name})
        for table in TABLES.values()
    )


def _attribute(table: RawTable, read: set[str]) -> Attribute:
    fields = tuple(
        Attribute(
            known.name,
            "text" if known.kind == "text" else "whole" if known.whole else "number",
            _finite(known.column.least),
            _finite(known.column.greatest),
            required=known.name in read,
            nullable=True,
            read=known.name in read,
            categories=known.column.categories or (),
        )
        for known in table.values()
        if known.name not in {"SK_ID_CURR", "TARGET"}
    )
    own = table.name == APPLICATION
    return Attribute(
        table.name,
        "object" if own else "rows",
        required=bool(read),
        read=bool(read),
        fields=fields,
        most=table.most,
        meaning=f"The applicant's row{'' if own else 's'} of {table.name}.",
    )


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None
