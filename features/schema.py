"""The contract between table, training and model: which features, in which order."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import msgspec

_NAMED = 10  # columns that a message names

DTYPE = "float32"
# The optional column of a feature table's file that dates each row.
AS_OF = "as_of"


@dataclass(frozen=True, slots=True)
class Feature:
    """
    One input of a model, a float32.

    `minimum` and `maximum` bound what is believable; `monotone` is the sign (-1, 0, 1) that the
    field expects of the default probability as the feature grows; a missing value is NaN.
    """

    name: str
    meaning: str = ""
    minimum: float | None = None
    maximum: float | None = None
    monotone: int = 0


class SchemaInvalid(Exception):
    """A feature schema is not one: says which feature and why."""


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    features: tuple[Feature, ...]
    digest: str
    dtype: str = DTYPE


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """
    Features in model order.

    Two schemas are the same to table, model and event where their digests are equal: the sha256
    over ordered names and dtypes.

    >>> FeatureSchema((Feature("age"), Feature("limit"))).names
    ('age', 'limit')
    """

    features: tuple[Feature, ...]
    names: tuple[str, ...] = field(init=False, compare=False)
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple(feature.name for feature in self.features)
        if not names:
            msg = "a feature schema holds at least one feature"
            raise SchemaInvalid(msg)
        if AS_OF in names:
            msg = f"no feature may be called {AS_OF!r}: a feature table has its rows' dates there"
            raise SchemaInvalid(msg)
        for name, times in Counter(names).items():
            if times > 1:
                msg = f"feature {name!r} stands twice in the schema"
                raise SchemaInvalid(msg)
        for feature in self.features:
            low, high = feature.minimum, feature.maximum
            if low is not None and high is not None and not low <= high:
                msg = f"feature {feature.name!r}: minimum {low} is above maximum {high}"
                raise SchemaInvalid(msg)
        digest = hashlib.sha256(
            "".join(f"{len(name)}:{name} {DTYPE}\n" for name in names).encode()
        ).hexdigest()
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "digest", digest)

    def to_json(self) -> bytes:
        """Write the schema as an indented JSON document."""
        document = msgspec.json.encode(_Document(self.features, self.digest))
        return msgspec.json.format(document, indent=2) + b"\n"

    @classmethod
    def from_json(cls, document: bytes) -> "FeatureSchema":
        """Read a schema; raise SchemaInvalid where it is damaged or of another dtype."""
        try:
            read = msgspec.json.decode(document, type=_Document)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            msg = f"not a feature schema: {error}"
            raise SchemaInvalid(msg) from None
        schema = cls(read.features)
        if read.dtype != DTYPE or read.digest != schema.digest:
            msg = f"the schema's digest {read.digest} is not that of its features"
            raise SchemaInvalid(msg)
        return schema

    def difference(self, names: tuple[str, ...]) -> str:
        """
        Say in words how a list of names differs from the schema's; empty where it does not.

        >>> FeatureSchema((Feature("a"), Feature("b"))).difference(("b", "a"))
        'the same names in another order, first at position 0: b instead of a'
        """
        if names == self.names:
            return ""
        counted, known = Counter(names), set(self.names)
        missing = [name for name in self.names if name not in counted]
        extra = [name for name in names if name not in known]
        repeated = sorted(name for name, times in counted.items() if times > 1)
        parts = [
            f"{word} {_listed(found)}"
            for word, found in (("missing", missing), ("extra", extra), ("repeated", repeated))
            if found
        ]
        if parts:
            return "; ".join(parts)
        at = next(i for i, name in enumerate(names) if name != self.names[i])
        return (
            f"the same names in another order, first at position {at}: "
            f"{names[at]} instead of {self.names[at]}"
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} others"
