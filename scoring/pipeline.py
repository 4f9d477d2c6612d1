"""A poll's records to decisions: decode, enrich, score, decide, explain; nothing else happens."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.definition import FeatureDefinition
from features.table import FeatureTable
from scoring.decision import (
    FEATURE_SOURCES,
    MISSING_SOURCE,
    OUTCOMES,
    DecisionBatch,
    Reason,
    decision_id,
)
from scoring.decode import ApplicationDecoder, EventLimits, Rejection
from scoring.enrich import enrich
from scoring.errors import SchemaMismatch
from scoring.policy import Policy
from scoring.poll import Poll


class Scorer(Protocol):
    """What turns model input into default probabilities and their explanation."""

    def default_probability(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score float32[n, features]: float64[n]."""
        ...

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Explain float32[n, features]: Shapley values float64[n, features + 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Decided:
    """A poll after deciding: each record is a row of `batch` or one of `rejections`, never both."""

    batch: DecisionBatch
    rejections: list[Rejection]
    unknown_fields: int


class Pipeline:
    """
    Decides polls with one release and one feature table; holds no state between them.

    Raises SchemaMismatch where the table's features are not the definition's.
    """

    def __init__(
        self,
        *,
        release: str,
        definition: FeatureDefinition,
        table: FeatureTable,
        scorer: Scorer,
        policy: Policy,
        limits: EventLimits | None = None,
        explain: bool = True,
    ) -> None:
        if table.schema.digest != definition.schema.digest:
            msg = f"the feature table's schema is not that of the definition {definition.name!r}"
            raise SchemaMismatch(msg)
        self.release = release
        self.definition = definition
        self.table = table
        self._scorer = scorer
        self._policy = policy
        self._explain = explain
        self._decoder = ApplicationDecoder(definition, limits or EventLimits())

    def decide(self, poll: Poll, decided_at_us: int) -> Decided:
        """
        Decide each record of a poll, or say why it can never be decided.

        `decided_at_us` is the time of deciding, in microseconds since 1970; all else in a decision
        follows from the event, the feature row and the release.
        """
        decoded = self._decoder.decode(poll)
        positions = np.array(decoded.positions, dtype=np.intp)
        submitted_at_us = np.array(decoded.submitted_at_us, dtype=np.int64)
        enriched = enrich(decoded.applications, submitted_at_us, self.table, self.definition)
        verdicts = self.judge(enriched.features, enriched.sources == MISSING_SOURCE)
        sources = [envelope.source for envelope in decoded.envelopes]
        event_ids = [application.event_id for application in decoded.applications]
        batch = DecisionBatch(
            decision_ids=[
                decision_id(source, event_id)
                for source, event_id in zip(sources, event_ids, strict=True)
            ],
            event_ids=event_ids,
            sources=sources,
            application_ids=np.array(
                [application.application_id for application in decoded.applications], dtype=np.int64
            ),
            applicant_ids=[application.applicant_id for application in decoded.applications],
            submitted_at_us=submitted_at_us,
            produced_at_ms=np.array(poll.produced_at_ms, dtype=np.int64)[positions],
            decided_at_us=decided_at_us,
            outcomes=verdicts.outcomes,
            default_probability=verdicts.default_probability,
            scores=verdicts.scores,
            bands=verdicts.bands,
            reasons=verdicts.reasons,
            feature_sources=enriched.sources,
            features_as_of_us=enriched.as_of_us,
            release=self.release,
            topic=poll.topic,
            partition=poll.partition,
            offsets=np.array(poll.offsets, dtype=np.int64)[positions],
            features=enriched.features,
            feature_names=self.definition.schema.names,
            traceparents=[envelope.traceparent for envelope in decoded.envelopes],
        )
        return Decided(batch, decoded.rejections, decoded.unknown_fields)

    def judge(self, features: NDArray[np.float32], missing: NDArray[np.bool_]) -> "Verdicts":
        """
        Score and decide rows of features: float32[n, features] and bool[n].

        The same for an event and for a row of a file, so that offline equals served.
        """
        probability = np.full(len(features), np.nan)
        if not missing.all():
            probability[~missing] = self._scorer.default_probability(features[~missing])
        outcomes = self._policy.outcomes(probability, missing, features)
        return Verdicts(
            outcomes=outcomes,
            default_probability=probability,
            scores=self._policy.scorecard.points(probability),
            bands=self._policy.bands(probability),
            reasons=self._reasons(features, outcomes, missing),
        )

    def _reasons(
        self,
        features: NDArray[np.float32],
        outcomes: NDArray[np.uint8],
        missing: NDArray[np.bool_],
    ) -> list[tuple[Reason, ...]]:
        reasons: list[tuple[Reason, ...]] = [()] * len(features)
        adverse = np.flatnonzero(outcomes != OUTCOMES.index("approve"))
        scored = adverse[~missing[adverse]]
        contributions = np.zeros((len(scored), len(self.definition.schema.names) + 1))
        if self._explain and scored.size:
            contributions = self._scorer.contributions(features[scored])
        for row in adverse[missing[adverse]].tolist():
            reasons[row] = self._policy.reasons_without_features()
        explained = self._policy.reasons(features[scored], contributions)
        for row, of_row in zip(scored.tolist(), explained, strict=True):
            reasons[row] = of_row
        return reasons


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was decided on n rows of features; the columns are those of DecisionBatch."""

    outcomes: NDArray[np.uint8]
    default_probability: NDArray[np.float64]
    scores: NDArray[np.int32]
    bands: NDArray[np.uint8]
    reasons: list[tuple[Reason, ...]]


def source_share(batch: DecisionBatch) -> dict[str, int]:
    """Count a batch's rows by where their features came from."""
    counts = np.bincount(batch.feature_sources, minlength=len(FEATURE_SOURCES))
    return dict(zip(FEATURE_SOURCES, counts.tolist(), strict=True))
