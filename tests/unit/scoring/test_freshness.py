"""Age of feature rows: counted to the submission, and what a policy makes of it."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.table import FeatureTable
from features.taiwan_default import DEFINITION
from models.policies import policy_text
from scoring.booster import BoosterScorer
from scoring.decision import FEATURE_SOURCES, NO_TIME, Decision, age_s
from scoring.errors import InvalidPolicy
from scoring.freshness import Freshness
from scoring.pipeline import Decided, Pipeline
from scoring.policy import NO_FEATURES, Policy
from scoring.reasons import Reason
from tests.builders import NOW_MS, SUBMITTED, a_model_text, a_poll, an_event, raw_columns

DAY = timedelta(days=1)
SUBMITTED_AT = datetime.fromisoformat(SUBMITTED)
TABLE, COMPUTED, MISSING = range(len(FEATURE_SOURCES))
OUT_OF_DATE = Reason("F01", "", 0.0, "The information held about the applicant is out of date.")

WORD = 'max_age_days = 35\nstale = "refer"'
OF_TABLE, UNKNOWN = 2, 99


def a_policy(freshness: str, refer: float = 0.3) -> Policy:
    text = policy_text(DEFINITION.name, refer, 0.5) + f"\n[freshness]\n{freshness}\n"
    return Policy.parse(text, DEFINITION.schema.names)


def a_table(as_of: datetime | None) -> FeatureTable:
    matrix = DEFINITION.compute(raw_columns(40))
    return FeatureTable(DEFINITION.schema, np.arange(40), matrix, as_of=as_of)


def decide(
    stale: str, age: timedelta | None, *, explain: bool = True, attributes: bool = False
) -> Decided:
    """Decide every applicant of the table, aged so, under a policy of at most 35 days."""
    table = a_table(None if age is None else SUBMITTED_AT - age)
    policy = a_policy(WORD.replace("refer", stale))
    pipeline = Pipeline(
        release="r",
        definition=DEFINITION,
        table=table,
        scorer=BoosterScorer(a_model_text(), DEFINITION.schema),
        policy=policy,
        explain=explain,
    )
    changes = {} if attributes else {"attributes": None}
    keys = [*range(1, 40), UNKNOWN]
    events = [an_event(event_id=f"e-{key}", application_id=key, **changes) for key in keys]
    return pipeline.decide(a_poll(*events), NOW_MS * 1000)


def decisions(decided: Decided) -> dict[int, Decision]:
    return {decision.application_id: decision for decision in decided.batch.decisions()}


def test_a_stale_row_is_referred_at_least_with_its_age_as_the_first_reason() -> None:
    fresh, stale = decisions(decide("refer", 35 * DAY)), decisions(decide("refer", 36 * DAY))

    outcomes = {decision.outcome for decision in fresh.values()}
    assert outcomes >= {"approve", "decline"}
    for key, before in fresh.items():
        after = stale[key]
        if key == UNKNOWN:
            assert after == before
            continue
        assert (before.features_age_s, before.features_stale) == (35 * 86_400, False)
        assert (after.features_age_s, after.features_stale) == (36 * 86_400, True)
        assert after.outcome == ("refer" if before.outcome == "approve" else before.outcome)
        assert after.reasons[0] == OUT_OF_DATE
        assert after.default_probability == before.default_probability
        if before.outcome != "approve":
            assert after.reasons[1:] == before.reasons[:3]


def test_a_row_is_stale_after_the_last_microsecond_of_its_age() -> None:
    microsecond = timedelta(microseconds=1)

    assert not decide("refer", 35 * DAY).batch.features_stale.any()
    assert decide("refer", 35 * DAY + microsecond).batch.features_stale[:-1].all()


def test_a_stale_row_is_recomputed_where_the_event_carries_attributes() -> None:
    decided = decide("recompute", 36 * DAY, attributes=True)

    for decision in decisions(decided).values():
        assert decision.feature_source == "computed"
        assert decision.features_as_of == decision.submitted_at
        assert (decision.features_age_s, decision.features_stale) == (0.0, False)
    assert decided.stale == {"refer": 0, "recompute": 39, "note": 0}
    assert len({row.tobytes() for row in decided.batch.features}) == 1


def test_a_row_that_is_not_stale_is_the_table_s_whatever_the_event_carries() -> None:
    decided = decide("recompute", 35 * DAY, attributes=True)

    assert np.array_equal(decided.batch.feature_sources, [TABLE] * 39 + [COMPUTED])
    assert decided.stale == {"refer": 0, "recompute": 0, "note": 0}


def test_a_stale_row_that_cannot_be_recomputed_is_referred() -> None:
    recomputed, referred = decide("recompute", 36 * DAY), decide("refer", 36 * DAY)

    assert decisions(recomputed) == decisions(referred)
    assert recomputed.stale == referred.stale == {"refer": 39, "recompute": 0, "note": 0}


def test_a_note_changes_nothing_but_the_note() -> None:
    fresh, stale = decisions(decide("note", DAY)), decide("note", 36 * DAY)

    for key, decision in decisions(stale).items():
        before = fresh[key]
        assert (decision.outcome, decision.reasons) == (before.outcome, before.reasons)
        assert decision.features_stale == (key != UNKNOWN)
    assert stale.stale == {"refer": 0, "recompute": 0, "note": 39}


def test_a_row_of_unknown_age_is_stale() -> None:
    decided = decide("refer", None)

    decision = decisions(decided)[OF_TABLE]
    assert (decision.features_age_s, decision.features_stale) == (None, True)
    assert decision.outcome != "approve"


def test_a_row_from_after_the_submission_is_not_stale_and_its_age_is_negative() -> None:
    decision = decisions(decide("refer", -2 * DAY))[OF_TABLE]

    assert (decision.features_age_s, decision.features_stale) == (-2 * 86_400, False)


def test_an_age_is_a_reason_also_where_no_explanation_was_asked_for() -> None:
    decided = decide("refer", 36 * DAY, explain=False)

    found = {decision.reasons[:1] for decision in decisions(decided).values()}
    assert found == {(OUT_OF_DATE,), (Reason(NO_FEATURES.code, "", 0.0, NO_FEATURES.text),)}


def test_without_a_word_on_age_no_row_is_stale() -> None:
    text = policy_text(DEFINITION.name, 0.3, 0.5)

    assert Policy.parse(text, DEFINITION.schema.names).freshness is None


def test_the_clock_has_no_part_in_it() -> None:
    table = a_table(SUBMITTED_AT - 36 * DAY)
    pipeline = Pipeline(
        release="r",
        definition=DEFINITION,
        table=table,
        scorer=BoosterScorer(a_model_text(), DEFINITION.schema),
        policy=a_policy('max_age_days = 36.5\nstale = "refer"'),
    )
    poll = a_poll(an_event(application_id=OF_TABLE))

    first, again = (pipeline.decide(poll, at).batch for at in (NOW_MS * 1000, NOW_MS * 2000))

    assert first.features_stale.tolist() == again.features_stale.tolist() == [False]
    assert first.features_age_s.tolist() == again.features_age_s.tolist()


instants = st.integers(-(10**15), 3 * 10**15)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([TABLE, COMPUTED, MISSING]), instants, instants), min_size=1
    ),
    days=st.floats(1e-6, 36_500),
)
def test_a_row_alone_is_as_stale_as_in_a_batch_and_never_younger_than_its_limit(
    rows: list[tuple[int, int, int]], days: float
) -> None:
    freshness = Freshness(max_age_days=days, stale="refer")
    sources = np.array([row[0] for row in rows], dtype=np.uint8)
    submitted, as_of = (np.array([row[at] for row in rows]) for at in (1, 2))

    stale = freshness.is_stale(sources, submitted, as_of)

    for at in range(len(rows)):
        one = slice(at, at + 1)
        alone = freshness.is_stale(sources[one], submitted[one], as_of[one])
        assert alone[0] == stale[at]
    ages = age_s(submitted, as_of)
    old = sources == TABLE
    known = as_of != NO_TIME
    limit = days * 86_400
    assert (ages[stale & known] > limit - 1e-3).all()
    assert (ages[~stale & old & known] < limit + 1e-3).all()
    assert stale[old & ~known].all()
    assert not stale[~old].any()


@pytest.mark.parametrize(
    ("freshness", "path"),
    [
        ('max_age_days = 0\nstale = "refer"', "freshness.max_age_days"),
        ('max_age_days = -1\nstale = "refer"', "freshness.max_age_days"),
        ('max_age_days = nan\nstale = "refer"', "freshness.max_age_days"),
        ('max_age_days = inf\nstale = "refer"', "freshness.max_age_days"),
        ("max_age_days = 35", "policy.toml"),
        ('stale = "refer"', "policy.toml"),
        ('max_age_days = 35\nstale = "decline"', "policy.toml"),
        ('max_age_days = 35\nstale = "refer"\ncode = ""', "policy.toml"),
        ('max_age_days = 35\nstale = "refer"\nmax_days = 1', "policy.toml"),
        ('max_age_days = 35\nstale = "refer"\ncode = "R01"', r"reasons\[0\].code"),
    ],
)
def test_a_word_on_age_that_is_none_is_refused_by_the_fields_name(
    freshness: str, path: str
) -> None:
    with pytest.raises(InvalidPolicy, match=f"^policy {path}"):
        a_policy(freshness)


def test_code_and_text_are_the_policys() -> None:
    policy = a_policy('max_age_days = 35\nstale = "refer"\ncode = "A9"\ntext = "Too old."')

    assert policy.text_of("A9") == "Too old."
    (reasons,) = policy.reasons(
        DEFINITION.compute(raw_columns(1)),
        np.zeros((1, len(DEFINITION.schema.names) + 1)),
        np.array([True]),
    )
    assert Reason("A9", "", 0.0, "Too old.") in reasons
