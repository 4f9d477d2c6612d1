from datetime import UTC, datetime, timedelta

from features.taiwan_default import DEFINITION
from models.policies import policy_text
from monitoring.metrics import PREFIX, Metrics
from scoring.booster import BoosterScorer
from scoring.pipeline import Pipeline
from scoring.policy import Policy
from stream.scoring_agent import _count
from tests.builders import NOW_MS, SUBMITTED, a_model_text, a_poll, a_table, an_event

WORD = '\n[freshness]\nmax_age_days = 35\nstale = "recompute"\n'


def test_the_age_of_the_tables_rows_is_counted_and_what_was_done_with_stale_ones() -> None:
    table = a_table(1, 2, 3)
    table.as_of = datetime.fromisoformat(SUBMITTED).astimezone(UTC) - timedelta(days=36)
    policy = policy_text(DEFINITION.name, 0.3, 0.5) + WORD
    pipeline = Pipeline(
        release="r",
        definition=DEFINITION,
        table=table,
        scorer=BoosterScorer(a_model_text(), DEFINITION.schema),
        policy=Policy.parse(policy, DEFINITION.schema.names),
    )
    recomputed = [an_event(event_id=f"e-{key}", application_id=key) for key in (1, 2, 9)]
    referred = an_event(event_id="e-3", application_id=3, attributes=None)
    poll = a_poll(*recomputed, referred)
    metrics = Metrics.create()

    _count(metrics, poll, pipeline.decide(poll, NOW_MS * 1000), NOW_MS * 1_000_000)

    def at(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(PREFIX + name, labels)

    actions = ("refer", "recompute", "note")
    assert [at("features_stale_total", action=action) for action in actions] == [1, 2, 0]
    assert at("feature_age_seconds_count") == 1
    assert at("feature_age_seconds_sum") == 36 * 86_400
