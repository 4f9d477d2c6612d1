"""The drift monitor: ADWIN, PSI and missing shares over each decision's inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from monitoring.alarm import Alarm, Detector, alarm_id, missing_text, moved_text, unlike_text
from monitoring.change import LEAST_VALUES, Change, ChangeDetector, change_point
from monitoring.checkpoint import CheckpointDamaged, SavedMonitor, seal, unseal
from monitoring.episode import PSI_ALARM, SHIFT_ALARM, Episode
from monitoring.psi import BINS, ReferenceBins
from monitoring.window import RecentWindow

__all__ = ["PROBABILITY", "CheckpointDamaged", "DriftMonitor", "SubjectStatistics"]

PROBABILITY = "default_probability"
ENOUGH = 500
"""Decisions before anything may alarm."""

_ENOUGH_BEFORE = 100
_ADWIN_DELTA = 0.002
# Below what PSI takes for such a change; in deviations, of which the reference has its own share.
_MISSING_ALARM, _MISSING_DEVIATIONS = 0.03, 7.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class SubjectStatistics:
    """
    What a subject looks like over the last `decisions`; NaN where nothing was seen.

    `last_alarm` is when it last raised one.
    """

    subject: str
    decisions: int
    mean: float
    variance: float
    p05: float
    p50: float
    p95: float
    missing_share: float
    psi: float
    last_alarm: datetime | None


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a detector found about a subject, over the last `decisions`."""

    detector: Detector
    value: float
    threshold: float
    since: datetime
    decisions: int
    text: str


class DriftMonitor:
    """
    Watches the decisions of one release: the default probability, then each feature.

    A sudden change of level is ADWIN's, fed with each value's ridit, its confidence shared out
    over all subjects; slow change and change of shape are PSI's, over the last WINDOW decisions
    against the reference, as is a changed share of missing values. A subject raises one alarm an
    episode: after it, the subject is quiet for WINDOW decisions, and PSI and missing share must
    first have calmed down. A ledger message that was counted is not counted again.
    """

    def __init__(
        self,
        release: str,
        feature_names: Sequence[str],
        bins: ReferenceBins,
        saved: SavedMonitor | None = None,
    ) -> None:
        self.release = release
        self.next_offsets: dict[int, int] = dict(saved.next_offsets) if saved else {}
        self._names = (PROBABILITY, *feature_names)
        self._bins = bins
        self._ridits = bins.ridits()
        self._reference_missing = bins.shares[:, BINS]
        self._window = RecentWindow(bins, saved.window if saved else None)
        self._delta = _ADWIN_DELTA / len(self._names)
        states = saved.detectors if saved else [None] * len(self._names)
        self._detectors = [ChangeDetector(self._delta, state) for state in states]
        self._episodes = saved.episodes if saved else [Episode() for _ in self._names]
        self._last_decided_at_us = saved.last_decided_at_us if saved else 0

    def succeeded_by(self, release: str, decided_at: datetime, partition: int, offset: int) -> bool:
        """
        Say whether a ledger message calls for a new monitor, of its own release.

        It does not if it was counted before, or was decided before the last decision here: when
        a release is promoted, partitions that lag still bring decisions of the one before.
        """
        return (
            release != self.release
            and offset >= self.next_offsets.get(partition, 0)
            and _microseconds(decided_at) >= self._last_decided_at_us
        )

    def update(
        self,
        features: NDArray[np.float32],
        default_probability: NDArray[np.float64],
        decided_at: datetime,
        partition: int,
        offset: int,
        *,
        release: str | None = None,
    ) -> list[Alarm]:
        """
        Count one ledger message: float32[n, features] and float64[n], decided at one time.

        `partition` and `offset` are the message's on the ledger topic. Of another `release` only
        the offset is taken. Gives new alarms.
        """
        if offset < self.next_offsets.get(partition, 0):
            return []
        self.next_offsets[partition] = offset + 1
        if not len(features) or release not in {None, self.release}:
            return []
        rows = np.column_stack((default_probability, features.astype(np.float64)))
        places = self._bins.places(rows)
        changes = self._detect(places)
        now_us = _microseconds(decided_at)
        self._window.add(rows, places, now_us)
        self._last_decided_at_us = max(now_us, self._last_decided_at_us)
        return [
            Alarm(
                alarm_id=alarm_id(
                    self.release, found.detector, self._names[subject], partition, offset
                ),
                raised_at=decided_at,
                kind="drift",
                detector=found.detector,
                subject=self._names[subject],
                value=found.value,
                threshold=found.threshold,
                since=found.since,
                release=self.release,
                decisions=found.decisions,
                text=found.text,
            )
            for subject, found in self._findings(changes, now_us)
        ]

    def statistics(self) -> list[SubjectStatistics]:
        """Say what each subject looks like over the last WINDOW decisions, exactly."""
        psi = self._bins.psi(self._window.counts)
        missing = self._window.missing_shares()
        found = []
        for subject, name in enumerate(self._names):
            summary = self._window.summary(subject)
            last_us = self._episodes[subject].last_alarm_us
            found.append(
                SubjectStatistics(
                    subject=name,
                    decisions=len(self._window),
                    mean=summary.mean,
                    variance=summary.variance,
                    p05=summary.p05,
                    p50=summary.p50,
                    p95=summary.p95,
                    missing_share=float(missing[subject]),
                    psi=float(psi[subject]),
                    last_alarm=None if last_us is None else _instant(last_us),
                )
            )
        return found

    def to_bytes(self) -> bytes:
        """Save the state with its offsets, under a checksum."""
        return seal(
            SavedMonitor(
                release=self.release,
                names=list(self._names[1:]),
                edges=[inner.tolist() for inner in self._bins.edges],
                shares=self._bins.shares.tolist(),
                means=self._bins.means.tolist(),
                window=self._window.saved(),
                detectors=[detector.state() for detector in self._detectors],
                episodes=self._episodes,
                next_offsets=self.next_offsets,
                last_decided_at_us=self._last_decided_at_us,
            )
        )

    @staticmethod
    def from_bytes(saved: bytes) -> "DriftMonitor":
        """Restore what `to_bytes` saved; raise CheckpointDamaged for anything else."""
        state = unseal(saved)
        return DriftMonitor(state.release, state.names, state.bins(), state)

    def _detect(self, places: NDArray[np.int8]) -> list[Change | None]:
        changes = []
        for subject, detector in enumerate(self._detectors):
            column = places[:, subject]
            present = column[column < BINS]
            changes.append(detector.update(self._ridits[subject, present].tolist()))
        return changes

    def _findings(self, changes: list[Change | None], now_us: int) -> list[tuple[int, _Finding]]:
        seen, held = self._window.seen, len(self._window)
        if seen < ENOUGH:
            return []
        counts = self._window.counts
        psi = self._bins.psi(counts).tolist()
        missing = self._window.missing_shares()
        expected = self._reference_missing
        tolerated = np.maximum(
            _MISSING_ALARM, _MISSING_DEVIATIONS * np.sqrt(expected * (1 - expected) / held)
        )
        excess = (np.abs(missing - expected) / tolerated).tolist()
        present = counts[:, :BINS].sum(axis=1)
        findings = []
        for subject, episode in enumerate(self._episodes):
            change = changes[subject]
            shift = change.shift if change and present[subject] >= LEAST_VALUES else 0.0
            detector = episode.alarm(psi[subject], shift, excess[subject], seen=seen, now_us=now_us)
            if detector == "psi":
                findings.append((subject, self._unlike(subject, psi[subject])))
            elif detector == "missing_share":
                limit = float(expected[subject] + tolerated[subject])
                findings.append((subject, self._missing(subject, float(missing[subject]), limit)))
            elif detector == "adwin":
                # What it still holds of the time before would be cut off as another change.
                self._detectors[subject] = ChangeDetector(self._delta)
                findings.append((subject, self._moved(subject, shift)))
        return findings

    def _moved(self, subject: int, shift: float) -> _Finding:
        values, places = self._window.values(subject), self._window.places(subject)
        present = np.flatnonzero(places < BINS)
        ridits = self._ridits[subject, places[present]]
        cut = change_point(ridits)
        old, new = values[present[:cut]], values[present[cut:]]
        told = (ridits[cut:].mean() - ridits[:cut].mean()) / shift >= 1 / 2
        if told and cut >= _ENOUGH_BEFORE:
            since, decisions = self._from(int(present[cut]))
            before, earlier = old.mean(), "before"
        else:  # what was before ADWIN's change has left the window
            since, decisions = self._from(0)
            before, earlier = self._bins.means[subject], "in the release's reference"
            new = values[present]
        name = self._names[subject]
        text = moved_text(name, float(new.mean()), float(before), earlier, decisions, since)
        return _Finding("adwin", abs(shift), SHIFT_ALARM, since, decisions, text)

    def _unlike(self, subject: int, psi: float) -> _Finding:
        since, decisions = self._from(0)
        text = unlike_text(self._names[subject], psi, PSI_ALARM, decisions, since)
        return _Finding("psi", psi, PSI_ALARM, since, decisions, text)

    def _missing(self, subject: int, share: float, limit: float) -> _Finding:
        since, decisions = self._from(0)
        expected = float(self._reference_missing[subject])
        text = missing_text(self._names[subject], share, expected, decisions, since)
        return _Finding("missing_share", share, limit, since, decisions, text)

    def _from(self, index: int) -> tuple[datetime, int]:
        """Say when the window's decision at `index` was made, and how many there are from it."""
        return _instant(self._window.decided_at_us(index)), len(self._window) - index


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _instant(at_us: int) -> datetime:
    return _EPOCH + at_us * _MICROSECOND
