"""Look-alike earlier applications with the same lender, and the contracts that came of them."""

from dataclasses import dataclass

import numpy as np

from features.home_credit.reference import reference
from features.home_credit.sample_application import Applicants
from features.home_credit.sample_draw import (
    MARKER,
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
)
from features.home_credit.sample_previous_words import draw_words

_TABLE = "previous_application"
_MORE = 4.05
"""Mean applications beyond the first, before the unlisted are taken out."""
_CARD_HOLDERS = 0.356
_UNLISTED = 0.04
"""Share of the contracts that `previous_application` does not list, as in the competition."""
_STATUSES = ("Approved", "Unused offer", "Canceled", "Refused")
# Their shares, for applications after the first.
_OUTCOMES = {
    "Consumer loans": (0.805, 0.04, 0.003, 0.152),
    "Cash loans": (0.31, 0.0, 0.42, 0.27),
    "Revolving loans": (0.0, 0.0, 0.45, 0.55),
}


@dataclass(frozen=True, slots=True)
class Contracts:
    """
    What came of m approved applications: keys, owners (index), terms and days.

    `start` is the day of approval, `first_due` and `end` those of the first instalment and of the
    last as it came about: days before the application, negative; `end` is 0 where the contract
    goes on. `term` is in instalments, 0 for the cards, which `card` marks.
    """

    ids: Ints
    owner: Ints
    card: Flags
    term: Ints
    annuity: Floats
    first_due: Floats
    end: Floats
    start: Floats


def draw_previous(
    random: np.random.Generator, who: Applicants, first_id: int
) -> tuple[Columns, Contracts, Floats, int]:
    """
    Draw `previous_application` of the applicants, keys from `first_id` up.

    Gives the table, the contracts, each applicant's share of refusals, and the next free key.
    """
    n = len(who.ids)
    more = random.negative_binomial(1.5, 1.5 / (1.5 + _MORE), n)
    counts = np.where(who.came_before, 1 + more, 0)
    owner, step = runs(counts)
    m = len(owner)
    holder = random.random(n) < _CARD_HOLDERS
    card = (holder & (counts > 1))[owner] & (step == 1)
    first = step == 0
    days = _days(random, owner)
    days[card] = _card_days(random, int(card.sum()))

    kinds = _kinds(random, card, first)
    status = _status(random, kinds, card, first, who.risk[owner])
    blank = _blank(random, kinds, status, card)
    amounts = _amounts(random, kinds, blank, who.wealth[owner])
    approved = status == _code("NAME_CONTRACT_STATUS", "Approved")
    dates, first_due, end = _dates(random, days, approved, card, amounts)

    table: Columns = {
        "SK_ID_PREV": first_id + np.arange(m),
        "SK_ID_CURR": who.ids[owner],
        "NAME_CONTRACT_TYPE": coded(column_of(_TABLE, "NAME_CONTRACT_TYPE"), kinds),
        **{name: amounts[name] for name in ("AMT_ANNUITY", "AMT_APPLICATION", "AMT_CREDIT")},
        **{name: amounts[name] for name in ("AMT_DOWN_PAYMENT", "AMT_GOODS_PRICE")},
        "WEEKDAY_APPR_PROCESS_START": _any(random, "WEEKDAY_APPR_PROCESS_START", m),
        "HOUR_APPR_PROCESS_START": _number(random, "HOUR_APPR_PROCESS_START", m),
        "FLAG_LAST_APPL_PER_CONTRACT": _any(random, "FLAG_LAST_APPL_PER_CONTRACT", m),
        "NFLAG_LAST_APPL_IN_DAY": _number(random, "NFLAG_LAST_APPL_IN_DAY", m),
        "RATE_DOWN_PAYMENT": amounts["RATE_DOWN_PAYMENT"],
        **_interest(random, m),
        **draw_words(random, kinds, status, blank, first, who.risk[owner]),
        "DAYS_DECISION": days.astype(np.int64),
        "CNT_PAYMENT": amounts["CNT_PAYMENT"],
        **dates,
    }
    missing = np.zeros(m, dtype=np.bool_)
    missing[approved] = random.random(int(approved.sum())) < _UNLISTED
    refused = np.bincount(
        owner, status == _code("NAME_CONTRACT_STATUS", "Refused"), minlength=n
    ) / np.maximum(counts, 1)
    made = Contracts(
        ids=(first_id + np.arange(m))[approved],
        owner=owner[approved],
        card=card[approved],
        term=np.where(card, 0, _term(amounts))[approved].astype(np.int64),
        annuity=amounts["AMT_ANNUITY"][approved],
        first_due=first_due[approved],
        end=end[approved],
        start=days[approved],
    )
    in_order = [column.name for column in reference()[_TABLE].columns]
    return {name: table[name][~missing] for name in in_order}, made, refused, first_id + m


def _code(name: str, value: str) -> np.int16:
    return code_of(column_of(_TABLE, name), value)


def _any(random: np.random.Generator, name: str, rows: int) -> Coded:
    column = column_of(_TABLE, name)
    return coded(column, pick(column, random.random(rows)))


def _number(random: np.random.Generator, name: str, rows: int) -> Ints:
    return np.rint(at_share(column_of(_TABLE, name), random.random(rows))).astype(np.int64)


def _days(random: np.random.Generator, owner: Ints) -> Floats:
    """Draw the days of decision, each applicant's earliest first."""
    days = np.rint(at_share(column_of(_TABLE, "DAYS_DECISION"), random.random(len(owner))))
    return days[np.lexsort((days, owner))]


def _card_days(random: np.random.Generator, cards: int) -> Floats:
    """Draw when the cards were got: some before the tables begin, the rest in later years."""
    months = np.where(
        random.random(cards) < 0.163, 95.5, np.clip(random.gamma(1.6, 15.8, cards), 2, 95)
    )
    return -np.rint(months * MONTH)


def _kinds(random: np.random.Generator, card: Flags, first: Flags) -> Codes:
    """Begin with the loan for goods most often; cards are what the holders got."""
    share = random.random(len(card))
    consumer, cash, revolving = (
        _code("NAME_CONTRACT_TYPE", name)
        for name in ("Consumer loans", "Cash loans", "Revolving loans")
    )
    later = np.select([share < 0.50, share < 0.93], [consumer, cash], revolving)
    kinds = np.where(first, np.where(share < 0.85, consumer, cash), later)
    return np.where(card, revolving, kinds).astype(np.int16)


def _status(
    random: np.random.Generator, kinds: Codes, card: Flags, first: Flags, risk: Floats
) -> Codes:
    """Approve the first application and the cards; of others, refuse the riskier more often."""
    share = share_below(0.35 * risk + 0.937 * random.standard_normal(len(risk)))
    status = np.empty(len(kinds), dtype=np.int16)
    codes = np.array([_code("NAME_CONTRACT_STATUS", name) for name in _STATUSES])
    for kind, shares in _OUTCOMES.items():
        rows = kinds == _code("NAME_CONTRACT_TYPE", kind)
        status[rows] = codes[np.searchsorted(np.cumsum(shares)[:-1], share[rows], side="right")]
    status[(first & (random.random(len(first)) < 0.97)) | card] = codes[0]
    return status


def _blank(random: np.random.Generator, kinds: Codes, status: Codes, card: Flags) -> Flags:
    """Mark applications that ended before an amount was asked for."""
    canceled = status == _code("NAME_CONTRACT_STATUS", "Canceled")
    refused = status == _code("NAME_CONTRACT_STATUS", "Refused")
    revolving = (kinds == _code("NAME_CONTRACT_TYPE", "Revolving loans")) & ~card
    chance = np.select([canceled, refused & revolving, refused], [0.98, 0.7, 0.1], 0.0)
    return random.random(len(kinds)) < chance


def _amounts(
    random: np.random.Generator, kinds: Codes, blank: Flags, wealth: Floats
) -> dict[str, Floats]:
    """Give amounts, term and down payment; a blank application has none."""
    m = len(kinds)
    consumer = kinds == _code("NAME_CONTRACT_TYPE", "Consumer loans")
    revolving = kinds == _code("NAME_CONTRACT_TYPE", "Revolving loans")
    lift = np.select([consumer, revolving], [-0.42, 0.55], 0.85)
    z = lift + 0.25 * wealth + 0.72 * random.standard_normal(m)
    goods = at_share(column_of(_TABLE, "AMT_GOODS_PRICE"), share_below(z))
    goods = np.where(consumer, money(goods), np.maximum(np.round(goods / 4500), 5) * 4500)
    # Larger loans run longer.
    z_term = 0.7 * z + 0.71 * random.standard_normal(m)
    term = np.maximum(at_share(column_of(_TABLE, "CNT_PAYMENT"), share_below(z_term + 0.05)), 4)
    term = np.where(term > 9, np.round(term / 6) * 6, np.round(term / 2) * 2)
    rate_column = column_of(_TABLE, "RATE_DOWN_PAYMENT")
    rate = at_share(rate_column, share_below(0.9 * random.standard_normal(m) - 0.25 * z - 0.2))
    down = np.where(random.random(m) < 0.3, money(goods * rate), np.round(goods * rate / 450) * 450)
    down = np.minimum(down, money(0.8 * goods))
    added = np.where(random.random(m) < 0.4, 0.0, random.beta(1.5, 6, m))
    lent = money((goods - np.where(consumer, down, 0.0)) * (1 + np.where(revolving, 0, added)), 1)
    yearly = random.beta(2, 4, m) * 0.6
    annuity = np.where(revolving, lent / 20, lent * (1 / term + yearly / 20))
    down, rate = np.where(consumer, down, 0.0), np.where(consumer, rate, 0.0)
    some_down = ~blank & ~revolving & (random.random(m) < np.where(consumer, 0.985, 0.13))
    values = {
        "AMT_ANNUITY": money(annuity, 3),
        "AMT_GOODS_PRICE": goods,
        "CNT_PAYMENT": np.where(revolving, 0.0, term),
    }
    values = {name: np.where(blank, np.nan, value) for name, value in values.items()}
    return values | {
        "AMT_APPLICATION": np.where(blank, 0.0, goods),
        "AMT_CREDIT": np.where(blank, 0.0, lent),
        "AMT_DOWN_PAYMENT": np.where(some_down, down, np.nan),
        "RATE_DOWN_PAYMENT": np.where(some_down, rate, np.nan),
    }


def _interest(random: np.random.Generator, rows: int) -> dict[str, Floats]:
    """Give the two rates of interest, which hardly any row has."""
    primary = column_of(_TABLE, "RATE_INTEREST_PRIMARY")
    known = random.random(rows) > primary.missing
    share = random.random(rows)
    return {
        name: np.where(known, at_share(column_of(_TABLE, name), share), np.nan)
        for name in ("RATE_INTEREST_PRIMARY", "RATE_INTEREST_PRIVILEGED")
    }


def _dates(
    random: np.random.Generator,
    days: Floats,
    approved: Flags,
    card: Flags,
    amounts: dict[str, Floats],
) -> tuple[dict[str, Floats], Floats, Floats]:
    """Give the days of contracts as the table shows them, and the real first and last due day."""
    m = len(days)
    first_due = np.minimum(days + 30 + random.integers(-14, 15, m), -1)
    planned = first_due + 30 * np.maximum(_term(amounts) - 1, 0)
    early = random.random(m) < 0.4
    length = np.where(early, random.beta(2, 1.6, m), 1.0) * (planned - first_due)
    end = np.rint(first_due + 30 * np.round(length / 30))
    goes_on = (end >= 0) | card
    shown = approved & (random.random(m) > 0.03)
    drawn = card & (random.random(m) < 0.8)
    last = np.where(goes_on, MARKER, end)
    gone = np.where(goes_on, MARKER, np.minimum(end + random.integers(2, 16, m), -1))
    insured = column_of(_TABLE, "NFLAG_INSURED_ON_APPROVAL")
    columns = {
        "DAYS_FIRST_DRAWING": np.where(
            drawn, np.minimum(days + np.rint(random.exponential(90, m)), -1), MARKER
        ),
        "DAYS_FIRST_DUE": np.where(card & ~drawn, MARKER, first_due),
        "DAYS_LAST_DUE_1ST_VERSION": np.where(card, MARKER, planned),
        "DAYS_LAST_DUE": last,
        "DAYS_TERMINATION": gone,
        "NFLAG_INSURED_ON_APPROVAL": at_share(insured, random.random(m)),
    }
    dates = {name: np.where(shown, value, np.nan) for name, value in columns.items()}
    return dates, first_due, np.where(goes_on, 0.0, end)


def _term(amounts: dict[str, Floats]) -> Floats:
    """Give the number of instalments; a year's where nothing is agreed."""
    return np.nan_to_num(amounts["CNT_PAYMENT"], nan=12.0)
