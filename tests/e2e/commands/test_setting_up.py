"""What sets an installation up, and what says that it is: doctor, init, prepare and train."""

import json
import os
import re
import subprocess
from pathlib import Path

from features.taiwan_default import DEFINITION
from stream.demo.installation import Installation
from stream.process.supervisor import console_script
from stream.settings import environment_of
from tests.e2e.commands.asked import (
    answer,
    creditstream,
)
from tests.e2e.conftest import EXAMPLE


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
