"""Look-alike course of earlier contracts: months of point-of-sale loans, and instalments."""

import numpy as np

from features.home_credit.sample_application import Applicants
from features.home_credit.sample_draw import (
    MONTH,
    Columns,
    Flags,
    Floats,
    Ints,
    code_of,
    coded,
    column_of,
    money,
    runs,
    share_below,
)
from features.home_credit.sample_previous import Contracts

_POS = "POS_CASH_balance"
_WITH_MONTHS = 0.953
_CARDS_WITH_INSTALMENTS = 0.62


def draw_pos(random: np.random.Generator, who: Applicants, contracts: Contracts) -> Columns:
    """Draw `POS_CASH_balance`: a row for each month until a loan ends, or until today."""
    has = np.flatnonzero(~contracts.card & (random.random(len(contracts.ids)) < _WITH_MONTHS))
    opened = np.clip(np.rint(-contracts.start[has] / MONTH), 1, 96).astype(np.int64)
    # The last month is the one after the last instalment, mostly.
    after = random.random(len(has)) < 0.85
    closed = np.rint(-contracts.end[has] / MONTH).astype(np.int64) - after
    # A loan that ended is listed for its last month; the first months are missing at times.
    since = np.maximum(opened - (random.random(len(has)) < 0.6), 1)
    until = np.clip(closed, 1, since)
    loan, step = runs(since - until + 1)
    month = -(since[loan] - step)
    contract = has[loan]
    completed = (contracts.end[contract] < 0) & (month == -until[loan])
    term = _counted(random, contracts.term[has])[loan]
    left = np.maximum(term - step - (since - opened)[loan], 0)
    risk = who.lateness[contracts.owner[has]]
    late = np.minimum(0.011 * np.exp(0.9 * risk + 0.9 * random.standard_normal(len(has))), 0.7)
    dpd, dpd_real = arrears(random, late[loan])
    status = column_of(_POS, "NAME_CONTRACT_STATUS")
    rare = random.random(len(loan))
    codes = np.full(len(loan), code_of(status, "Active"), dtype=np.int16)
    for limit, name in (
        (0.0025, "Demand"),
        (0.0017, "Returned to the store"),
        (0.0008, "Approved"),
    ):
        codes[rare < limit] = code_of(status, name)
    codes[(step == 0) & (rare > 0.92)] = code_of(status, "Signed")
    codes[completed] = code_of(status, "Completed")
    unknown = random.random(len(loan)) < column_of(_POS, "CNT_INSTALMENT").missing
    return {
        "SK_ID_PREV": contracts.ids[contract],
        "SK_ID_CURR": who.ids[contracts.owner[contract]],
        "MONTHS_BALANCE": month,
        "CNT_INSTALMENT": np.where(unknown, np.nan, term),
        "CNT_INSTALMENT_FUTURE": np.where(unknown, np.nan, np.where(completed, 0, left)),
        "NAME_CONTRACT_STATUS": coded(status, codes),
        "SK_DPD": np.where(completed, 0, dpd),
        "SK_DPD_DEF": np.where(completed, 0, dpd_real),
    }


def _counted(random: np.random.Generator, term: Ints) -> Floats:
    """Give the instalments that a contract counts: at times fewer than agreed, as paid early."""
    fewer = random.random(len(term)) < 0.35
    return np.where(fewer, np.ceil(term * random.random(len(term))), np.maximum(term, 1)) * 1.0


def arrears(random: np.random.Generator, chance: Floats) -> tuple[Ints, Ints]:
    """Give days past due, and those that count: without what is too small to matter."""
    late = random.random(len(chance)) < chance
    days = np.zeros(len(chance), dtype=np.int64)
    heavy = np.minimum(np.ceil(random.lognormal(2.6, 1.6, int(late.sum()))), 4231)
    days[late] = heavy.astype(np.int64)
    matters = days.copy()
    matters[late & (random.random(len(chance)) < 0.45)] = 0
    return days, matters


def draw_instalments(
    random: np.random.Generator, who: Applicants, contracts: Contracts
) -> tuple[Columns, Floats]:
    """
    Draw `installments_payments`: what fell due until today, and when how much was paid.

    Gives the table, and each applicant's share of rows paid late.
    """
    m = len(contracts.ids)
    paid_until = np.where(contracts.card, -10.0, np.minimum(contracts.end, -1.0))
    due_loan = np.floor((paid_until - contracts.first_due) / 30).astype(np.int64) + 1
    months = np.clip(-contracts.start / MONTH, 1, 96)
    due_card = np.rint(months * random.uniform(0.6, 2.35, m)).astype(np.int64)
    kept = random.random(m) < np.where(contracts.card, _CARDS_WITH_INSTALMENTS, 0.945)
    due = np.where(contracts.card, due_card, np.minimum(due_loan, np.maximum(contracts.term, 1)))
    contract, step = runs(np.where(kept, np.maximum(due, 0), 0))
    # Some instalments are paid in two parts.
    parts = 1 + (random.random(len(contract)) < 0.075)
    row, part = runs(parts)
    contract, step, split = contract[row], step[row], parts[row] == 2
    card = contracts.card[contract]
    owner = contracts.owner[contract]

    pace = np.where(contracts.card, (-1 - contracts.first_due) / np.maximum(due, 1), 30.0)
    day = np.minimum(np.rint(contracts.first_due[contract] + step * pace[contract]), -1)
    version, changed = _versions(random, contracts, contract, step, due)
    amount = _due_amounts(random, contracts, contract, card, changed)
    entry, late = _entries(random, who, owner, contracts, contract, day)
    share = np.where(split, np.where(part == 0, 0.35, 0.65), 1.0)
    less = (random.random(len(row)) < 0.02) & late
    paid = money(amount * share * np.where(less, random.random(len(row)), 1.0), 3)
    unpaid = random.random(len(row)) < column_of("installments_payments", "AMT_PAYMENT").missing
    table: Columns = {
        "SK_ID_PREV": contracts.ids[contract],
        "SK_ID_CURR": who.ids[owner],
        "NUM_INSTALMENT_VERSION": version,
        "NUM_INSTALMENT_NUMBER": step + 1,
        "DAYS_INSTALMENT": day,
        "DAYS_ENTRY_PAYMENT": np.where(unpaid, np.nan, entry),
        "AMT_INSTALMENT": amount,
        "AMT_PAYMENT": np.where(unpaid, np.nan, paid),
    }
    n = len(who.ids)
    rows = np.bincount(owner, minlength=n)
    return table, np.bincount(owner, late, minlength=n) / np.maximum(rows, 1)


def _versions(
    random: np.random.Generator, contracts: Contracts, contract: Ints, step: Ints, due: Ints
) -> tuple[Floats, Floats]:
    """Give the version of the calendar: 0 for cards, 1 until a change; and the changes so far."""
    m = len(contracts.ids)
    changes = random.random(m) < 0.35
    at = np.ceil(random.random(m) * np.maximum(due, 1))
    jump = 1 + np.floor(random.exponential(1.0, m))
    changed = np.where(changes[contract] & (step >= at[contract]), jump[contract], 0.0)
    return np.where(contracts.card[contract], 0.0, np.minimum(1 + changed, 178)), changed


def _due_amounts(
    random: np.random.Generator,
    contracts: Contracts,
    contract: Ints,
    card: Flags,
    changed: Floats,
) -> Floats:
    """Ask for the annuity, for another after a change; of cards, for what was used."""
    m = len(contracts.ids)
    factor = random.lognormal(0.0, 0.35, m)
    of_loan = contracts.annuity * (1 + random.normal(0, 0.003, m))
    of_loan = np.where(changed > 0, (of_loan * factor)[contract], of_loan[contract])
    of_card = random.lognormal(8.5, 2.3, int(card.sum()))
    amount = money(of_loan, 3)
    amount[card] = money(np.clip(of_card, 0.045, 450_000), 3)
    return np.maximum(np.nan_to_num(amount, nan=4500.0), 0.045)


def _entries(
    random: np.random.Generator,
    who: Applicants,
    owner: Ints,
    contracts: Contracts,
    contract: Ints,
    day: Floats,
) -> tuple[Floats, Flags]:
    """Give the day of payment, mostly some days early, and whether it was after the due one."""
    m = len(contracts.ids)
    of_contract = who.lateness[contracts.owner] * 0.75 + 0.6 * random.standard_normal(m) - 1.6
    chance = share_below(of_contract)
    late = random.random(len(owner)) < chance[contract]
    habit = random.gamma(1.6, 6.0, m)
    days: Floats = -np.floor(random.exponential(1.0, len(owner)) * habit[contract])
    after = np.ceil(random.exponential(7.0, int(late.sum())))
    long = random.random(len(after)) < 0.02
    days[late] = np.where(long, after * 12, after)
    entry = np.maximum(day + days, -3000)
    entry = np.minimum(entry, -1)
    return entry, late & (entry > day)
