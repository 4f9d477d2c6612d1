from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.rows import RowsRefused
from stream.sending.files import records_of


def test_a_row_is_an_event_whose_numbers_are_json(tmp_path: Path) -> None:
    columns = {
        "application_id": [7],
        "AGE": [30],
        "rate": [float("nan")],
        "limit": [Decimal("12.50")],
        "rows": [[{"amount": float("nan")}, {"amount": 0.1}]],
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")

    (record,) = records_of(tmp_path / "rows.parquet", "application_id", "run")

    assert record.value is not None
    event = msgspec.json.decode(record.value)
    assert event["event_id"] == "run-00000000"
    assert event["attributes"] == {
        "AGE": 30,
        "rate": None,
        "limit": 12.5,
        "rows": [{"amount": None}, {"amount": 0.1}],
    }


@pytest.mark.parametrize("values", [[float("inf")], [[{"amount": float("-inf")}]]])
def test_an_infinity_is_refused_wherever_it_is(tmp_path: Path, values: list[object]) -> None:
    pq.write_table(pa.table({"application_id": [7], "rate": values}), tmp_path / "rows.parquet")

    with pytest.raises(RowsRefused, match="column 'rate' holds an infinity"):
        records_of(tmp_path / "rows.parquet", "application_id", "run")
