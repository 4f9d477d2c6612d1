"""One ground for the whole suite and the installations on it, the seed, and the crash matrix."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self

import pytest

from models.prepare import prepare
from tests.e2e.conftest import EXAMPLE
from tests.faults.ground import Ground, a_ground
from tests.faults.installation import Installation, Stock
from tests.faults.matrix import PAGE, Row, page
from tests.faults.verdicts import AT_LEAST_ONCE, Verdict

_ROWS = pytest.StashKey[list[Row]]()
_SEED = pytest.StashKey[int]()


class Record(Protocol):
    """
    Settles the installation and checks it; keeps the fault, how, how often, what was noted.

    With `whole` the checker forgets what it has seen, and begins at the beginning.
    """

    def __call__(
        self, fault: str, how: str, times: int, noted: str = "", *, whole: bool = False
    ) -> None: ...


class Keep(Protocol):
    """Keeps for the matrix what a checker found of an installation after a fault."""

    def __call__(
        self,
        of: Installation,
        fault: str,
        how: str,
        times: int,
        verdict: Verdict,
        noted: str = "",
    ) -> None: ...


class Installations:
    """Installations on one ground, by name: made when first asked for, one at work at a time."""

    def __init__(
        self, ground: Ground, stock: Stock, folder: Callable[[str], Path], seed: int
    ) -> None:
        self._ground = ground
        self._stock = stock
        self._folder = folder
        self._seed = seed
        self._made: dict[str, Installation] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def named(self, name: str, **how: Any) -> Installation:
        """Give the installation of a name, whole and under load; `how` it is made."""
        for other, one in self._made.items():
            if other != name:
                one.rest()
        if name not in self._made:
            made = Installation(
                self._ground, self._stock, self._folder(name), name, seed=self._seed, **how
            )
            self._made[name] = self._stack.enter_context(made)
        self._made[name].flow()
        return self._made[name]


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
def _installations(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installations]:
    prepared = prepare(EXAMPLE, tmp_path_factory.mktemp("data"))
    stock = Stock.of(prepared, tmp_path_factory.mktemp("stock"))
    with (
        a_ground(tmp_path_factory.mktemp("ground")) as ground,
        Installations(
            ground, stock, tmp_path_factory.mktemp, pytestconfig.stash[_SEED]
        ) as installations,
    ):
        yield installations


@pytest.fixture
def installations(kafka_jars: None, request: pytest.FixtureRequest) -> Installations:  # noqa: ARG001 - it skips
    """The installations on the one ground."""
    found: Installations = request.getfixturevalue("_installations")
    return found


@pytest.fixture
def installation(
    installations: Installations, pytestconfig: pytest.Config, *, long: bool
) -> Installation:
    """An installation that delivers exactly once, whole and under load."""
    dice = random.Random(pytestconfig.stash[_SEED])
    return installations.named(
        "exactly",
        partitions=dice.choice([4, 6, 8, 12]),
        workers=dice.choice([2, 3, 4]) if long else 3,
        rate=1_500 if long else 400,
    )


@pytest.fixture
def at_least_once(
    installations: Installations, pytestconfig: pytest.Config, *, long: bool
) -> Installation:
    """One that delivers at least once, whole and under load."""
    dice = random.Random(pytestconfig.stash[_SEED])
    return installations.named(
        "atleast",
        partitions=dice.choice([4, 6, 8]),
        workers=3,
        rate=1_500 if long else 400,
        promise=AT_LEAST_ONCE,
    )


@pytest.fixture
def keep(pytestconfig: pytest.Config) -> Keep:
    """Keep what came of a fault for the matrix, and fail where it is not right."""

    def keep_row(
        of: Installation, fault: str, how: str, times: int, verdict: Verdict, noted: str = ""
    ) -> None:
        pytestconfig.stash[_ROWS].append(Row(of.name, of.way, fault, how, times, verdict, noted))
        assert not verdict.counts, (
            f"{verdict} (seed {pytestconfig.stash[_SEED]}, logs in {of.folder})"
        )

    return keep_row


@pytest.fixture
def record(installation: Installation, keep: Keep) -> Record:
    """Check what came of a fault, and keep it for the matrix."""

    def check(fault: str, how: str, times: int, noted: str = "", *, whole: bool = False) -> None:
        installation.mend()
        keep(installation, fault, how, times, installation.settle(whole=whole), noted)

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
