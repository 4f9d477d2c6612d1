from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.table import FeatureTable
from features.taiwan_default import DEFINITION
from scoring.booster import BoosterScorer
from scoring.byte_strings import ByteStrings
from scoring.pipeline import Decided
from scoring.reasons import Reasons
from scoring.recent import RecentEvents
from tests.builders import (
    ATTRIBUTES,
    NOW_MS,
    a_model_text,
    a_pipeline,
    a_poll,
    an_event,
    raw_columns,
)

PIPELINE = a_pipeline()


def test_an_applicant_of_the_table_has_the_tables_features() -> None:
    decided = PIPELINE.decide(a_poll(an_event(application_id=7)), NOW_MS * 1000)

    decision = next(decided.batch.decisions())
    assert decision.feature_source == "table"
    assert np.array_equal(decided.batch.features[0], PIPELINE.table.matrix[0])


def test_each_applicant_of_the_table_has_the_date_of_its_own_row() -> None:
    first, second = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, 3, tzinfo=UTC)
    dates = np.array(
        [int(second.timestamp()) * 1_000_000, int(first.timestamp()) * 1_000_000], dtype=np.int64
    )
    table = FeatureTable(
        DEFINITION.schema,
        np.array([9, 7]),
        DEFINITION.compute(raw_columns(2)),
        as_of=second,
        row_as_of_us=dates,
    )
    poll = a_poll(*(an_event(application_id=key, attributes=None) for key in (7, 8, 9)))

    decisions = a_pipeline(table).decide(poll, NOW_MS * 1000).batch.decisions()

    assert [decision.features_as_of for decision in decisions] == [first, None, second]


def test_an_unknown_applicants_features_are_computed_from_the_event() -> None:
    decided = PIPELINE.decide(a_poll(an_event(application_id=8)), NOW_MS * 1000)

    columns = {name: np.array([float(value)]) for name, value in ATTRIBUTES.items()}
    assert next(decided.batch.decisions()).feature_source == "computed"
    assert np.array_equal(decided.batch.features, DEFINITION.compute(columns))


def test_an_unknown_applicant_without_attributes_is_referred_without_a_score() -> None:
    poll = a_poll(an_event(application_id=8, attributes=None))

    decision = next(PIPELINE.decide(poll, NOW_MS * 1000).batch.decisions())

    assert (decision.outcome, decision.feature_source) == ("refer", "missing")
    assert (decision.default_probability, decision.score, decision.risk_band) == (None, None, None)
    assert [reason.code for reason in decision.reasons] == ["N01"]


def test_a_probability_is_lightgbms_to_the_last_bit() -> None:
    decided = PIPELINE.decide(a_poll(an_event(), an_event(application_id=8)), 0)

    scorer = BoosterScorer(a_model_text(), DEFINITION.schema)
    expected = scorer.default_probability(decided.batch.features)
    assert np.array_equal(decided.batch.default_probability, expected)


def test_the_same_event_has_the_same_decision_id_under_any_offset() -> None:
    first = PIPELINE.decide(a_poll(an_event()), 0).batch.decision_ids
    second = PIPELINE.decide(a_poll(b"{", an_event()), 5).batch.decision_ids

    assert list(first) == list(second)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from([7, 8, 9]).map(lambda key: an_event(application_id=key))
        | st.binary(max_size=20)
        | st.none()
        | st.just(an_event(application_id=10, attributes=None)),
        max_size=12,
    )
)
def test_each_record_is_decided_or_parked_and_alone_as_in_the_batch(
    values: list[bytes | dict[str, object] | None],
) -> None:
    together = PIPELINE.decide(a_poll(*values), 0)

    offsets = [*together.batch.offsets.tolist(), *(r.position for r in together.rejections)]
    assert sorted(offsets) == list(range(len(values)))
    for row, offset in enumerate(together.batch.offsets.tolist()):
        alone = PIPELINE.decide(a_poll(values[offset]), 0).batch
        assert alone.features.tobytes() == together.batch.features[row : row + 1].tobytes()
        assert alone.outcomes[0] == together.batch.outcomes[row]
        assert alone.scores[0] == together.batch.scores[row]
        assert alone.reasons[0] == together.batch.reasons[row]


EVENTS = (
    st.sampled_from([7, 8, 9]).map(lambda key: an_event(event_id=f"e-{key}", application_id=key))
    | st.binary(max_size=20)
    | st.none()
    | st.just(an_event(event_id="e-8", application_id=10, attributes=None, more="unknown"))
)


def same(one: Decided, other: Decided) -> None:
    """Hold all that is told of a poll against another's, and of its rows."""
    for of_all in ("rejections", "unknown_fields", "repeated", "stale"):
        assert getattr(one, of_all) == getattr(other, of_all)
    for column in fields(one.batch):
        found, expected = (getattr(of.batch, column.name) for of in (one, other))
        if isinstance(found, np.ndarray):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes(), column.name
        elif isinstance(found, (ByteStrings, Reasons)):
            assert list(found) == list(expected), column.name
        else:
            assert found == expected, column.name
    assert list(one.batch.decisions()) == list(other.batch.decisions())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(EVENTS, max_size=5), min_size=1, max_size=4))
def test_polls_of_several_partitions_are_decided_together_as_each_alone(
    of_partitions: list[list[bytes | dict[str, object] | None]],
) -> None:
    polls = [a_poll(*values, partition=at) for at, values in enumerate(of_partitions)]
    before = PIPELINE.decide(a_poll(an_event(event_id="e-9", application_id=9)), 0).batch
    recents = [RecentEvents(10) for _ in polls]
    for recent in recents[::2]:
        recent.remember(before.decision_ids, before.event_digests)

    together = PIPELINE.decide_together(list(zip(polls, recents, strict=True)), 7)

    alone = [PIPELINE.decide(poll, 7, recent) for poll, recent in zip(polls, recents, strict=True)]
    for one, other in zip(together.of_each, alone, strict=True):
        same(one, other)
    assert np.diff(together.cuts).tolist() == [len(one.batch) for one in alone]
    assert len(together.batch) == together.cuts[-1]
