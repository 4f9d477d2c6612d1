"""Files and simulated applications, sent; and the same decisions offline."""

import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.prepared import KEY
from stream.demo.installation import Installation
from tests.e2e.commands.asked import DECIDED, OF_RUN, SENT, answer, applications, count, rows, send
from tests.e2e.running import wait_until


def offline(running: Installation, folder: Path) -> dict[int, dict[str, Any]]:
    """Score the file of applications without Kafka; give each decision by application."""
    out = folder / "offline.parquet"
    release = str(running.folder / "releases")
    source = str(running.prepared.applications)
    said = answer(running, "score", source, "--release", release, "-o", str(out))
    decided = pq.read_table(out).select(DECIDED).to_pylist()
    assert said == f"{len(decided)} rows decided: {out}\n"
    return {row[KEY]: row for row in decided}


def test_score_decides_a_file_as_the_installation_decided_its_events(
    installation: Installation, tmp_path: Path
) -> None:
    served = {row[KEY]: row for row in rows(installation, OF_RUN.format(run="first"))}

    expected = offline(installation, tmp_path)
    assert len(served) == SENT
    assert served == {key: expected[key] for key in served}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_file_sent_is_decided_whatever_its_format_and_the_name_of_its_key(
    installation: Installation, tmp_path: Path, suffix: str
) -> None:
    few = applications(installation.prepared).slice(100, 40).rename_columns({KEY: "client"})

    send(installation, few, f"as-{suffix}", tmp_path / f"rows.{suffix}", key="client")

    wait_until(lambda: count(installation, f"as-{suffix}") == len(few), 30, "all decided")
    served = {row[KEY]: row for row in rows(installation, OF_RUN.format(run=f"as-{suffix}"))}
    again = {row[KEY]: row for row in rows(installation, OF_RUN.format(run="first"))}
    assert served == {key: again[key] for key in few["client"].to_pylist()}


def test_rows_of_two_files_are_two_events_and_a_file_sent_again_is_the_same(
    installation: Installation, tmp_path: Path
) -> None:
    parked = "SELECT uniqExact(origin_partition, origin_offset) AS n FROM parked_events"
    before = rows(installation, parked)[0]["n"]
    for name, end in (("a", ""), ("b", "\n"), ("c", "\n\n")):
        (tmp_path / f"{name}.csv").write_text(f"{KEY}\n88000001{end}")
    for name in ("a", "b", "b", "c"):
        said = answer(installation, "send", str(tmp_path / f"{name}.csv"))
        assert said.startswith("1 event sent, submitted ")
    (tmp_path / "last.csv").write_text(f"{KEY}\n-88000001\n")
    answer(installation, "send", str(tmp_path / "last.csv"))

    query = "SELECT event_id FROM decisions WHERE application_id = 88000001"
    wait_until(lambda: len(rows(installation, query)) >= 3, 30, "the last is decided")
    wait_until(lambda: rows(installation, parked)[0]["n"] > before, 30, "a refused one is parked")
    assert len(rows(installation, query)) == 3
    assert rows(installation, parked)[0]["n"] == before + 1


def test_simulate_sends_as_many_as_it_is_told(installation: Installation) -> None:
    # By where each stood; decisions that another test sent twice are merged meanwhile.
    parked = "SELECT uniqExact(origin_partition, origin_offset) AS n FROM parked_events"
    before = rows(installation, parked)[0]["n"]
    data = str(installation.prepared.folder)

    said = answer(
        installation, "simulate", "--count=150", "--rate=500", "--bad-share=0.2", "--data", data
    )

    sent = re.fullmatch(r"(\d+) good and (\d+) bad events sent\n", said)
    assert sent
    good, bad = int(sent[1]), int(sent[2])
    assert (good + bad, bad > 0) == (150, True)
    wait_until(lambda: count(installation, "sim") == good, 30, "all good ones are decided")
    wait_until(lambda: rows(installation, parked)[0]["n"] == before + bad, 30, "the rest is parked")
