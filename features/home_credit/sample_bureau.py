"""Look-alike credit bureau: loans with other lenders, and their months."""

from dataclasses import dataclass

import numpy as np

from features.home_credit.sample_application import Applicants
from features.home_credit.sample_draw import (
    MONTH,
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
    money,
    pick,
    runs,
    share_below,
    sometimes,
)

_TABLE = "bureau"
_MORE_LOANS = 4.72
"""Mean loans beyond the first, before the unlisted are taken out."""
_WITH_MONTHS = 0.468
_UNLISTED = 0.053
"""Share of the loans with months that `bureau` itself does not list, as in the competition."""
# How much larger or smaller than others, in standard deviations.
_SIZE = {"Mortgage": 1.5, "Car loan": 1.1, "Credit card": -0.25, "Microloan": -1.7}


@dataclass(frozen=True, slots=True)
class Loans:
    """The applicant (index) of each loan, and what later decides about the label."""

    owner: Ints
    active: Flags
    debt: Floats
    credit: Floats


def draw_bureau(
    random: np.random.Generator, who: Applicants, first_id: int
) -> tuple[Columns, Columns, Loans, int]:
    """
    Draw `bureau` and `bureau_balance` of the applicants, keys from `first_id` up.

    Gives both tables, the listed loans, and the next free key.
    """
    n = len(who.ids)
    more = random.negative_binomial(1.4, 1.4 / (1.4 + _MORE_LOANS), n)
    owner, _ = runs(np.where(who.in_bureau, 1 + more, 0))
    m = len(owner)
    ids = first_id + np.arange(m)
    risk = who.risk[owner]
    z_days, z_active = random.standard_normal((2, m))
    z_active = 0.6 * z_days + 0.15 * risk + 0.786 * z_active
    active_share = column_of(_TABLE, "CREDIT_ACTIVE")
    status = pick(active_share, share_below(z_active))
    active = status == code_of(active_share, "Active")
    days = np.rint(at_share(column_of(_TABLE, "DAYS_CREDIT"), share_below(z_days)))
    kind = column_of(_TABLE, "CREDIT_TYPE")
    kinds = pick(kind, random.random(m))
    card = kinds == code_of(kind, "Credit card")

    end, ended = _ends(random, days, z_days, z_active, active)
    credit, debt, limit = _amounts(random, kinds, active, card, who, owner)
    overdue_days, overdue = _overdue(random, active, risk, credit)
    updated = np.where(active, -np.ceil(random.exponential(32, m)), ended * random.power(20, m))
    bureau: Columns = {
        "SK_ID_CURR": who.ids[owner],
        "SK_ID_BUREAU": ids,
        "CREDIT_ACTIVE": coded(active_share, status),
        "CREDIT_CURRENCY": _picked(random, "CREDIT_CURRENCY", m),
        "DAYS_CREDIT": days.astype(np.int64),
        "CREDIT_DAY_OVERDUE": overdue_days,
        "DAYS_CREDIT_ENDDATE": sometimes(
            random, end, column_of(_TABLE, "DAYS_CREDIT_ENDDATE").missing
        ),
        "DAYS_ENDDATE_FACT": np.where(active, np.nan, ended),
        "AMT_CREDIT_MAX_OVERDUE": _max_overdue(random, risk),
        "CNT_CREDIT_PROLONG": at_share(
            column_of(_TABLE, "CNT_CREDIT_PROLONG"), random.random(m)
        ).astype(np.int64),
        "AMT_CREDIT_SUM": credit,
        "AMT_CREDIT_SUM_DEBT": sometimes(
            random, debt, column_of(_TABLE, "AMT_CREDIT_SUM_DEBT").missing
        ),
        "AMT_CREDIT_SUM_LIMIT": sometimes(
            random, limit, column_of(_TABLE, "AMT_CREDIT_SUM_LIMIT").missing
        ),
        "AMT_CREDIT_SUM_OVERDUE": overdue,
        "CREDIT_TYPE": coded(kind, kinds),
        "DAYS_CREDIT_UPDATE": np.maximum(updated, days).astype(np.int64),
        "AMT_ANNUITY": _annuity(random, active),
    }
    reported = random.random(n) < _WITH_MONTHS
    with_months = reported[owner]
    balance = _months(
        random, ids[with_months], days[with_months], ended[with_months], risk[with_months]
    )
    listed = ~(with_months & (random.random(m) < _UNLISTED))
    loans = Loans(owner[listed], active[listed], debt[listed], credit[listed])
    return {name: c[listed] for name, c in bureau.items()}, balance, loans, first_id + m


def _picked(random: np.random.Generator, name: str, rows: int) -> Coded:
    column = column_of(_TABLE, name)
    return coded(column, pick(column, random.random(rows)))


def _ends(
    random: np.random.Generator, days: Floats, z_days: Floats, z_active: Floats, active: Flags
) -> tuple[Floats, Floats]:
    """Give the agreed last day, and the real one: today (0) where a loan is active."""
    m = len(days)
    z = 0.62 * z_days + 0.45 * z_active + 0.3 * random.standard_normal(m)
    # No loan ends a century ago, though a few in the competition's data do.
    share = np.maximum(share_below(z), 0.01)
    end = np.rint(at_share(column_of(_TABLE, "DAYS_CREDIT_ENDDATE"), share))
    end = np.maximum(end, days + 14) + 0.0
    early = days + (np.minimum(end, 0) - days) * random.beta(4, 1, m)
    kept = random.random(m) < 0.4
    ended = np.where(kept & (end < 0), end, np.minimum(np.rint(early), -1))
    return end, np.where(active, 0.0, np.maximum(ended, days))


def _amounts(
    random: np.random.Generator,
    kinds: Codes,
    active: Flags,
    card: Flags,
    who: Applicants,
    owner: Ints,
) -> tuple[Floats, Floats, Floats]:
    """Give each loan's sum, what is still owed, and the free limit of a card."""
    m = len(owner)
    names = tuple(column_of(_TABLE, "CREDIT_TYPE").categories)
    size = np.array([_SIZE.get(name, -0.12) for name in names])[kinds]
    z = size + 0.45 * who.wealth[owner] + 0.15 * active + 0.88 * random.standard_normal(m)
    credit = money(at_share(column_of(_TABLE, "AMT_CREDIT_SUM"), share_below(z)), 1)
    left = random.beta(1.4, np.exp(-0.2 - 0.25 * who.risk[owner]), m)
    none = random.random(m) < np.where(active, 0.08, 0.97)
    debt = np.where(none, 0.0, money(credit * left, 1))
    with_limit = card & active & (random.random(m) < 0.45)
    limit = np.where(with_limit, money(0.3 * (credit - debt), 3), 0.0)
    return credit, debt, limit


def _overdue(
    random: np.random.Generator, active: Flags, risk: Floats, credit: Floats
) -> tuple[Ints, Floats]:
    """Put a few active loans in arrears: days and amount."""
    late = active & (random.random(len(risk)) < 0.0045 * np.exp(0.7 * risk))
    days = np.where(late, np.ceil(random.lognormal(3.0, 1.5, len(risk))), 0).clip(0, 2792)
    amount = np.where(late, money(credit * random.beta(0.3, 12, len(risk)), 1), 0.0)
    return days.astype(np.int64), amount


def _max_overdue(random: np.random.Generator, risk: Floats) -> Floats:
    column = column_of(_TABLE, "AMT_CREDIT_MAX_OVERDUE")
    share = share_below(0.2 * risk + 0.98 * random.standard_normal(len(risk)))
    return sometimes(random, money(at_share(column, share), 3), column.missing)


def _annuity(random: np.random.Generator, active: Flags) -> Floats:
    column = column_of(_TABLE, "AMT_ANNUITY")
    z = 0.75 * random.standard_normal(len(active)) + np.where(active, 0.85, -0.5)
    return sometimes(random, money(at_share(column, share_below(z)), 1), column.missing)


def _months(
    random: np.random.Generator, ids: Ints, days: Floats, ended: Floats, risk: Floats
) -> Columns:
    """Draw `bureau_balance`: closed after the end, before it paid, late or not known."""
    status = column_of("bureau_balance", "STATUS")
    opened = np.minimum(-days / MONTH, 96).astype(np.int64)
    # Some lenders stop reporting before today.
    silent = np.where(random.random(len(ids)) < 0.29, opened * random.random(len(ids)), 0)
    latest = silent.astype(np.int64)
    loan, step = runs(opened - latest + 1)
    month = -(latest[loan] + step)
    unknown = random.beta(0.35, 0.41, len(ids))
    late = np.minimum(0.022 * np.exp(0.8 * risk + 0.9 * random.standard_normal(len(ids))), 0.6)
    share = random.random(len(loan))
    codes = np.full(len(loan), code_of(status, "0"), dtype=np.int16)
    codes[share < unknown[loan]] = code_of(status, "X")
    of_late = 1 - share < late[loan]
    codes[of_late] = pick(status, random.random(int(of_late.sum())), only=("1", "2", "3", "4", "5"))
    codes[month > (ended / MONTH)[loan] + 1] = code_of(status, "C")
    return {
        "SK_ID_BUREAU": ids[loan],
        "MONTHS_BALANCE": month,
        "STATUS": coded(status, codes),
    }
