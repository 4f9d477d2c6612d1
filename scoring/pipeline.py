"""A poll's records to decisions: decode, enrich, score, decide, explain; nothing else happens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.definition import FeatureDefinition
from features.table import FeatureTable
from scoring.byte_strings import ByteStrings
from scoring.bytewise.digests import decision_ids, event_digests
from scoring.decision import (
    DECISION_NAMESPACE,
    FEATURE_SOURCES,
    MISSING_SOURCE,
    DecisionBatch,
)
from scoring.decode import ApplicationDecoder, Decoded, EventLimits, Rejection
from scoring.document import shown
from scoring.enrich import enrich
from scoring.errors import SchemaMismatch
from scoring.freshness import STALE_ACTIONS, Freshness
from scoring.judge import Scorer, judge
from scoring.policy import Policy
from scoring.poll import Poll
from scoring.recent import RecentEvents, SortedOut, words_of


@dataclass(frozen=True, slots=True)
class Decided:
    """
    A poll after deciding: each record is a row of `batch`, one of `rejections`, or `repeated`.

    Those `repeated` are only counted: their decision was made before. `stale` counts the rows of
    the table that were too old, by what was done with them.
    """

    batch: DecisionBatch
    rejections: list[Rejection]
    unknown_fields: int
    repeated: int
    stale: dict[str, int]


Asked = tuple[Poll, RecentEvents | None]
"""A poll to decide, and the events that its partition decided lately."""

_NO_ROWS = np.zeros(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Together:
    """
    Polls after deciding them in one go.

    Those of the i-th poll are the rows of `batch` from `cuts[i]` to before `cuts[i + 1]`, and
    `of_each[i]` is all that became of it.
    """

    batch: DecisionBatch
    cuts: list[int]
    of_each: list[Decided]


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
        self.policy = policy
        self._explain = explain
        self._decoder = ApplicationDecoder(definition, limits or EventLimits())

    @property
    def scored_by(self) -> str:
        """Say what computes the probabilities: "kernel", or another and why."""
        return self._scorer.scored_by

    def decide(self, poll: Poll, decided_at_us: int, recent: RecentEvents | None = None) -> Decided:
        """
        Decide each record of a poll, or say why it can never be decided.

        `decided_at_us` is the time of deciding, in microseconds since 1970; all else in a decision
        follows from the event, the feature row and the release. An event that `recent` knows is not
        decided again; one with its id and other content is rejected.
        """
        (decided,) = self.decide_together([(poll, recent)], decided_at_us).of_each
        return decided

    def decide_together(self, asked: Sequence[Asked], decided_at_us: int) -> Together:
        """
        Decide polls of one topic in one go: for each as `decide` does, at nearly the cost of one.

        An event that stands in two polls is decided in both.
        """
        polls = [poll for poll, _ in asked]
        joined = Poll.joined(polls)
        decoded = self._decoder.decode(joined)
        values = ByteStrings.of(joined.values)
        ids, digests = _names_of(decoded, values)
        bounds = np.cumsum([0, *map(len, polls)])
        before = _came_before(asked, decoded.positions.searchsorted(bounds), ids, digests)
        repeated = decoded.positions[before.repeated]
        if len(before.repeated) or len(before.conflicting):
            decoded = _without(decoded, before)
            ids, digests = _names_of(decoded, values)
        freshness = self.policy.freshness
        enriched = enrich(decoded, self.table, self.definition, freshness)
        stale = np.zeros(len(decoded.positions), dtype=bool)
        if freshness is not None:
            stale = freshness.is_stale(enriched.sources, decoded.submitted_at_us, enriched.as_of_us)
        verdicts = judge(
            self._scorer,
            self.policy,
            enriched.features,
            enriched.sources == MISSING_SOURCE,
            stale,
            explain=self._explain,
        )
        numbers = np.array([poll.partition for poll in polls], dtype=np.int32)
        batch = DecisionBatch(
            decision_ids=ids,
            event_digests=digests,
            event_ids=decoded.event_ids,
            sources=decoded.sources,
            application_ids=decoded.application_ids,
            applicant_ids=decoded.applicant_ids,
            submitted_at_us=decoded.submitted_at_us,
            produced_at_ms=np.asarray(joined.produced_at_ms, dtype=np.int64)[decoded.positions],
            decided_at_us=decided_at_us,
            outcomes=verdicts.outcomes,
            default_probability=verdicts.default_probability,
            scores=verdicts.scores,
            bands=verdicts.bands,
            reasons=verdicts.reasons,
            feature_sources=enriched.sources,
            features_as_of_us=enriched.as_of_us,
            features_stale=stale,
            release=self.release,
            topic=joined.topic,
            partitions=np.repeat(numbers, np.diff(bounds))[decoded.positions],
            offsets=np.asarray(joined.offsets, dtype=np.int64)[decoded.positions],
            features=enriched.features,
            feature_names=self.definition.schema.names,
            traceparents=decoded.traceparents,
        )
        cuts = decoded.positions.searchsorted(bounds).tolist()
        done = _Done(batch, decoded, repeated, enriched.recomputed, freshness)
        places = zip(pairwise(bounds.tolist()), pairwise(cuts), strict=True)
        return Together(batch, cuts, [done.of_poll(*place) for place in places])


class _Done(NamedTuple):
    """What became of the polls that were decided together."""

    batch: DecisionBatch
    decoded: Decoded
    repeated: NDArray[np.intp]
    recomputed: NDArray[np.bool_]
    freshness: Freshness | None

    def of_poll(self, positions: tuple[int, int], rows: tuple[int, int]) -> Decided:
        """Give what became of the poll at some positions, which has some of the rows."""
        begin, end = positions
        batch = self.batch.rows(*rows)
        stale: dict[str, int] = dict.fromkeys(STALE_ACTIONS, 0)
        stale["recompute"] = int(self.recomputed[slice(*rows)].sum())
        if self.freshness is not None:
            action = "note" if self.freshness.stale == "note" else "refer"
            stale[action] = int(batch.features_stale.sum())
        rejections = [
            replace(one, position=one.position - begin)
            for one in self.decoded.rejections
            if begin <= one.position < end
        ]
        unknown = sum(n for at, n in self.decoded.unknown_at.items() if begin <= at < end)
        first, last = self.repeated.searchsorted(positions)
        return Decided(batch, rejections, unknown, int(last - first), stale)


def _came_before(
    asked: Sequence[Asked], cuts: NDArray[np.intp], ids: ByteStrings, digests: ByteStrings
) -> SortedOut:
    """Find the rows that came before; those of the i-th poll are from `cuts[i]` on."""
    repeated, conflicting = [_NO_ROWS], [_NO_ROWS]
    id_words, contents = words_of(ids), words_of(digests)
    for (_, recent), (first, last) in zip(asked, pairwise(cuts.tolist()), strict=True):
        if recent is not None:
            found = recent.sort_out(id_words[2 * first : 2 * last], contents[first:last])
            repeated.append(found.repeated + first)
            conflicting.append(found.conflicting + first)
    return SortedOut(np.concatenate(repeated), np.concatenate(conflicting))


def _names_of(decoded: Decoded, values: ByteStrings) -> tuple[ByteStrings, ByteStrings]:
    """Name each application's decision, and the content of its event."""
    ids = decision_ids(decoded.sources, decoded.event_ids, DECISION_NAMESPACE)
    return ids, event_digests(values.at(decoded.positions))


def _without(decoded: Decoded, before: SortedOut) -> Decoded:
    """Leave out what came before; where its content was another, that is a rejection."""
    rule = "an event sent again has the content that it had"
    conflicts = [
        Rejection(
            int(decoded.positions[row]),
            "conflicting_duplicate",
            "$.event_id",
            shown((decoded.event_ids[row] or b"").decode()),
            rule,
        )
        for row in before.conflicting.tolist()
    ]
    rejections = sorted([*decoded.rejections, *conflicts], key=lambda one: one.position)
    return replace(decoded.without(np.concatenate(before)), rejections=rejections)


def source_share(batch: DecisionBatch) -> dict[str, int]:
    """Count a batch's rows by where their features came from."""
    counts = np.bincount(batch.feature_sources, minlength=len(FEATURE_SOURCES))
    return dict(zip(FEATURE_SOURCES, counts.tolist(), strict=True))
