"""The look-alike label: who fails to repay, from what the tables show and from chance."""

from dataclasses import dataclass

import numpy as np

from features.home_credit.sample_application import Applicants
from features.home_credit.sample_bureau import Loans
from features.home_credit.sample_draw import Coded, Columns, Floats, Ints

_INTERCEPT = -3.26
_SCALE = 0.82


@dataclass(frozen=True, slots=True)
class Seen:
    """What the label depends on: the tables' part, by applicant (float64[n] or by loan)."""

    form: Columns
    sources: dict[str, Floats]
    loans: Loans
    refused_share: Floats
    late_share: Floats


def default_probability(who: Applicants, seen: Seen) -> Floats:
    """
    Give the probability of default, float64[n]: logistic in the terms below, 0.08 on average.

    The external sources count also where the form lacks them: they are what the client is like.
    """
    form = seen.form
    n = len(who.ids)
    active = np.bincount(seen.loans.owner, seen.loans.active, minlength=n)
    debt = np.bincount(seen.loans.owner, seen.loans.debt, minlength=n)
    credit = np.bincount(seen.loans.owner, seen.loans.credit, minlength=n)
    price = np.nan_to_num(_floats(form, "AMT_GOODS_PRICE"), nan=np.inf)
    lent = _floats(form, "AMT_CREDIT")
    employed = _floats(form, "DAYS_EMPLOYED")
    years = np.where(employed > 0, 8.0, -employed / 365.25)
    terms = [
        -0.30 * seen.sources["EXT_SOURCE_1"],
        -0.55 * seen.sources["EXT_SOURCE_2"],
        -0.55 * seen.sources["EXT_SOURCE_3"],
        0.012 * (44 + _floats(form, "DAYS_BIRTH") / 365.25),
        -0.16 * np.log1p(years),
        2.0 * (np.where(price < np.inf, lent / price, 1.0) - 1.12),
        4.0 * (_floats(form, "AMT_ANNUITY") / lent - 0.055),
        0.08 * np.minimum(active, 8),
        0.45 * np.minimum(debt / (credit + 1), 1),
        0.8 * seen.refused_share,
        2.6 * seen.late_share,
        0.15 * (_floats(form, "REGION_RATING_CLIENT") - 2),
        0.18 * (_codes(form, "CODE_GENDER") == 1),
        -0.22 * (_codes(form, "NAME_EDUCATION_TYPE") == 1),
        0.15 * np.minimum(np.nan_to_num(_floats(form, "DEF_30_CNT_SOCIAL_CIRCLE")), 3),
        0.15 * ~who.in_bureau,
    ]
    logit = _SCALE * np.sum(terms, axis=0) + _INTERCEPT
    probability: Floats = 1 / (1 + np.exp(-logit))
    return probability


def draw_label(random: np.random.Generator, probability: Floats) -> Ints:
    """Draw TARGET: 1 where the applicant had difficulties to repay."""
    return (random.random(len(probability)) < probability).astype(np.int64)


def _floats(form: Columns, name: str) -> Floats:
    column = form[name]
    assert not isinstance(column, Coded)
    return column.astype(np.float64)


def _codes(form: Columns, name: str) -> Ints:
    column = form[name]
    assert isinstance(column, Coded)
    return column.codes.astype(np.int64)
