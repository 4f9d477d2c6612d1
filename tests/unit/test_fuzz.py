"""A few seconds of each fuzzer; `make fuzz` runs them for as long as one likes."""

import json
import subprocess
import sys

import pytest

SEED = 20_261_125


@pytest.mark.parametrize(
    ("fuzzer", "count"), [("events", 1_500), ("releases", 60), ("tables", 40), ("scores", 60)]
)
def test_nothing_is_found_in_a_few_seconds(fuzzer: str, count: int) -> None:
    command = [sys.executable, "-W", "ignore", "-m", f"tests.fuzz.{fuzzer}"]

    ended = subprocess.run(
        [*command, "--count", str(count), "--seed", str(SEED)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert sum(report["ends"].values()) >= count
