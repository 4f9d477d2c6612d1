"""The crash matrix: what was done, and what the checker found after it, as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.verdicts import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "crash-matrix.md"

_HEAD = """# Crash matrix

What was done to a running installation, and what an outside reader found of every application
after it. [faults.md](faults.md) says how, and what the reader finds when the product is broken.

`make faults` runs it in some minutes, `FAULTS=long make faults` for long, `FAULTS_SEED` repeats a
schedule. With `FAULTS_RECORD=1` it writes this page: `{command}` on {day}, seed {seed},
{total} applications, **{faults} missing, double, out of order or of other content**.
"""

_TABLE = """
## {title}

| fault | how | times | applications so far | decided | parked | repeated | found | noted |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""
_TITLES = {"exactly_once": "Exactly once", "at_least_once": "At least once"}


@dataclass(frozen=True, slots=True)
class Row:
    """
    A fault, how it was brought about, how often, and what was found; `noted` is a measure.

    `delivery` is the way in which the installation of that `name` delivers.
    """

    name: str
    delivery: str

    fault: str
    how: str
    times: int
    verdict: Verdict
    noted: str = ""

    def __str__(self) -> str:
        found = self.verdict
        numbers = (self.times, found.applications, found.decided, found.parked, found.repeated)
        cells = (self.fault, self.how, *(f"{n:,}" for n in numbers))
        return f"| {' | '.join(cells)} | {found.counts.total()} | {self.noted} |"


def page(rows: Sequence[Row], *, command: str, day: str, seed: int) -> str:
    """Write the page of these rows."""
    made = _HEAD.format(
        command=command,
        day=day,
        seed=seed,
        total=f"{_applications(rows):,}",
        faults=max(row.verdict.counts.total() for row in rows),
    )
    for delivery, title in _TITLES.items():
        of_delivery = [f"{row}\n" for row in rows if row.delivery == delivery]
        if of_delivery:
            made += _TABLE.format(title=title) + "".join(of_delivery)
    return made


def _applications(rows: Sequence[Row]) -> int:
    """Count the applications of all installations, each of which counts on from row to row."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.name] = max(found.get(row.name, 0), row.verdict.applications)
    return sum(found.values())
