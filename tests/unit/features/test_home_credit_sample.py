"""Look-alike data: schema, marginals, keys, repetition, and a label that can be learnt."""

import hashlib
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from features.home_credit.reference import ColumnReference, reference
from features.home_credit.sample import FIRST_ID, HISTORY, TABLES, TEST, TRAIN, Block, sample
from features.home_credit.sample_csv import header, lines
from features.home_credit.sample_files import SYNTHETIC, SampleRefused, write_sample
from stream.cli import app

APPLICATIONS = 5_000
NOT_MEDIAN = {
    "AMT_CREDIT_SUM_DEBT",
    "AMT_PAYMENT_CURRENT",
    "DAYS_CREDIT_UPDATE",
    "DAYS_LAST_DUE",
    "DAYS_TERMINATION",
    "DAYS_LAST_DUE_1ST_VERSION",
}
"""Columns whose median follows from other columns, and differs from the reference."""


@pytest.fixture(scope="module")
def tables() -> Block:
    (block,) = sample(APPLICATIONS, seed=350)
    both = pa.concat_tables([block[TRAIN].drop_columns("TARGET"), block[TEST]])
    return block | {"application": both}


def columns(table: str) -> list[ColumnReference]:
    return [
        column
        for column in reference()[table].columns
        if column.name != "TARGET" and not column.name.startswith("SK_ID")
    ]


def values(table: pa.Table, name: str) -> NDArray[np.float64]:
    found: NDArray[np.float64] = table[name].drop_null().to_numpy().astype(np.float64)
    return found


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_competitions_columns_in_its_order_and_types(
    tables: Block, name: str
) -> None:
    of = reference()["application" if name in (TRAIN, TEST) else name].columns
    expected = [(c.name, c.kind) for c in of if (name, c.name) != (TEST, "TARGET")]

    kinds = {pa.int64(): "int64", pa.float64(): "float64", pa.string(): "string"}
    assert [(field.name, kinds[field.type]) for field in tables[name].schema] == expected


@pytest.mark.parametrize("name", reference())
def test_values_are_missing_as_often_as_in_the_reference(tables: Block, name: str) -> None:
    table = tables[name]
    missing = {c.name: table[c.name].null_count / table.num_rows for c in columns(name)}

    assert missing == pytest.approx({c.name: c.missing for c in columns(name)}, abs=0.03)


@pytest.mark.parametrize("name", reference())
def test_categories_have_the_shares_of_the_reference(tables: Block, name: str) -> None:
    for column in columns(name):
        if not column.categories:
            continue
        found = tables[name][column.name].drop_null()
        if column.kind != "string":
            found = found.cast(pa.int64()).cast(pa.string())
        counts = {row["values"]: row["counts"] for row in found.value_counts().to_pylist()}

        if column.kind == "string":
            assert set(counts) <= set(column.categories), column.name
        shares = {value: counts.get(value, 0) / len(found) for value in column.categories}
        assert shares == pytest.approx(dict(column.categories), abs=0.05), column.name


@pytest.mark.parametrize("name", reference())
def test_medians_lie_between_nearby_quantiles_of_the_reference(tables: Block, name: str) -> None:
    for column in columns(name):
        if not column.quantiles or column.categories or column.name in NOT_MEDIAN:
            continue
        low, middle, high = (column.quantiles[share] for share in (0.25, 0.5, 0.75))
        median = float(np.median(values(tables[name], column.name)))

        near = middle - 0.35 * (middle - low) - 0.001, middle + 0.35 * (high - middle) + 0.001
        assert near[0] <= median <= near[1], (column.name, near, median)


def test_keys_are_unique_and_every_history_belongs_to_an_applicant(tables: Block) -> None:
    applicants = tables["application"]["SK_ID_CURR"]

    assert sorted(applicants.to_pylist()) == list(range(FIRST_ID, FIRST_ID + APPLICATIONS))
    for name, key in (("bureau", "SK_ID_BUREAU"), ("previous_application", "SK_ID_PREV")):
        assert pc.count_distinct(tables[name][key]).as_py() == tables[name].num_rows
    for name in HISTORY:
        if name != "bureau_balance":
            assert set(tables[name]["SK_ID_CURR"].unique().to_pylist()) <= set(
                applicants.to_pylist()
            )


@pytest.mark.parametrize(
    ("child", "parent", "key", "unlisted"),
    [
        ("bureau_balance", "bureau", "SK_ID_BUREAU", 0.053),
        ("POS_CASH_balance", "previous_application", "SK_ID_PREV", 0.04),
        ("installments_payments", "previous_application", "SK_ID_PREV", 0.04),
    ],
)
def test_a_few_histories_belong_to_no_listed_loan(
    tables: Block, child: str, parent: str, key: str, unlisted: float
) -> None:
    listed = pc.is_in(tables[child][key].unique(), tables[parent][key].unique())

    assert 1 - pc.mean(listed).as_py() == pytest.approx(unlisted, abs=0.015)


@pytest.mark.parametrize(
    ("name", "share", "rows"),
    [
        ("bureau", 0.858, 5.61),
        ("previous_application", 0.951, 4.93),
        ("POS_CASH_balance", 0.947, 29.7),
        ("installments_payments", 0.953, 40.1),
        ("credit_card_balance", 0.291, 37.1),
    ],
)
def test_applicants_have_as_much_history_as_the_competitions(
    tables: Block, name: str, share: float, rows: float
) -> None:
    owners = pc.count_distinct(tables[name]["SK_ID_CURR"]).as_py()

    assert owners / APPLICATIONS == pytest.approx(share, abs=0.02)
    assert tables[name].num_rows / owners == pytest.approx(rows, rel=0.06)


def test_loans_have_as_many_months_as_the_competitions(tables: Block) -> None:
    months = tables["bureau_balance"]

    loans = pc.count_distinct(months["SK_ID_BUREAU"]).as_py()
    assert months.num_rows / loans == pytest.approx(33.4, rel=0.06)


def test_pensioners_have_no_employer(tables: Block) -> None:
    form = tables["application"]
    retired = pc.equal(form["DAYS_EMPLOYED"], 365243)

    at_home = form.filter(retired)
    assert 0.15 < at_home.num_rows / form.num_rows < 0.22
    assert at_home["ORGANIZATION_TYPE"].unique().to_pylist() == ["XNA"]
    assert at_home["FLAG_EMP_PHONE"].unique().to_pylist() == [0]
    assert at_home["OCCUPATION_TYPE"].null_count == at_home.num_rows
    assert set(at_home["NAME_INCOME_TYPE"].to_pylist()) <= {"Pensioner", "Unemployed"}
    assert pc.max(form.filter(pc.invert(retired))["DAYS_EMPLOYED"]).as_py() < 0


def test_amounts_go_together(tables: Block) -> None:
    form = tables["application"].select(
        ["AMT_CREDIT", "AMT_ANNUITY", "AMT_GOODS_PRICE", "AMT_INCOME_TOTAL"]
    )
    credit, annuity, goods, income = (c.to_numpy() for c in form.drop_null().columns)

    assert np.corrcoef(credit, goods)[0, 1] > 0.95
    assert np.corrcoef(credit, annuity)[0, 1] > 0.6
    assert 0.1 < np.corrcoef(np.log(credit), np.log(income))[0, 1] < 0.7


def test_days_that_have_not_come_are_marked(tables: Block) -> None:
    previous = tables["previous_application"]
    days = {c.name for c in columns("previous_application") if c.name.startswith("DAYS")}

    for name in days - {"DAYS_DECISION", "DAYS_LAST_DUE_1ST_VERSION"}:
        shown = values(previous, name)
        assert (shown == 365243).any(), name
        assert shown[shown != 365243].max() < 0, name


def test_instalments_follow_their_contract(tables: Block) -> None:
    previous = tables["previous_application"]
    loans = previous.filter(pc.greater(previous["CNT_PAYMENT"], 0))
    paid = tables["installments_payments"].join(
        loans.select(["SK_ID_PREV", "DAYS_FIRST_DUE", "CNT_PAYMENT"]),
        "SK_ID_PREV",
        join_type="inner",
    )
    first = paid.filter(pc.equal(paid["NUM_INSTALMENT_NUMBER"], 1)).drop_null()

    assert paid.num_rows > 100_000
    assert first["DAYS_INSTALMENT"].equals(first["DAYS_FIRST_DUE"])
    assert pc.all(pc.less_equal(paid["NUM_INSTALMENT_NUMBER"], paid["CNT_PAYMENT"])).as_py()


def test_cards_stay_within_their_limits_mostly(tables: Block) -> None:
    cards = tables["credit_card_balance"]
    within = pc.less_equal(cards["AMT_BALANCE"], cards["AMT_CREDIT_LIMIT_ACTUAL"])

    assert pc.mean(within).as_py() > 0.95


def test_the_label_can_be_learnt_as_well_as_the_competitions() -> None:
    blocks = list(sample(20_000, seed=7))
    features, label = [], []
    for block in blocks:
        form = block[TRAIN]
        ids = form["SK_ID_CURR"].to_numpy()
        numbers = [c for c in form.columns[2:] if not pa.types.is_string(c.type)]
        paid, previous = block["installments_payments"], block["previous_application"]
        late = paid["DAYS_ENTRY_PAYMENT"].to_numpy() > paid["DAYS_INSTALMENT"].to_numpy()
        refused = pc.equal(previous["NAME_CONTRACT_STATUS"], "Refused").to_numpy()
        columns = [column.to_numpy().astype(np.float64) for column in numbers]
        columns += [share_of(paid, late, ids), share_of(previous, refused, ids)]
        columns.append(
            form["AMT_CREDIT"].to_numpy() / form["AMT_GOODS_PRICE"].to_numpy().astype(np.float64)
        )
        features.append(np.column_stack(columns))
        label.append(form["TARGET"].to_numpy())
    x, y = np.concatenate(features), np.concatenate(label)
    held_out = np.random.default_rng(1).random(len(y)) < 0.4
    parameters = {"objective": "binary", "num_leaves": 8, "learning_rate": 0.1, "verbosity": -1}
    parameters |= {"feature_fraction": 0.3, "min_data_in_leaf": 60, "num_threads": 1, "seed": 1}

    model = lightgbm.train(parameters, lightgbm.Dataset(x[~held_out], y[~held_out]), 80)

    assert y.mean() == pytest.approx(0.08, abs=0.01)
    assert 0.74 < roc_auc_score(y[held_out], model.predict(x[held_out])) < 0.80


def share_of(
    table: pa.Table, flags: NDArray[np.bool_], ids: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give each applicant's share of flagged rows."""
    owner = table["SK_ID_CURR"].to_numpy() - FIRST_ID
    rows, flagged = np.bincount(owner), np.bincount(owner, flags)
    places = np.minimum(ids - FIRST_ID, len(rows) - 1)
    share: NDArray[np.float64] = flagged[places] / np.maximum(rows[places], 1)
    return share


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    tmp_path: Path, file_format: str
) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        arguments = ["--applications", "60", "--seed", str(seed), "--format", file_format]
        command = ["features", "sample", *arguments, "-o", str(tmp_path / name)]
        assert "SYNTHETIC" in CliRunner().invoke(app, command).output

    one, again, other = (digest(tmp_path / name) for name in ("one", "again", "other"))
    assert set(one) == {"SYNTHETIC.txt", *(f"{name}.{file_format}" for name in TABLES)}
    assert one == again
    assert all(one[name] != other[name] for name in one)


def test_blocks_differ_and_their_keys_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.home_credit.sample.BLOCK", 40)

    first, second, third = sample(100, seed=3)

    sizes = [block[TRAIN].num_rows + block[TEST].num_rows for block in (first, second, third)]
    assert sizes == [40, 40, 20]
    for name, key in (("bureau", "SK_ID_BUREAU"), ("previous_application", "SK_ID_PREV")):
        assert pc.max(first[name][key]).as_py() < pc.min(second[name][key]).as_py()
    assert not first["bureau"]["DAYS_CREDIT"].equals(second["bureau"]["DAYS_CREDIT"])


def test_one_applicant_is_enough(tmp_path: Path) -> None:
    rows = write_sample(tmp_path / "one", 1, seed=0)

    assert rows[TRAIN] + rows[TEST] == 1


@pytest.mark.parametrize("name", [TRAIN, "previous_application", "credit_card_balance"])
def test_csv_reads_back_to_the_same_bits(tables: Block, name: str) -> None:
    table = tables[name].slice(0, 500)

    written = header(table.schema) + lines(table)

    options = pyarrow.csv.ConvertOptions(
        column_types=table.schema, strings_can_be_null=True, null_values=[""]
    )
    read = pyarrow.csv.read_csv(pa.BufferReader(written), convert_options=options)
    assert read.equals(table)


def test_whole_floats_keep_their_point_in_csv() -> None:
    table = pa.table({"amount": [202500.0, None, 0.5], "wall": ["Stone, brick", "Panel", None]})

    assert lines(table) == b'202500.0,"Stone, brick"\n,Panel\n0.5,\n'


def test_parquet_says_that_it_is_synthetic(tmp_path: Path) -> None:
    write_sample(tmp_path / "made", 20, seed=5, file_format="parquet")

    for name in TABLES:
        metadata = pq.read_schema(tmp_path / "made" / f"{name}.parquet").metadata
        assert b'"seed": 5' in metadata[SYNTHETIC.encode()]
    assert "NO ROW IS REAL" in (tmp_path / "made" / "SYNTHETIC.txt").read_text()


def test_a_folder_with_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(SampleRefused, match="not an empty folder"):
        write_sample(tmp_path, 10, seed=1)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def full(_: int) -> None:
        msg = "the disk is full"
        raise OSError(msg)

    with pytest.raises(OSError, match="full"):
        write_sample(tmp_path / "out", 10, seed=1, progress=full)

    assert list(tmp_path.iterdir()) == []
