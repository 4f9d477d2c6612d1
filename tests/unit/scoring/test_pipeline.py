from datetime import UTC, datetime

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.table import FeatureTable
from features.taiwan_default import DEFINITION
from scoring.booster import BoosterScorer
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
