"""Commands as one calls them who has the settings of an installation."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from typer.testing import CliRunner, Result

from models.prepared import KEY, Prepared
from stream.cli import app
from stream.demo.installation import Installation
from stream.settings import environment_of

SENT = 300
DECIDED = (KEY, "default_probability", "score", "outcome", "risk_band")
OF_RUN = (
    "SELECT application_id, default_probability, score, toString(outcome) AS outcome, "
    "toString(risk_band) AS risk_band FROM decisions WHERE startsWith(event_id, '{run}-')"
)


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
    events = f"{len(table):,} event{'' if len(table) == 1 else 's'}"
    assert said.startswith(f"{events} sent, submitted "), said
    assert said.endswith(f"; ids begin with {run}\n")
