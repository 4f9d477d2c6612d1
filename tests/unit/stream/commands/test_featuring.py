"""Features: what is refused, and what is left behind."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from stream.process.supervisor import console_script
from tests.builders import a_release
from tests.unit.stream.commands.command_line import creditstream, refusal


def test_what_is_no_feature_table_is_never_written_over(tmp_path: Path) -> None:
    release = a_release(tmp_path / "releases")
    (tmp_path / "notes.txt").write_text("as it was")
    (tmp_path / "rows.csv").write_text("application_id\n7\n")

    for arguments in (
        ("create", "rows.csv", "--release", str(release), "-o", "notes.txt"),
        ("build", "--tables", ".", "-o", "notes.txt"),
    ):
        line = refusal(creditstream("features", *arguments), 1)
        assert line == (
            "error: notes.txt: a feature table is a Parquet file, so its name ends in .parquet"
        )
    assert (tmp_path / "notes.txt").read_text() == "as it was"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("parity", "--tables", "clickhouse://u:hunter2@h/d"), 1, "give a folder of tables"),
        (("check", "clickhouse://"), 69, "an engine's address names its host"),
        (("check", "nosuch://u:hunter2@h:1/d"), 69, "nosuch://h/d: "),
        (("describe", "by_name"), 1, "has no features of its own"),
    ],
)
def test_what_holds_no_features_is_refused_in_one_line_without_a_password(
    arguments: tuple[str, ...], code: int, said: str
) -> None:
    line = refusal(creditstream("features", *arguments), code)

    assert said in line
    assert "hunter2" not in line


def test_a_command_that_is_told_to_end_leaves_nothing_half_done(tmp_path: Path) -> None:
    command = [console_script(), "features", "sample", "--applications", "300000", "-o", "made"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".made.*/*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM

    assert list(tmp_path.iterdir()) == []
