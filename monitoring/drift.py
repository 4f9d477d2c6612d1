"""The drift monitor: River's detectors and statistics, and PSI, over each decision's inputs."""

import hashlib
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN
from river.stats import Quantile, Var

from monitoring.alarm import Alarm, alarm_id
from monitoring.psi import BINS, ReferenceBins

PROBABILITY = "default_probability"
WINDOW = 2_000
_ENOUGH = 500
_PSI_ALARM, _PSI_CALM = 0.25, 0.10
_ADWIN_DELTA = 0.002
_QUIET_ROWS = 1_000
_RECENT = 200  # River's ADWIN does not say where its window was cut, so an alarm shows these
_FORMAT = b"creditstream-monitor-1\n"
_QUANTILES = (0.05, 0.5, 0.95)


class CheckpointDamaged(Exception):
    """A monitor's checkpoint is not what was written."""


@dataclass(frozen=True, slots=True)
class SubjectStatistics:
    """What a subject looked like so far; NaN where nothing was seen."""

    subject: str
    decisions: int
    mean: float
    variance: float
    p05: float
    p50: float
    p95: float
    missing_share: float
    psi: float


@dataclass(slots=True)
class _Subject:
    """The running state of one subject."""

    name: str
    adwin: ADWIN
    variance: Var = field(default_factory=Var)
    quantiles: list[Quantile] = field(default_factory=lambda: [Quantile(q) for q in _QUANTILES])
    missing: int = 0
    quiet_until: int = 0
    psi_alarmed: bool = False

    def update(self, values: list[float], ranks: list[float]) -> bool:
        """Take values (NaN: missing) with their ranks in [0, 1]; say if ADWIN saw a change."""
        changed = False
        for value, rank in zip(values, ranks, strict=True):
            if value != value:  # noqa: PLR0124 - NaN, the quick way
                self.missing += 1
                continue
            self.adwin.update(rank)  # type: ignore[no-untyped-call] # River's
            changed = changed or bool(self.adwin.drift_detected)
            self.variance.update(value)
            for quantile in self.quantiles:
                quantile.update(value)
        return changed


class DriftMonitor:
    """
    Watches the decisions of one release.

    ADWIN (Bifet and Gavalda 2007) works on values in [0, 1], so a feature is fed as the rank of
    its bin in the release's reference; its confidence is shared out over all subjects. PSI is
    taken over the last WINDOW decisions. A ledger message that was counted is not counted again.
    """

    def __init__(self, release: str, feature_names: Sequence[str], bins: ReferenceBins) -> None:
        self.release = release
        self.next_offsets: dict[int, int] = {}
        self._bins = bins
        names = [PROBABILITY, *feature_names]
        delta = _ADWIN_DELTA / len(names)
        self._subjects = [
            _Subject(name, ADWIN(delta=delta))  # type: ignore[no-untyped-call] # River's
            for name in names
        ]
        self._places = np.zeros((WINDOW, len(names)), dtype=np.int8)
        self._times: list[datetime | None] = [None] * WINDOW
        self._counts = np.zeros((len(names), BINS + 1), dtype=np.int64)
        self._seen = 0

    def update(
        self,
        features: NDArray[np.float32],
        default_probability: NDArray[np.float64],
        decided_at: datetime,
        partition: int,
        offset: int,
    ) -> list[Alarm]:
        """
        Count one ledger message: float32[n, features] and float64[n], decided at one time.

        `partition` and `offset` are the message's on the ledger topic. Gives new alarms.
        """
        if offset < self.next_offsets.get(partition, 0):
            return []
        self.next_offsets[partition] = offset + 1
        if not len(features):
            return []
        rows = np.column_stack((default_probability, features.astype(np.float64)))
        places = self._bins.places(rows)
        ranks = places / BINS
        ranks[:, 0] = default_probability
        changed = [
            subject.update(rows[:, index].tolist(), ranks[:, index].tolist())
            for index, subject in enumerate(self._subjects)
        ]
        self._slide(places, decided_at)
        return self._alarms(changed, decided_at, partition, offset)

    def statistics(self) -> list[SubjectStatistics]:
        """Say what each subject looked like so far."""
        psi = self._psi()
        return [
            SubjectStatistics(
                subject=subject.name,
                decisions=self._seen,
                mean=float(subject.variance.mean.get()),
                variance=float(subject.variance.get()),
                p05=_level(subject.quantiles[0]),
                p50=_level(subject.quantiles[1]),
                p95=_level(subject.quantiles[2]),
                missing_share=subject.missing / max(self._seen, 1),
                psi=float(psi[index]),
            )
            for index, subject in enumerate(self._subjects)
        ]

    def to_bytes(self) -> bytes:
        """
        Save the state with its offsets, under a checksum.

        River's detectors can only be pickled, so a checkpoint is to be read from one's own disk.
        """
        state = pickle.dumps(self, protocol=5)
        return _FORMAT + hashlib.sha256(state).digest() + state

    @staticmethod
    def from_bytes(saved: bytes) -> "DriftMonitor":
        """Restore what `to_bytes` saved; raise CheckpointDamaged before anything is unpickled."""
        head, rest = saved[: len(_FORMAT)], saved[len(_FORMAT) :]
        if head != _FORMAT or hashlib.sha256(rest[32:]).digest() != rest[:32]:
            msg = "the monitor's checkpoint is damaged or of another version"
            raise CheckpointDamaged(msg)
        monitor: Any = pickle.loads(rest[32:])  # noqa: S301 - our own file, checksum verified
        assert isinstance(monitor, DriftMonitor)
        return monitor

    def _slide(self, places: NDArray[np.int8], decided_at: datetime) -> None:
        for row in places[-WINDOW:]:
            at = self._seen % WINDOW
            subjects = np.arange(len(row))
            if self._seen >= WINDOW:
                self._counts[subjects, self._places[at]] -= 1
            self._counts[subjects, row] += 1
            self._places[at] = row
            self._times[at] = decided_at
            self._seen += 1

    def _psi(self) -> NDArray[np.float64]:
        return self._bins.psi(self._counts)

    def _recent_rank(self, index: int) -> float:
        places = self._places[
            (self._seen - 1 - np.arange(min(_RECENT, self._seen))) % WINDOW, index
        ]
        return float(places.mean() / BINS)

    def _since(self, decisions: int, now: datetime) -> datetime:
        back = min(decisions, self._seen, WINDOW)
        return self._times[(self._seen - back) % WINDOW] or now

    def _alarms(
        self, changed: list[bool], now: datetime, partition: int, offset: int
    ) -> list[Alarm]:
        alarms = []
        psi = self._psi() if self._seen >= _ENOUGH else np.zeros(len(changed))
        for index, subject in enumerate(self._subjects):
            index_psi = float(psi[index])
            if changed[index] and self._seen >= max(subject.quiet_until, _ENOUGH):
                subject.quiet_until = self._seen + _QUIET_ROWS
                alarms.append(
                    self._alarm(
                        "adwin",
                        subject.name,
                        self._recent_rank(index),
                        0.0,
                        _RECENT,
                        now,
                        partition,
                        offset,
                    )
                )
            if index_psi >= _PSI_ALARM and not subject.psi_alarmed:
                subject.psi_alarmed = True
                held = min(self._seen, WINDOW)
                alarms.append(
                    self._alarm(
                        "psi", subject.name, index_psi, _PSI_ALARM, held, now, partition, offset
                    )
                )
            elif index_psi < _PSI_CALM:
                subject.psi_alarmed = False
        return alarms

    def _alarm(
        self,
        detector: Literal["adwin", "psi"],
        subject: str,
        value: float,
        threshold: float,
        decisions: int,
        now: datetime,
        partition: int,
        offset: int,
    ) -> Alarm:
        since = self._since(decisions, now)
        moved = (
            f"its distribution differs from the reference (PSI {value:.2f}, alarm at {threshold})"
            if detector == "psi"
            else f"its mean level changed (mean rank {value:.2f} in the last {decisions} decisions)"
        )
        return Alarm(
            alarm_id=alarm_id(self.release, detector, subject, partition, offset),
            raised_at=now,
            kind="drift",
            detector=detector,
            subject=subject,
            value=value,
            threshold=threshold,
            since=since,
            release=self.release,
            decisions=decisions,
            text=f"{subject} drifts: {moved}, since {since:%H:%M:%S} UTC.",
        )


def _level(quantile: Quantile) -> float:
    level = quantile.get()
    return math.nan if level is None else float(level)
