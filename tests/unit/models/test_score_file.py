import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from features.taiwan_default import DEFINITION
from models.bring import create_release
from models.release import MODEL, Release, ReleaseRefused, load_release, open_release
from models.score_file import RowsRefused, score_file
from tests.builders import a_model_text, a_release, raw_columns

KEYS = np.array([5, 3, 9, 1, 7])
COLUMNS = raw_columns(5, seed=9)
FEATURES = DEFINITION.compute(COLUMNS)
DECIDED = ["default_probability", "score", "outcome", "risk_band", "release"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return open_release(a_release(tmp_path_factory.mktemp("releases")))


def feature_rows(features: NDArray[np.float32], keys: NDArray[np.int64], key: str) -> pa.Table:
    columns = {n: np.ascontiguousarray(c) for n, c in zip(names(), features.T, strict=True)}
    return pa.table({key: keys, **columns})


def names() -> tuple[str, ...]:
    return DEFINITION.schema.names


def attribute_rows(**changes: Any) -> pa.Table:
    integers = {a.name for a in DEFINITION.attributes if a.kind == "integer"}
    columns = {n: c.astype(int) if n in integers else c for n, c in COLUMNS.items()}
    return pa.table({"application_id": KEYS, **columns} | changes)


def events(table: pa.Table) -> str:
    """JSON lines of application events."""
    lines = []
    for row in table.to_pylist():
        key = row.pop("application_id")
        lines.append(json.dumps({"application_id": key, "event_id": f"e-{key}", "attributes": row}))
    return "\n".join(lines) + "\n"


def write_parquet(path: Path) -> None:
    pq.write_table(attribute_rows(), path)


def write_csv(path: Path) -> None:
    pyarrow.csv.write_csv(attribute_rows(), path)


def write_events(path: Path) -> None:
    path.write_text(events(attribute_rows()))


def write_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in attribute_rows().to_pylist()))


def write_features(path: Path) -> None:
    pq.write_table(feature_rows(FEATURES, KEYS, "application_id"), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.parquet", write_parquet),
        ("rows.csv", write_csv),
        ("rows.jsonl", write_lines),
        ("events.jsonl", write_events),
        ("features.parquet", write_features),
    ],
)
def test_each_row_is_decided_in_order_as_lightgbm_does(
    tmp_path: Path, release: Release, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)

    rows = score_file(tmp_path / name, release, tmp_path / "out.parquet", "application_id")

    out = pq.read_table(tmp_path / "out.parquet")
    booster = lightgbm.Booster(model_str=(release.folder / MODEL).read_text())
    expected = np.asarray(booster.predict(FEATURES, num_threads=1))
    assert rows == 5
    assert out.column_names == ["application_id", *DECIDED]
    assert out["application_id"].to_pylist() == KEYS.tolist()
    assert out["default_probability"].to_numpy().tobytes() == expected.tobytes()
    assert set(out["release"].to_pylist()) == {release.id}


def test_no_rows_are_no_decisions(tmp_path: Path, release: Release) -> None:
    pq.write_table(attribute_rows().slice(0, 0), tmp_path / "rows.parquet")

    rows = score_file(
        tmp_path / "rows.parquet", release, tmp_path / "out.parquet", "application_id"
    )

    assert (rows, pq.read_table(tmp_path / "out.parquet").num_rows) == (0, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.drop_columns(["LIMIT_BAL"]), "1 missing, first 'LIMIT_BAL'"),
        (lambda t: t.drop_columns(["application_id"]), "'application_id' stands 0 times"),
        (lambda t: t.append_column("AGE", t["AGE"]), "column 'AGE' stands 2 times"),
        (
            lambda t: t.set_column(1, "LIMIT_BAL", pa.array(["many"] * 5)),
            "'LIMIT_BAL' holds string, not numbers",
        ),
        (
            lambda t: t.set_column(1, "LIMIT_BAL", pa.array([1.0, 0, 1, 0, 1])),
            "2 rows break a rule of 'LIMIT_BAL', which is a number, at least 1, .*first row 1: 0",
        ),
        (
            lambda t: t.set_column(1, "LIMIT_BAL", pa.array([1.0, 1, 1, None, 1])),
            "1 rows break a rule of 'LIMIT_BAL'.*first row 3: nothing",
        ),
        (
            lambda t: t.set_column(3, "AGE", pa.array([30, 30, 30.5, 30, 30])),
            "'AGE', which is a whole number, at least 18, at most 120; first row 2: 30.5",
        ),
        (lambda t: t.set_column(3, "AGE", pa.array([30, 30, 30, 30, 121])), "first row 4: 121"),
    ],
)
def test_rows_that_cannot_be_decided_are_refused_and_nothing_is_written(
    tmp_path: Path, release: Release, change: Callable[[pa.Table], pa.Table], reason: str
) -> None:
    path, out = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(change(attribute_rows()), path)

    with pytest.raises(RowsRefused, match=reason):
        score_file(path, release, out, "application_id")

    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b""),
        ("rows.csv", b"application_id\n1,2\n"),
        ("rows.parquet", b"PAR1"),
        ("rows.jsonl", b"{"),
        ("rows.xlsx", b""),
    ],
)
def test_a_file_that_is_none_is_refused_by_its_path(
    tmp_path: Path, release: Release, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(RowsRefused, match=name):
        score_file(tmp_path / name, release, tmp_path / "out.parquet", "application_id")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, release: Release) -> None:
    with pytest.raises(RowsRefused, match=r"none\.csv"):
        score_file(tmp_path / "none.csv", release, tmp_path / "out.parquet", "application_id")


def test_a_key_with_the_name_of_an_answer_is_refused(tmp_path: Path, release: Release) -> None:
    with pytest.raises(RowsRefused, match="'score' has the name of a column of the answer"):
        score_file(tmp_path / "rows.csv", release, tmp_path / "out.parquet", "score")


@pytest.fixture
def brought(tmp_path: Path) -> tuple[Path, Path]:
    """A user's model and reference rows."""
    model, reference = tmp_path / "model.txt", tmp_path / "rows.parquet"
    model.write_text(a_model_text())
    features = DEFINITION.compute(raw_columns(200, seed=9))
    pq.write_table(feature_rows(features, np.arange(200), "id"), reference)
    return model, reference


def test_a_brought_model_scores_a_file_as_lightgbm_does(
    brought: tuple[Path, Path], tmp_path: Path
) -> None:
    model, reference = brought

    release = load_release(create_release(model, reference, None, tmp_path / "releases"))
    score_file(reference, release, tmp_path / "out.parquet", "id")

    out = pq.read_table(tmp_path / "out.parquet")
    features = DEFINITION.compute(raw_columns(200, seed=9))
    booster = lightgbm.Booster(model_str=model.read_text())
    expected = np.asarray(booster.predict(features, num_threads=1))
    assert out["id"].to_pylist() == list(range(200))
    assert out["default_probability"].to_numpy().tobytes() == expected.tobytes()
    assert release.definition.name == "by_name"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "lacks training counts"),
        (
            lambda text: text.replace("tree_sizes=", "tree_sizes=9 "),
            "LightGBM, reading it, died of SIG",
        ),
        (lambda text: text.replace("objective=binary", "objective=huber"), "objective 'huber"),
        (lambda _: "a,b\n1,2\n", "no LightGBM text model"),
    ],
)
def test_a_brought_model_that_is_none_is_refused(
    brought: tuple[Path, Path], tmp_path: Path, damage: Callable[[str], str], reason: str
) -> None:
    model, reference = brought
    model.write_text(damage(model.read_text()))

    with pytest.raises(ReleaseRefused, match=reason) as refused:
        create_release(model, reference, None, tmp_path / "releases")

    assert refused.value.file == "model.txt"


def test_reference_rows_and_policies_that_do_not_fit_a_brought_model_are_refused(
    brought: tuple[Path, Path], tmp_path: Path
) -> None:
    model, reference = brought
    policy = tmp_path / "mine.toml"
    policy.write_text("[cutoffs]\nrefer = 0.5\ndecline = 0.4\n")
    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(reference).drop_columns(["age", "limit"]), few)

    with pytest.raises(ReleaseRefused, match=r"mine\.toml: policy cutoffs\.decline"):
        create_release(model, reference, policy, tmp_path / "releases")
    with pytest.raises(ReleaseRefused, match=r"few\.parquet: columns are missing.* limit, age"):
        create_release(model, few, None, tmp_path / "releases")
    with pytest.raises(ReleaseRefused, match=r"none\.toml is missing"):
        create_release(model, reference, tmp_path / "none.toml", tmp_path / "releases")


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("rows.csv", "rows.csv"),
        ("rows.csv", "answer.csv"),
        ("rows.parquet", "rows.parquet"),
        ("rows.parquet", "folder/../rows.parquet"),
    ],
)
def test_an_answer_never_takes_the_place_of_the_question(
    release: Release, tmp_path: Path, name: str, out: str
) -> None:
    rows = tmp_path / name
    rows.write_bytes(b"as it was")

    with pytest.raises(RowsRefused, match=r"name ends in \.parquet, and another file"):
        score_file(rows, release, tmp_path / out, "application_id")

    assert rows.read_bytes() == b"as it was"
