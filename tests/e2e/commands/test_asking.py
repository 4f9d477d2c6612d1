"""Questions to the store of an installation: SQL, drift and reports."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from features.taiwan_default import DEFINITION
from stream.demo.installation import Installation
from stream.process.supervisor import console_script
from stream.settings import environment_of
from tests.builders import a_release
from tests.e2e.commands.asked import (
    SENT,
    answer,
    applications,
    count,
    refusal,
    rows,
    send,
)
from tests.e2e.running import assert_gone, assert_report, started, wait_until


def test_sql_prints_a_table_that_leaves_nothing_out(installation: Installation) -> None:
    long = "x" * 500

    said = answer(installation, "sql", f"SELECT 1 AS one, '[/b] [red]' AS odd, '{long}' AS long")

    assert re.search(r"one.*odd.*long", said)
    assert "[/b] [red]" in said
    assert said.count("x") == len(long)


def test_sql_prints_json_lines(installation: Installation) -> None:
    said = answer(installation, "sql", "--json", "SELECT number, NULL AS none FROM numbers(2)")

    assert said == '{"number":0,"none":null}\n{"number":1,"none":null}\n'


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO decision_ledger (event_id) VALUES ('x')",
        "DROP TABLE decision_ledger",
        "ALTER TABLE decision_ledger DELETE WHERE 1",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    ],
)
def test_sql_refuses_all_but_reading(installation: Installation, query: str) -> None:
    assert refusal(installation, "sql", query)

    assert count(installation, "first") == SENT


def test_a_query_that_is_wrong_is_refused_with_the_engines_word(
    installation: Installation,
) -> None:
    assert "UNKNOWN_TABLE" in refusal(installation, "sql", "SELECT * FROM decisionz")


def test_drift_shows_alarms_and_every_subject_by_its_whole_name(
    installation: Installation, tmp_path: Path
) -> None:
    drifted = applications(installation.prepared).slice(0, 250).to_pylist()
    drifted = [row | {"LIMIT_BAL": round(row["LIMIT_BAL"] / 32, 2)} for row in drifted] * 3
    send(installation, pa.Table.from_pylist(drifted), "usd", tmp_path / "usd.parquet")
    alarms = "SELECT count() AS n FROM alarms WHERE subject = 'limit'"
    wait_until(lambda: rows(installation, alarms)[0]["n"] > 0, 60, "an alarm of the limit")
    checkpoint = installation.settings["monitor"].monitor.checkpoint
    wait_until(checkpoint.is_file, 30, "statistics")

    said = answer(installation, "drift")
    lines = answer(installation, "drift", "--json").splitlines()

    assert len(lines) == min(20, rows(installation, "SELECT count() AS n FROM alarms")[0]["n"])
    newest = json.loads(lines[0])
    assert list(newest) == ["raised_at", "detector", "subject", "value", "text"]
    assert newest["subject"] in said
    for name in ("default_probability", *DEFINITION.schema.names):
        assert re.search(rf"│ {name} +│", said), name


def test_report_says_so_where_nothing_was_decided_by_the_release(
    installation: Installation, tmp_path: Path
) -> None:
    another = a_release(tmp_path)

    ended = subprocess.run(
        [console_script(), "report", "--hours", "2", "--set", f"release={another}"],
        env=os.environ | environment_of(installation.settings["sink"]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    said = f"release {another.name} decided nothing with features in the last 2 hours"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"error: {said}\n")


@pytest.mark.slow
def test_report_every_draws_and_ends_when_told_to(
    installation: Installation, tmp_path: Path
) -> None:
    environment = environment_of(installation.settings["sink"])
    folder = ("--set", f"monitor.reports={tmp_path / 'reports'}")

    with started(tmp_path, "report", "--every", "60", *folder, environment=environment) as report:
        drawn = report.await_said(r'"html": "(\S+)", "event": "report\.drawn"', 100)
        report.process.send_signal(signal.SIGTERM)
        code = report.process.wait(20)
        assert_gone(report)

    assert code == 0
    assert Path(drawn[1]).is_relative_to(tmp_path / "reports")
    assert_report(Path(drawn[1]), rows=SENT)
