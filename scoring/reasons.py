"""Why decisions were not better: one reason as others read it, and those of a poll as columns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, overload

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

NO_FEATURE = -1
"""Stands in a column of features for a reason that is of none."""


class Reason(msgspec.Struct, frozen=True, gc=False):
    """Why a decision was not better, in adverse-action terms; the most important comes first."""

    code: Annotated[str, Meta(description="The policy's code for it.")]
    feature: Annotated[str, Meta(description="The feature that says most of it; empty: none.")]
    contribution: Annotated[
        float, Meta(description="What it added to the log-odds (Shapley value); 0 for a rule.")
    ]
    text: Annotated[str, Meta(description="The policy's words for it.")]


class Words(NamedTuple):
    """A reason's code, and the policy's words for it."""

    code: str
    text: str


class Vocabulary(NamedTuple):
    """All words and features that a policy's reasons can be of."""

    words: tuple[Words, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reasons(Sequence[tuple[Reason, ...]]):
    """
    The reasons of n decisions, as columns of m reasons: row i has those from `starts[i]` on.

    `starts` is int64[n + 1]; `words` and `features` are int64[m], indices into the vocabulary or
    NO_FEATURE; `contributions` is float64[m].
    """

    vocabulary: Vocabulary
    starts: NDArray[np.int64]
    words: NDArray[np.int64]
    features: NDArray[np.int64]
    contributions: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Iterable[Sequence[Reason]]) -> "Reasons":
        """Make columns of rows, with a vocabulary of their own."""
        found = list(rows)
        each = [reason for row in found for reason in row]
        words = tuple(dict.fromkeys(Words(reason.code, reason.text) for reason in each))
        features = tuple(dict.fromkeys(reason.feature for reason in each if reason.feature))
        word_of = {word: at for at, word in enumerate(words)}
        feature_of = {"": NO_FEATURE} | {name: at for at, name in enumerate(features)}
        return cls(
            Vocabulary(words, features),
            _starts(np.array([len(row) for row in found], np.int64)),
            np.array([word_of[Words(one.code, one.text)] for one in each], np.int64),
            np.array([feature_of[one.feature] for one in each], np.int64),
            np.array([one.contribution for one in each], np.float64),
        )

    @classmethod
    def ranked(
        cls,
        vocabulary: Vocabulary,
        counts: NDArray[np.int64],
        words: NDArray[np.int64],
        features: NDArray[np.int64],
        contributions: NDArray[np.float64],
    ) -> "Reasons":
        """Take the first `counts[i]` of each row i of columns of shape (n, most)."""
        kept = np.arange(words.shape[1]) < counts[:, None]
        return cls(vocabulary, _starts(counts), words[kept], features[kept], contributions[kept])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, at: int) -> tuple[Reason, ...]: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[tuple[Reason, ...]]: ...

    def __getitem__(self, at: int | slice) -> tuple[Reason, ...] | Sequence[tuple[Reason, ...]]:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        rows = slice(int(self.starts[at]), int(self.starts[at + 1]))
        words, names = self.vocabulary
        return tuple(
            Reason(words[word].code, names[name] if name >= 0 else "", added, words[word].text)
            for word, name, added in zip(
                self.words[rows].tolist(),
                self.features[rows].tolist(),
                self.contributions[rows].tolist(),
                strict=True,
            )
        )

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many reasons each row has: int64[n]."""
        return np.diff(self.starts)

    def rows(self, first: int, last: int) -> "Reasons":
        """Give those of the rows from `first` to before `last`."""
        starts = self.starts[first : last + 1]
        own = slice(int(starts[0]), int(starts[-1]))
        return Reasons(
            self.vocabulary,
            starts - starts[0],
            self.words[own],
            self.features[own],
            self.contributions[own],
        )

    def spread(self, rows: NDArray[np.intp], count: int) -> "Reasons":
        """Give the reasons of `count` rows: these at `rows`, which ascend, and none elsewhere."""
        counts = np.zeros(count, np.int64)
        counts[rows] = self.counts
        return Reasons(
            self.vocabulary, _starts(counts), self.words, self.features, self.contributions
        )


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts
