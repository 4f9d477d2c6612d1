"""The command line's commands: those that bring all they need, then all others, asked of one."""

import json
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from features.taiwan_default import DEFINITION
from models.prepared import KEY, Prepared
from stream.cli import app
from stream.demo.examples import example_of
from stream.demo.installation import Installation, installed
from stream.process.supervisor import console_script
from stream.settings import environment_of
from tests.builders import a_release
from tests.e2e.conftest import EXAMPLE

MARK = "TEST_COMMANDS_MARK"
SENT = 300
NOBODY = 99_000_001
"""An applicant whom no feature table knows."""

DECIDED = (KEY, "default_probability", "score", "outcome", "risk_band")
OF_RUN = (
    "SELECT application_id, default_probability, score, toString(outcome) AS outcome, "
    "toString(risk_band) AS risk_band FROM decisions WHERE startsWith(event_id, '{run}-')"
)


@dataclass(frozen=True, slots=True)
class Running:
    """A creditstream process, the files it writes to, and what its family is known by."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    mark: str

    def family(self) -> list[psutil.Process]:
        """Find it and all it started, also what has another parent or session by now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def said(self) -> str:
        """Give all it has written, whatever its lines."""
        return " ".join((self.out.read_text() + self.err.read_text()).split())

    def await_said(self, pattern: str, seconds: float) -> re.Match[str]:
        """Wait until it has written what the pattern tells."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)
        return match


@contextmanager
def started(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[Running]:
    """Run the console script in a folder; at the end nothing of its family lives on."""
    mark = uuid.uuid4().hex
    out, err = folder / f"{mark}.out", folder / f"{mark}.err"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [console_script(), *arguments],
            cwd=folder,
            env=os.environ | (environment or {}) | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
        )
    running = Running(process, out, err, mark)
    try:
        yield running
    finally:
        for one in running.family():
            with suppress(psutil.Error):
                one.kill()
        process.wait()


def wait_until(reached: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.2)


def assert_gone(running: Running) -> None:
    """See that no process of a command is left; the last may take a moment to notice the end."""
    wait_until(lambda: not running.family(), 10, f"no process left of {running.family()}")


def assert_report(html: Path, rows: int) -> None:
    """See that a report has its HTML and its JSON, over at least so many decisions."""
    assert "<html" in html.read_text()
    summary = json.loads(html.with_suffix(".json").read_text())["summary"]
    assert summary["rows"] >= rows
    assert len(summary["features"]) == len(DEFINITION.schema.names)


def reconciled(said: str) -> int:
    """See that a demo lost nothing and decided nothing twice; give how many it decided."""
    counted = re.search(r"consumed ([\d,]+) = decided ([\d,]+) \+ parked ([\d,]+) ", said)
    assert counted, said
    consumed, decided, parked = (int(number.replace(",", "")) for number in counted.groups())
    assert consumed == decided + parked
    assert parked > 0
    assert "lost 0 decided twice 0" in said
    return decided


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder from which the example is found as from a checkout."""
    (tmp_path / "examples").symlink_to(EXAMPLE.parent)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_reconciles_measures_explains_reports_and_leaves_no_process(
    checkout: Path,
) -> None:
    with started(checkout, "demo", "--seconds", "20", "--rate", "100") as demo:
        wait_until(lambda: len(demo.family()) > 3, 60, "processes of all roles")
        code = demo.process.wait(200)
        assert_gone(demo)
        said = demo.said()

    assert code == 0, said
    decided = reconciled(said)
    assert decided > 1_000
    measured = re.search(r"AUC of the stream .*?: (0\.\d+) \(95 % interval (0\.\d+) to 0\.", said)
    assert measured
    auc, low = float(measured[1]), float(measured[2])
    assert 0.6 < low < auc
    words = r"application \d+: (\w+), default probability [\d.]+%, \d+ points"
    assert sorted(re.findall(words, said)) == ["approve", "decline", "refer"]
    report = re.search(r"drift report[^:]*: (\S+drift\.html)", said)
    assert report
    assert_report(Path(report[1]), rows=decided // 2)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_of_home_credit_decides_new_applicants_and_says_that_none_is_real(
    tmp_path: Path,
) -> None:
    arguments = ("--example", "home-credit", "--seconds", "20", "--no-kill")
    with started(tmp_path, "demo", *arguments) as demo:
        code = demo.process.wait(200)
        assert_gone(demo)
        said = demo.said()

    assert code == 0, said
    assert reconciled(said) > 500
    assert "what happened, to SYNTHETIC applicants" in said
    measured = re.search(r"AUC of the stream against SYNTHETIC labels: (0\.\d+) ", said)
    assert measured
    assert float(measured[1]) > 0.6
    assert re.search(r"\w+_INCOME\w* (has moved|no longer looks)", said), said
    assert re.search(r"because: .* \([RK]\d\d\)", said)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_up_answers_the_commands_that_it_prints_and_ends_with_0_when_told_to(
    checkout: Path,
) -> None:
    with started(checkout, "up") as up:
        settings = up.await_said(r"\. (\S+settings\.sh)", 120)[1]
        send = up.await_said(r"(\S+creditstream simulate --rate \S+ --data \S+)", 10)[1]
        ask = up.await_said(r"(\S+creditstream sql )", 10)[1]
        assert len(up.family()) > 3

        def ran(command: str) -> str:
            """Run a command in a shell, as it was printed; give what it says."""
            script = f". {settings}; {command}"
            done = subprocess.run(
                ["sh", "-ec", script], cwd=checkout, capture_output=True, text=True, check=True
            )
            return done.stdout.strip()

        assert ran(f"{send} --count 20 --bad-share 0") == "20 good and 0 bad events sent"
        count = f"{ask} --json 'SELECT count() AS n FROM decisions'"
        wait_until(lambda: ran(count) == '{"n":20}', 30, "20 decisions")

        up.process.send_signal(signal.SIGTERM)
        code = up.process.wait(40)
        assert_gone(up)

    assert code == 0


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all that follow, which has decided a file of applications."""
    folder = tmp_path_factory.mktemp("installation")
    with installed(
        Console(quiet=True), example_of("taiwan-default", EXAMPLE), folder / "all"
    ) as running:
        send(running, applications(running.prepared), "first", folder / "first.parquet")
        unknown = pa.table({KEY: [NOBODY], "event_id": ["odd-[/b][red]"]})
        send(running, unknown, "unknown", folder / "unknown.parquet")
        wait_until(lambda: count(running, "first") == SENT, 60, "all applications decided")
        wait_until(lambda: count(running, "odd") == 1, 30, "the odd one decided")
        yield running


def creditstream(running: Installation, *arguments: str) -> Result:
    """Run a command against the installation, as one who has its settings in the environment."""
    return CliRunner().invoke(app, arguments, env=environment_of(running.settings["sink"]))


def answer(running: Installation, *arguments: str) -> str:
    """Run a command that must do well; give what it says."""
    result = creditstream(running, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(running: Installation, *arguments: str) -> str:
    """Run a command that must end with 1; give the one line in which it says why."""
    result = creditstream(running, *arguments)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def rows(running: Installation, sql: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer(running, "sql", "--json", sql).splitlines()]


def count(running: Installation, run: str) -> int:
    return len(rows(running, OF_RUN.format(run=run)))


def applications(prepared: Prepared) -> pa.Table:
    return pq.read_table(prepared.applications).slice(0, SENT)


def send(running: Installation, table: pa.Table, run: str, path: Path, key: str = KEY) -> None:
    """Write a file of the kind that its name says, and send it."""
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    said = answer(running, "send", str(path), "--run", run, "--key", key)
    assert said == f"{len(table)} events sent\n"


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
    texts = {name: f"{KEY}\n88000001{end}" for name, end in (("a", ""), ("b", "\n"), ("c", "\n\n"))}
    for name in ("a", "b", "b", "c"):
        file = tmp_path / f"{name}.csv"
        file.write_text(texts[name])
        assert answer(installation, "send", str(file)) == "1 events sent\n"

    query = "SELECT event_id FROM decisions WHERE application_id = 88000001"
    wait_until(lambda: len(rows(installation, query)) >= 3, 30, "the last is decided")
    assert len(rows(installation, query)) == 3


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


KINDS = {
    "approve": "outcome = 'approve' AND feature_source = 'table'",
    "refer": "outcome = 'refer' AND feature_source = 'computed'",
    "decline": "outcome = 'decline'",
    "missing": "feature_source = 'missing' AND event_id = 'odd-[/b][red]'",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_is_shown_and_reproduced_by_its_id(
    installation: Installation, kind: str
) -> None:
    query = f"SELECT * FROM decisions WHERE {KINDS[kind]} ORDER BY decided_at LIMIT 1"
    (decision,) = rows(installation, query)
    identity = decision["decision_id"]

    shown = answer(installation, "decision", "show", identity)
    document = json.loads(answer(installation, "decision", "show", identity, "--json"))
    reproduced = answer(installation, "decision", "reproduce", identity.upper())

    outcome = decision["outcome"]
    assert shown.splitlines()[0] == f"{outcome}   application {decision[KEY]}"
    assert f"event {decision['event_id']} of {decision['source']}, " in shown
    for name in (*DECIDED, "decision_id", "event_id", "release"):
        assert document[name] == decision[name]
    for reason in decision["reasons"]:
        named = ", ".join(filter(None, (reason["code"], reason["feature"])))
        assert f"({named})" in shown
        assert f"{reason['code']} {reason['feature']}" in reproduced
    assert bool(decision["reasons"]) == (outcome != "approve")
    last = f"{outcome} reproduced by release {decision['release']}, bit for bit"
    assert reproduced.splitlines()[-1] == last
    if kind == "missing":
        assert document["features"] == []
        assert "log-odds" not in shown
    else:
        assert len(document["features"]) == len(DEFINITION.schema.names)
        assert f"default probability {decision['default_probability']:.4%}" in shown
        assert "log-odds of default" in shown


@pytest.mark.parametrize("command", ["show", "reproduce"])
def test_a_decision_that_is_not_there_is_an_error_that_names_the_id(
    installation: Installation, command: str
) -> None:
    unknown = str(uuid.uuid4())

    line = refusal(installation, "decision", command, unknown)

    assert line.startswith(f"error: no decision has the id {unknown} in chdb://")


def test_a_decision_whose_release_is_gone_says_which(
    installation: Installation, tmp_path: Path
) -> None:
    (decision,) = rows(installation, "SELECT decision_id, release FROM decisions LIMIT 1")
    elsewhere = ("--set", f"release={tmp_path}")

    line = refusal(installation, "decision", "reproduce", decision["decision_id"], *elsewhere)

    assert f"{tmp_path / decision['release']}: manifest.json: is missing" in line


def test_an_id_that_two_applications_share_is_said_to_be_theirs(
    installation: Installation, tmp_path: Path
) -> None:
    shared = pa.table({KEY: [88_000_011, 88_000_012], "event_id": ["shared-1", "shared-1"]})
    send(installation, shared, "shared", tmp_path / "shared.csv")
    wait_until(lambda: count(installation, "shared") == 2, 30, "both decided")
    query = "SELECT DISTINCT decision_id FROM decisions WHERE event_id = 'shared-1'"
    (decision,) = rows(installation, query)

    line = refusal(installation, "decision", "show", decision["decision_id"])

    assert "applications 88000011, 88000012 share the id" in line


def test_the_doctor_finds_nothing_missing(installation: Installation) -> None:
    said = answer(installation, "doctor")

    assert "missing" not in said
    states = [line.split(maxsplit=1) for line in said.splitlines()[1:5]]
    assert [state for state, _ in states] == ["ok"] * 4
    parts = ["release", "feature table", "kafka", "clickhouse"]
    assert [text.partition(":")[0] for _, text in states] == parts


def test_the_doctor_sends_one_who_lacks_topics_and_tables_to_init(
    installation: Installation, tmp_path: Path
) -> None:
    nowhere = [
        *("--set", "kafka.ledger=another.ledger"),
        *("--set", f"store.url=chdb://{tmp_path / 'chdb'}"),
        *("--set", "store.door=http://127.0.0.1:1"),
    ]

    result = creditstream(installation, "doctor", *nowhere)

    assert result.exit_code == 1
    missing = [line for line in result.stdout.splitlines() if "missing" in line]
    assert [line.split()[1] for line in missing] == ["kafka:", "clickhouse:"]
    assert "another.ledger" in missing[0]
    assert all(line.endswith("; run `creditstream init`") for line in missing)


def test_init_makes_the_tables_of_a_new_store(installation: Installation, tmp_path: Path) -> None:
    environment = environment_of(installation.settings["sink"])
    new = ("--set", f"store.url=chdb://{tmp_path / 'chdb'}")
    away = ("--set", "store.door=http://127.0.0.1:1")
    query = ("sql", "--json", "SELECT count() AS n FROM decisions", *away)

    # Processes, as an engine holds its folder until its process ends.
    said = [
        subprocess.run(
            [console_script(), *arguments, *new],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for arguments in (("init",), query)
    ]

    assert said == [
        "topics created: none, all there; tables and views are up to date\n",
        '{"n":0}\n',
    ]


def test_prepare_and_train_make_the_installations_release_again_to_the_byte(
    installation: Installation, tmp_path: Path
) -> None:
    (release,) = (path for path in (installation.folder / "releases").iterdir() if path.is_dir())
    data, out = tmp_path / "data", tmp_path / "releases"

    said = answer(installation, "prepare", "--tables", str(EXAMPLE), "-o", str(data))
    trained = answer(installation, "train", "--data", str(data), "-o", str(out), "--json")

    assert "applications.parquet" in said
    assert json.loads(trained)["release"] == release.name
    for file in release.iterdir():
        assert (out / release.name / file.name).read_bytes() == file.read_bytes()
    listed = answer(installation, "release", "list", str(out))
    assert re.fullmatch(rf"{release.name}  calibration AUC 0\.\d{{4}}\n", listed)
    shown = answer(installation, "release", "show", str(out / release.name))
    assert f"{len(DEFINITION.schema.names)} features, definition taiwan_default" in shown
    checked = answer(installation, "release", "check", str(out / release.name))
    assert checked.startswith(f"release {release.name} is sound: 2000 reference rows")
