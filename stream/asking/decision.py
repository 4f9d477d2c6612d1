"""One stored decision: found by its id, shown, and made again from what was stored with it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.table import Table

from models.release import Release, load_release
from scoring.decision import BANDS, FEATURE_SOURCES, NO_TIME, OUTCOMES
from scoring.freshness import Freshness
from scoring.judge import judge
from scoring.reasons import Reason
from stream.asking.questions import ask
from stream.asking.shown import new_console, visible
from stream.composition import release_folder
from stream.settings import Settings

_FIND = """
SELECT toString(toUUID(UUIDNumToString(decision_id))) AS decision_id, event_id, source,
    application_id, applicant_id, submitted_at, decided_at, outcome, default_probability, score,
    risk_band, reasons, feature_source, features_as_of, features_age_s, features_stale,
    release, origin_topic, origin_partition, origin_offset, features
FROM decision_ledger FINAL
WHERE decision_ledger.decision_id = UUIDStringToNum('{id}')
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 12  # features


class DecisionIdInvalid(Exception):
    """A text is no decision id; says what is one."""


class DecisionNotFound(Exception):
    """No decision has that id in the store, or several decisions have it."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """
    A stored decision made again; `differences` says what is not the same, to the last bit.

    `reasons` are those made now, also where the stream left them out.
    """

    stored: dict[str, Any]
    reasons: tuple[Reason, ...]
    differences: tuple[str, ...]


def find_decision(settings: Settings, decision_id: str) -> dict[str, Any]:
    """Find a decision's ledger row; DecisionIdInvalid, DecisionNotFound, store's."""
    try:
        identity = UUID(decision_id)
    except ValueError:
        msg = f"{decision_id!r} is no decision id, which is a UUID"
        raise DecisionIdInvalid(msg) from None
    rows: pa.Table = ask(settings, _FIND.format(id=identity))
    if not len(rows):
        msg = f"no decision has the id {identity} in {settings.store.url}"
        raise DecisionNotFound(msg)
    if len(rows) > 1:
        applications = ", ".join(map(str, sorted(rows["application_id"].to_pylist())))
        msg = f"applications {applications} share the id {identity}: their events had one event_id"
        raise DecisionNotFound(msg)
    found: dict[str, Any] = rows.to_pylist()[0]
    return found


def release_of(settings: Settings, stored: dict[str, Any]) -> Release:
    """Load the release that made a decision; raises ReleaseRefused where it is gone."""
    return load_release(release_folder(settings.release, stored["release"]), trusted=True)


def reproduce(stored: dict[str, Any], release: Release) -> Reproduction:
    """Decide again on the features of a stored decision."""
    names = release.schema.names
    missing = not stored["features"]
    features = np.full((1, len(names)), np.nan, dtype=np.float32)
    if not missing:
        features[0] = stored["features"]
    stale = _is_stale(stored, release.policy.freshness)
    verdicts = judge(
        release.scorer, release.policy, features, np.array([missing]), np.array([stale])
    )
    (reasons,) = verdicts.reasons
    now = {
        "features_stale": stale,
        "outcome": OUTCOMES[int(verdicts.outcomes[0])],
        "default_probability": None if missing else float(verdicts.default_probability[0]),
        "score": None if missing else int(verdicts.scores[0]),
        "risk_band": None if missing else BANDS[int(verdicts.bands[0])],
    }
    differences = [
        f"{name}: {stored[name]!r} was stored, {value!r} is made now"
        for name, value in now.items()
        if stored[name] != value
    ]
    made = [{"code": r.code, "feature": r.feature, "contribution": r.contribution} for r in reasons]
    # Where reasons are left to be asked for, the stream stored none but those of broken rules.
    if stored["reasons"] != made and any(r["contribution"] for r in stored["reasons"]):
        differences.append(f"reasons: {stored['reasons']} were stored, {made} are made now")
    return Reproduction(stored, reasons, tuple(differences))


def _is_stale(stored: dict[str, Any], freshness: Freshness | None) -> bool:
    if freshness is None:
        return False
    sources = np.array([FEATURE_SOURCES.index(stored["feature_source"])], dtype=np.uint8)
    times = (_microseconds(stored[name]) for name in ("submitted_at", "features_as_of"))
    return bool(freshness.is_stale(sources, *times)[0])


def _microseconds(at: datetime | None) -> NDArray[np.int64]:
    return np.array([NO_TIME if at is None else (at - _EPOCH) // timedelta(microseconds=1)])


def print_decision(stored: dict[str, Any], release: Release) -> None:
    """Print a stored decision: what, why, and how the model's parts add up."""
    console = new_console()
    lines = [f"{stored['outcome']}   application {stored['application_id']}"]
    if stored["score"] is not None:
        probability = f"default probability {stored['default_probability']:.4%}"
        lines.append(f"{probability}   {stored['score']} points   risk {stored['risk_band']}")
    lines += [
        f"{reason['contribution']:+.4f}  {release.policy.text_of(reason['code'])} "
        f"({', '.join(filter(None, (reason['code'], reason['feature'])))})"
        for reason in stored["reasons"]
    ]
    origin = "/".join(str(stored[f"origin_{part}"]) for part in ("topic", "partition", "offset"))
    lines += [
        f"event {stored['event_id']} of {stored['source']}, {origin}",
        f"submitted {stored['submitted_at']}, decided {stored['decided_at']}",
        f"features {stored['feature_source']}{_as_of(stored)}",
        f"release {stored['release']}",
    ]
    for line in lines:
        console.print(visible(line), highlight=False, markup=False, soft_wrap=True)
    if not stored["features"]:
        return
    features = np.array([stored["features"]], dtype=np.float32)
    *parts, mean = release.scorer.contributions(features)[0].tolist()
    table = Table("feature", "value", "adds to the log-odds")
    table.add_row("(mean of the model)", "", f"{mean:+.4f}")
    strongest = sorted(range(len(parts)), key=lambda index: -abs(parts[index]))
    for index in strongest[:_SHOWN]:
        name, value = release.schema.names[index], stored["features"][index]
        table.add_row(name, f"{value:g}", f"{parts[index]:+.4f}")
    rest = strongest[_SHOWN:]
    table.add_row(f"({len(rest)} others)", "", f"{sum(parts[index] for index in rest):+.4f}")
    table.add_row("log-odds of default", "", f"{mean + sum(parts):+.4f}", style="bold")
    console.print(table)


def _as_of(stored: dict[str, Any]) -> str:
    as_of, age = stored["features_as_of"], stored["features_age_s"]
    said = "" if as_of is None else f", as of {as_of}"
    said += "" if age is None else f", {age / 86_400:.1f} days old"
    return said + (", stale" if stored["features_stale"] else "")
