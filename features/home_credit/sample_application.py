"""Look-alike applicants: what drives them, and their application form."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.home_credit.reference import ColumnReference, reference
from features.home_credit.sample_draw import (
    MARKER,
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
    share_below,
)
from features.home_credit.sample_loadings import FACTORS, LOADINGS, ORDER

_TABLE = "application"
_PENSIONERS = 0.183

_HOME_TEXTS = ("FONDKAPREMONT_MODE", "HOUSETYPE_MODE", "WALLSMATERIAL_MODE", "EMERGENCYSTATE_MODE")
_HOME_ENDS = ("_AVG", "_MODE", "_MEDI")


@dataclass(frozen=True, slots=True)
class Applicants:
    """
    n applicants: their keys, and what their histories and labels are drawn from.

    The risk, the lateness and the wealth are standard normals that no table shows.
    """

    ids: Ints
    risk: Floats
    lateness: Floats
    wealth: Floats
    in_bureau: Flags
    came_before: Flags


def draw_applicants(random: np.random.Generator, ids: Ints) -> Applicants:
    """Draw the applicants of the keys int64[n]."""
    n = len(ids)
    risk = random.standard_normal(n)
    return Applicants(
        ids=ids,
        risk=risk,
        lateness=0.5 * risk + np.sqrt(0.75) * random.standard_normal(n),
        wealth=random.standard_normal(n),
        in_bureau=random.random(n) < 0.862,
        came_before=random.random(n) < 0.954,
    )


def draw_application(
    random: np.random.Generator, who: Applicants
) -> tuple[Columns, dict[str, Floats]]:
    """
    Fill in the application forms of n applicants, without TARGET.

    Gives the columns in file order, and of the three external sources the standard normals
    behind their values, also where the form lacks them.
    """
    z = _normals(random, who)
    values: dict[str, Floats] = {}
    codes: dict[str, Codes] = {}
    columns = [column for column in reference()[_TABLE].columns if column.name in z]
    for column in columns:
        share = share_below(z[column.name])
        if column.kind == "string":
            codes[column.name] = pick(column, share, order=ORDER.get(column.name, ()))
        else:
            values[column.name] = at_share(column, share)
    _work(random, z, values, codes)
    _family(z, values, codes)
    _loan(random, values, codes)
    _documents(random, values)
    _missing(random, who, values, codes)
    form: Columns = {"SK_ID_CURR": who.ids}
    for column in columns:
        if column.kind == "string":
            form[column.name] = coded(column, codes[column.name])
        else:
            form[column.name] = _number(column, values[column.name])
    return form, {name: z[name] for name in z if name.startswith("EXT_SOURCE")}


def _normals(random: np.random.Generator, who: Applicants) -> dict[str, Floats]:
    """Draw a standard normal for each column, correlated by the loadings."""
    n = len(who.ids)
    factors = {name: random.standard_normal(n) for name in FACTORS}
    factors |= {"risk": who.risk, "wealth": who.wealth}
    of_home: dict[str, Floats] = {}
    z: dict[str, Floats] = {}
    for column in reference()[_TABLE].columns:
        name = column.name
        if name in ("SK_ID_CURR", "TARGET"):
            continue
        own = random.standard_normal(n)
        if name.endswith(_HOME_ENDS) and name not in _HOME_TEXTS:
            base = of_home.setdefault(name.rsplit("_", 1)[0], random.standard_normal(n))
            z[name] = 0.6 * factors["home"] + np.sqrt(0.63) * base + 0.1 * own
            continue
        loadings = LOADINGS.get(name, {})
        rest = max(0.0, 1 - sum(loading**2 for loading in loadings.values()))
        z[name] = np.sqrt(rest) * own + sum(w * factors[name] for name, w in loadings.items())
    return z


def _work(
    random: np.random.Generator,
    z: Mapping[str, Floats],
    values: dict[str, Floats],
    codes: dict[str, Codes],
) -> None:
    """Retire the oldest, who have no employer; others work, for no longer than they could."""
    retired = share_below(
        -0.93 * z["DAYS_BIRTH"] + 0.37 * random.standard_normal(len(z["AMT_ANNUITY"]))
    )
    pensioner = retired > 1 - _PENSIONERS
    income = column_of(_TABLE, "NAME_INCOME_TYPE")
    working = [name for name in income.categories if name not in ("Pensioner", "Unemployed")]
    codes["NAME_INCOME_TYPE"] = np.where(
        pensioner,
        np.where(
            random.random(len(pensioner)) < 0.998,
            code_of(income, "Pensioner"),
            code_of(income, "Unemployed"),
        ),
        pick(income, share_below(z["NAME_INCOME_TYPE"]), only=working),
    )
    employed = column_of(_TABLE, "DAYS_EMPLOYED").quantiles
    shares = [share for share in employed if employed[share] <= 0]
    days = np.interp(
        share_below(z["DAYS_EMPLOYED"]) * (1 - _PENSIONERS),
        [*shares, 1 - _PENSIONERS],
        [*(employed[share] for share in shares), -20.0],
    )
    days = np.maximum(days, values["DAYS_BIRTH"] + 17 * 365)
    values["DAYS_EMPLOYED"] = np.where(pensioner, MARKER, days)
    values["FLAG_EMP_PHONE"] = np.where(pensioner, 0.0, 1.0)
    organisation = column_of(_TABLE, "ORGANIZATION_TYPE")
    named = [name for name in organisation.categories if name != "XNA"]
    codes["ORGANIZATION_TYPE"] = np.where(
        pensioner,
        code_of(organisation, "XNA"),
        pick(organisation, share_below(z["ORGANIZATION_TYPE"]), only=named),
    )
    silent = (column_of(_TABLE, "OCCUPATION_TYPE").missing - _PENSIONERS) / (1 - _PENSIONERS)
    unsaid = pensioner | (random.random(len(pensioner)) < silent)
    codes["OCCUPATION_TYPE"] = np.where(unsaid, np.int16(-1), codes["OCCUPATION_TYPE"])
    for name in ("DAYS_REGISTRATION", "DAYS_ID_PUBLISH"):
        values[name] = np.maximum(values[name], values["DAYS_BIRTH"])


def _family(z: Mapping[str, Floats], values: dict[str, Floats], codes: dict[str, Codes]) -> None:
    """Give couples more children than others, and count the family."""
    status = column_of(_TABLE, "NAME_FAMILY_STATUS")
    couple = np.isin(
        codes["NAME_FAMILY_STATUS"],
        [code_of(status, name) for name in ("Married", "Civil marriage")],
    )
    share = share_below(z["CNT_CHILDREN"])
    share = np.where(
        couple,
        np.interp(share, [0, 0.66, 1], [0, 0.708, 1]),
        np.interp(share, [0, 0.84, 1], [0, 0.708, 1]),
    )
    values["CNT_CHILDREN"] = at_share(column_of(_TABLE, "CNT_CHILDREN"), share)
    values["CNT_FAM_MEMBERS"] = values["CNT_CHILDREN"] + 1 + couple


def _loan(random: np.random.Generator, values: dict[str, Floats], codes: dict[str, Codes]) -> None:
    """Lend the price of the goods, often with an insurance; cards ask a twentieth a month."""
    n = len(values["AMT_GOODS_PRICE"])
    revolving = codes["NAME_CONTRACT_TYPE"] == 1
    goods = np.maximum(np.round(values["AMT_GOODS_PRICE"] / 4500), 9) * 4500
    added = np.where(random.random(n) < 0.3, 0.0, 0.05 + 0.3 * random.beta(1.6, 2.4, n))
    credit = np.round(goods * (1 + np.where(revolving, 0.0, added)) * 2) / 2
    annuity = np.clip(values["AMT_ANNUITY"], credit * 0.021, credit * 0.125)
    values["AMT_INCOME_TOTAL"] = np.maximum(np.round(values["AMT_INCOME_TOTAL"] / 4500), 6) * 4500
    values["AMT_GOODS_PRICE"] = np.where(
        revolving & (random.random(n) < column_of(_TABLE, "AMT_GOODS_PRICE").missing / 0.0933),
        np.nan,
        goods,
    )
    values["AMT_CREDIT"] = credit
    values["AMT_ANNUITY"] = np.round(np.where(revolving, credit / 20, annuity) * 2) / 2


def _documents(random: np.random.Generator, values: dict[str, Floats]) -> None:
    """Ask for one of the four usual documents at most; the rare ones stand as they are drawn."""
    share = random.random(len(values["FLAG_DOCUMENT_3"]))
    low = 0.0
    for name in ("FLAG_DOCUMENT_3", "FLAG_DOCUMENT_6", "FLAG_DOCUMENT_8", "FLAG_DOCUMENT_5"):
        high = low + column_of(_TABLE, name).categories["1"]
        values[name] = ((low <= share) & (share < high)).astype(np.float64)
        low = high


def _missing(
    random: np.random.Generator,
    who: Applicants,
    values: dict[str, Floats],
    codes: dict[str, Codes],
) -> None:
    """Take away what real forms lack, together where they lack it together."""
    n = len(who.ids)
    no_car = codes["FLAG_OWN_CAR"] == 0
    known = {"OWN_CAR_AGE", "AMT_GOODS_PRICE", "OCCUPATION_TYPE"}
    values["OWN_CAR_AGE"][no_car] = np.nan
    of_home, of_circle = random.random(n), random.random(n)
    # Who has no history in the bureau lacks what comes from there.
    of_bureau = np.where(who.in_bureau, 0.014, 0.9) > random.random(n)
    of_third = np.where(who.in_bureau, 0.102, 0.8) > random.random(n)
    for column in reference()[_TABLE].columns:
        name = column.name
        if column.missing == 0 or name in known:
            continue
        if name.startswith("AMT_REQ_CREDIT"):
            lacks = of_bureau
        elif name == "EXT_SOURCE_3":
            lacks = of_third
        elif name.endswith("SOCIAL_CIRCLE"):
            lacks = of_circle < column.missing
        elif name.endswith(_HOME_ENDS):
            lacks = of_home < column.missing
        else:
            lacks = random.random(n) < column.missing
        if column.kind == "string":
            codes[name][lacks] = -1
        else:
            values[name][lacks] = np.nan


def _number(column: ColumnReference, values: Floats) -> Floats | Ints:
    if column.kind == "int64":
        return np.rint(values).astype(np.int64)
    if column.name.startswith(("CNT", "DAYS", "OWN", "OBS", "DEF", "AMT_REQ")):
        return np.rint(values) + 0.0
    if column.name.endswith(_HOME_ENDS):
        return money(values, 4)
    if column.name.startswith("REGION"):
        return money(values, 6)
    return values
