from datetime import datetime, timedelta
from pathlib import Path

import pytest

from features.taiwan_default import DEFINITION
from models.release import Release, open_release
from scoring.decision import DecisionBatch
from scoring.pipeline import Pipeline
from sinks.ledger import decode, encode
from stream.asking.decision import DecisionIdInvalid, find_decision, print_decision, reproduce
from stream.settings import Settings
from tests.builders import SUBMITTED, a_poll, a_release, a_table, an_event


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return open_release(a_release(tmp_path_factory.mktemp("releases")))


def decided(
    release: Release, *, explain: bool = True, as_of: datetime | None = None
) -> DecisionBatch:
    table = a_table(1, 2, 3, 4, 5)
    table.as_of = as_of
    pipeline = Pipeline(
        release=release.id,
        definition=DEFINITION,
        table=table,
        scorer=release.scorer,
        policy=release.policy,
        explain=explain,
    )
    events = [an_event(event_id=f"e-{key}", application_id=key) for key in range(1, 7)]
    unknown = an_event(event_id="e-7", application_id=7, attributes=None)
    return pipeline.decide(a_poll(*events, unknown), 1_790_000_000_000_000).batch


@pytest.mark.parametrize("explain", [True, False])
def test_every_decision_of_a_poll_is_reproduced_from_its_ledger_row(
    release: Release, explain: bool
) -> None:
    batch = decided(release, explain=explain)
    assert len(set(batch.outcomes.tolist())) > 1

    for message in encode(batch):
        for row, reasons in zip(decode(message).rows.to_pylist(), batch.reasons, strict=True):
            result = reproduce(row, release)

            assert result.differences == ()
            if explain:
                assert result.reasons == reasons
            assert (row["outcome"] == "approve") == (not result.reasons)


@pytest.mark.parametrize("stale", ["refer", "recompute", "note"])
@pytest.mark.parametrize("days", [0, 35, 36, None])
def test_a_decision_is_reproduced_whatever_the_age_of_its_features(
    tmp_path: Path, stale: str, days: int | None
) -> None:
    word = f'\n[freshness]\nmax_age_days = 35\nstale = "{stale}"\n'
    release = open_release(a_release(tmp_path, more=word))
    submitted = datetime.fromisoformat(SUBMITTED)
    as_of = None if days is None else submitted - timedelta(days=days)
    batch = decided(release, as_of=as_of)
    assert batch.features_stale.any() == (days in (36, None) and stale != "recompute")

    for row in decode(encode(batch)[0]).rows.to_pylist():
        assert reproduce(row, release).differences == ()
        other = row | {"features_stale": not row["features_stale"]}
        (difference,) = reproduce(other, release).differences
        assert difference.startswith("features_stale: ")


@pytest.mark.parametrize(
    ("days", "said"),
    [(36, ", 36.0 days old, stale"), (-0.5, ", -0.5 days old"), (None, "features table, stale")],
)
def test_a_decision_is_shown_with_the_age_of_its_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: float | None, said: str
) -> None:
    word = '\n[freshness]\nmax_age_days = 35\nstale = "refer"\n'
    release = open_release(a_release(tmp_path, more=word))
    as_of = None if days is None else datetime.fromisoformat(SUBMITTED) - timedelta(days=days)
    row = decode(encode(decided(release, as_of=as_of))[0]).rows.to_pylist()[0]

    print_decision(row, release)

    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("features table")]
    assert line.endswith(said)
    assert ("(F01)" in shown) == ("stale" in said)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"outcome": "approve"}, "outcome: 'approve' was stored"),
        ({"score": 1}, "score: 1 was stored"),
        ({"default_probability": 0.5000000000000001}, "default_probability: 0.5000000000000001"),
        ({"reasons": [{"code": "X", "feature": "age", "contribution": 1.0}]}, "reasons: "),
    ],
)
def test_what_differs_in_a_bit_is_named(
    release: Release, changes: dict[str, object], named: str
) -> None:
    batch = decided(release)
    rows = decode(encode(batch)[0]).rows.to_pylist()
    adverse = next(row for row in rows if row["outcome"] != "approve" and row["features"])

    result = reproduce(adverse | changes, release)

    assert len(result.differences) == 1
    assert result.differences[0].startswith(named)


def test_an_id_that_is_none_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(DecisionIdInvalid, match="'seven' is no decision id, which is a UUID"):
        find_decision(Settings(), "seven")


def test_a_decision_without_features_names_neither_a_feature_nor_a_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = open_release(a_release(tmp_path))
    reason = {"code": "N01", "feature": "", "contribution": 0.0}
    stored = {
        "outcome": "refer",
        "application_id": "A-7",
        "default_probability": None,
        "score": None,
        "risk_band": None,
        "reasons": [reason],
        "event_id": "0d2c",
        "source": "web",
        "origin_topic": "applications",
        "origin_partition": 2,
        "origin_offset": 41,
        "submitted_at": "2026-01-02",
        "decided_at": "2026-01-02",
        "feature_source": "none",
        "features_as_of": None,
        "features_age_s": None,
        "features_stale": False,
        "features": [],
        "release": release.id,
    }

    print_decision(stored, release)

    told = capsys.readouterr().out.splitlines()
    assert "+0.0000  No information about the applicant is available. (N01)" in told
    assert "features none" in told
