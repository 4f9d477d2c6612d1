"""The policy: knock-out rules, cut-offs, risk bands, and reasons in adverse-action terms."""

import tomllib
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from scoring.decision import OUTCOMES, Reason
from scoring.errors import InvalidPolicy
from scoring.scorecard import Scorecard

_APPROVE, _REFER, _DECLINE = range(len(OUTCOMES))


class Cutoffs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Approve below `refer`, decline from `decline`, refer in between (default probabilities)."""

    refer: float
    decline: float


class Bands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Risk bands: low below `medium`, medium below `high`, else high (default probabilities)."""

    medium: float = 0.30
    high: float = 0.50


class KnockOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hard rule: a feature at or above a value has at least this outcome."""

    feature: str
    at_least: float
    outcome: Literal["refer", "decline"]
    code: str
    text: str


class ReasonText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reason code, its text, and the features that speak of it."""

    code: str
    text: str
    features: tuple[str, ...]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cutoffs: Cutoffs
    bands: Bands = Bands()
    scorecard: Scorecard = Scorecard()
    features_missing: Literal["refer", "decline"] = "refer"
    max_reasons: int = 4
    knock_outs: tuple[KnockOut, ...] = ()
    reasons: tuple[ReasonText, ...] = ()


class Policy:
    """A policy bound to the features of one release."""

    def __init__(self, document: _Document, feature_names: Sequence[str]) -> None:
        self._document = document
        self._names = tuple(feature_names)
        self.scorecard = document.scorecard
        self._columns = {name: index for index, name in enumerate(self._names)}
        self._texts = {name: text for text in document.reasons for name in text.features}
        for number, rule in enumerate(document.knock_outs):
            if rule.feature not in self._columns:
                path = f"knock_outs[{number}].feature"
                raise InvalidPolicy(path, rule.feature, "is no feature of the release")

    @classmethod
    def parse(cls, text: str, feature_names: Sequence[str]) -> "Policy":
        """Read a policy.toml; raise InvalidPolicy, naming the field."""
        try:
            document = msgspec.convert(tomllib.loads(text), _Document)
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise InvalidPolicy("policy.toml", "…", str(error)) from None
        cutoffs, bands = document.cutoffs, document.bands
        for path, low, high in (
            ("cutoffs.refer", 0.0, cutoffs.refer),
            ("cutoffs.decline", cutoffs.refer, cutoffs.decline),
            ("bands.medium", 0.0, bands.medium),
            ("bands.high", bands.medium, bands.high),
        ):
            if not low <= high <= 1.0:
                raise InvalidPolicy(path, high, f"a probability from {low} to 1")
        for path, value in (
            ("scorecard.base_odds", document.scorecard.base_odds),
            ("scorecard.points_to_double", document.scorecard.points_to_double),
        ):
            if not value > 0:
                raise InvalidPolicy(path, value, "is above 0")
        return cls(document, feature_names)

    @property
    def cutoffs(self) -> Cutoffs:
        """The cut-offs."""
        return self._document.cutoffs

    def outcomes(
        self,
        default_probability: NDArray[np.float64],
        missing: NDArray[np.bool_],
        features: NDArray[np.float32],
    ) -> NDArray[np.uint8]:
        """Decide n rows: uint8[n], indices into OUTCOMES; a knock-out only ever makes it worse."""
        cutoffs = self._document.cutoffs
        outcomes = np.full(len(default_probability), _APPROVE, dtype=np.uint8)
        outcomes[default_probability >= cutoffs.refer] = _REFER
        outcomes[default_probability >= cutoffs.decline] = _DECLINE
        for rule in self._document.knock_outs:
            hit = features[:, self._columns[rule.feature]] >= np.float32(rule.at_least)
            outcomes[hit] = np.maximum(outcomes[hit], OUTCOMES.index(rule.outcome))
        outcomes[missing] = OUTCOMES.index(self._document.features_missing)
        return outcomes

    def bands(self, default_probability: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Place n rows in their risk band: uint8[n], indices into BANDS."""
        bands = self._document.bands
        return np.digitize(default_probability, [bands.medium, bands.high]).astype(np.uint8)

    def reasons(
        self, features: NDArray[np.float32], contributions: NDArray[np.float64]
    ) -> tuple[Reason, ...]:
        """
        Say why one row was not approved: its knock-outs, then what raised its log-odds most.

        `features` is float32[features] and `contributions` float64[features + 1], the last the
        model's mean. Features of one reason code count together, under the strongest's name.
        """
        found = [
            Reason(rule.code, rule.feature, 0.0, rule.text)
            for rule in self._document.knock_outs
            if features[self._columns[rule.feature]] >= np.float32(rule.at_least)
        ]
        together: dict[str, Reason] = {}
        for index in np.argsort(-contributions[:-1], kind="stable").tolist():
            contribution = float(contributions[index])
            if contribution <= 0:
                break
            name = self._names[index]
            text = self._texts.get(name) or ReasonText(name, name, (name,))
            first = together.get(text.code)
            together[text.code] = Reason(
                text.code,
                first.feature if first else name,
                contribution + (first.contribution if first else 0.0),
                text.text,
            )
        ordered = sorted(together.values(), key=lambda reason: -reason.contribution)
        return tuple((found + ordered)[: self._document.max_reasons])

    def reasons_without_features(self) -> tuple[Reason, ...]:
        """Say why an application without any features was not approved."""
        text = "No information about the applicant is available."
        return (Reason("N01", "", 0.0, text),)
