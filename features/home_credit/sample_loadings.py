"""How the columns of the look-alike application form hang together."""

from collections.abc import Mapping

FACTORS = ("risk", "age", "wealth", "loan", "home", "region", "commute", "social", "trouble")

# How a column leans on the factors, which are independent standard normals; the rest is its own.
LOADINGS: Mapping[str, Mapping[str, float]] = {
    "CODE_GENDER": {"age": -0.2, "wealth": 0.2, "risk": 0.15},
    "FLAG_OWN_CAR": {"wealth": 0.3, "age": -0.15, "risk": -0.05},
    "FLAG_OWN_REALTY": {"age": -0.15},
    "CNT_CHILDREN": {"age": -0.5},
    "AMT_INCOME_TOTAL": {"wealth": 0.75, "age": -0.1},
    "AMT_GOODS_PRICE": {"wealth": 0.5, "loan": 0.84, "age": 0.1, "risk": -0.1},
    "AMT_ANNUITY": {"wealth": 0.52, "loan": 0.66},
    "NAME_EDUCATION_TYPE": {"wealth": 0.35, "age": -0.15, "risk": -0.15},
    "NAME_FAMILY_STATUS": {"age": 0.5},
    "NAME_HOUSING_TYPE": {"age": -0.3, "risk": 0.1},
    "REGION_POPULATION_RELATIVE": {"region": -0.55, "wealth": 0.15},
    "DAYS_BIRTH": {"age": -1.0},
    "DAYS_EMPLOYED": {"age": -0.35, "risk": 0.2},
    "DAYS_REGISTRATION": {"age": -0.33, "risk": 0.05},
    "DAYS_ID_PUBLISH": {"age": -0.27, "risk": 0.07},
    "DAYS_LAST_PHONE_CHANGE": {"risk": 0.12},
    "OWN_CAR_AGE": {"wealth": -0.3, "risk": 0.1},
    "REGION_RATING_CLIENT": {"region": 0.97, "risk": 0.1},
    "REGION_RATING_CLIENT_W_CITY": {"region": 0.97, "risk": 0.1},
    "REG_REGION_NOT_LIVE_REGION": {"commute": 0.6},
    "REG_REGION_NOT_WORK_REGION": {"commute": 0.8},
    "LIVE_REGION_NOT_WORK_REGION": {"commute": 0.8},
    "REG_CITY_NOT_LIVE_CITY": {"commute": 0.5, "risk": 0.1, "age": -0.25},
    "REG_CITY_NOT_WORK_CITY": {"commute": 0.9, "risk": 0.1, "age": -0.2},
    "LIVE_CITY_NOT_WORK_CITY": {"commute": 0.9, "age": -0.2},
    "EXT_SOURCE_1": {"risk": -0.5, "age": 0.5},
    "EXT_SOURCE_2": {"risk": -0.5, "wealth": 0.12, "region": -0.1},
    "EXT_SOURCE_3": {"risk": -0.45, "age": 0.12},
    "OBS_30_CNT_SOCIAL_CIRCLE": {"social": 0.995},
    "OBS_60_CNT_SOCIAL_CIRCLE": {"social": 0.995},
    "DEF_30_CNT_SOCIAL_CIRCLE": {"social": 0.35, "trouble": 0.9, "risk": 0.15},
    "DEF_60_CNT_SOCIAL_CIRCLE": {"social": 0.35, "trouble": 0.9, "risk": 0.15},
    "AMT_REQ_CREDIT_BUREAU_YEAR": {"risk": 0.15},
}
# From low to high along the loadings; other columns go in the reference's order, common first.
ORDER = {
    "NAME_EDUCATION_TYPE": (
        "Lower secondary",
        "Secondary / secondary special",
        "Incomplete higher",
        "Higher education",
        "Academic degree",
    ),
    "NAME_FAMILY_STATUS": (
        "Single / not married",
        "Civil marriage",
        "Married",
        "Separated",
        "Widow",
    ),
}
