"""Every metric: name, kind, labels, and one line of meaning."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from monitoring.alarm import DETECTORS
from monitoring.difference import KINDS
from scoring.decision import FEATURE_SOURCES, OUTCOMES
from scoring.freshness import STALE_ACTIONS

PREFIX = "creditstream_"
_Family = TypeVar("_Family", Counter, Histogram)
SWAPS = ("done", "refused")
RECONCILED = ("done", "failed")
STAGES = ("decide", "publish", "insert", "watch")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_HOUR, _DAY = 3_600, 86_400
_AGES = (0, _HOUR, 6 * _HOUR, 12 * _HOUR, *(days * _DAY for days in (1, 2, 7, 14, 35, 92, 183)))
_AGES += tuple(years * 365 * _DAY for years in (1, 2, 5, 10))
_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


class Ages(Collector):
    """A histogram of seconds that takes a whole poll at once: 1.2 us an event one by one."""

    def __init__(
        self,
        name: str,
        meaning: str,
        registry: CollectorRegistry,
        bounds: tuple[float, ...] = _SECONDS,
    ) -> None:
        self._name, self._meaning, self._bounds = name, meaning, np.array(bounds, np.float64)
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: NDArray[np.float64]) -> None:
        """Count float64[n]; one below zero, of clocks or dates that disagree, counts as zero."""
        ages = np.maximum(seconds, 0.0)
        places = np.searchsorted(self._bounds, ages, side="left")
        # A new array each time, so that a scrape in another thread sees one poll or none.
        self._counts = self._counts + np.bincount(places, minlength=len(self._counts))
        self._sum += float(ages.sum())

    def collect(self) -> Iterable[Metric]:
        """Give the histogram to a scrape."""
        bounds = [*map(str, self._bounds.tolist()), "+Inf"]
        counts = np.cumsum(self._counts).tolist()
        buckets = list(zip(bounds, counts, strict=True))
        return [HistogramMetricFamily(self._name, self._meaning, buckets, self._sum)]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one process; create them once, on a registry of its own."""

    registry: CollectorRegistry
    events_consumed: Counter
    batch_events: Histogram
    stage_duration: Histogram
    decisions: Counter
    events_parked: Counter
    events_repeated: Counter
    unknown_field: Counter
    event_age: Ages
    feature_lookups: Counter
    feature_age: Ages
    features_stale: Counter
    features_as_of: Gauge
    consumer_lag: Gauge
    last_progress: Gauge
    release_info: Gauge
    scored_by_kernel: Gauge
    swaps: Counter
    swap_refused: Gauge
    sink_rows: Counter
    sink_retries: Counter
    sink_waiting: Gauge
    sink_unfit: Counter
    drift_alarms: Counter
    reconcile_differences: Gauge
    reconcile_last_success: Gauge
    reconcile_runs: Counter
    ledger_unread: Counter
    records_gone: Counter
    _found: dict[tuple[int, str], Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def create(cls, registry: CollectorRegistry | None = None) -> "Metrics":
        """
        Make all metrics, each at zero, beside those of the process.

        A label whose values are known begins with all of them.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library's
        registry = CollectorRegistry() if registry is None else registry
        ProcessCollector(registry=registry)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(PREFIX + name, meaning, labels, registry=registry)

        def histogram(
            name: str, meaning: str, buckets: tuple[float, ...], *labels: str
        ) -> Histogram:
            return Histogram(PREFIX + name, meaning, labels, buckets=buckets, registry=registry)

        metrics = cls(
            registry=registry,
            events_consumed=counter("events_consumed", "Applications taken from Kafka."),
            batch_events=histogram("batch_events", "Records a poll brought.", _EVENTS),
            stage_duration=histogram(
                "stage_duration_seconds", "What a poll took at a stage.", _SECONDS, "stage"
            ),
            decisions=counter("decisions", "Decisions acknowledged by Kafka.", "outcome"),
            events_parked=counter("events_parked", "Events parked.", "stage", "code"),
            events_repeated=counter(
                "events_repeated", "Events sent again, which were decided before."
            ),
            unknown_field=counter("unknown_fields", "Fields of events that no contract knows."),
            event_age=Ages(
                PREFIX + "event_age_seconds",
                "From the producer's timestamp to the decision acknowledged by Kafka.",
                registry,
            ),
            feature_lookups=counter("feature_lookups", "Where features came from.", "result"),
            feature_age=Ages(
                PREFIX + "feature_age_seconds",
                "Age at submission of rows of the feature table; from the future counts as 0.",
                registry,
                _AGES,
            ),
            features_stale=counter(
                "features_stale", "Rows too old for the policy, by what was done.", "action"
            ),
            features_as_of=gauge(
                "features_as_of_timestamp_seconds", "Of what time the feature table is."
            ),
            consumer_lag=gauge("consumer_lag_records", "Not yet finished.", "topic", "partition"),
            last_progress=gauge("last_progress_timestamp_seconds", "When a poll was finished."),
            release_info=gauge("release_info", "1 for the release that decides.", "release"),
            scored_by_kernel=gauge(
                "scored_by_kernel", "1 while the kernel scores, 0 while LightGBM does."
            ),
            swaps=counter("swaps", "Other releases and tables, taken over or refused.", "result"),
            swap_refused=gauge("swap_refused", "1 while what lies there now is refused."),
            sink_rows=counter("sink_rows", "Rows that ClickHouse took.", "table"),
            sink_retries=counter("sink_retries", "Inserts tried again.", "table", "cause"),
            sink_waiting=gauge("sink_waiting", "1 while a table is waited for.", "table", "cause"),
            sink_unfit=counter("sink_unfit", "What a table can never take.", "table"),
            drift_alarms=counter("drift_alarms", "Drift alarms raised.", "detector"),
            reconcile_differences=gauge(
                "reconcile_differences", "What the last reconciliation found wrong.", "kind"
            ),
            reconcile_last_success=gauge(
                "reconcile_last_success_timestamp_seconds", "When one last came to its end."
            ),
            reconcile_runs=counter(
                "reconcile_runs", "Reconciliations, by whether they came to their end.", "result"
            ),
            ledger_unread=counter("ledger_unread", "Records of the ledger that are none of it."),
            records_gone=counter("records_gone", "Removed from Kafka before they were read."),
        )
        for family, label, values in (
            (metrics.decisions, "outcome", OUTCOMES),
            (metrics.feature_lookups, "result", FEATURE_SOURCES),
            (metrics.features_stale, "action", STALE_ACTIONS),
            (metrics.swaps, "result", SWAPS),
            (metrics.drift_alarms, "detector", DETECTORS),
            (metrics.reconcile_differences, "kind", KINDS),
            (metrics.reconcile_runs, "result", RECONCILED),
            (metrics.stage_duration, "stage", STAGES),
        ):
            for value in values:
                family.labels(**{label: value})
        return metrics

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of a poll, one of STAGES, whether or not it succeeds."""
        started = perf_counter()
        try:
            yield
        finally:
            self._of(self.stage_duration, name).observe(perf_counter() - started)

    def observe_ages(self, seconds: NDArray[np.float64]) -> None:
        """Count the ages of a poll's events, in seconds."""
        self.event_age.observe(seconds)

    def count(self, counter: Counter, counts: Mapping[str, int]) -> None:
        """Add to a counter with one label, whose values are few."""
        for value, number in counts.items():
            if number:
                self._of(counter, value).inc(number)

    def _of(self, family: _Family, value: str) -> _Family:
        """Give the one of a label's value; to ask the family for it takes 5 us each time."""
        key = (id(family), value)
        if key not in self._found:
            self._found[key] = family.labels(value)
        return cast("_Family", self._found[key])
