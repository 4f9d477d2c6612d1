import re
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.alarm import DETECTORS
from monitoring.metrics import _SECONDS, PREFIX, STAGES, SWAPS, Ages, Metrics
from scoring.decision import OUTCOMES
from scoring.freshness import STALE_ACTIONS

DOCUMENT = Path(__file__).parents[3] / "docs" / "monitoring.md"


def test_the_documentation_names_each_metric_and_no_other() -> None:
    written = set(re.findall(rf"^\| `({PREFIX}\w+)`", DOCUMENT.read_text(), re.MULTILINE))

    everything = list(Metrics.create().registry.collect())
    families = [family for family in everything if family.name.startswith(PREFIX)]

    assert {"process_cpu_seconds", "process_resident_memory_bytes"} <= {f.name for f in everything}
    assert written == {
        family.name + ("_total" if family.type == "counter" else "") for family in families
    }
    assert all(family.documentation.endswith(".") for family in families)


def test_label_values_that_are_known_begin_at_zero() -> None:
    registry = Metrics.create().registry

    def at(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(PREFIX + name, labels)

    assert [at("decisions_total", outcome=outcome) for outcome in OUTCOMES] == [0, 0, 0]
    assert [at("features_stale_total", action=action) for action in STALE_ACTIONS] == [0, 0, 0]
    assert [at("swaps_total", result=result) for result in SWAPS] == [0, 0]
    assert [at("drift_alarms_total", detector=found) for found in DETECTORS] == [0, 0, 0]
    assert [at("stage_duration_seconds_count", stage=stage) for stage in STAGES] == [0] * 4


def test_the_age_of_features_is_counted_from_hours_to_years() -> None:
    metrics = Metrics.create()
    day = 86_400.0

    metrics.feature_age.observe(np.array([-day, 3_600.0, 36 * day, 40_000 * day]))

    def below(bound: str) -> float | None:
        name = PREFIX + "feature_age_seconds_bucket"
        return metrics.registry.get_sample_value(name, {"le": bound})

    assert [below(bound) for bound in ("0.0", "3600.0", "3024000.0", "7948800.0", "+Inf")] == [
        *(1, 2, 2, 3, 4)
    ]


def test_nothing_says_when_it_was_created() -> None:
    assert b"_created" not in generate_latest(Metrics.create().registry)


def test_two_processes_worth_of_metrics_do_not_meet() -> None:
    one, other = Metrics.create(), Metrics.create()

    one.events_consumed.inc()

    assert other.registry.get_sample_value(PREFIX + "events_consumed_total") == 0


def test_ages_are_what_the_librarys_histogram_would_count() -> None:
    seconds = np.concatenate((np.random.default_rng(1).exponential(0.1, 1_000), _SECONDS, [99.0]))
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    ages = Ages("age_seconds", "Age.", ours)
    histogram = Histogram("age_seconds", "Age.", buckets=_SECONDS, registry=theirs)

    ages.observe(seconds[:500])
    ages.observe(seconds[500:])
    for age in seconds.tolist():
        histogram.observe(age)

    def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
        text = generate_latest(registry).decode()
        return {
            (sample.name, sample.labels.get("le", "")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    assert samples(ours) == pytest.approx(samples(theirs))


def test_an_event_from_a_clock_that_is_ahead_has_no_age() -> None:
    metrics = Metrics.create()

    metrics.observe_ages(np.array([-3.0]))

    name = PREFIX + "event_age_seconds"
    assert metrics.registry.get_sample_value(name + "_count") == 1
    assert metrics.registry.get_sample_value(name + "_sum") == 0


def test_a_stage_that_fails_is_timed_too() -> None:
    metrics = Metrics.create()

    with pytest.raises(ZeroDivisionError), metrics.stage("insert"):
        _ = 1 / 0

    name = PREFIX + "stage_duration_seconds_count"
    assert metrics.registry.get_sample_value(name, {"stage": "insert"}) == 1
