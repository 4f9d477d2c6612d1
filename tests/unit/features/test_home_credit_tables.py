"""Damaged tables of Home Credit: each damage is told by its place, and nothing is written."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from features.home_credit.build import TablesRefused, build, checked
from features.home_credit.raw_files import Fault
from features.home_credit.sample_files import write_sample

ROW = 3
"""The row that is damaged."""
FILES = {
    # A whole number's column that is never positive, or of days; and a key that must be there.
    "application_train": ("DAYS_BIRTH", "SK_ID_CURR"),
    "application_test": ("DAYS_BIRTH", "SK_ID_CURR"),
    "bureau": ("DAYS_CREDIT", "SK_ID_CURR"),
    "bureau_balance": ("MONTHS_BALANCE", "SK_ID_BUREAU"),
    "previous_application": ("DAYS_DECISION", "SK_ID_CURR"),
    "POS_CASH_balance": ("MONTHS_BALANCE", "SK_ID_CURR"),
    "installments_payments": ("DAYS_INSTALMENT", "SK_ID_CURR"),
    "credit_card_balance": ("MONTHS_BALANCE", "SK_ID_CURR"),
}
WHOLE = {name: date for name, (date, _) in FILES.items()} | {
    "installments_payments": "NUM_INSTALMENT_NUMBER"
}
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables") / "sound"
    write_sample(folder, 60, seed=350)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "tables")


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def put(path: Path, column: str, value: str, row: int = ROW) -> None:
    rows = rows_of(path)
    rows[row][rows[0].index(column)] = value
    write(path, rows)


def told(faults: list[Fault], file: str, rule: str, column: str = "") -> Fault:
    found = [
        fault
        for fault in faults
        if fault.file == file and rule in fault.rule and column in {"", fault.column}
    ]
    assert found, f"{file}: {rule}: {column}: not in {faults}"
    return found[0]


def refused(folder: Path, out: Path) -> list[Fault]:
    out.write_bytes(b"as before")
    with pytest.raises(TablesRefused) as raised:
        build(folder, out, said=lambda _: None, checked=lambda _: None)
    assert out.read_bytes() == b"as before"
    assert list(out.parent.glob(f".{out.name}*")) == []
    return raised.value.faults


def recode(path: Path, encoding: str) -> None:
    path.write_bytes(path.read_bytes().decode().encode(encoding))


def widen(path: Path, name: str) -> None:
    write(path, [[*row, row[-1] if at else name] for at, row in enumerate(rows_of(path))])


WHOLE_FILE: dict[str, tuple[Damage, str]] = {
    "missing": (lambda path: path.unlink(), "missing"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "header alone": (lambda path: write(path, rows_of(path)[:1]), "holds no row"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-5]), "cut off"),
    "semicolons": (
        lambda path: path.write_bytes(path.read_bytes().replace(b",", b";")),
        "separated by commas",
    ),
    "UTF-16": (lambda path: recode(path, "utf-16"), "UTF-8"),
    "byte order mark": (lambda path: recode(path, "utf-8-sig"), "byte order mark"),
    "extra column": (lambda path: widen(path, "OTHER"), "is no column of this table"),
    "missing column": (
        lambda path: write(path, [row[:-1] for row in rows_of(path)]),
        "a column is missing",
    ),
    "column twice": (lambda path: widen(path, rows_of(path)[0][-1]), "a column stands twice"),
    "text": (lambda path: put(path, FILES[path.stem][0], "many"), "is a number"),
}


@pytest.mark.parametrize("damage", WHOLE_FILE)
def test_a_damaged_file_of_each_table_is_named(folder: Path, tmp_path: Path, damage: str) -> None:
    harm, rule = WHOLE_FILE[damage]
    last = {name: rows_of(folder / f"{name}.csv")[0][-1] for name in FILES}
    for name in FILES:
        harm(folder / f"{name}.csv")

    faults = refused(folder, tmp_path / "features.parquet")

    for name, (date, _) in FILES.items():
        if damage == "missing" and name.startswith("application"):
            told(faults, "application.csv", rule)
            continue
        fault = told(faults, f"{name}.csv", rule)
        if damage == "text":
            assert fault.row == ROW, fault
        columns = {"extra column": "OTHER", "text": date}
        if damage in {"missing column", "column twice"}:
            columns[damage] = last[name]
        if damage in columns:
            assert fault.column == columns[damage]


VALUES = {
    "out of range": (FILES, 0, "400000", "is between"),
    "null key": (FILES, 1, "", "a key is there"),
    "orphan": (FILES, 1, "999999999", "stands in application"),
}


@pytest.mark.parametrize("damage", VALUES)
def test_a_wrong_value_of_each_table_is_told_by_file_column_and_row(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    _, at, value, rule = VALUES[damage]
    without = {"application_test"}
    if damage == "orphan":
        without |= {"application_train", "bureau_balance"}
    expected = {name: columns[at] for name, columns in FILES.items() if name not in without}
    for name, column in expected.items():
        put(folder / f"{name}.csv", column, value)

    faults = refused(folder, tmp_path / "features.parquet")

    for name, column in expected.items():
        assert told(faults, f"{name}.csv", rule, column).row == ROW


def test_a_fraction_in_a_whole_column_is_told(folder: Path, tmp_path: Path) -> None:
    expected = {name: WHOLE[name] for name in FILES if name != "application_test"}
    values = {"DAYS_BIRTH": "-9000.5", "NUM_INSTALMENT_NUMBER": "1.5"}
    for name, column in expected.items():
        put(folder / f"{name}.csv", column, values.get(column, "-7.5"))

    faults = refused(folder, tmp_path / "features.parquet")

    for name, column in expected.items():
        assert told(faults, f"{name}.csv", "whole number", column).row == ROW


def test_a_row_of_the_second_file_is_counted_in_that_file(folder: Path) -> None:
    path = folder / "application_test.csv"
    put(path, "DAYS_BIRTH", "1")
    put(path, "SK_ID_CURR", "")

    faults = checked(folder).faults

    assert told(faults, path.name, "is between", "DAYS_BIRTH").row == ROW
    assert told(faults, path.name, "a key is there", "SK_ID_CURR").row == ROW


def test_a_key_that_stands_twice_is_told(folder: Path, tmp_path: Path) -> None:
    expected = [n for n in FILES if n not in {"application_test", "installments_payments"}]
    for name in expected:
        rows = rows_of(folder / f"{name}.csv")
        write(folder / f"{name}.csv", [*rows, rows[ROW]])

    faults = refused(folder, tmp_path / "features.parquet")

    for name in expected:
        assert told(faults, f"{name}.csv", "stand").row == ROW


def test_an_unknown_contract_or_credit_is_a_note(folder: Path) -> None:
    children = {
        "bureau_balance": "SK_ID_BUREAU",
        "POS_CASH_balance": "SK_ID_PREV",
        "installments_payments": "SK_ID_PREV",
        "credit_card_balance": "SK_ID_PREV",
    }
    for name, key in children.items():
        put(folder / f"{name}.csv", key, "999999999", row=1)

    quality = checked(folder)

    assert quality.faults == []
    for name, key in children.items():
        assert told(quality.notes, f"{name}.csv", f"{key} stands in", key).row == 1


def as_parquet(path: Path) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=[""])
    return pyarrow.csv.read_csv(path, convert_options=options)


def test_damaged_parquet_and_a_table_that_stands_twice_are_told(
    folder: Path, tmp_path: Path
) -> None:
    bureau = as_parquet(folder / "bureau.csv")
    at = bureau.schema.get_field_index("DAYS_CREDIT")
    texts = bureau["DAYS_CREDIT"].cast(pa.string())
    (folder / "bureau.csv").unlink()
    pq.write_table(bureau.set_column(at, "DAYS_CREDIT", texts), folder / "bureau.parquet")
    cut = folder / "previous_application.parquet"
    pq.write_table(as_parquet(folder / "previous_application.csv"), cut)
    (folder / "previous_application.csv").unlink()
    cut.write_bytes(cut.read_bytes()[:-100])
    twice = folder / "POS_CASH_balance.parquet"
    pq.write_table(as_parquet(folder / "POS_CASH_balance.csv"), twice)

    faults = refused(folder, tmp_path / "features.parquet")

    told(faults, "bureau.parquet", "holds numbers", "DAYS_CREDIT")
    told(faults, cut.name, "is no readable file")
    told(faults, "POS_CASH_balance", "stands twice")
