"""A running worker whose release and feature table are changed on disk."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from features.snapshot import load_snapshot, write_snapshot
from features.taiwan_default import DEFINITION
from models.prepared import Prepared
from scoring.decision import Decision
from stream.asking.doctor import examine
from stream.asking.questions import status_of
from stream.kafka.connection import connection_of
from stream.kafka.records import records_of
from stream.settings import Settings, StatusSettings
from tests.builders import a_release
from tests.e2e.installation import applications, installed, send

PATIENCE_S = 60.0


def wait_until(url: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (status := status_of(url)) is None or not holds(status):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def publish(path: Path, old: Path, *, days: int, missing: float = 0.0) -> str:
    """Write the table of `old`, so many days later, without a share of one column; its digest."""
    table = load_snapshot(old, DEFINITION.schema)
    assert table.as_of is not None
    matrix = table.matrix.copy()
    matrix[: int(missing * len(matrix)), DEFINITION.schema.names.index("limit")] = np.nan
    keys = pq.read_table(old)["application_id"].to_numpy()
    order = np.argsort(keys)
    as_of = table.as_of + timedelta(days=days)
    write_snapshot(path, "application_id", keys[order], matrix, DEFINITION.schema, as_of)
    return load_snapshot(path, DEFINITION.schema).digest


@pytest.mark.real_broker
@pytest.mark.timeout(300)
def test_a_running_worker_takes_over_what_is_sound_and_keeps_the_old_where_it_is_not(
    settings: Settings, prepared: Prepared, tmp_path: Path
) -> None:
    first = settings.release
    second = a_release(tmp_path / "others", refer=0.2)
    damaged = a_release(tmp_path / "others", refer=0.25)
    (damaged / "model.txt").write_bytes((damaged / "model.txt").read_bytes()[:-1])
    current, table = tmp_path / "current", tmp_path / "features.parquet"
    current.symlink_to(first)
    table.write_bytes(prepared.features.read_bytes())
    changes = {"release": current, "features": table, "swap_seconds": 0.2}
    records = applications(prepared, 400)

    def point_to(release: Path) -> None:
        (tmp_path / "next").symlink_to(release)
        (tmp_path / "next").replace(current)

    with installed(settings.model_copy(update=changes), "scoring") as (scoring,):
        wait_until(scoring.url, lambda status: not status["not_ready"])
        point_to(damaged)
        status = wait_until(scoring.url, lambda status: status["refused"])
        assert "model.txt" in status["refused"]
        assert status["release"] == first.name
        assert httpx.get(f"{scoring.url}/readyz").status_code == 200
        asyncio.run(send(settings.kafka, records[:200]))
        decided(settings, 200, {first.name})

        point_to(second)
        status = wait_until(scoring.url, lambda status: status["release"] == second.name)
        assert status["refused"] == ""
        table.write_bytes(table.read_bytes()[:-1])
        status = wait_until(scoring.url, lambda status: status["refused"])
        assert "features.parquet" in status["refused"]
        digest = publish(table, prepared.features, days=1)
        status = wait_until(scoring.url, lambda s: s["feature_table_digest"] == digest)
        assert status["refused"] == ""
        asyncio.run(send(settings.kafka, records[200:]))
        decided(settings, 400, {first.name, second.name})
        assert scoring.process.starts == 1


@pytest.mark.real_broker
@pytest.mark.timeout(300)
def test_a_table_that_lost_values_is_refused_while_applications_flow_and_none_is_lost(
    settings: Settings, prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "2026-10-01.parquet").write_bytes(prepared.features.read_bytes())
    changes = {"features": folder, "swap_seconds": 0.2}
    settings = settings.model_copy(update=changes)
    records = applications(prepared, 600)

    with installed(settings, "scoring") as (scoring,):
        first = wait_until(scoring.url, lambda status: not status["not_ready"])
        asyncio.run(send(settings.kafka, records[:200]))
        publish(folder / "2026-10-08.parquet", prepared.features, days=7, missing=0.5)
        status = wait_until(scoring.url, lambda status: status["refused"])
        assert "2026-10-08.parquet: it differs too much" in status["refused"]
        assert "missing share of limit 0.5000 after 0.0000" in status["refused"]
        assert status["feature_table_digest"] == first["feature_table_digest"]
        ready = httpx.get(f"{scoring.url}/readyz")
        assert (ready.status_code, ready.json()["refused"]) == (200, status["refused"])
        told = httpx.get(f"{scoring.url}/metrics").text.splitlines()
        assert 'creditstream_swaps_total{result="refused"} 1.0' in told
        assert "creditstream_swap_refused 1.0" in told
        asyncio.run(send(settings.kafka, records[200:400]))
        there = StatusSettings(port=int(scoring.url.rpartition(":")[2]))
        examine(settings.model_copy(update={"status": there}))
        assert "2026-10-08.parquet: it differs too much" in capsys.readouterr().out

        digest = publish(folder / "2026-10-09.parquet", prepared.features, days=8)
        status = wait_until(scoring.url, lambda s: s["feature_table_digest"] == digest)
        assert status["refused"] == ""
        asyncio.run(send(settings.kafka, records[400:]))
        made = decided(settings, 600, {settings.release.name})
        assert scoring.process.starts == 1

    of_table = [d.features_as_of for d in made if d.feature_source == "table"]
    assert len(set(of_table)) == 2
    assert len({decision.decision_id for decision in made}) == 600


def decided(settings: Settings, events: int, releases: set[str]) -> list[Decision]:
    """Wait until the topic has so many decisions; see which releases made them."""
    kafka = settings.kafka
    deadline = time.monotonic() + PATIENCE_S
    while True:
        records = asyncio.run(records_of(connection_of(kafka), kafka.decisions))
        if len(records) >= events:
            break
        assert time.monotonic() < deadline, f"{len(records)} of {events}"
    made = [msgspec.json.decode(record.value, type=Decision) for record in records]
    assert {decision.release for decision in made} == releases
    return made
