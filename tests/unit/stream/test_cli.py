"""The command line where it needs no installation: what it offers, imports, refuses and says."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner, Result

from stream.cli import app
from stream.process.supervisor import console_script
from stream.settings import PREFIX, described_settings
from tests.builders import a_release

ROOT = Path(__file__).parents[3]
NOBODY = "127.0.0.1:1"
NO_BROKER = ("--set", f"kafka.bootstrap_servers={NOBODY}")
NO_STORE = ("--set", f"store.url=http://{NOBODY}")
AN_ID = "00000000-0000-0000-0000-000000000000"

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


def creditstream(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def refusal(result: Result, code: int) -> str:
    """Give the one line in which a command said why it ended with the code."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave a developer's `.env`, environment and `.creditstream` out of it."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


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
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"error: cannot open the store http://{NOBODY}: ")


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


def test_a_bad_row_is_told_by_its_place_in_the_file(tmp_path: Path) -> None:
    lines = ['{"application_id": 7}'] * 90_000
    lines[80_000] = '{"application_id": "x"}'
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))

    assert "in row 80000" in refusal(creditstream("send", "rows.jsonl", *NO_BROKER), 1)


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


def test_a_damaged_description_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "prepared.json").write_text("{")

    line = refusal(creditstream("train", "--data", "."), 1)
    assert line.startswith("error: prepared.json is damaged (")


def test_a_worker_whose_status_address_is_taken_says_so_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ("--set", f"status.port={port}", *NO_BROKER)
        line = refusal(creditstream("worker", "--agents", "monitor", *settings), 1)

    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert line.endswith("set CREDITSTREAM_STATUS__PORT")


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


def test_a_file_that_is_not_there_is_refused_by_its_name() -> None:
    assert "nowhere.parquet" in refusal(creditstream("send", "nowhere.parquet"), 1)


def test_simulate_says_what_makes_the_applications_that_are_missing() -> None:
    line = refusal(creditstream("simulate", "--data", "nowhere"), 1)

    assert line.startswith("error: nowhere/applications.parquet is missing")
    assert "`creditstream prepare` makes it" in line


@pytest.mark.parametrize("command", ["show", "reproduce"])
def test_an_id_that_is_no_uuid_is_refused_before_anybody_is_asked(command: str) -> None:
    line = refusal(creditstream("decision", command, "seven", *NO_STORE), 1)

    assert line == "error: 'seven' is no decision id, which is a UUID"


def test_prepare_outside_a_checkout_says_what_is_missing() -> None:
    assert "run from a checkout" in refusal(creditstream("prepare"), 1)


def test_score_names_the_folder_that_holds_no_release(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("application_id\n7\n")

    line = refusal(creditstream("score", "rows.csv", "--release", ".", "-o", "out.parquet"), 1)

    assert "no release, and a folder of one release neither: it holds none" in line
    assert not (tmp_path / "out.parquet").exists()


def test_releases_are_listed_shown_and_checked_until_a_byte_is_flipped(tmp_path: Path) -> None:
    release = a_release(tmp_path / "releases")
    listed = creditstream("release", "list", "releases")
    shown = creditstream("release", "show", str(release), "--json")
    checked = creditstream("release", "check", str(release))
    of_folder = creditstream("release", "show", "releases")

    assert of_folder.stdout.startswith(f"release {release.name}  releases/{release.name}\n")
    assert listed.stdout.splitlines() == [release.name]
    assert f'"release": "{release.name}"' in shown.stdout
    assert checked.stdout.startswith(f"release {release.name} is sound: 50 reference rows")

    model = bytearray((release / "model.txt").read_bytes())
    model[100] ^= 1
    (release / "model.txt").write_bytes(model)

    assert "model.txt: is damaged" in refusal(creditstream("release", "check", str(release)), 1)
    assert "model.txt: is damaged" in refusal(creditstream("release", "show", str(release)), 1)
    listed = creditstream("release", "list", "releases")
    assert listed.exit_code == 1
    assert listed.stdout.startswith(f"{release.name}  model.txt: is damaged")


def test_a_folder_without_releases_is_said_to_hold_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert creditstream("release", "list", "empty").stdout == "no release in empty\n"
    line = refusal(creditstream("release", "list", "nowhere"), 1)
    assert line == "error: release nowhere: manifest.json: there is no such folder"


@contextmanager
def a_worker_that_says(status: dict[str, str]) -> Iterator[int]:
    """Serve a status on a port of its own."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(status).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


def test_the_doctor_names_each_missing_part_with_the_setting_to_set() -> None:
    result = creditstream("doctor", *NO_BROKER, *NO_STORE, "--set", "features=table[/b].parquet")

    assert result.exit_code == 1
    missing = [
        line.split(maxsplit=1)[1] for line in result.stdout.splitlines() if "missing" in line
    ]
    assert [(line.partition(":")[0], line.split()[-1]) for line in missing] == [
        ("release", "CREDITSTREAM_RELEASE"),
        ("feature table", "CREDITSTREAM_FEATURES"),
        ("kafka", "CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS"),
        ("clickhouse", "CREDITSTREAM_STORE__URL"),
    ]
    assert "table[/b].parquet" in missing[1]


def test_the_doctor_finds_a_feature_table_missing_where_the_release_is_there(
    tmp_path: Path,
) -> None:
    release = ("--set", f"release={a_release(tmp_path)}")

    result = creditstream("doctor", *NO_BROKER, *NO_STORE, *release)

    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "ok release: " in lines[1]
    assert lines[2] == (
        "missing feature table: .creditstream/features.parquet: there is no such file; "
        "set CREDITSTREAM_FEATURES"
    )


def test_the_doctor_asks_the_running_worker_what_it_refuses(tmp_path: Path) -> None:
    refused = "t.parquet: it differs too much from the table that decides: 1 rows after 9"
    with a_worker_that_says({"role": "scoring", "refused": refused}) as port:
        here = ("--set", f"status.port={port}", "--set", f"features={tmp_path}")
        result = creditstream("doctor", *NO_BROKER, *NO_STORE, *here)

    worker = next(line for line in result.stdout.splitlines() if " worker: " in line)
    assert " ".join(worker.split()) == (
        f"missing worker: the one at http://127.0.0.1:{port} goes on with what it had: {refused}"
    )


def test_the_doctor_misses_no_worker(tmp_path: Path) -> None:
    nobody = ("--set", "status.port=1", "--set", f"features={tmp_path}")

    result = creditstream("doctor", *NO_BROKER, *NO_STORE, *nobody)

    assert "worker: none answers at http://127.0.0.1:1" in result.stdout


def test_contracts_are_written_for_the_topics_of_the_settings(tmp_path: Path) -> None:
    result = creditstream("contracts", "-o", "out", "--set", "kafka.decisions=my.decisions")

    assert result.exit_code == 0
    written = [Path(line) for line in result.stdout.splitlines()]
    assert sorted(written) == sorted(
        path.relative_to(tmp_path) for path in (tmp_path / "out").rglob("*.json")
    )
    assert '"my.decisions"' in (tmp_path / "out" / "asyncapi.json").read_text("utf-8")


def given_applications(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"application_id": [7]}), folder / "applications.parquet")
