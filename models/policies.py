"""The policy file that a new release starts with: cut-offs, and reasons of its definition."""

from collections.abc import Sequence
from pathlib import Path

_TEXTS = Path(__file__).with_name("policy_texts")
"""
Knock-out rules and reasons, a file for each definition that has some.

A text names a direction only where the features' monotone constraints hold the model to it.
"""

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


def policy_text(definition: str, refer: float, decline: float, why: Sequence[str] = ()) -> str:
    """
    Write the policy of a new release.

    `refer` and `decline` are default probabilities, `why` lines that say how they were found.
    """
    lines = "".join(f"# {line}\n" for line in why)
    text = _HEAD.format(why=lines, refer=repr(float(refer)), decline=repr(float(decline)))
    own = _TEXTS / f"{definition}.toml"
    return text + own.read_text() if own.is_file() else text
