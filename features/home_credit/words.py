"""What columns and features of Home Credit mean, in words."""

from collections.abc import Mapping

from features.relational.expression import (
    Above,
    Across,
    Aggregate,
    Column,
    Difference,
    Equals,
    Expression,
    Quotient,
    Unless,
)

_APPLICATION = {
    "AMT_ANNUITY": "the loan's annuity",
    "AMT_CREDIT": "the credit asked for",
    "AMT_GOODS_PRICE": "the price of the goods that the loan is for",
    "AMT_INCOME_TOTAL": "the applicant's income",
    "AMT_REQ_CREDIT_BUREAU_DAY": "enquiries at the bureau, the day before but the last hour",
    "AMT_REQ_CREDIT_BUREAU_MON": "enquiries at the bureau, the month before but the last week",
    "AMT_REQ_CREDIT_BUREAU_QRT": "enquiries at the bureau, the quarter before but the last month",
    "AMT_REQ_CREDIT_BUREAU_WEEK": "enquiries at the bureau, the week before but the last day",
    "AMT_REQ_CREDIT_BUREAU_YEAR": "enquiries at the bureau, the year before but the last quarter",
    "CNT_CHILDREN": "children",
    "CNT_FAM_MEMBERS": "members of the family",
    "CODE_GENDER": "sex",
    "DAYS_BIRTH": "days from now to birth (negative)",
    "DAYS_EMPLOYED": "days from now to the start of employment (negative)",
    "DAYS_ID_PUBLISH": "days from now to when the identity document was changed",
    "DAYS_LAST_PHONE_CHANGE": "days from now to when the phone was changed",
    "DAYS_REGISTRATION": "days from now to when the registration was changed",
    "DEF_30_CNT_SOCIAL_CIRCLE": "acquaintances 30 days past due",
    "DEF_60_CNT_SOCIAL_CIRCLE": "acquaintances 60 days past due",
    "ELEVATORS_AVG": "lifts of the building, normalised average",
    "EXT_SOURCE_1": "the score of external source 1",
    "EXT_SOURCE_2": "the score of external source 2",
    "EXT_SOURCE_3": "the score of external source 3",
    "FLAG_EMAIL": "1 where an e-mail address was given",
    "FLAG_EMP_PHONE": "1 where an employer's phone was given",
    "FLAG_OWN_CAR": "owning a car",
    "FLAG_OWN_REALTY": "owning a house or flat",
    "FLAG_PHONE": "1 where a home phone was given",
    "FLAG_WORK_PHONE": "1 where a work phone was given",
    "FLOORSMAX_AVG": "floors of the building, normalised average",
    "FONDKAPREMONT_MODE": "the building's fund for repairs",
    "HOUR_APPR_PROCESS_START": "the hour of the application",
    "LIVE_CITY_NOT_WORK_CITY": "1 where home and work are in different cities",
    "LIVE_REGION_NOT_WORK_REGION": "1 where home and work are in different regions",
    "NAME_CONTRACT_TYPE": "the kind of loan",
    "NAME_EDUCATION_TYPE": "education",
    "NAME_FAMILY_STATUS": "family status",
    "NAME_HOUSING_TYPE": "housing",
    "NAME_INCOME_TYPE": "the kind of income",
    "NAME_TYPE_SUITE": "the company in which the applicant came",
    "OBS_30_CNT_SOCIAL_CIRCLE": "acquaintances whose 30 days past due can be seen",
    "OWN_CAR_AGE": "the car's age in years",
    "REGION_RATING_CLIENT": "the rating of the region, 1 (best) to 3",
    "REG_CITY_NOT_LIVE_CITY": "1 where registered and home address are in different cities",
    "REG_CITY_NOT_WORK_CITY": "1 where registered and work address are in different cities",
    "REG_REGION_NOT_LIVE_REGION": "1 where registered and home address are in different regions",
    "REG_REGION_NOT_WORK_REGION": "1 where registered and work address are in different regions",
    "WALLSMATERIAL_MODE": "the material of the building's walls",
    "WEEKDAY_APPR_PROCESS_START": "the weekday of the application",
}
_HISTORY = {
    ("bureau", "AMT_ANNUITY"): "annuity of a loan elsewhere",
    ("bureau", "AMT_CREDIT_SUM"): "amount of a loan elsewhere",
    ("bureau", "AMT_CREDIT_SUM_DEBT"): "debt on a loan elsewhere",
    ("bureau", "AMT_CREDIT_SUM_LIMIT"): "limit of a card elsewhere",
    ("bureau", "AMT_CREDIT_SUM_OVERDUE"): "amount overdue on a loan elsewhere",
    ("bureau", "CNT_CREDIT_PROLONG"): "times that a loan elsewhere was prolonged",
    ("bureau", "CREDIT_ACTIVE"): "state of a loan elsewhere",
    ("bureau", "CREDIT_DAY_OVERDUE"): "days overdue on a loan elsewhere",
    ("bureau", "DAYS_CREDIT"): "days from now to when a loan elsewhere was applied for",
    ("bureau", "DAYS_CREDIT_ENDDATE"): "days from now to the end of a loan elsewhere",
    ("bureau", "DAYS_CREDIT_UPDATE"): "days from now to the bureau's last news of a loan",
    ("bureau", "SK_ID_BUREAU"): "loans elsewhere",
    ("previous_application", "AMT_ANNUITY"): "annuity of a former application",
    ("previous_application", "AMT_APPLICATION"): "amount formerly asked for",
    ("previous_application", "AMT_CREDIT"): "amount formerly granted",
    ("previous_application", "AMT_DOWN_PAYMENT"): "down payment of a former application",
    ("previous_application", "AMT_GOODS_PRICE"): "price of the goods of a former application",
    ("previous_application", "CNT_PAYMENT"): "term of a former loan, in instalments",
    ("previous_application", "DAYS_DECISION"): "days from now to a former decision",
    ("previous_application", "DAYS_FIRST_DRAWING"): "days from now to a first drawing",
    ("previous_application", "DAYS_FIRST_DUE"): "days from now to a first due date",
    ("previous_application", "DAYS_LAST_DUE"): "days from now to a last due date",
    ("previous_application", "DAYS_TERMINATION"): "days from now to a termination",
    ("previous_application", "NAME_CONTRACT_STATUS"): "outcome of a former application",
    ("previous_application", "NFLAG_INSURED_ON_APPROVAL"): "wish for insurance (1)",
    ("previous_application", "RATE_DOWN_PAYMENT"): "down payment's share, normalised",
    ("previous_application", "SK_ID_PREV"): "former applications",
    ("POS_CASH_balance", "CNT_INSTALMENT"): "term of a loan of Home Credit's, in instalments",
    ("POS_CASH_balance", "CNT_INSTALMENT_FUTURE"): "instalments still to pay",
    ("POS_CASH_balance", "MONTHS_BALANCE"): "month of a balance, from now",
    ("POS_CASH_balance", "SK_DPD"): "days past due",
    ("POS_CASH_balance", "SK_DPD_DEF"): "days past due, low debts ignored",
    ("POS_CASH_balance", "SK_ID_PREV"): "monthly balances",
    ("installments_payments", "AMT_INSTALMENT"): "instalment due",
    ("installments_payments", "AMT_PAYMENT"): "instalment paid",
    ("installments_payments", "DAYS_ENTRY_PAYMENT"): "day of payment",
    ("installments_payments", "DAYS_INSTALMENT"): "due day of an instalment, from now",
    ("installments_payments", "NUM_INSTALMENT_NUMBER"): "number of an instalment",
    ("installments_payments", "NUM_INSTALMENT_VERSION"): "version of a payment calendar",
    ("installments_payments", "SK_ID_PREV"): "payments",
}
_OF_DERIVED = {
    "BUREAU_DEBT_TO_CREDIT_RATIO": "Debt on loans elsewhere over their amounts.",
    "CREDIT_TO_GOODS_RATIO": "The credit asked for over the price of the goods.",
    "DEBT_TO_INCOME_RATIO": "The credit asked for over income.",
    "HAS_CHILDREN": "1 where there are children.",
    "INCOME_PER_PERSON": "Income for each member of the family.",
    "PREV_APPROVAL_RATE": "Share of former applications that were approved.",
    "PREV_APP_CREDIT_RATIO": "Mean amount formerly asked for over the mean granted.",
    "TOTAL_DOCUMENTS_PROVIDED": "Documents that were provided, of 20 kinds.",
}
_HOW = {
    "min": "least",
    "max": "greatest",
    "sum": "sum of",
    "mean": "mean",
    "count": "number of",
    "nunique": "number of different",
}


def meaning(name: str, expression: Expression) -> str:
    """Say what a feature is; `name` helps where its formula alone would say little."""
    if name in _OF_DERIVED:
        return _OF_DERIVED[name]
    said = _said(expression)
    return f"{said[0].upper()}{said[1:]}."


def _said(expression: Expression) -> str:
    match expression:
        case Column(of="application", name=name):
            document = name.removeprefix("FLAG_DOCUMENT_")
            return _APPLICATION.get(name) or f"1 where document {document} was provided"
        case Column(of=table, name=name):
            return _HISTORY[table, name]
        case Unless(column=column):
            return _said(column)
        case Equals(column=column, category=category):
            return f"1 where {_said(column)} is {category!r}"
        case Across(how=how):
            return f"{_HOW[how]} of the three external scores"
        case Aggregate():
            return _aggregated(expression)
    raise AssertionError(expression)


def _aggregated(aggregate: Aggregate) -> str:
    how = _HOW[aggregate.how]
    match aggregate.value:
        case Equals(column=column, category=category):
            return f"number of cases where the {_said(column)} is {category!r}"
        case Above():
            return f"{'share' if aggregate.how == 'mean' else 'number'} of instalments paid late"
        case Difference(value=Column(name="AMT_PAYMENT")):
            return f"{how} paid less due, over instalments"
        case Difference():
            return f"{how} days past due, over instalments (early is negative)"
        case Quotient():
            return f"{how} paid over due, over instalments"
    return f"{how} {_said(aggregate.value)}"


def sources(expressions: Mapping[str, Expression]) -> Mapping[str, str]:
    """Give the raw columns of each feature, as table.column."""
    return {name: ", ".join(sorted(_columns(e))) for name, e in expressions.items()}


def _columns(expression: Expression) -> set[str]:
    if isinstance(expression, Column):
        return {f"{expression.of}.{expression.name}"}
    return set().union(*(_columns(inner) for inner in expression.inner))
