import os
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.rows import RowsRefused
from stream.sending.files import FileRun, records_of
from stream.settings import EventSettings

RUN = FileRun("run", datetime(2026, 11, 25, 13, tzinfo=UTC))


def test_a_row_is_an_event_whose_numbers_are_json(tmp_path: Path) -> None:
    columns = {
        "application_id": [7],
        "AGE": [30],
        "rate": [float("nan")],
        "limit": [Decimal("12.50")],
        "rows": [[{"amount": float("nan")}, {"amount": 0.1}]],
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")

    (record,) = records_of(tmp_path / "rows.parquet", "application_id", RUN)

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
        records_of(tmp_path / "rows.parquet", "application_id", RUN)


def sent(path: Path) -> list[tuple[bytes | None, object]]:
    run = FileRun.of(path, "application_id", EventSettings())
    records = records_of(path, "application_id", run)
    return [(record.value, record.headers) for record in records]


def test_a_file_sent_again_is_the_same_events_and_one_changed_or_with_another_key_is_others(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("application_id,other\n7,8\n")
    now = time.time()
    os.utime(file, (now, now - 100))

    first = sent(file)
    again = sent(file)
    os.utime(file, (now, now - 50))
    changed = sent(file)
    names = {
        FileRun.of(file, key, EventSettings(), submitted_at=at).name
        for key in ("application_id", "other")
        for at in (None, RUN.submitted_at)
    }

    assert again == first
    assert changed != first
    assert len(names) == 4


def test_what_python_cannot_hold_is_refused_by_its_column(tmp_path: Path) -> None:
    times = pa.array([0, 2**62], pa.timestamp("us", "UTC"))
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"application_id": [7, 8], "submitted_at": times}), file)

    with pytest.raises(RowsRefused, match="column 'submitted_at' cannot be read: date value"):
        records_of(file, "application_id", RUN)


@pytest.mark.parametrize("name", ["\U0001f642", "x" * 56, "", "a b", "a\n"])
def test_a_run_that_no_event_id_can_begin_with_is_refused_before_anything_is_sent(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("application_id\n7\n")

    with pytest.raises(RowsRefused, match="1 to 55 printable ASCII characters"):
        FileRun.of(file, "application_id", EventSettings(), name)

    assert FileRun.of(file, "application_id", EventSettings(), "x" * 55).name == "x" * 55
