"""The policy file that a new release starts with: cut-offs, and reasons of its definition."""

from collections.abc import Sequence

_HEAD = """\
# The policy of a release: what follows from a default probability.

# What an application is decided without any features.
features_missing = "refer"
# The principal reasons that a decision names at most.
max_reasons = 4

[cutoffs]
# Approve below `refer`; decline from `decline` on; a person looks at what lies between.
{why}refer = {refer}
decline = {decline}

[bands]
# Low risk below `medium`, high risk from `high` on.
medium = 0.30
high = 0.50

[scorecard]
# An applicant who will repay with odds of 20 to 1 has 600 points; 20 points more double the odds.
base_score = 600
base_odds = 20
points_to_double = 20
"""

_KNOCK_OUTS = {
    "taiwan_default": """
[[knock_outs]]
feature = "months_late_latest"
at_least = 4
outcome = "decline"
code = "K01"
text = "The latest statement is four or more months overdue."
"""
}

_MONTHS = range(1, 7)


def _monthly(*names: str) -> list[str]:
    return [f"{name}_{month}" for name in names for month in _MONTHS]


# A text names a direction only where the features' monotone constraints hold the model to it.
_REASONS: dict[str, list[tuple[str, str, Sequence[str]]]] = {
    "taiwan_default": [
        (
            "R01",
            "Recent payments were late.",
            [
                "months_late_latest",
                "months_late_worst_recent",
                "months_late_count_recent",
                "months_late_consecutive",
                "status_1",
                "status_2",
                "status_3",
            ],
        ),
        (
            "R02",
            "Payments were late over the last six months.",
            [
                "months_late_count",
                "months_late_total",
                "months_late_worst",
                "status_4",
                "status_5",
                "status_6",
                "status_change",
            ],
        ),
        (
            "R03",
            "How much of the credit limit is used.",
            ["utilisation_mean", "utilisation_max", "headroom", *_monthly("utilisation")],
        ),
        (
            "R04",
            "How the balance has changed.",
            ["utilisation_trend", *_monthly("bill_change")[:5]],
        ),
        (
            "R05",
            "Payments are small against what was owed.",
            [
                "payment_ratio_mean",
                "payment_ratio_min",
                "payment_ratio_trend",
                "underpaid_months",
                *_monthly("payment_ratio")[:5],
            ],
        ),
        (
            "R06",
            "Payments are small against the credit limit.",
            [
                "paid_mean",
                "paid_min",
                "paid_of_limit_mean",
                "paid_of_limit_latest",
                *_monthly("paid"),
            ],
        ),
        ("R07", "The credit limit granted so far is low.", ["limit", "limit_per_age"]),
        ("R08", "The level of the balances owed.", ["bill_mean", "bill_max", *_monthly("bill")]),
        (
            "R09",
            "How the account has been used.",
            ["months_not_used", "months_paid_in_full", "months_revolving"],
        ),
        ("R10", "The level of education that the application gives.", ["education"]),
        ("R11", "The applicant's age.", ["age"]),
    ]
}


def policy_text(definition: str, refer: float, decline: float, why: Sequence[str] = ()) -> str:
    """
    Write the policy of a new release.

    `refer` and `decline` are default probabilities, `why` lines that say how they were found.
    """
    lines = "".join(f"# {line}\n" for line in why)
    text = _HEAD.format(why=lines, refer=repr(float(refer)), decline=repr(float(decline)))
    text += _KNOCK_OUTS.get(definition, "")
    for code, words, features in _REASONS.get(definition, []):
        listed = "".join(f'  "{feature}",\n' for feature in features)
        text += f'\n[[reasons]]\ncode = "{code}"\ntext = "{words}"\nfeatures = [\n{listed}]\n'
    return text
