"""Home Credit on the real broker: what the table holds and what events bring are the same bits."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from features.home_credit.applicants import attributes_of
from features.home_credit.build import computed, opened
from features.home_credit.definition import DEFINITION, KEY, SCHEMA
from features.home_credit.sample_files import write_sample
from features.snapshot import write_snapshot
from models.policies import policy_text
from models.release import FORMAT, Manifest, open_release, write_release
from stream.kafka.packing import OutRecord
from stream.settings import Settings
from tests.e2e.installation import DISTINCT, count, running, send, wait_for

APPLICANTS = 400
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
LARGEST_EVENT = 900_000


def a_release(matrix: NDArray[np.float32], folder: Path) -> Path:
    label = np.random.default_rng(0).random(len(matrix)) < np.nan_to_num(matrix[:, 50], nan=0.3)
    data = lightgbm.Dataset(matrix, label.astype(int), feature_name=list(SCHEMA.names))
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    text = str(lightgbm.train(parameters, data, 15).model_to_string())
    policy = policy_text(DEFINITION.name, 0.3, 0.6)
    manifest = Manifest(format=FORMAT, definition=DEFINITION.name, files={})
    return write_release(folder, text, SCHEMA, policy, matrix[:100], manifest)


def an_event(key: int, attributes: object) -> OutRecord:
    at = datetime.now(UTC)
    event = {
        "event_id": f"hc-{key}",
        "application_id": key,
        "submitted_at": at.isoformat(),
        "attributes": attributes,
    }
    value = msgspec.json.encode(event)
    assert len(value) < LARGEST_EVENT
    return OutRecord(str(key).encode(), value, [], int(at.timestamp() * 1000))


@pytest.mark.real_broker
@pytest.mark.timeout(450)
def test_table_and_event_decide_alike_through_the_broker(
    settings: Settings, tmp_path: Path
) -> None:
    write_sample(tmp_path / "tables", APPLICANTS, 11, "parquet", lambda _: None)
    with opened(tmp_path / "tables") as (raw, faults):
        assert raw is not None, faults
        keys, matrix = computed(raw.tables)
        events = [an_event(key, rows) for key, rows in attributes_of(raw, keys.tolist())]
    features, release = tmp_path / "features.parquet", a_release(matrix, tmp_path / "of_hc")
    write_snapshot(features, KEY, keys[::2], matrix[::2], SCHEMA, AS_OF)
    large = settings.events.model_copy(update={"max_bytes": LARGEST_EVENT})
    settings = settings.model_copy(
        update={"release": release, "features": features, "events": large}
    )

    with running(settings, "scoring", "sink") as (processes, door):
        asyncio.run(send(settings.kafka, events))
        wait_for(door, DISTINCT, APPLICANTS, processes)
        assert count(door, "SELECT count() AS n FROM parked") == 0
        served = door.query(
            "SELECT application_id, feature_source, default_probability, features "
            "FROM decision_ledger FINAL ORDER BY application_id"
        )

    assert served["application_id"].to_pylist() == keys.tolist()
    assert served["feature_source"].to_pylist() == ["table", "computed"] * (APPLICANTS // 2)
    found = np.array(served["features"].to_pylist(), dtype=np.float32)
    assert found.shape == (APPLICANTS, 189)
    differing = (found.view(np.uint32) != matrix.view(np.uint32)) & ~np.isnan(matrix)
    assert not differing.any(), [SCHEMA.names[at] for at in np.flatnonzero(differing.any(axis=0))]
    assert np.array_equal(np.isnan(found), np.isnan(matrix))
    scores = open_release(release).scorer.default_probability(matrix)
    assert served["default_probability"].to_numpy().tobytes() == scores.tobytes()
