"""Damaged tables of Home Credit: each damage is told by its place, and nothing is written."""

import csv
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from features.home_credit.build import Built, TablesRefused, build, checked
from features.home_credit.raw_files import Fault
from features.home_credit.sample_files import write_sample
from features.home_credit.tables import CRITICAL
from stream.cli import app

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


@pytest.mark.parametrize("emptied", [6, 7])
def test_tables_are_refused_where_over_15_percent_of_critical_columns_are_empty(
    folder: Path, emptied: int
) -> None:
    path = folder / "application_train.csv"
    names = [n for n in CRITICAL["application"] if n != "SK_ID_CURR"][:emptied]
    rows = rows_of(path)
    for name in names:
        at = rows[0].index(name)
        for row in rows[1:]:
            row[at] = ""
    write(path, rows)

    quality = checked(folder)

    assert [note.column for note in quality.notes if "critical" in note.rule] == names
    assert [fault.file for fault in quality.faults] == ["all tables"] * (emptied > 6)


def test_latin_letters_in_a_text_are_told(folder: Path) -> None:
    path = folder / "bureau.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[ROW] = lines[ROW].replace(b"currency", "cürrency".encode("latin-1"))
    path.write_bytes(b"".join(lines))

    assert told(checked(folder).faults, path.name, "is UTF-8").row == ROW


def test_new_parts_are_computed_and_the_rest_is_kept(folder: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "features.parquet", tmp_path / "whole.parquet"
    for name in ("bureau", "application_train"):
        (folder / name).mkdir()
        (folder / f"{name}.csv").rename(folder / name / "1.csv")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for path in folder.rglob("*.csv"):
        os.utime(path, (moment.timestamp() - 60,) * 2)

    def built(to: Path, since: datetime | None = None) -> Built:
        return build(
            folder,
            to,
            as_of=moment,
            changed_since=since,
            said=lambda _: None,
            checked=lambda _: None,
        )

    built(out)
    before = out.read_bytes()
    assert built(out, moment).computed == 0
    assert out.read_bytes() == before

    form = rows_of(folder / "application_train" / "1.csv")
    newcomer = list(form[1])
    newcomer[form[0].index("SK_ID_CURR")] = "999999"
    loans = rows_of(folder / "bureau" / "1.csv")
    loan = list(loans[1])
    loan[loans[0].index("SK_ID_BUREAU")] = "99999999"
    write(folder / "application_train" / "2.csv", [form[0], newcomer])
    write(folder / "bureau" / "2.csv", [loans[0], loan])

    assert built(out, moment).computed == 2
    built(whole)
    assert out.read_bytes() == whole.read_bytes() != before
    out.write_bytes(before)
    os.utime(folder / "application_train" / "2.csv", (moment.timestamp() - 60,) * 2)
    with pytest.raises(TablesRefused, match="lacks applicant 999999"):
        built(out, moment)


def test_the_commands_end_with_1(folder: Path, tmp_path: Path) -> None:
    put(folder / "bureau.csv", "DAYS_CREDIT", "5")
    out = tmp_path / "features.parquet"

    for arguments in (["check", str(folder)], ["build", "--tables", str(folder), "-o", str(out)]):
        assert CliRunner().invoke(app, ["features", *arguments]).exit_code == 1
    assert not out.exists()


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf"])
def test_what_is_no_finite_number_is_told(folder: Path, tmp_path: Path, value: str) -> None:
    expected = {name: FILES[name][0] for name in FILES if name != "application_test"}
    for name, column in expected.items():
        put(folder / f"{name}.csv", column, value)

    faults = refused(folder, tmp_path / "features.parquet")

    for name, column in expected.items():
        assert told(faults, f"{name}.csv", "is between", column).row == ROW


def test_damage_within_a_parquet_file_is_told(folder: Path, tmp_path: Path) -> None:
    path = folder / "bureau.parquet"
    pq.write_table(as_parquet(folder / "bureau.csv"), path)
    (folder / "bureau.csv").unlink()
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 4000 + content[4004:])

    told(refused(folder, tmp_path / "features.parquet"), path.name, "is no readable file")


def test_features_never_take_the_place_of_a_table(folder: Path) -> None:
    table = folder / "bureau.parquet"
    pq.write_table(as_parquet(folder / "bureau.csv"), table)
    (folder / "bureau.csv").unlink()
    before = table.read_bytes()

    with pytest.raises(TablesRefused) as raised:
        build(folder, table, said=lambda _: None, checked=lambda _: None)

    told(raised.value.faults, "bureau.parquet", "is one of the tables")
    assert table.read_bytes() == before
