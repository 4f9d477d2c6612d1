"""The 189 features of Home Credit, declared once for the table, for training and for an event."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from features.definition import FeatureDefinition
from features.home_credit.tables import TABLES, KnownColumn, attributes
from features.home_credit.words import meaning
from features.relational.expression import APPLICATION, Across, Aggregate, Column, Expression, How
from features.relational.in_memory import InMemory
from features.schema import Feature, FeatureSchema

KEY = "SK_ID_CURR"
_ZERO = 1e-5
"""Keeps a quotient finite where income, price or family are zero."""
_NO_EMPLOYMENT = 365_243

_APPLICATION, _BUREAU, _PREVIOUS, _POS, _INSTALMENTS = (
    TABLES[name]
    for name in (
        APPLICATION,
        "bureau",
        "previous_application",
        "POS_CASH_balance",
        "installments_payments",
    )
)

_AS_THEY_ARE = [
    "AMT_ANNUITY",
    "AMT_CREDIT",
    "AMT_INCOME_TOTAL",
    "AMT_REQ_CREDIT_BUREAU_DAY",
    "AMT_REQ_CREDIT_BUREAU_MON",
    "AMT_REQ_CREDIT_BUREAU_QRT",
    "AMT_REQ_CREDIT_BUREAU_WEEK",
    "AMT_REQ_CREDIT_BUREAU_YEAR",
    "CNT_CHILDREN",
    "CNT_FAM_MEMBERS",
    "DAYS_BIRTH",
    "DAYS_ID_PUBLISH",
    "DAYS_LAST_PHONE_CHANGE",
    "DAYS_REGISTRATION",
    "DEF_30_CNT_SOCIAL_CIRCLE",
    "DEF_60_CNT_SOCIAL_CIRCLE",
    "ELEVATORS_AVG",
    "EXT_SOURCE_1",
    "EXT_SOURCE_2",
    "EXT_SOURCE_3",
    "FLAG_DOCUMENT_3",
    "FLAG_DOCUMENT_5",
    "FLAG_DOCUMENT_6",
    "FLAG_DOCUMENT_8",
    "FLAG_EMAIL",
    "FLAG_EMP_PHONE",
    "FLAG_PHONE",
    "FLAG_WORK_PHONE",
    "FLOORSMAX_AVG",
    "HOUR_APPR_PROCESS_START",
    "LIVE_CITY_NOT_WORK_CITY",
    "LIVE_REGION_NOT_WORK_REGION",
    "OBS_30_CNT_SOCIAL_CIRCLE",
    "OWN_CAR_AGE",
    "REGION_RATING_CLIENT",
    "REG_CITY_NOT_LIVE_CITY",
    "REG_CITY_NOT_WORK_CITY",
    "REG_REGION_NOT_LIVE_REGION",
    "REG_REGION_NOT_WORK_REGION",
]

_CATEGORIES = {
    "CODE_GENDER": ["M"],
    "FLAG_OWN_CAR": ["Y"],
    "FLAG_OWN_REALTY": ["Y"],
    "FONDKAPREMONT_MODE": ["org spec account", "reg oper account", "reg oper spec account"],
    "NAME_CONTRACT_TYPE": ["Revolving loans"],
    "NAME_EDUCATION_TYPE": [
        "Higher education",
        "Incomplete higher",
        "Lower secondary",
        "Secondary / secondary special",
    ],
    "NAME_FAMILY_STATUS": ["Married", "Separated", "Single / not married", "Widow"],
    "NAME_HOUSING_TYPE": [
        "House / apartment",
        "Municipal apartment",
        "Rented apartment",
        "With parents",
    ],
    "NAME_INCOME_TYPE": ["Commercial associate", "State servant", "Working"],
    "NAME_TYPE_SUITE": ["Family", "Spouse, partner", "Unaccompanied"],
    "WALLSMATERIAL_MODE": ["Panel", "Stone, brick", "Wooden"],
    "WEEKDAY_APPR_PROCESS_START": [
        "MONDAY",
        "SATURDAY",
        "SUNDAY",
        "THURSDAY",
        "TUESDAY",
        "WEDNESDAY",
    ],
}

_OF_BUREAU = {
    "AMT_ANNUITY": "sum",
    "AMT_CREDIT_SUM": "max mean sum",
    "AMT_CREDIT_SUM_DEBT": "mean sum",
    "AMT_CREDIT_SUM_LIMIT": "mean sum",
    "AMT_CREDIT_SUM_OVERDUE": "mean sum",
    "CNT_CREDIT_PROLONG": "sum",
    "CREDIT_DAY_OVERDUE": "mean sum",
    "DAYS_CREDIT": "max mean min",
    "DAYS_CREDIT_ENDDATE": "max mean min",
    "DAYS_CREDIT_UPDATE": "max mean min",
    "SK_ID_BUREAU": "count",
}
_OF_PREVIOUS = {
    "AMT_ANNUITY": "max mean min",
    "AMT_APPLICATION": "max mean min sum",
    "AMT_DOWN_PAYMENT": "max mean min sum",
    "AMT_GOODS_PRICE": "mean min",
    "CNT_PAYMENT": "max mean min sum",
    "DAYS_DECISION": "max mean min",
    "DAYS_FIRST_DRAWING": "max mean min",
    "DAYS_FIRST_DUE": "max mean min",
    "DAYS_LAST_DUE": "max mean min",
    "DAYS_TERMINATION": "max mean min",
    "NFLAG_INSURED_ON_APPROVAL": "mean sum",
    "RATE_DOWN_PAYMENT": "max",
    "SK_ID_PREV": "count",
}
_OF_POS = {
    "CNT_INSTALMENT": "max mean min sum",
    "CNT_INSTALMENT_FUTURE": "min",
    "MONTHS_BALANCE": "max mean min",
    "SK_DPD": "max mean min",
    "SK_DPD_DEF": "max min",
    "SK_ID_PREV": "count",
}
_OF_INSTALMENTS = {
    "AMT_INSTALMENT": "max mean min sum",
    "AMT_PAYMENT": "min",
    "DAYS_INSTALMENT": "max mean min",
    "NUM_INSTALMENT_NUMBER": "max min",
    "NUM_INSTALMENT_VERSION": "nunique",
    "SK_ID_PREV": "count",
}

_RISES_WITH = re.compile(
    r"DPD|IS_LATE|OVERDUE|STATUS_REFUSED|^DEF_|REGION_RATING|CNT_CREDIT_PROLONG|DEBT_TO_CREDIT"
)
_FALLS_WITH = re.compile(r"^EXT_SOURCE|APPROVAL_RATE")
# Sex and marital status; who came along to apply tells of a spouse.
_PROTECTED = re.compile(r"^(CODE_GENDER|NAME_FAMILY_STATUS|NAME_TYPE_SUITE_Spouse)_")


def _slug(category: str) -> str:
    return re.sub("[^A-Za-z0-9]+", "_", category)


def _aggregates(
    prefix: str, table: Mapping[str, KnownColumn], declared: Mapping[str, str]
) -> Iterator[tuple[str, Expression]]:
    for name, hows in declared.items():
        for how in hows.split():
            yield f"{prefix}_{name}_{how.upper()}", _aggregate(how, table[name].column)  # type: ignore[arg-type]


def _aggregate(how: How, value: Expression, decimals: int = 3) -> Aggregate:
    return Aggregate(how, value, decimals, TABLES[value.table].most)


def _count(column: Column, category: str) -> Aggregate:
    return _aggregate("sum", column.equals(category), decimals=0)


def _of_application() -> Iterator[tuple[str, Expression]]:
    column = {name: known.column for name, known in _APPLICATION.items()}
    for name in _AS_THEY_ARE:
        yield name, column[name]
    for name, categories in _CATEGORIES.items():
        for category in categories:
            yield f"{name}_{_slug(category)}", column[name].equals(category)
    sources = tuple(column[f"EXT_SOURCE_{number}"] for number in (1, 2, 3))
    documents = tuple(column[f"FLAG_DOCUMENT_{number}"] for number in range(2, 22))
    credit, income = column["AMT_CREDIT"], column["AMT_INCOME_TOTAL"]
    yield "EXT_SOURCE_MIN", Across("min", sources)
    yield "EXT_SOURCE_MAX", Across("max", sources)
    yield "EXT_SOURCE_MEAN", Across("mean", sources)
    yield "TOTAL_DOCUMENTS_PROVIDED", Across("sum", documents)
    yield "HAS_CHILDREN", column["CNT_CHILDREN"] > 0
    yield "DAYS_EMPLOYED", column["DAYS_EMPLOYED"].unless(_NO_EMPLOYMENT)
    yield "DEBT_TO_INCOME_RATIO", credit / (income + _ZERO)
    yield "CREDIT_TO_GOODS_RATIO", credit / (column["AMT_GOODS_PRICE"] + _ZERO)
    yield "INCOME_PER_PERSON", income / (column["CNT_FAM_MEMBERS"] + _ZERO)


def _of_history() -> Iterator[tuple[str, Expression]]:
    yield from _aggregates("BUREAU", _BUREAU, _OF_BUREAU)
    active = _BUREAU["CREDIT_ACTIVE"].column
    for category in ("Active", "Closed", "Sold"):
        yield f"BUREAU_CREDIT_{category.upper()}_COUNT", _count(active, category)
    debt, credit = (
        _aggregate("sum", _BUREAU[name].column)
        for name in ("AMT_CREDIT_SUM_DEBT", "AMT_CREDIT_SUM")
    )
    yield "BUREAU_DEBT_TO_CREDIT_RATIO", debt / (credit + 1)

    yield from _aggregates("PREV", _PREVIOUS, _OF_PREVIOUS)
    status = _PREVIOUS["NAME_CONTRACT_STATUS"].column
    for category in ("Approved", "Canceled", "Refused", "Unused offer"):
        name = _slug(category).upper()
        yield f"PREV_STATUS_{name}_COUNT", _count(status, category)
    applications = _aggregate("count", _PREVIOUS["SK_ID_PREV"].column)
    yield "PREV_APPROVAL_RATE", _count(status, "Approved") / (applications + 1)
    applied, granted = (
        _aggregate("mean", _PREVIOUS[name].column) for name in ("AMT_APPLICATION", "AMT_CREDIT")
    )
    yield "PREV_APP_CREDIT_RATIO", applied / (granted + 1)

    yield from _aggregates("POS", _POS, _OF_POS)

    yield from _aggregates("INST", _INSTALMENTS, _OF_INSTALMENTS)
    paid, due = _INSTALMENTS["AMT_PAYMENT"].column, _INSTALMENTS["AMT_INSTALMENT"].column
    entered = _INSTALMENTS["DAYS_ENTRY_PAYMENT"].column
    late_by = entered - _INSTALMENTS["DAYS_INSTALMENT"].column
    for name, value, hows, decimals in (
        ("PAYMENT_DIFF", paid - due, "max mean min sum", 3),
        ("PAYMENT_RATIO", paid / (due + 1), "max mean min", 8),
        ("DPD", late_by, "max mean min", 3),
        ("IS_LATE", late_by > 0, "mean sum", 3),
    ):
        for how in hows.split():
            yield f"INST_{name}_{how.upper()}", _aggregate(how, value, decimals)  # type: ignore[arg-type]


EXPRESSIONS: Mapping[str, Expression] = dict(sorted([*_of_application(), *_of_history()]))
"""Each feature's one definition, in the order of the model's inputs."""


def _feature(name: str, expression: Expression) -> Feature:
    # Rounding to float32 keeps order: a value within bounds lies within the rounded ones.
    low, high = (float(np.float32(bound)) for bound in expression.bounds)
    monotone = 1 if _RISES_WITH.search(name) else -1 if _FALLS_WITH.search(name) else 0
    return Feature(
        name,
        meaning(name, expression),
        low if np.isfinite(low) else None,
        high if np.isfinite(high) else None,
        monotone,
    )


SCHEMA = FeatureSchema(tuple(_feature(name, e) for name, e in EXPRESSIONS.items()))
DEFINITION = FeatureDefinition(
    "home_credit",
    attributes(EXPRESSIONS.values()),
    SCHEMA,
    InMemory(list(EXPRESSIONS.values())).features,
    {name: str(expression) for name, expression in EXPRESSIONS.items()},
    tuple(name for name in SCHEMA.names if _PROTECTED.match(name)),
)
