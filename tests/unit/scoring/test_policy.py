import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.taiwan_default import DEFINITION
from models.policies import policy_text
from scoring.decision import BANDS, OUTCOMES
from scoring.errors import InvalidPolicy
from scoring.policy import Policy

NAMES = ("late", "limit", "age")
POLICY = """
[cutoffs]
refer = 0.2
decline = 0.5

[[knock_outs]]
feature = "late"
at_least = 3
outcome = "decline"
code = "K01"
text = "Three months late."

[[knock_outs]]
feature = "limit"
below = 100.5
outcome = "refer"
code = "K02"
text = "A small limit."

[[reasons]]
code = "R01"
text = "Credit history."
features = ["late", "limit"]
"""


def a_row(late: float = 0, limit: float = 1000, age: float = 40) -> NDArray[np.float32]:
    return np.array([[late, limit, age]], dtype=np.float32)


def outcome(probability: float, row: NDArray[np.float32] | None = None, missing: int = 0) -> str:
    policy = Policy.parse(POLICY, NAMES)
    given_row = a_row() if row is None else row
    found = policy.outcomes(np.array([probability]), np.array([missing], dtype=bool), given_row)
    return OUTCOMES[int(found[0])]


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.0, "approve"),
        (np.nextafter(0.2, 0), "approve"),
        (0.2, "refer"),
        (np.nextafter(0.5, 0), "refer"),
        (0.5, "decline"),
        (1.0, "decline"),
    ],
)
def test_a_cutoff_belongs_to_the_worse_outcome(probability: float, expected: str) -> None:
    assert outcome(probability) == expected


def test_a_probability_that_is_nan_is_never_approved() -> None:
    assert outcome(np.nan) == "refer"


def test_without_features_the_outcome_is_what_the_policy_says() -> None:
    nothing = a_row(np.nan, np.nan, np.nan)

    assert outcome(np.nan, nothing, missing=1) == "refer"


@pytest.mark.parametrize(
    ("row", "probability", "expected"),
    [
        (a_row(late=3), 0.01, "decline"),
        (a_row(late=2), 0.01, "approve"),
        (a_row(limit=100), 0.01, "refer"),
        (a_row(limit=100), 0.9, "decline"),
        (a_row(limit=100.5), 0.01, "approve"),
        (a_row(late=np.nan, limit=np.nan), 0.01, "approve"),
    ],
)
def test_a_knock_out_makes_an_outcome_worse_and_never_better(
    row: NDArray[np.float32], probability: float, expected: str
) -> None:
    assert outcome(probability, row) == expected


def test_bands_are_low_below_30_percent_and_high_from_50_on() -> None:
    policy = Policy.parse(POLICY, NAMES)
    probability = np.array([0.0, np.nextafter(0.3, 0), 0.3, np.nextafter(0.5, 0), 0.5, 1.0])

    bands = [BANDS[index] for index in policy.bands(probability)]

    assert bands == ["low", "low", "medium", "medium", "high", "high"]


@given(st.lists(st.floats(0, 1) | st.just(np.nan), min_size=1, max_size=20))
def test_a_row_alone_is_decided_as_in_a_batch(probabilities: list[float]) -> None:
    policy = Policy.parse(POLICY, NAMES)
    batch = np.array(probabilities)
    rows = np.repeat(a_row(), len(batch), axis=0)

    together = policy.outcomes(batch, np.zeros(len(batch), dtype=bool), rows)

    assert [OUTCOMES[index] for index in together] == [outcome(p) for p in probabilities]


def test_features_of_one_code_count_together_under_the_strongest() -> None:
    policy = Policy.parse(POLICY, NAMES)

    (reasons,) = policy.reasons(a_row(), np.array([[0.2, 0.3, 0.4, -1.0]]))

    assert [(r.code, r.feature, round(r.contribution, 9)) for r in reasons] == [
        ("R01", "limit", 0.5),
        ("age", "age", 0.4),
    ]


def test_broken_rules_are_named_before_the_models_reasons() -> None:
    policy = Policy.parse(POLICY, NAMES)

    (reasons,) = policy.reasons(a_row(late=4, limit=7), np.array([[0.2, 0.3, 0.4, -1.0]]))

    assert [reason.code for reason in reasons] == ["K01", "K02", "R01", "age"]


def test_no_more_reasons_are_named_than_the_policy_allows() -> None:
    policy = Policy.parse("max_reasons = 1\n" + POLICY, NAMES)

    (reasons,) = policy.reasons(a_row(), np.array([[0.2, 0.3, 0.4, -1.0]]))

    assert len(reasons) == 1


def test_an_adverse_decision_that_nothing_speaks_for_still_names_a_reason() -> None:
    policy = Policy.parse(POLICY, NAMES)

    (reasons,) = policy.reasons(a_row(), np.array([[-0.2, -0.3, -0.1, 4.0]]))

    assert [reason.feature for reason in reasons] == ["age"]


def test_a_decision_that_was_not_explained_has_no_made_up_reason() -> None:
    assert list(Policy.parse(POLICY, NAMES).reasons(a_row(), np.zeros((1, 4)))) == [()]


@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=1, max_size=9))
def test_a_row_alone_has_the_reasons_that_it_has_in_a_batch(values: list[list[float]]) -> None:
    policy = Policy.parse(POLICY, NAMES)
    contributions = np.array(values)
    rows = np.repeat(a_row(late=4), len(values), axis=0)

    together = list(policy.reasons(rows, contributions))

    alone = [policy.reasons(rows[:1], contributions[i : i + 1])[0] for i in range(len(values))]
    assert together == alone


def test_no_rows_have_no_reasons() -> None:
    assert not Policy.parse(POLICY, NAMES).reasons(a_row()[:0], np.zeros((0, 4)))


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("refer = 0.2", "refer = 0.6", "cutoffs.decline"),
        ("refer = 0.2", "refer = nan", "cutoffs.refer"),
        ("refer = 0.2", "refer = -0.1", "cutoffs.refer"),
        ("decline = 0.5", "decline = 1.5", "cutoffs.decline"),
        ("[cutoffs]", "max_reasons = 0\n[cutoffs]", "policy.toml"),
        ("[cutoffs]", "[bands]\nmedium = 0.7\n[cutoffs]", "bands.high"),
        ("[cutoffs]", "[scorecard]\npoints_to_double = inf\n[cutoffs]", "scorecard.points"),
        ("[cutoffs]", "[scorecard]\nbase_score = nan\n[cutoffs]", "scorecard.base_score"),
        ("[cutoffs]", "[scorecard]\nbase_odds = 0\n[cutoffs]", "scorecard.base_odds"),
        ("[cutoffs]", "[cutofs]", "policy.toml"),
        ("[cutoffs]", "[cutoffs", "policy.toml"),
        ('feature = "late"', 'feature = "lat"', r"knock_outs\[0\].feature"),
        ("at_least = 3", "at_least = nan", r"knock_outs\[0\]"),
        ("at_least = 3", "at_least = 1e300", r"knock_outs\[0\]"),
        ("at_least = 3", "at_least = 3\nbelow = 2", r"knock_outs\[0\]"),
        ("at_least = 3", "", r"knock_outs\[0\]"),
        ('outcome = "refer"', 'outcome = "approve"', "policy.toml"),
        ('code = "K01"', 'code = ""', "policy.toml"),
        ('"late", "limit"]', '"late", "limits"]', r"reasons\[0\].features"),
        ('"late", "limit"]', '"late", "late"]', r"reasons\[0\].features"),
        (
            "[[reasons]]",
            '[[reasons]]\ncode = "R01"\ntext = "x"\nfeatures = []\n[[reasons]]',
            r"reasons\[1\].code",
        ),
    ],
)
def test_a_policy_that_is_none_is_refused_by_the_fields_name(old: str, new: str, path: str) -> None:
    assert old in POLICY

    with pytest.raises(InvalidPolicy, match=f"^policy {path}"):
        Policy.parse(POLICY.replace(old, new), NAMES)


def test_each_feature_of_the_example_speaks_for_a_reason() -> None:
    names = DEFINITION.schema.names
    policy = Policy.parse(policy_text(DEFINITION.name, 0.1, 0.5), names)

    for index, name in enumerate(names):
        contributions = np.zeros((1, len(names) + 1))
        contributions[0, index] = 1.0
        rows = np.zeros((1, len(names)), dtype=np.float32)
        ((reason,),) = policy.reasons(rows, contributions)
        assert reason.feature == name
        assert reason.code.startswith("R"), name


def test_the_words_of_a_code_are_the_policys() -> None:
    policy = Policy.parse(policy_text(DEFINITION.name, 0.1, 0.5), DEFINITION.schema.names)

    assert policy.text_of("R01") == "Recent payments were late."
    assert "overdue" in policy.text_of("K01")
    assert "No information" in policy.text_of("N01")
    assert policy.text_of("of another policy") == "of another policy"
