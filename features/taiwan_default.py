"""The features of the example of 30,000 credit-card clients in Taiwan (UCI data set 350).

Month 1 is the latest (September 2005), month 6 the earliest. Sex and marital status, which the data
holds too, are no attributes here: a credit decision may not rest on them.
"""

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from features.definition import Attribute, Columns, FeatureDefinition, stack
from features.schema import Feature, FeatureSchema

Column = NDArray[np.float64]

MONTHS = (1, 2, 3, 4, 5, 6)
# The data set calls the latest status PAY_0, and there is no PAY_1.
STATUS = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
BILL = tuple(f"BILL_AMT{month}" for month in MONTHS)
PAID = tuple(f"PAY_AMT{month}" for month in MONTHS)
_RATIO_LIMIT = 10.0

ATTRIBUTES = (
    Attribute("LIMIT_BAL", "number", 1, 1e7, meaning="Credit limit, New Taiwan dollars."),
    Attribute(
        "EDUCATION",
        "integer",
        0,
        6,
        meaning="1 graduate school, 2 university, 3 high school, 4 other; 0, 5, 6 not known.",
    ),
    Attribute("AGE", "integer", 18, 120, meaning="Years."),
    *(
        Attribute(
            name,
            "integer",
            -2,
            9,
            meaning=f"Repayment status, month {month}: -2 not used, -1 paid in full, 0 revolving, "
            "1 to 9 months late.",
        )
        for month, name in zip(MONTHS, STATUS, strict=True)
    ),
    *(
        Attribute(name, "number", -1e7, 1e8, meaning=f"Statement of month {month}, dollars.")
        for month, name in zip(MONTHS, BILL, strict=True)
    ),
    *(
        Attribute(name, "number", 0, 1e8, meaning=f"Payment in month {month}, dollars.")
        for month, name in zip(MONTHS, PAID, strict=True)
    ),
)


def _total(columns: list[Column]) -> Column:
    """Sum in a fixed order: the same bits for one row as for a million."""
    return reduce(np.add, columns)


def _count(columns: list[NDArray[np.bool_]]) -> Column:
    return _total([column.astype(np.float64) for column in columns])


def _mean(columns: list[Column]) -> Column:
    return _total(columns) / len(columns)


def _payment_ratio(paid: Column, bill: Column) -> Column:
    """Payment over the bill that it pays; 1 where nothing was owed."""
    owed = bill > 0
    ratio = np.where(owed, paid / np.where(owed, bill, 1.0), 1.0)
    return np.minimum(ratio, _RATIO_LIMIT)


def _consecutive(late: list[NDArray[np.bool_]]) -> Column:
    run = np.ones_like(late[0])
    months = np.zeros(late[0].shape)
    for month in late:
        run = run & month
        months = months + run
    return months


def _columns(raw: Columns) -> dict[str, Column]:
    limit = raw["LIMIT_BAL"]
    status = [raw[name] for name in STATUS]
    bill = [raw[name] for name in BILL]
    paid = [raw[name] for name in PAID]
    late = [column > 0 for column in status]
    months_late = [np.maximum(column, 0.0) for column in status]
    utilisation = [column / limit for column in bill]
    ratio = [_payment_ratio(paid[i], bill[i + 1]) for i in range(5)]
    of_limit = [column / limit for column in paid]
    named: dict[str, Column] = {
        "limit": limit,
        "age": raw["AGE"],
        "education": raw["EDUCATION"],
        "limit_per_age": limit / raw["AGE"],
        "months_late_count": _count(late),
        "months_late_count_recent": _count(late[:3]),
        "months_late_total": _total(months_late),
        "months_late_latest": months_late[0],
        "months_late_worst": reduce(np.maximum, months_late),
        "months_late_worst_recent": reduce(np.maximum, months_late[:3]),
        "months_late_consecutive": _consecutive(late),
        "months_not_used": _count([column == -2 for column in status]),
        "months_paid_in_full": _count([column == -1 for column in status]),
        "months_revolving": _count([column == 0 for column in status]),
        "status_change": status[0] - status[5],
        "utilisation_mean": _mean(utilisation),
        "utilisation_max": reduce(np.maximum, utilisation),
        "utilisation_trend": _mean(utilisation[:3]) - _mean(utilisation[3:]),
        "headroom": limit - bill[0],
        "bill_mean": _mean(bill),
        "bill_max": reduce(np.maximum, bill),
        "paid_mean": _mean(paid),
        "paid_min": reduce(np.minimum, paid),
        "payment_ratio_mean": _mean(ratio),
        "payment_ratio_min": reduce(np.minimum, ratio),
        "payment_ratio_trend": _mean(ratio[:2]) - _mean(ratio[3:]),
        "underpaid_months": _count([column < 0.1 for column in ratio]),
        "paid_of_limit_mean": _mean(of_limit),
        "paid_of_limit_latest": of_limit[0],
    }
    for month, column in zip(MONTHS, status, strict=True):
        named[f"status_{month}"] = column
    for month, column in zip(MONTHS, utilisation, strict=True):
        named[f"utilisation_{month}"] = column
    for month, column in zip(MONTHS, bill, strict=True):
        named[f"bill_{month}"] = column
    for month, column in zip(MONTHS, paid, strict=True):
        named[f"paid_{month}"] = column
    for month, column in zip(MONTHS, ratio, strict=False):
        named[f"payment_ratio_{month}"] = column
    for month in MONTHS[:5]:
        named[f"bill_change_{month}"] = (bill[month - 1] - bill[month]) / limit
    return named


# What the attributes' own ranges allow, at the least limit of one dollar.
_MONEY = (-1e7, 1e8)
_PAID = (0.0, 1e8)
_SHARE = (-1e7, 1e8)
_CHANGE = (-1.1e8, 1.1e8)
_COUNT = (0.0, 6.0)
_RATIO = (0.0, _RATIO_LIMIT)


def _each_month(
    name: str, meaning: str, bounds: tuple[float, float], monotone: int, months: int = 6
) -> list[Feature]:
    return [
        Feature(f"{name}_{month}", meaning.format(month), *bounds, monotone)
        for month in MONTHS[:months]
    ]


SCHEMA = FeatureSchema(
    (
        Feature("limit", "Credit limit, New Taiwan dollars.", 1.0, 1e7, -1),
        Feature("age", "Age in years.", 18.0, 120.0),
        Feature("education", "Level of education, as coded.", 0.0, 6.0),
        Feature("limit_per_age", "Credit limit for each year of age.", 0.0, 1e6, -1),
        Feature("months_late_count", "Months late, of six.", *_COUNT, 1),
        Feature("months_late_count_recent", "Months late, of the last three.", 0.0, 3.0, 1),
        Feature("months_late_total", "Sum of months late over six statements.", 0.0, 54.0, 1),
        Feature("months_late_latest", "Months late on the latest statement.", 0.0, 9.0, 1),
        Feature("months_late_worst", "Worst delinquency of six months.", 0.0, 9.0, 1),
        Feature("months_late_worst_recent", "Worst of the last three months.", 0.0, 9.0, 1),
        Feature("months_late_consecutive", "Months late in a row until now.", *_COUNT, 1),
        Feature("months_not_used", "Months without any use of the card.", *_COUNT),
        Feature("months_paid_in_full", "Months paid in full.", *_COUNT),
        Feature("months_revolving", "Months in revolving credit.", *_COUNT),
        Feature("status_change", "Latest repayment status less the earliest.", -11.0, 11.0),
        Feature("utilisation_mean", "Mean of bill over limit.", *_SHARE),
        Feature("utilisation_max", "Highest bill over limit.", *_SHARE),
        Feature("utilisation_trend", "Utilisation, last three months less first.", *_CHANGE),
        Feature("headroom", "Limit less the latest bill, dollars.", -1e8, 2e7),
        Feature("bill_mean", "Mean bill, dollars.", *_MONEY),
        Feature("bill_max", "Highest bill, dollars.", *_MONEY),
        Feature("paid_mean", "Mean payment, dollars.", *_PAID, -1),
        Feature("paid_min", "Lowest payment, dollars.", *_PAID, -1),
        Feature("payment_ratio_mean", "Mean share of a bill that was paid.", *_RATIO, -1),
        Feature("payment_ratio_min", "Lowest share of a bill that was paid.", *_RATIO, -1),
        Feature("payment_ratio_trend", "Share paid, late months less early.", -10.0, 10.0),
        Feature("underpaid_months", "Months with under a tenth paid.", 0.0, 5.0, 1),
        Feature("paid_of_limit_mean", "Mean payment over limit.", *_PAID, -1),
        Feature("paid_of_limit_latest", "Latest payment over limit.", *_PAID, -1),
        *_each_month("status", "Repayment status of month {}.", (-2.0, 9.0), 1),
        *_each_month("utilisation", "Bill over limit, month {}.", _SHARE, 0),
        *_each_month("bill", "Bill of month {}, dollars.", _MONEY, 0),
        *_each_month("paid", "Payment in month {}, dollars.", _PAID, -1),
        *_each_month("payment_ratio", "Share of the bill paid in month {}.", _RATIO, -1, 5),
        *_each_month("bill_change", "Change of bill over limit, month {}.", _CHANGE, 0, 5),
    )
)


def compute(raw: Columns) -> NDArray[np.float32]:
    """Compute all features of n applicants: float32 of shape (n, features)."""
    columns = _columns(raw)
    matrix = stack([columns[name] for name in SCHEMA.names])
    # Which zero a minimum of -0.0 and 0.0 gives is the processor's choice; this leaves 0.0 alone.
    matrix += np.float32(0)
    return matrix


DEFINITION = FeatureDefinition("taiwan_default", ATTRIBUTES, SCHEMA, compute)
