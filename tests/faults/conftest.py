"""One ground and one installation for the whole suite, the seed, and the crash matrix."""

import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Protocol

import pytest

from models.prepare import prepare
from tests.e2e.conftest import EXAMPLE
from tests.faults.ground import a_ground
from tests.faults.installation import Installation
from tests.faults.matrix import PAGE, Row, page

_ROWS = pytest.StashKey[list[Row]]()
_SEED = pytest.StashKey[int]()


class Record(Protocol):
    """Settles the installation and checks it; keeps the fault, how, how often, what was noted."""

    def __call__(self, fault: str, how: str, times: int, noted: str = "") -> None: ...


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed once."""
    asked = int(os.environ.get("FAULTS_SEED", "0"))
    config.stash[_SEED] = asked or random.SystemRandom().randrange(1, 1_000_000)
    config.stash[_ROWS] = []


@pytest.fixture(scope="package")
def long() -> bool:
    """Whether this is the long run."""
    return os.environ.get("FAULTS") == "long"


@pytest.fixture
def dice(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> random.Random:
    """The chances of one test: they follow from the seed and its name."""
    return random.Random(f"{pytestconfig.stash[_SEED]} {request.node.name}")


@pytest.fixture(scope="package")
def _installation(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, *, long: bool
) -> Iterator[Installation]:
    prepared = prepare(EXAMPLE, tmp_path_factory.mktemp("data"))
    seed = pytestconfig.stash[_SEED]
    dice = random.Random(seed)
    shape = {"partitions": dice.choice([4, 6, 8, 12]), "workers": dice.choice([2, 3])}
    rate = 1_500 if long else 400
    with (
        a_ground(tmp_path_factory.mktemp("ground")) as ground,
        Installation(
            ground, prepared, tmp_path_factory.mktemp("installation"), seed, rate=rate, **shape
        ) as installation,
    ):
        yield installation


@pytest.fixture
def installation(kafka_jars: None, request: pytest.FixtureRequest) -> Installation:  # noqa: ARG001 - it skips
    """The installation, whole and under load."""
    found: Installation = request.getfixturevalue("_installation")
    found.mend()
    found.load.flow()
    found.await_all_partitions_after(time.time())
    return found


@pytest.fixture
def record(installation: Installation, pytestconfig: pytest.Config) -> Record:
    """Check what came of a fault, and keep it for the matrix."""

    def check(fault: str, how: str, times: int, noted: str = "") -> None:
        installation.mend()
        verdict = installation.settle()
        row = Row(fault, how, times, verdict, noted)
        pytestconfig.stash[_ROWS].append(row)
        assert not verdict.counts, (
            f"{verdict} (seed {pytestconfig.stash[_SEED]}, logs in {installation.folder})"
        )

    return check


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say the seed and what was found; write the page where it is asked for."""
    rows, seed = config.stash[_ROWS], config.stash[_SEED]
    if not rows:
        return
    terminalreporter.section("faults")
    for row in rows:
        terminalreporter.line(str(row))
    terminalreporter.line(f"repeat the schedule with FAULTS_SEED={seed}")
    if os.environ.get("FAULTS_RECORD"):
        command = "FAULTS=long make faults" if os.environ.get("FAULTS") == "long" else "make faults"
        day = datetime.now(UTC).date().isoformat()
        PAGE.write_text(page(rows, command=command, day=day, seed=seed))
