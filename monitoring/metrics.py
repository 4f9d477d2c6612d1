"""Every metric: name, kind, labels, and one line of meaning."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

PREFIX = "creditstream_"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one process; create them once, on a registry of its own."""

    registry: CollectorRegistry
    events_consumed: Counter
    decisions: Counter
    events_parked: Counter
    unknown_field: Counter
    event_age: Histogram
    feature_lookups: Counter
    consumer_lag: Gauge
    last_progress: Gauge
    release_info: Gauge
    sink_rows: Counter
    sink_retries: Counter
    drift_alarms: Counter

    @classmethod
    def create(cls) -> "Metrics":
        """Make all metrics, each at zero."""
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library's
        registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(PREFIX + name, meaning, labels, registry=registry)

        return cls(
            registry=registry,
            events_consumed=counter("events_consumed", "Applications taken from Kafka."),
            decisions=counter("decisions", "Decisions acknowledged by Kafka.", "outcome"),
            events_parked=counter("events_parked", "Events parked.", "stage", "code"),
            unknown_field=counter("unknown_fields", "Fields of events that no contract knows."),
            event_age=Histogram(
                PREFIX + "event_age_seconds",
                "From the producer's timestamp to the decision acknowledged by Kafka.",
                buckets=_SECONDS,
                registry=registry,
            ),
            feature_lookups=counter("feature_lookups", "Where features came from.", "result"),
            consumer_lag=gauge("consumer_lag_records", "Not yet finished.", "topic", "partition"),
            last_progress=gauge("last_progress_timestamp_seconds", "When a poll was finished."),
            release_info=gauge("release_info", "1 for the release that decides.", "release"),
            sink_rows=counter("sink_rows", "Rows that ClickHouse took.", "table"),
            sink_retries=counter("sink_retries", "Inserts tried again.", "table"),
            drift_alarms=counter("drift_alarms", "Drift alarms raised.", "detector"),
        )

    def observe_ages(self, seconds: NDArray[np.float64]) -> None:
        """Count the ages of a poll's events, in seconds."""
        for age in seconds.tolist():
            self.event_age.observe(max(0.0, age))

    def count(self, counter: Counter, label: str, counts: Mapping[str, int]) -> None:
        """Add to a counter with one label."""
        for value, number in counts.items():
            counter.labels(**{label: value}).inc(number)
