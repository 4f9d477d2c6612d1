import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from features.table import FeatureTable
from features.taiwan_default import DEFINITION
from models.bring import create_release
from models.release import MODEL, Release, ReleaseRefused, load_release, open_release
from models.rows import RowsRefused
from models.score_file import score_file
from scoring.pipeline import Pipeline
from tests.builders import a_model_text, a_poll, a_release, an_event, raw_columns

KEYS = np.array([5, 3, 9, 1, 7])
COLUMNS = raw_columns(5, seed=9)
FEATURES = DEFINITION.compute(COLUMNS)
DECIDED = ["default_probability", "score", "outcome", "risk_band", "release"]
DECIDED += ["features_age_s", "features_stale"]


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
            lambda t: t.set_column(1, "LIMIT_BAL", pa.array(["1000"] * 5)),
            "'LIMIT_BAL' holds string, not numbers",
        ),
        (
            lambda t: t.set_column(3, "AGE", pa.array([True] * 5)),
            "'AGE' holds bool, not numbers",
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


SUBMITTED_AT = datetime(2026, 9, 21, 12, 0, 0, 250_000, UTC)
AS_OF = [SUBMITTED_AT - timedelta(days=days) for days in (35, 36, -1, 0)]


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release that refers rows older than 35 days."""
    word = '\n[freshness]\nmax_age_days = 35\nstale = "refer"\n'
    return open_release(a_release(tmp_path_factory.mktemp("releases"), refer=0.5, more=word))


def aged(**columns: Any) -> pa.Table:
    rows = feature_rows(FEATURES, KEYS, "application_id")
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(values))
    return rows


def decided(rows: pa.Table, folder: Path, release: Release, ending: str = "parquet") -> pa.Table:
    path = folder / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(rows, path)
    elif ending == "csv":
        pyarrow.csv.write_csv(rows, path)
    else:
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows.to_pylist()))
    score_file(path, release, folder / "out.parquet", "application_id")
    return pq.read_table(folder / "out.parquet")


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_rows_with_their_times_are_as_stale_as_in_the_stream(
    tmp_path: Path, careful: Release, ending: str
) -> None:
    rows = aged(submitted_at=[SUBMITTED_AT] * 5, as_of=[*AS_OF, None])

    out = decided(rows, tmp_path, careful, ending)

    table = FeatureTable(DEFINITION.schema, KEYS, FEATURES)
    days = [35, 36, -1, 0]
    assert out["features_age_s"].to_pylist() == [*(day * 86_400.0 for day in days), None]
    assert out["features_stale"].to_pylist() == [False, True, False, False, True]
    for row, (key, as_of) in enumerate(zip(KEYS.tolist(), [*AS_OF, None], strict=True)):
        table.as_of = as_of
        pipeline = Pipeline(
            release=careful.id,
            definition=careful.definition,
            table=table,
            scorer=careful.scorer,
            policy=careful.policy,
        )
        at = SUBMITTED_AT.isoformat()
        event = an_event(application_id=key, submitted_at=at, attributes=None)
        (served,) = pipeline.decide(a_poll(event), 0).batch.decisions()
        assert served.outcome == out["outcome"][row].as_py()
        assert served.features_stale == out["features_stale"][row].as_py()
        assert served.features_age_s == out["features_age_s"][row].as_py()


def test_rows_without_a_submission_have_no_age_and_are_not_taken_for_stale(
    tmp_path: Path, careful: Release
) -> None:
    out = decided(aged(as_of=[*AS_OF, None]), tmp_path, careful)

    assert out["features_age_s"].null_count == out["features_stale"].null_count == 5
    plain = decided(aged(), tmp_path, careful)
    assert out["outcome"].equals(plain["outcome"])


def test_rows_of_attributes_are_computed_and_so_never_stale(
    tmp_path: Path, careful: Release
) -> None:
    out = decided(attribute_rows(), tmp_path, careful)

    assert out["features_age_s"].to_pylist() == [0.0] * 5
    assert out["features_stale"].to_pylist() == [False] * 5


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"submitted_at": [None, *[SUBMITTED_AT] * 4]}, "'submitted_at' holds nulls"),
        ({"submitted_at": [SUBMITTED_AT.replace(tzinfo=None)] * 5}, "'submitted_at'.*no offset"),
        (
            {"submitted_at": pa.array([0, 2**62, 0, 0, 0], pa.timestamp("us", "UTC"))},
            "'submitted_at', row 1: no date of the years 1 to 9999",
        ),
        ({"submitted_at": ["yesterday"] * 5}, "'submitted_at' holds string, not times"),
        ({"submitted_at": [1] * 5}, "'submitted_at' holds int64, not times"),
        ({"submitted_at": [SUBMITTED_AT] * 5, "as_of": ["2026"] * 5}, "'as_of' holds string"),
    ],
)
def test_times_that_are_none_are_refused(
    tmp_path: Path, careful: Release, columns: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RowsRefused, match=reason):
        decided(aged(**columns), tmp_path, careful)


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
        (lambda text: text[: len(text) // 2], "it does not stand where tree_sizes says"),
        (
            lambda text: text.replace("tree_sizes=", "tree_sizes=9 "),
            "tree 0: it does not stand where tree_sizes says",
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
    rows = pq.read_table(reference)
    few, none, texts, huge = (
        tmp_path / f"{name}.parquet" for name in ("few", "none", "texts", "huge")
    )
    pq.write_table(rows.drop_columns(["age", "limit"]), few)
    pq.write_table(rows.slice(0, 0), none)
    at = rows.column_names.index("age")
    pq.write_table(rows.set_column(at, "age", pa.array(["30"] * 200)), texts)
    pq.write_table(rows.set_column(at, "age", pa.array([30.0] * 199 + [1e300])), huge)

    with pytest.raises(ReleaseRefused, match=r"mine\.toml: policy cutoffs\.decline"):
        create_release(model, reference, policy, tmp_path / "releases")
    for given, reason in (
        (few, "column 'limit' stands 0 times"),
        (none, r"none\.parquet: holds no rows"),
        (texts, "column 'age' holds string, not numbers"),
        (huge, r"column 'age', row 199: 1e\+300 is beyond float32"),
    ):
        with pytest.raises(ReleaseRefused, match=reason) as refused:
            create_release(model, given, None, tmp_path / "releases")
        assert refused.value.file == given.name
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
