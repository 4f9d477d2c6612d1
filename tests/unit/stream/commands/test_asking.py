"""What asks a store, and the contracts: refused, told, written."""

import subprocess
from pathlib import Path

import pytest

from stream.process.supervisor import console_script
from tests.builders import a_release
from tests.unit.stream.commands.command_line import NO_STORE, NOBODY, creditstream, refusal

AN_ID = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("arguments", [["sql", "SELECT 1"], ["drift"], ["decision", "show", AN_ID]])
def test_a_store_that_does_not_answer_ends_with_69_and_its_address(arguments: list[str]) -> None:
    line = refusal(creditstream(*arguments, *NO_STORE), 69)

    assert f"cannot open the store http://{NOBODY}" in line


def test_a_report_whose_store_does_not_answer_ends_with_69_too(tmp_path: Path) -> None:
    release = ("--set", f"release={a_release(tmp_path)}")

    # A process of its own, as a report gives way to all others from its beginning.
    ended = subprocess.run(
        [console_script(), "report", *NO_STORE, *release],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 69
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: cannot open the store http://{NOBODY}: ")


@pytest.mark.parametrize("command", ["show", "reproduce"])
def test_an_id_that_is_no_uuid_is_refused_before_anybody_is_asked(command: str) -> None:
    line = refusal(creditstream("decision", command, "seven", *NO_STORE), 2)

    assert line == "error: 'seven' is no decision id, which is a UUID"


def test_contracts_are_written_for_the_topics_of_the_settings(tmp_path: Path) -> None:
    result = creditstream("contracts", "-o", "out", "--set", "kafka.decisions=my.decisions")

    assert result.exit_code == 0
    written = [Path(line) for line in result.stdout.splitlines()]
    assert sorted(written) == sorted(
        path.relative_to(tmp_path) for path in (tmp_path / "out").rglob("*.json")
    )
    assert '"my.decisions"' in (tmp_path / "out" / "asyncapi.json").read_text("utf-8")
