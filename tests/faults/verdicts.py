"""What a way of delivery promises, and what was found of it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields
from typing import NamedTuple

_EXAMPLES = 3


class Promise(NamedTuple):
    """
    What a way of delivery promises beside that nothing is missing.

    `once`: decision, ledger row and parked event stand once each on their topics. Without it they
    may stand again, but only as they were, byte for byte.
    """

    once: bool


EXACTLY_ONCE = Promise(once=True)
AT_LEAST_ONCE = Promise(once=False)


@dataclass(slots=True)
class Verdict:
    """
    How many applications there were, what became of them and, by fault, the first examples.

    `repeated` were sent again and so not decided again; `again` counts what stands on a topic once
    more.
    """

    applications: int = 0
    decided: int = 0
    parked: int = 0
    repeated: int = 0
    again: int = 0
    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, name: str, example: object) -> None:
        """Count a fault; the first few are kept as examples."""
        self.counts[name] += 1
        if self.counts[name] <= _EXAMPLES:
            self.faults[name].append(str(example))

    def __str__(self) -> str:
        said = ", ".join(
            f"{getattr(self, each.name)} {each.name}" for each in fields(self) if each.type is int
        )
        return said + "".join(
            f"; {count} {name}, such as {', '.join(self.faults[name])}"
            for name, count in self.counts.items()
        )
