import msgspec
import pytest

from features.schema import Feature, FeatureSchema, SchemaInvalid

SCHEMA = FeatureSchema((Feature("a", "One.", 0.0, 1.0, -1), Feature("b")))


def test_a_schema_comes_back_from_its_json() -> None:
    assert FeatureSchema.from_json(SCHEMA.to_json()) == SCHEMA


def test_the_digest_is_of_names_and_order_alone() -> None:
    assert FeatureSchema((Feature("a"), Feature("b"))).digest == SCHEMA.digest
    assert FeatureSchema((Feature("b"), Feature("a"))).digest != SCHEMA.digest
    assert FeatureSchema((Feature("ab"),)).digest != SCHEMA.digest


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ((), "at least one feature"),
        ((Feature("a"), Feature("a")), "'a' stands twice"),
        ((Feature("a", minimum=1.0, maximum=0.0),), "'a': minimum 1.0 is above maximum 0.0"),
    ],
)
def test_a_schema_that_is_none_is_refused(features: tuple[Feature, ...], reason: str) -> None:
    with pytest.raises(SchemaInvalid, match=reason):
        FeatureSchema(features)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"\xff",
        SCHEMA.to_json().replace(b'"a"', b'"c"'),
        SCHEMA.to_json().replace(b"float32", b"float64"),
        msgspec.json.encode({"features": [], "digest": ""}),
    ],
)
def test_a_damaged_document_is_refused(document: bytes) -> None:
    with pytest.raises(SchemaInvalid):
        FeatureSchema.from_json(document)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "b"), ""),
        (("a",), "missing b"),
        (("a", "b", "c"), "extra c"),
        (("a", "b", "b"), "repeated b"),
        (("b", "a"), "the same names in another order, first at position 0: b instead of a"),
    ],
)
def test_a_difference_is_told_in_words(names: tuple[str, ...], words: str) -> None:
    assert SCHEMA.difference(names) == words
