import pytest

from features.taiwan_default import DEFINITION
from models.release import Release, open_release
from scoring.decision import DecisionBatch
from scoring.pipeline import Pipeline
from sinks.ledger import decode, encode
from stream.settings import Settings
from stream.stored import DecisionNotFound, find_decision, reproduce
from tests.builders import a_poll, a_release, a_table, an_event


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return open_release(a_release(tmp_path_factory.mktemp("releases")))


def decided(release: Release, *, explain: bool = True) -> DecisionBatch:
    pipeline = Pipeline(
        release=release.id,
        definition=DEFINITION,
        table=a_table(1, 2, 3, 4, 5),
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
    with pytest.raises(DecisionNotFound, match="'seven' is no decision id, which is a UUID"):
        find_decision(Settings(), "seven")
