"""The crash matrix: what was done, and what the checker found after it, as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.checker import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "crash-matrix.md"

_HEAD = """# Crash matrix

What was done to a running installation, and what an outside reader found of every application
after it. Real processes, a real Apache Kafka broker, the real ClickHouse engine; two or three
scoring workers, a sink and a monitor, under load: 3 % of the applications can never be decided, 1 %
are sent again, 0.2 % have another's id. The checker reads the topics (committed records) and
ClickHouse's views, and decides every application anew, offline, to compare each decision byte for
byte; after each fault it looks at all that there is since the beginning.

`make faults` runs it in some minutes, `FAULTS=long make faults` for long, `FAULTS_SEED` repeats a
schedule. With `FAULTS_RECORD=1` it writes this page: `{command}` on {day}, seed {seed},
{total} applications, **{faults} missing, double, out of order or of other content**.

| fault | how | times | applications so far | decided | parked | repeated | found | noted |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, how it was brought about, how often, and what was found; `noted` is a measure."""

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
    head = _HEAD.format(
        command=f"`{command}`",
        day=day,
        seed=seed,
        total=f"{max(row.verdict.applications for row in rows):,}",
        faults=max(row.verdict.counts.total() for row in rows),
    )
    return head + "".join(f"{row}\n" for row in rows)
