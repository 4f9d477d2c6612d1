"""Look-alike credit cards: balances, drawings and payments by month."""

import numpy as np

from features.home_credit.sample_application import Applicants
from features.home_credit.sample_contracts import arrears
from features.home_credit.sample_draw import (
    MONTH,
    Columns,
    Flags,
    Floats,
    Ints,
    at_share,
    code_of,
    coded,
    column_of,
    money,
    runs,
)
from features.home_credit.sample_previous import Contracts

_TABLE = "credit_card_balance"


def draw_cards(random: np.random.Generator, who: Applicants, contracts: Contracts) -> Columns:
    """Draw `credit_card_balance`: a row for each month of a card until last month."""
    card = np.flatnonzero(contracts.card)
    m = len(card)
    months = np.clip(np.rint(-contracts.start[card] / MONTH), 1, 96).astype(np.int64)
    one, step = runs(months)
    rows = len(one)
    limit_column = column_of(_TABLE, "AMT_CREDIT_LIMIT_ACTUAL")
    limit = np.round(at_share(limit_column, 0.04 + 0.96 * random.random(m)) / 4500) * 4500
    limit = np.where((random.random(rows) < 0.1) & (step < 6), 0.0, limit[one])

    # A card rests, or its use swings around a level of its own.
    in_use = (random.random(m) < 0.62)[one]
    level, swing, phase, period = random.random((4, m))
    turn = np.sin(step / (2 + 4 * period[one]) + 6.28 * phase[one])
    use = 1.55 * level[one] - 0.3 + 0.4 * swing[one] * turn + 0.05 * random.standard_normal(rows)
    over_limit = np.where(random.random(rows) < 0.03, 1.04, 1.0)
    use = np.where(in_use, np.clip(use, 0, 1) * over_limit, 0.0)
    balance = money(use * limit, 3)
    idle = (balance == 0) | (limit == 0)

    atm, pos, other = _drawings(random, idle, limit)
    drawn = atm[1] + pos[1] + other[1]
    least = np.where(idle, 0.0, money(np.minimum(np.maximum(0.05 * balance, 2250), balance), 3))
    paid = np.where(idle, 0.0, least * (1 + random.exponential(0.6, rows)))
    paid = money(paid + np.where(random.random(rows) < 0.06, 0.6 * balance, 0.0), 3)
    interest = money(balance * 0.035 * random.random(rows), 3)
    principal = money(np.maximum(balance - interest, 0.0), 3)
    due = money(balance * (1 - 0.002 * random.random(rows)), 3)
    # Now and then a client paid more than was owed.
    over = idle & (random.random(rows) < 0.02)
    due[over] = 0.0 - money(random.exponential(900, int(over.sum())), 3)
    no_drawings = (random.random(m) < 0.31)[one] & idle | (random.random(rows) < 0.05)
    no_payment = no_drawings & (random.random(rows) < 0.93) | (random.random(rows) < 0.03)
    no_instalments = random.random(rows) < column_of(_TABLE, "AMT_INST_MIN_REGULARITY").missing
    dpd, dpd_real = arrears(random, _chance(random, who, contracts, card)[one])
    dpd_real = np.where(random.random(rows) < 0.93, np.minimum(dpd_real, 1), dpd_real)
    status = column_of(_TABLE, "NAME_CONTRACT_STATUS")
    codes = np.full(rows, code_of(status, "Active"), dtype=np.int16)
    ended = (random.random(m) * 90)[one] < step * 0.22
    codes[ended & idle] = code_of(status, "Completed")
    codes[(step == 0) & (random.random(rows) < 0.09)] = code_of(status, "Signed")
    matured = np.floor(step * random.uniform(0.2, 1.0, m)[one])

    def unless(missing: Flags, values: Floats) -> Floats:
        return np.where(missing, np.nan, values)

    return {
        "SK_ID_PREV": contracts.ids[card][one],
        "SK_ID_CURR": who.ids[contracts.owner[card]][one],
        "MONTHS_BALANCE": step - months[one],
        "AMT_BALANCE": balance,
        "AMT_CREDIT_LIMIT_ACTUAL": limit.astype(np.int64),
        "AMT_DRAWINGS_ATM_CURRENT": unless(no_drawings, atm[1]),
        "AMT_DRAWINGS_CURRENT": money(drawn, 3),
        "AMT_DRAWINGS_OTHER_CURRENT": unless(no_drawings, other[1]),
        "AMT_DRAWINGS_POS_CURRENT": unless(no_drawings, pos[1]),
        "AMT_INST_MIN_REGULARITY": unless(no_instalments, least),
        "AMT_PAYMENT_CURRENT": unless(no_payment, paid),
        "AMT_PAYMENT_TOTAL_CURRENT": np.where(random.random(rows) < 0.1, 0.0, paid),
        "AMT_RECEIVABLE_PRINCIPAL": principal,
        "AMT_RECIVABLE": due,
        "AMT_TOTAL_RECEIVABLE": due,
        "CNT_DRAWINGS_ATM_CURRENT": unless(no_drawings, atm[0]),
        "CNT_DRAWINGS_CURRENT": (atm[0] + pos[0] + other[0]).astype(np.int64),
        "CNT_DRAWINGS_OTHER_CURRENT": unless(no_drawings, other[0]),
        "CNT_DRAWINGS_POS_CURRENT": unless(no_drawings, pos[0]),
        "CNT_INSTALMENT_MATURE_CUM": unless(no_instalments, matured),
        "NAME_CONTRACT_STATUS": coded(status, codes),
        "SK_DPD": dpd,
        "SK_DPD_DEF": dpd_real,
    }


def _drawings(
    random: np.random.Generator, idle: Flags, limit: Floats
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Give number and amount of drawings from machines, in shops and otherwise."""
    found = []
    for chance, mean, share, step in (
        (0.26, 1.0, 0.14, 4500),
        (0.22, 4.5, 0.06, 0),
        (0.007, 0.2, 0.1, 4500),
    ):
        draws = ~idle & (random.random(len(idle)) < chance)
        some = int(draws.sum())
        count, amount = np.zeros(len(idle)), np.zeros(len(idle))
        count[draws] = 1 + np.floor(random.exponential(mean, some))
        drawn = random.exponential(share, some) * np.sqrt(count[draws]) * limit[draws] + 90
        amount[draws] = np.maximum(np.round(drawn / step), 1) * step if step else money(drawn)
        found.append((count, amount))
    return found[0], found[1], found[2]


def _chance(
    random: np.random.Generator, who: Applicants, contracts: Contracts, card: Ints
) -> Floats:
    lateness = who.lateness[contracts.owner[card]]
    chance: Floats = np.minimum(
        0.018 * np.exp(0.9 * lateness + 0.9 * random.standard_normal(len(card))), 0.7
    )
    return chance
