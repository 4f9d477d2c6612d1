import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.taiwan_default import ATTRIBUTES, DEFINITION
from models.prepare import prepare
from tests.builders import raw_columns


@given(st.integers(0, 2**32 - 1), st.integers(1, 70))
def test_a_row_alone_has_the_same_bits_as_in_any_batch(seed: int, rows: int) -> None:
    columns = raw_columns(rows, seed)

    together = DEFINITION.compute(columns)

    for row in range(rows):
        alone = DEFINITION.compute({name: c[row : row + 1] for name, c in columns.items()})
        assert alone.tobytes() == together[row : row + 1].tobytes()


def test_sex_and_marital_status_are_no_attributes() -> None:
    assert not {"SEX", "MARRIAGE"} & {attribute.name for attribute in ATTRIBUTES}


@pytest.mark.parametrize("seed", range(3))
def test_features_lie_in_their_declared_ranges(seed: int) -> None:
    features = DEFINITION.compute(raw_columns(500, seed))

    for feature, column in zip(DEFINITION.schema.features, features.T, strict=True):
        assert feature.minimum is not None
        assert feature.maximum is not None
        assert np.nanmin(column) >= feature.minimum, feature.name
        assert np.nanmax(column) <= feature.maximum, feature.name


def test_preparing_without_the_data_names_the_missing_file(tmp_path: object) -> None:
    from pathlib import Path

    from models.prepare import ExampleMissing

    with pytest.raises(ExampleMissing, match=r"credit_card_clients\.parquet is missing"):
        prepare(Path(str(tmp_path)), Path(str(tmp_path)) / "out")
