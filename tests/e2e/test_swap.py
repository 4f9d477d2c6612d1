"""A running worker whose release and feature table are changed on disk."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from features.snapshot import write_snapshot
from features.taiwan_default import DEFINITION
from models.prepared import Prepared
from scoring.decision import Decision, instant
from stream.reading import records_of, status_of
from stream.settings import Settings
from tests.builders import NOW_MS, a_release, raw_columns
from tests.e2e.installation import applications, installed, send

PATIENCE_S = 60.0


def wait_until(url: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (status := status_of(url)) is None or not holds(status):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def write_table(path: Path, rows: int) -> None:
    matrix = DEFINITION.compute(raw_columns(rows))
    keys = np.arange(1, rows + 1)
    write_snapshot(path, "application_id", keys, matrix, DEFINITION.schema, instant(NOW_MS * 1000))


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
        asyncio.run(send(settings.kafka, applications(prepared, 200)))
        decided(settings, 200, {first.name})

        point_to(second)
        status = wait_until(scoring.url, lambda status: status["release"] == second.name)
        assert status["refused"] == ""
        table.write_bytes(table.read_bytes()[:-1])
        status = wait_until(scoring.url, lambda status: status["refused"])
        assert "features.parquet" in status["refused"]
        write_table(table, 17)
        wait_until(scoring.url, lambda status: status["feature_table_rows"] == 17)
        asyncio.run(send(settings.kafka, applications(prepared, 200)))
        decided(settings, 400, {first.name, second.name})
        assert scoring.process.starts == 1


def decided(settings: Settings, events: int, releases: set[str]) -> None:
    """Wait until the topic has so many decisions; see which releases made them."""
    kafka = settings.kafka
    deadline = time.monotonic() + PATIENCE_S
    while True:
        records = asyncio.run(records_of(kafka.bootstrap_servers, kafka.decisions))
        if len(records) >= events:
            break
        assert time.monotonic() < deadline, f"{len(records)} of {events}"
    made = [msgspec.json.decode(record.value, type=Decision) for record in records]
    assert {decision.release for decision in made} == releases
