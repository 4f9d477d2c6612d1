"""Look-alike wording of earlier applications: their categories, in agreement with each other."""

from collections.abc import Collection

import numpy as np

from features.home_credit.sample_draw import (
    Coded,
    Codes,
    Columns,
    Flags,
    Floats,
    Ints,
    at_share,
    code_of,
    coded,
    column_of,
    pick,
    share_below,
)

_TABLE = "previous_application"


def draw_words(
    random: np.random.Generator,
    kinds: Codes,
    status: Codes,
    blank: Flags,
    first: Flags,
    risk: Floats,
) -> Columns:
    """Fill in the categories, so that they agree with kind, status and blankness."""
    m = len(kinds)
    consumer = kinds == _code("NAME_CONTRACT_TYPE", "Consumer loans")
    cash = kinds == _code("NAME_CONTRACT_TYPE", "Cash loans")
    revolving = ~consumer & ~cash
    refused = status == _code("NAME_CONTRACT_STATUS", "Refused")
    unused = status == _code("NAME_CONTRACT_STATUS", "Unused offer")
    everyone = np.ones(m, dtype=np.bool_)

    def of(name: str, *choices: tuple[Flags, Collection[str]]) -> Coded:
        column = column_of(_TABLE, name)
        share = random.random(m)
        if name == "NAME_YIELD_GROUP":
            share = share_below(0.2 * risk + 0.98 * random.standard_normal(m))
        codes = np.full(m, -1, dtype=np.int16)
        left = everyone
        for rows, names in choices:
            codes[left & rows] = pick(column, share[left & rows], only=names)
            left = left & ~rows
        return coded(column, codes)

    product = column_of(_TABLE, "PRODUCT_COMBINATION").categories
    suite = of(
        "NAME_TYPE_SUITE",
        (random.random(m) > 0.4817, column_of(_TABLE, "NAME_TYPE_SUITE").categories),
    )
    return {
        "NAME_CASH_LOAN_PURPOSE": of(
            "NAME_CASH_LOAN_PURPOSE",
            (~cash, ["XAP"]),
            (everyone, _all_but("NAME_CASH_LOAN_PURPOSE", "XAP")),
        ),
        "NAME_CONTRACT_STATUS": coded(column_of(_TABLE, "NAME_CONTRACT_STATUS"), status),
        "NAME_PAYMENT_TYPE": of(
            "NAME_PAYMENT_TYPE",
            (blank | revolving | (cash & refused), ["XNA"]),
            (everyone, _all_but("NAME_PAYMENT_TYPE", "XNA")),
        ),
        "CODE_REJECT_REASON": of(
            "CODE_REJECT_REASON",
            (refused, ["HC", "LIMIT", "SCO", "SCOFR", "XNA", "VERIF"]),
            (unused, ["CLIENT"]),
            (everyone, ["XAP"]),
        ),
        "NAME_TYPE_SUITE": suite,
        "NAME_CLIENT_TYPE": of(
            "NAME_CLIENT_TYPE",
            (first | (random.random(m) < 0.03), ["New"]),
            (everyone, _all_but("NAME_CLIENT_TYPE", "New")),
        ),
        "NAME_GOODS_CATEGORY": of(
            "NAME_GOODS_CATEGORY",
            (consumer, _all_but("NAME_GOODS_CATEGORY", "XNA")),
            (everyone, ["XNA"]),
        ),
        "NAME_PORTFOLIO": of(
            "NAME_PORTFOLIO",
            (blank, ["XNA"]),
            (consumer, ["POS"]),
            (cash, ["Cash"]),
            (everyone, ["Cards"]),
        ),
        "NAME_PRODUCT_TYPE": of(
            "NAME_PRODUCT_TYPE",
            (blank | consumer, ["XNA"]),
            (everyone, _all_but("NAME_PRODUCT_TYPE", "XNA")),
        ),
        "CHANNEL_TYPE": of(
            "CHANNEL_TYPE",
            (consumer, ["Country-wide", "Stone", "Regional / Local"]),
            (
                random.random(m) < 0.87,
                [
                    "Credit and cash offices",
                    "AP+ (Cash loan)",
                    "Contact center",
                    "Channel of corporate sales",
                    "Car dealer",
                ],
            ),
            (everyone, ["Country-wide"]),
        ),
        "SELLERPLACE_AREA": _area(random, consumer),
        "NAME_SELLER_INDUSTRY": of(
            "NAME_SELLER_INDUSTRY",
            (consumer | (random.random(m) < 0.13), _all_but("NAME_SELLER_INDUSTRY", "XNA")),
            (everyone, ["XNA"]),
        ),
        "NAME_YIELD_GROUP": of(
            "NAME_YIELD_GROUP",
            (blank | revolving, ["XNA"]),
            (everyone, _all_but("NAME_YIELD_GROUP", "XNA")),
        ),
        "PRODUCT_COMBINATION": of(
            "PRODUCT_COMBINATION",
            (consumer, [name for name in product if name.startswith("POS")]),
            (revolving, [name for name in product if name.startswith("Card")]),
            (blank, ["Cash"]),
            (everyone, [name for name in product if name.startswith("Cash ")]),
        ),
    }


def _all_but(name: str, left_out: str) -> list[str]:
    return [value for value in column_of(_TABLE, name).categories if value != left_out]


def _area(random: np.random.Generator, consumer: Flags) -> Ints:
    column = column_of(_TABLE, "SELLERPLACE_AREA")
    share = 0.46 + 0.54 * random.random(len(consumer))
    return np.where(consumer, np.rint(at_share(column, share)), -1).astype(np.int64)


def _code(name: str, value: str) -> np.int16:
    return code_of(column_of(_TABLE, name), value)
