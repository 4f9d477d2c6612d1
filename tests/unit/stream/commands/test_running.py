"""Workers and what sends applications: what is refused before anything is sent."""

import os
import socket
from pathlib import Path

import pytest

from tests.unit.stream.commands.command_line import (
    NO_BROKER,
    creditstream,
    refusal,
)


def test_a_worker_whose_status_address_is_taken_says_so_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ("--set", f"status.port={port}", *NO_BROKER)
        line = refusal(creditstream("worker", "--agents", "monitor", *settings), 1)

    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert line.endswith("set CREDITSTREAM_STATUS__PORT")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.csv", "client\n7\n", "key column 'application_id' stands 0 times; see --key"),
        ("rows.csv", "application_id\nseven\n", "row 0: key 'seven' is no whole number"),
        ("rows.jsonl", "{]\n", "JSON parse error"),
        ("rows.csv", b"application_id,AGE\n7,\xff\n", "column 'AGE' holds bytes that are no text"),
        ("rows.csv", "application_id,AGE\n7,inf\n", "column 'AGE' holds an infinity"),
        ("rows.xlsx", "7", "a file of rows ends in .parquet, .csv, .jsonl, .ndjson"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_in_one_line(
    name: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)

    line = refusal(creditstream("send", name, *NO_BROKER), 1)

    assert line.startswith(f"error: {name}: ")
    assert said in line


def test_a_bad_row_is_told_by_its_place_in_the_file(tmp_path: Path) -> None:
    lines = ['{"application_id": 7}'] * 90_000
    lines[80_000] = '{"application_id": "x"}'
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))

    assert "in row 80000" in refusal(creditstream("send", "rows.jsonl", *NO_BROKER), 1)


def test_a_file_that_is_not_there_is_refused_by_its_name() -> None:
    result = creditstream("send", "nowhere.parquet")

    assert result.exit_code == 2
    assert "nowhere.parquet" in result.stderr


def test_a_file_too_old_to_be_decided_is_refused_unless_told_when_it_was_submitted(
    tmp_path: Path,
) -> None:
    (tmp_path / "rows.csv").write_text("application_id\n7\n")
    os.utime("rows.csv", (1e9, 1e9))

    line = refusal(creditstream("send", "rows.csv", *NO_BROKER), 1)
    assert line == (
        "error: rows.csv: last changed 2001-09-09, more than 400 days ago, when its events would "
        "have been submitted: say when with --submitted-at"
    )
    told = ("--submitted-at", "2026-11-25T14:00+01:00")
    assert creditstream("send", "rows.csv", *told, *NO_BROKER).exit_code == 69


def test_simulate_says_what_makes_the_applications_that_are_missing() -> None:
    line = refusal(creditstream("simulate", "--data", "nowhere"), 1)

    assert line.startswith("error: nowhere/applications.parquet is missing")
    assert "`creditstream prepare` makes it" in line
