"""The feature definitions that ship with creditstream, by name."""

from importlib import import_module

from features.definition import FeatureDefinition, by_name
from features.schema import FeatureSchema

BY_NAME = "by_name"
_SHIPPED = {
    "home_credit": "features.home_credit.definition",
    "taiwan_default": "features.taiwan_default",
}


class UnknownDefinition(Exception):
    """No feature definition has that name; says which there are."""


def definition(name: str, schema: FeatureSchema | None = None) -> FeatureDefinition:
    """Find a definition; `by_name` is made from the schema. Raises UnknownDefinition."""
    if name == BY_NAME and schema is not None:
        return by_name(schema)
    if name not in _SHIPPED:
        known = ", ".join([*_SHIPPED] if schema is None else [*_SHIPPED, BY_NAME])
        msg = f"no feature definition is called {name!r}; there are {known}"
        if name == BY_NAME:
            msg = f"{name!r} has no features of its own, but those of a release; there are {known}"
        raise UnknownDefinition(msg)
    # 189 features take a moment to declare: only those that are asked for.
    found: FeatureDefinition = import_module(_SHIPPED[name]).DEFINITION
    return found
