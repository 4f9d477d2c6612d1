"""The examples to run: where their clients come from, and what a demo does to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.prepare import prepare
from models.prepare_home_credit import APPLICATIONS, prepare_home_credit
from models.prepared import Prepared
from stream.sending.simulator import Attributes


@dataclass(frozen=True, slots=True)
class Drift:
    """
    What changes half-way: an attribute, by its path, comes divided by `divisor`.

    One applicant of `one_of` sends it so; `told` says it in words.
    """

    path: tuple[str, ...]
    divisor: float
    one_of: int
    told: str

    def change(self) -> Callable[[Attributes], Attributes]:
        """Give what changes applicants in turn; an attribute that is missing stays so."""
        turn = iter(range(10**12))

        def change(attributes: Attributes) -> Attributes:
            return attributes if next(turn) % self.one_of else self._divided(attributes, self.path)

        return change

    def _divided(self, node: Mapping[str, Any], path: tuple[str, ...]) -> Attributes:
        name, *rest = path
        value = node[name]
        if rest:
            value = self._divided(value, tuple(rest))
        elif value is not None:
            value = round(value / self.divisor, 2)
        return {**node, name: value}


@dataclass(frozen=True, slots=True)
class Example:
    """
    An example to run.

    `prepare` splits the data of `tables`, None for the usual, into a folder; `preparing` says so.
    `rate` is what a demo sends in a second, `settings` what its events need. The clients are
    `ordered` where their order in the file tells something.
    """

    prepare: Callable[[Path | None, Path], Prepared]
    preparing: str
    drift: Drift
    rate: float
    ordered: bool
    settings: Mapping[str, str] = field(default_factory=dict)
    tables: Path | None = None


def _taiwan(tables: Path | None, folder: Path) -> Prepared:
    return prepare(tables or _TAIWAN, folder)


_TAIWAN = Path("examples/taiwan_default")

EXAMPLES: Mapping[str, Example] = {
    "taiwan-default": Example(
        prepare=_taiwan,
        preparing="splitting 30,000 real clients into table, training and applications",
        drift=Drift(
            path=("LIMIT_BAL",),
            # New Taiwan dollars in a US dollar, September 2005.
            divisor=32.0,
            one_of=2,
            told="one attribute changes: every second LIMIT_BAL now comes in US dollars",
        ),
        rate=200,
        ordered=True,
    ),
    "home-credit": Example(
        prepare=prepare_home_credit,
        preparing=f"making and splitting {APPLICATIONS:,} SYNTHETIC applications",
        drift=Drift(
            path=("application", "AMT_INCOME_TOTAL"),
            divisor=25.0,
            # The table's clients, six in ten, keep their income.
            one_of=1,
            told="one attribute changes: AMT_INCOME_TOTAL now comes in another currency, a 25th",
        ),
        rate=40,
        ordered=False,
        # An applicant's rows of seven tables: 25 kB at the median, and the longest ten times that.
        settings={"events.max_bytes": "800000"},
    ),
}


def example_of(name: str, tables: Path | None) -> Example:
    """Give an example by its name, on a copy of its tables where there is one."""
    example = EXAMPLES[name]
    if tables is None:
        return example
    return replace(example, tables=tables, preparing=f"splitting the clients of {tables}")
