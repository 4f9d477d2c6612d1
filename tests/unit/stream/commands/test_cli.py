"""The command line as a whole: what it offers, imports and refuses, whatever the command."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from stream.cli import app
from stream.process.supervisor import console_script
from stream.settings import described_settings
from tests.unit.stream.commands.command_line import (
    NO_BROKER,
    NOBODY,
    creditstream,
    refusal,
)

ROOT = Path(__file__).parents[4]
HEAVY = {
    "aiokafka",
    "chdb",
    "evidently",
    "faust",
    "lightgbm",
    "numpy",
    "pandas",
    "pyarrow",
    "river",
}
"""What `creditstream --help` has no use for."""


def commands(group: TyperGroup, path: str = "") -> Iterator[str]:
    """Give every command by its full name, as `decision show`."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name


def root() -> TyperGroup:
    found = typer.main.get_command(app)
    assert isinstance(found, TyperGroup)
    return found


COMMANDS = sorted(commands(root()))


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_helps(command: str) -> None:
    result = creditstream(*command.split(), "--help")

    assert result.exit_code == 0
    assert f"Usage: creditstream {command}".strip() in " ".join(result.stdout.split())


def test_help_imports_nothing_heavy() -> None:
    ended = subprocess.run(
        [console_script(), "--help"],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "typer" in imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()


def test_the_readme_names_every_command_and_no_other() -> None:
    section = (ROOT / "README.md").read_text("utf-8").partition("\n## Commands\n")[2]
    rows = re.findall(r"^\| (`creditstream .*?) \| ", section.partition("\n## ")[0], re.MULTILINE)
    named = []
    for span in re.findall(r"`(.*?)`", " ".join(rows)):
        command, *rest = span.removeprefix("creditstream ").split()
        if isinstance(root().commands.get(command), TyperGroup):
            named += [f"{command} {name}" for name in rest[0].split(r"\|")]
        else:
            named.append(command)

    assert sorted(named) == COMMANDS


def test_the_page_on_operating_has_every_setting_with_its_default_and_meaning() -> None:
    page = (ROOT / "docs" / "operating.md").read_text("utf-8")
    rows = re.findall(r"^\| `(CREDITSTREAM_\w+)` \| (.*?) \| (.*?) \|$", page, re.MULTILINE)

    found = [(name, default.strip("`"), meaning) for name, default, meaning in rows]
    assert found == list(described_settings())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--hlp"],
        ["no-such-command"],
        ["send"],
        ["send", "nowhere.parquet"],
        ["send", "."],
        ["decision", "show"],
        ["demo", "--seconds", "5"],
        ["simulate", "--bad-share", "2"],
        ["report", "--hours", "0"],
        ["reconcile", "--hours", "0"],
        ["reconcile", "--since", "yesterday"],
        ["reconcile", "--since", "2026-01-02", "--until", "2026-01-01T12:00+01:00"],
        ["reconcile", "--partition", "-1"],
        ["report", "--hours", "99999999999"],
        ["train", "--seed", "-1"],
        ["simulate", "--rate", "inf"],
        ["simulate", "--count", "-5"],
        ["features", "sample", "--applications", "99999999999999", "-o", "s"],
        [
            "features",
            "build",
            "--tables",
            ".",
            "-o",
            "f.parquet",
            "--as-of",
            "9999-12-31T23:59:59-2359",
        ],
        ["parked", "show", "seven"],
        ["parked", "show", "3/17-18"],
        ["parked", "list", "3/18-17"],
        ["parked", "list", "--since", "yesterday"],
        ["parked", "list", "--code", "lunch"],
        ["parked", "list", "--stage", "lunch"],
        ["parked", "list", "--limit", "-1"],
        ["parked", "send"],
        ["parked", "send", "--yes"],
        ["bench", "pipeline", "--events", "10"],
        ["bench", "features", "--rows", "10"],
        ["bench", "features", "--columns", "0"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_how_to_get_help(arguments: list[str]) -> None:
    result = creditstream(*arguments)

    assert result.exit_code == 2
    assert "Try 'creditstream" in result.stderr


def test_agents_that_do_not_exist_are_wrong_usage_too() -> None:
    line = refusal(creditstream("worker", "--agents", "scoring,monitr"), 2)

    assert line == "error: no agents are called 'monitr'; there are scoring, sink, monitor"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["doctor", "--set", "kafka.partitons=8"], "did you mean kafka.partitions?"),
        (["sql", "SELECT 1", "--set", "kafka.partitions=0"], "greater than or equal to 1"),
        (["worker", "--agents", "sink", "--set", "status.port=x"], "CREDITSTREAM_STATUS__PORT"),
    ],
)
def test_a_setting_that_is_unknown_or_not_allowed_ends_with_78(
    arguments: list[str], said: str
) -> None:
    assert said in refusal(creditstream(*arguments), 78)


def test_a_mistyped_variable_ends_with_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_STORE__DOR", "http://127.0.0.1:8011")

    assert "did you mean CREDITSTREAM_STORE__DOOR?" in refusal(creditstream("drift"), 78)


@pytest.mark.parametrize(
    "command",
    [
        "init",
        "send rows.csv",
        "simulate --data . --count 1",
        "parked list",
        "parked show 3/17",
        "parked send 3/17",
    ],
)
def test_a_broker_that_does_not_answer_ends_with_69_and_the_setting_that_names_it(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("application_id\n7\n")
    given_applications(tmp_path)

    line = refusal(creditstream(*command.split(), *NO_BROKER), 69)

    assert line.startswith(f"error: no broker at {NOBODY} (")
    assert line.endswith("; set CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS")


@pytest.mark.parametrize(
    "arguments",
    [
        ("contracts", "-o", "taken"),
        ("features", "describe", "home_credit", "-o", "nowhere/page.md"),
        ("release", "create", "--model", "taken", "--reference", "taken", "-o", "taken"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_by_its_name(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("as it was")

    line = refusal(creditstream(*arguments), 1)

    assert arguments[-1] in line
    assert (tmp_path / "taken").read_text() == "as it was"


def given_applications(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"application_id": [7]}), folder / "applications.parquet")
