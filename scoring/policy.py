"""The policy: knock-out rules, cut-offs, risk bands, and reasons in adverse-action terms."""

import tomllib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from scoring.decision import OUTCOMES
from scoring.errors import InvalidPolicy
from scoring.freshness import Freshness
from scoring.ranking import Ranker
from scoring.reasons import Reasons, Vocabulary, Words
from scoring.scorecard import Scorecard

_APPROVE, _REFER, _DECLINE = range(len(OUTCOMES))
_LARGEST = float(np.finfo(np.float32).max)
_LONGEST_AGE_DAYS = 36_500
_Words = Annotated[str, msgspec.Meta(min_length=1)]
_NO_AGE = Words("", "")

NO_FEATURES = Words("N01", "No information about the applicant is available.")
"""The reason of an application without any features."""


class Cutoffs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Approve below `refer`, decline from `decline`, refer in between (default probabilities)."""

    refer: float
    decline: float


class Bands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Risk bands: low below `medium`, medium below `high`, else high (default probabilities)."""

    medium: float = 0.30
    high: float = 0.50


class KnockOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A hard rule: a feature `at_least` or `below` a value has at least this outcome.

    One of the two is given. The value is compared as a float32, which the features are; a
    feature that is NaN breaks no rule.
    """

    feature: str
    outcome: Literal["refer", "decline"]
    code: _Words
    text: _Words
    at_least: float | None = None
    below: float | None = None

    def hits(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which values of the rule's feature break it: bool of the shape of `values`."""
        if self.at_least is not None:
            return np.asarray(values >= np.float32(self.at_least))
        assert self.below is not None
        return np.asarray(values < np.float32(self.below))


class ReasonText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reason code, its text, and the features that speak of it."""

    code: _Words
    text: _Words
    features: tuple[str, ...]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cutoffs: Cutoffs
    bands: Bands = Bands()
    scorecard: Scorecard = Scorecard()
    features_missing: Literal["refer", "decline"] = "refer"
    max_reasons: Annotated[int, msgspec.Meta(ge=1)] = 4
    freshness: Freshness | None = None
    knock_outs: tuple[KnockOut, ...] = ()
    reasons: tuple[ReasonText, ...] = ()


class Policy:
    """A policy bound to the features of one release."""

    def __init__(self, document: _Document, feature_names: Sequence[str]) -> None:
        self._document = document
        self._names = tuple(feature_names)
        self.scorecard = document.scorecard
        # What refers stale rows: recomputing leaves those whose event carries no attributes.
        freshness = document.freshness
        self._referring = freshness if freshness and freshness.stale != "note" else None
        self._columns = {name: index for index, name in enumerate(self._names)}
        texts = {name: text for text in document.reasons for name in text.features}
        of_features = [texts.get(name) or ReasonText(name, name, (name,)) for name in self._names]
        spoken = {text: at for at, text in enumerate(dict.fromkeys(of_features))}
        self._rules = rules = document.knock_outs
        said = [Words(text.code, text.text) for text in spoken]
        said += [Words(rule.code, rule.text) for rule in rules]
        age = Words(freshness.code, freshness.text) if freshness else _NO_AGE
        self._ranker = Ranker(
            Vocabulary((*said, age, NO_FEATURES), self._names),
            np.array([spoken[text] for text in of_features], np.int64),
            np.array([self._columns[rule.feature] for rule in rules], np.int64),
            document.max_reasons,
        )
        self._texts: dict[str, str] = dict((*said, age, NO_FEATURES))

    @classmethod
    def parse(cls, text: str, feature_names: Sequence[str]) -> "Policy":
        """Read a policy.toml; raise InvalidPolicy, naming the field."""
        try:
            document = msgspec.convert(tomllib.loads(text), _Document)
        except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
            raise InvalidPolicy("policy.toml", "…", str(error)) from None
        _check_numbers(document)
        _check_features(document, tuple(feature_names))
        return cls(document, feature_names)

    @property
    def cutoffs(self) -> Cutoffs:
        """The cut-offs."""
        return self._document.cutoffs

    @property
    def freshness(self) -> Freshness | None:
        """How old features may be; None: as old as they are."""
        return self._document.freshness

    def outcomes(
        self,
        default_probability: NDArray[np.float64],
        missing: NDArray[np.bool_],
        features: NDArray[np.float32],
        stale: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.uint8]:
        """
        Decide n rows: uint8[n], indices into OUTCOMES; a knock-out only ever makes it worse.

        A row whose probability is NaN is referred, unless `missing` says that it has no features.
        One that is `stale` is referred at least, unless the policy only notes that. None: none is.
        """
        cutoffs = self._document.cutoffs
        # What is not below the cut-off is not approved: NaN is below nothing.
        outcomes = np.full(len(default_probability), _REFER, dtype=np.uint8)
        outcomes[default_probability < cutoffs.refer] = _APPROVE
        outcomes[default_probability >= cutoffs.decline] = _DECLINE
        for rule in self._document.knock_outs:
            hit = rule.hits(features[:, self._columns[rule.feature]])
            outcomes[hit] = np.maximum(outcomes[hit], OUTCOMES.index(rule.outcome))
        if stale is not None and self._referring is not None:
            outcomes[stale] = np.maximum(outcomes[stale], _REFER)
        outcomes[missing] = OUTCOMES.index(self._document.features_missing)
        return outcomes

    def bands(self, default_probability: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Place n rows in their risk band: uint8[n], indices into BANDS."""
        bands = self._document.bands
        return np.digitize(default_probability, [bands.medium, bands.high]).astype(np.uint8)

    def reasons(
        self,
        features: NDArray[np.float32],
        contributions: NDArray[np.float64],
        stale: NDArray[np.bool_] | None = None,
        missing: NDArray[np.bool_] | None = None,
    ) -> Reasons:
        """
        Say why n rows were not approved: age, knock-outs, then what raised the log-odds most.

        `features` is float32[n, features] and `contributions` float64[n, features + 1], the last
        the model's mean. Features of one reason code count together, under the strongest's name.
        Where nothing raised the log-odds and no rule was broken, what lowered them least is named.
        Rows that are `missing`, bool[n], have no features, and nothing but that is said of them.
        """
        none = np.zeros(len(features), dtype=bool)
        broken = [rule.hits(features[:, self._columns[rule.feature]]) for rule in self._rules]
        return self._ranker.ranked(
            contributions,
            np.array(broken, dtype=bool).reshape(len(broken), len(features)),
            none if stale is None or self._referring is None else stale,
            none if missing is None else missing,
        )

    def text_of(self, code: str) -> str:
        """Give the words of a reason code; the code itself where the policy has none."""
        return self._texts.get(code, code)


def _check_numbers(document: _Document) -> None:
    cutoffs, bands, scorecard = document.cutoffs, document.bands, document.scorecard
    for path, low, high in (
        ("cutoffs.refer", 0.0, cutoffs.refer),
        ("cutoffs.decline", cutoffs.refer, cutoffs.decline),
        ("bands.medium", 0.0, bands.medium),
        ("bands.high", bands.medium, bands.high),
    ):
        if not low <= high <= 1.0:
            raise InvalidPolicy(path, high, f"a probability from {low} to 1")
    # The bounds keep every score an int32; TOML knows `inf` and `nan`, which are in none of them.
    for path, value, low, high in (
        ("scorecard.base_score", scorecard.base_score, -1e6, 1e6),
        ("scorecard.base_odds", scorecard.base_odds, 1e-6, 1e6),
        ("scorecard.points_to_double", scorecard.points_to_double, 1e-3, 1e6),
    ):
        if not low <= value <= high:
            raise InvalidPolicy(path, value, f"is from {low:g} to {high:g}")
    freshness = document.freshness
    if freshness is not None and not 0 < freshness.max_age_days <= _LONGEST_AGE_DAYS:
        rule_of_age = f"is above 0 and at most {_LONGEST_AGE_DAYS:,}"
        raise InvalidPolicy("freshness.max_age_days", freshness.max_age_days, rule_of_age)
    for number, rule in enumerate(document.knock_outs):
        path = f"knock_outs[{number}]"
        if (rule.at_least is None) == (rule.below is None):
            raise InvalidPolicy(path, rule.feature, "has either `at_least` or `below`")
        bound = rule.at_least if rule.at_least is not None else rule.below
        assert bound is not None
        if not abs(bound) <= _LARGEST:
            raise InvalidPolicy(path, bound, "is a finite float32")


def _check_features(document: _Document, names: tuple[str, ...]) -> None:
    for number, rule in enumerate(document.knock_outs):
        if rule.feature not in names:
            path = f"knock_outs[{number}].feature"
            raise InvalidPolicy(path, rule.feature, "is no feature of the release")
    codes = {document.freshness.code} if document.freshness else set()
    speaking: set[str] = set()
    for number, text in enumerate(document.reasons):
        if text.code in codes:
            path = f"reasons[{number}].code"
            raise InvalidPolicy(path, text.code, "stands twice")
        codes.add(text.code)
        for feature in text.features:
            path = f"reasons[{number}].features"
            if feature not in names:
                raise InvalidPolicy(path, feature, "is no feature of the release")
            if feature in speaking:
                raise InvalidPolicy(path, feature, "speaks for two reasons")
            speaking.add(feature)
