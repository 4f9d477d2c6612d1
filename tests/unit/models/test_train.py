from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.schema import Feature, FeatureSchema
from features.snapshot import load_snapshot
from features.taiwan_default import DEFINITION
from models.prepare import prepare
from models.prepared import LABEL, Prepared
from models.release import FILES, MANIFEST, open_release
from models.train import Costs, Labelled, TrainingRefused, read_labelled, train

EXAMPLE = Path(__file__).parents[3] / "examples" / "taiwan_default"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(EXAMPLE, tmp_path_factory.mktemp("data"))


def part(path: Path) -> Labelled:
    found = read_labelled(path, DEFINITION.schema, LABEL)
    return Labelled(found.features[:3000], found.label[:3000], found.digest)


def a_release_of(prepared: Prepared, out: Path, costs: Costs | None = None) -> Path:
    return train(
        part(prepared.training),
        part(prepared.calibration),
        DEFINITION.schema,
        DEFINITION.name,
        out,
        costs=costs,
        rounds=30,
    )


def test_training_twice_gives_the_same_bytes(prepared: Prepared, tmp_path: Path) -> None:
    made = [a_release_of(prepared, tmp_path / name) for name in ("one", "two")]

    assert made[0].name == made[1].name
    for file in (*FILES, MANIFEST):
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes()


def test_a_release_says_what_it_was_made_of(prepared: Prepared, tmp_path: Path) -> None:
    release = open_release(a_release_of(prepared, tmp_path))

    manifest = release.manifest
    assert manifest.training_data.keys() == {"training", "calibration"}
    assert manifest.metrics["calibration"].keys() == {
        "auc",
        "ks",
        "brier",
        "precision",
        "recall",
        "f1",
    }
    assert {"lightgbm", "numpy"} <= manifest.libraries.keys()
    assert manifest.parameters["cost_false_negative"] == 10
    assert release.policy.cutoffs.decline == 0.5


def test_a_dearer_default_lowers_the_cutoff_of_approval(prepared: Prepared, tmp_path: Path) -> None:
    cutoffs = [
        open_release(a_release_of(prepared, tmp_path, Costs(cost))).policy.cutoffs.refer
        for cost in (2.0, 10.0, 50.0)
    ]

    assert cutoffs == sorted(cutoffs, reverse=True)
    assert len(set(cutoffs)) == 3


def test_the_model_keeps_the_signs_that_the_features_declare(
    prepared: Prepared, tmp_path: Path
) -> None:
    release = open_release(a_release_of(prepared, tmp_path))
    rows = release.reference.features[:200]

    for index, feature in enumerate(release.schema.features):
        if not feature.monotone:
            continue
        before = release.scorer.default_probability(rows)
        moved = rows.copy()
        moved[:, index] += np.float32(1000)
        after = release.scorer.default_probability(moved)
        assert ((after - before) * feature.monotone >= 0).all(), feature.name


SCHEMA = FeatureSchema((Feature("a"),))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"a": [1.0]}, "column 'defaulted' stands 0 times"),
        ({"b": [1.0], LABEL: [1]}, "column 'a' stands 0 times"),
        ({"a": ["x"], LABEL: [1]}, "column 'a' holds string, not numbers"),
        ({"a": [1.0], LABEL: [2]}, "neither 0 nor 1"),
        ({"a": [1.0, 2.0], LABEL: [1, None]}, "neither 0 nor 1"),
    ],
)
def test_rows_that_are_not_labelled_are_refused_by_column(
    tmp_path: Path, columns: dict[str, list[object]], reason: str
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)

    with pytest.raises(TrainingRefused, match=reason):
        read_labelled(path, SCHEMA, LABEL)


def test_rows_of_one_label_are_refused(tmp_path: Path) -> None:
    good = Labelled(np.zeros((9, 1), dtype=np.float32), np.zeros(9, dtype=np.int8), "")

    with pytest.raises(TrainingRefused, match="the training rows do not hold both labels"):
        train(good, good, SCHEMA, "by_name", tmp_path)


def test_too_few_rows_to_hold_some_back_are_refused(tmp_path: Path) -> None:
    few = Labelled(np.zeros((3, 1), dtype=np.float32), np.array([0, 1, 0], dtype=np.int8), "")

    with pytest.raises(TrainingRefused, match="3 training rows are too few"):
        train(few, few, SCHEMA, "by_name", tmp_path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match="no readable Parquet file"):
        read_labelled(tmp_path / "none.parquet", SCHEMA, LABEL)


def test_table_and_computed_features_agree_for_every_client(prepared: Prepared) -> None:
    table = load_snapshot(prepared.features, DEFINITION.schema)
    everyone = pq.read_table(prepared.everyone)
    rows = table.rows(everyone["application_id"].to_numpy())
    columns = {a.name: everyone[a.name].to_numpy().astype(float) for a in DEFINITION.attributes}

    computed = DEFINITION.compute(columns)

    assert (rows >= 0).sum() == len(table)
    assert computed[rows >= 0].tobytes() == table.matrix[rows[rows >= 0]].tobytes()


def test_no_client_of_the_stream_is_trained_on(prepared: Prepared) -> None:
    stream, training, calibration = (
        set(pq.read_table(path)["application_id"].to_pylist())
        for path in (prepared.applications, prepared.training, prepared.calibration)
    )

    assert not stream & training
    assert not stream & calibration
    assert not training & calibration
    assert len(stream | training | calibration) == 30_000


def test_preparing_again_gives_the_same_files(prepared: Prepared, tmp_path: Path) -> None:
    again = prepare(EXAMPLE, tmp_path)

    for path in prepared.folder.iterdir():
        assert (again.folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_four_in_ten_of_the_streams_clients_are_not_in_the_table(prepared: Prepared) -> None:
    labels = pq.read_table(prepared.labels).to_pylist()

    split = [row["split"] for row in labels]
    stream = [row["in_table"] for row in labels if row["split"] == "stream"]
    assert all(row["in_table"] for row in labels if row["split"] != "stream")
    assert split.count("training") == pytest.approx(18_000, rel=0.02)
    assert split.count("calibration") == pytest.approx(4_500, rel=0.03)
    assert stream.count(False) == pytest.approx(0.4 * len(stream), rel=0.05)


def test_protected_attributes_stand_in_a_file_of_their_own(prepared: Prepared) -> None:
    protected = pq.read_table(prepared.protected)

    assert protected.column_names == ["application_id", "sex", "marital_status", "age_band"]
    assert set(protected["age_band"].to_pylist()) == {"20-29", "30-39", "40-49", "50-59", "60+"}
    for path in (prepared.features, prepared.applications, prepared.training):
        assert not {"SEX", "MARRIAGE", "sex"} & set(pq.read_schema(path).names)
