"""What raised the log-odds of rows most, by the policy's words: compiled."""

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from scoring.compiled import DOUBLES_OUT, FLAGS, LONGS, LONGS_OUT, compiles
from scoring.reasons import NO_FEATURE, Reasons, Vocabulary

_ROWS = types.Array(types.float64, 2, "C", readonly=True)
_RULES = types.Array(types.boolean, 2, "C", readonly=True)


class Ranker:
    """
    Ranks the words of a vocabulary: first those of features, then of rules, age and no features.

    `word_of` is int64[features]; `rule_features` int64[rules]; a row has at most `most` reasons.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        word_of: NDArray[np.int64],
        rule_features: NDArray[np.int64],
        most: int,
    ) -> None:
        self._vocabulary = vocabulary
        self._word_of = word_of
        self._rule_features = rule_features
        self._most = most

    def ranked(
        self,
        contributions: NDArray[np.float64],
        broken: NDArray[np.bool_],
        stale: NDArray[np.bool_],
        missing: NDArray[np.bool_],
    ) -> Reasons:
        """
        Rank n rows: age, broken rules, then the features' words by what their features added.

        `contributions` is float64[n, features + 1], `broken` bool[rules, n], the others bool[n].
        """
        rows = len(contributions)
        counts = np.zeros(rows, np.int64)
        words, features = (np.zeros((rows, self._most), np.int64) for _ in range(2))
        added = np.zeros((rows, self._most))
        _rank(
            np.ascontiguousarray(contributions),
            self._word_of,
            len(self._vocabulary.words),
            np.ascontiguousarray(broken),
            self._rule_features,
            stale,
            missing,
            self._most,
            counts,
            words.reshape(-1),
            features.reshape(-1),
            added.reshape(-1),
        )
        return Reasons.ranked(self._vocabulary, counts, words, features, added)


@compiles(
    types.void(
        _ROWS,
        LONGS,
        types.int64,
        _RULES,
        LONGS,
        FLAGS,
        FLAGS,
        types.int64,
        LONGS_OUT,
        LONGS_OUT,
        LONGS_OUT,
        DOUBLES_OUT,
    )
)
def _rank(
    contributions: Any,
    word_of: Any,
    all_words: Any,
    broken: Any,
    rule_features: Any,
    stale: Any,
    missing: Any,
    most: Any,
    counts: Any,
    words: Any,
    features: Any,
    added: Any,
) -> None:
    none_word, age_word = all_words - 1, all_words - 2
    first_rule = age_word - len(rule_features)
    sums = np.empty(first_rule)
    strongest = np.empty(first_rule)
    leading = np.empty(first_rule, np.int64)
    for row in range(len(contributions)):
        begin = row * most
        if missing[row]:
            words[begin], features[begin] = none_word, NO_FEATURE
            counts[row] = 1
            continue
        count = 0
        if stale[row]:
            words[begin], features[begin] = age_word, NO_FEATURE
            count = 1
        for rule in range(len(rule_features)):
            if broken[rule, row] and count < most:
                words[begin + count] = first_rule + rule
                features[begin + count] = rule_features[rule]
                count += 1
        for word in range(first_rule):
            sums[word] = 0.0
            strongest[word] = -1.0
        highest, explained = 0, False
        for feature in range(len(word_of)):
            value = contributions[row, feature]
            explained |= value != 0.0
            if value > contributions[row, highest]:
                highest = feature
            raised = max(value, 0.0)
            word = word_of[feature]
            # One feature after the other: another order would have other last bits.
            sums[word] += raised
            if raised > strongest[word]:
                strongest[word], leading[word] = raised, feature
        while count < most:
            best, found = 0.0, -1
            for word in range(first_rule):
                if sums[word] > best:
                    best, found = sums[word], word
            if found < 0:
                break
            words[begin + count], features[begin + count] = found, leading[found]
            added[begin + count] = best
            sums[found] = 0.0
            count += 1
        # No adverse decision goes without a reason, except where no explanation was asked for.
        if count == 0 and explained:
            words[begin], features[begin] = word_of[highest], highest
            added[begin] = contributions[row, highest]
            count = 1
        counts[row] = count
