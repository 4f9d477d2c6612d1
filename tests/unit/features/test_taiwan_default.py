from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import UnknownDefinition, definition
from features.taiwan_default import ATTRIBUTES, DEFINITION, SCHEMA
from models.prepare import prepare
from models.prepared import ExampleMissing
from tests.builders import ATTRIBUTES as APPLICANT
from tests.builders import raw_columns


def features_of(**changes: float) -> dict[str, float]:
    columns = {name: np.array([float(value)]) for name, value in (APPLICANT | changes).items()}
    return dict(zip(SCHEMA.names, DEFINITION.compute(columns)[0].tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0.0, 0.3, 0.9]))
def test_a_row_alone_has_the_same_bits_as_in_any_batch(seed: int, rows: int, zeros: float) -> None:
    columns = raw_columns(rows, seed)
    random = np.random.default_rng(seed)
    for name in columns:
        if name.startswith(("BILL", "PAY")):
            nothing = random.choice([0.0, -0.0], rows)
            columns[name] = np.where(random.random(rows) < zeros, nothing, columns[name])

    together = DEFINITION.compute(columns)

    for row in range(rows):
        alone = DEFINITION.compute({name: c[row : row + 1] for name, c in columns.items()})
        assert alone.tobytes() == together[row : row + 1].tobytes()


def test_no_rows_have_no_features() -> None:
    assert DEFINITION.compute(raw_columns(0)).shape == (0, len(SCHEMA.names))


def test_sex_and_marital_status_are_no_attributes() -> None:
    assert not {"SEX", "MARRIAGE"} & {attribute.name for attribute in ATTRIBUTES}
    assert len(ATTRIBUTES) == 21
    assert all(attribute.required for attribute in ATTRIBUTES)


@given(st.lists(st.booleans(), min_size=21, max_size=21))
def test_features_lie_in_their_ranges_at_every_corner_of_the_attributes(highs: list[bool]) -> None:
    columns = {
        attribute.name: np.array([float((attribute.minimum, attribute.maximum)[high] or 0)])
        for attribute, high in zip(ATTRIBUTES, highs, strict=True)
    }

    for feature, value in zip(SCHEMA.features, DEFINITION.compute(columns)[0], strict=True):
        assert feature.minimum is not None
        assert feature.maximum is not None
        assert feature.minimum <= value <= feature.maximum, feature.name


@pytest.mark.parametrize("seed", range(3))
def test_features_lie_in_their_ranges_within_the_attributes(seed: int) -> None:
    features = DEFINITION.compute(raw_columns(500, seed))

    for feature, column in zip(SCHEMA.features, features.T, strict=True):
        assert feature.minimum is not None
        assert feature.maximum is not None
        assert feature.minimum <= column.min() <= column.max() <= feature.maximum, feature.name


def test_each_feature_says_what_it_means() -> None:
    assert all(feature.meaning.endswith(".") for feature in SCHEMA.features)
    assert {feature.monotone for feature in SCHEMA.features} == {-1, 0, 1}


def test_utilisation_is_the_bill_over_the_limit() -> None:
    found = features_of(LIMIT_BAL=100, BILL_AMT1=50, BILL_AMT2=25, BILL_AMT3=0, BILL_AMT4=-25)

    assert [found[f"utilisation_{month}"] for month in (1, 2, 3, 4)] == [0.5, 0.25, 0.0, -0.25]
    assert found["headroom"] == 50


def test_a_payment_ratio_is_of_the_bill_before_and_one_where_nothing_was_owed() -> None:
    found = features_of(BILL_AMT2=200, PAY_AMT1=50, BILL_AMT3=0, BILL_AMT4=-9, BILL_AMT5=1)

    assert found["payment_ratio_1"] == 0.25
    assert (found["payment_ratio_2"], found["payment_ratio_3"]) == (1.0, 1.0)
    assert found["payment_ratio_4"] == 10.0


def test_months_late_are_counted_in_a_row_from_the_latest_back() -> None:
    late = features_of(PAY_0=1, PAY_2=2, PAY_3=0, PAY_4=3, PAY_5=-2, PAY_6=-1)

    assert late["months_late_consecutive"] == 2
    assert late["months_late_count"] == 3
    assert late["months_late_worst"] == 3
    assert late["months_late_total"] == 6
    assert (late["months_not_used"], late["months_paid_in_full"]) == (1, 1)


def test_an_unknown_definition_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(UnknownDefinition, match=r"'taiwan'.*taiwan_default$"):
        definition("taiwan")
    with pytest.raises(UnknownDefinition, match=r"'taiwan'.*taiwan_default, by_name$"):
        definition("taiwan", SCHEMA)
    with pytest.raises(UnknownDefinition, match=r"'by_name' has no features of its own"):
        definition("by_name")


def test_a_brought_models_features_are_its_attributes() -> None:
    by_name = definition("by_name", SCHEMA)
    columns = {name: np.array([index + 0.5, np.nan]) for index, name in enumerate(SCHEMA.names)}

    features = by_name.compute(columns)

    assert [attribute.name for attribute in by_name.attributes] == list(SCHEMA.names)
    assert not any(attribute.required for attribute in by_name.attributes)
    assert features[0].tolist() == [index + 0.5 for index in range(len(SCHEMA.names))]
    assert np.isnan(features[1]).all()


def test_preparing_without_the_data_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ExampleMissing, match=r"credit_card_clients\.parquet is missing"):
        prepare(tmp_path, tmp_path / "out")
