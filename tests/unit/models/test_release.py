import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.taiwan_default import DEFINITION
from models.bring import create_release
from models.prepare import LABEL, Prepared, prepare
from models.release import FILES, MANIFEST, ReleaseRefused, load_release, open_release
from models.score_file import RowsRefused, score_file
from models.train import Labelled, read_labelled, train
from tests.builders import a_model_text, a_release, raw_columns

EXAMPLE = Path(__file__).parents[3] / "examples" / "taiwan_default"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_release(tmp_path_factory.mktemp("releases"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(EXAMPLE, tmp_path_factory.mktemp("data"))


def test_a_release_passes_its_self_check_in_a_process_of_its_own(folder: Path) -> None:
    assert load_release(folder).id == folder.name


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_one_flipped_byte_in_any_file_is_refused_by_the_files_name(
    folder: Path, tmp_path: Path, file: str, share: float
) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    content = bytearray((damaged / file).read_bytes())
    content[int(len(content) * share)] ^= 0x01
    (damaged / file).write_bytes(content)

    with pytest.raises(ReleaseRefused) as refused:
        open_release(damaged)

    assert refused.value.file == file


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
def test_a_missing_file_is_refused_by_name(folder: Path, tmp_path: Path, file: str) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    (damaged / file).unlink()

    with pytest.raises(ReleaseRefused, match=f"{file}: is missing"):
        open_release(damaged)


def test_an_extra_file_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    (damaged / "model.pkl").write_bytes(b"x")

    with pytest.raises(ReleaseRefused, match=r"model\.pkl: is no part of the release"):
        open_release(damaged)


def test_training_twice_gives_the_same_bytes(prepared: Prepared, tmp_path: Path) -> None:
    def part(path: Path) -> Labelled:
        found = read_labelled(path, DEFINITION.schema, LABEL)
        return Labelled(found.features[:3000], found.label[:3000], found.digest)

    made = [
        train(
            part(prepared.training),
            part(prepared.calibration),
            DEFINITION.schema,
            DEFINITION.name,
            tmp_path / name,
            rounds=30,
        )
        for name in ("one", "two")
    ]

    assert made[0].name == made[1].name
    for file in (*FILES, MANIFEST):
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes()


def test_table_and_computed_features_agree_for_every_client(prepared: Prepared) -> None:
    from features.snapshot import load_snapshot

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


def test_a_brought_model_scores_a_file_as_lightgbm_does(tmp_path: Path) -> None:
    model, reference = tmp_path / "model.txt", tmp_path / "rows.parquet"
    model.write_text(a_model_text())
    features = DEFINITION.compute(raw_columns(200, seed=9))
    names = DEFINITION.schema.names
    columns = {n: np.ascontiguousarray(c) for n, c in zip(names, features.T, strict=True)}
    pq.write_table(pa.table({"id": np.arange(200), **columns}), reference)

    release = load_release(create_release(model, reference, None, tmp_path / "releases"))
    score_file(reference, release, tmp_path / "out.parquet", "id")

    out = pq.read_table(tmp_path / "out.parquet")
    assert out.column_names == [
        "id",
        "default_probability",
        "score",
        "outcome",
        "risk_band",
        "release",
    ]
    assert out["id"].to_pylist() == list(range(200))
    expected = release.scorer.default_probability(features)
    assert np.array_equal(out["default_probability"].to_numpy(), expected)


def test_a_file_without_the_columns_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path
) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "out.parquet"
    rows.write_text("application_id,AGE\n1,30\n")

    with pytest.raises(RowsRefused, match="first 'LIMIT_BAL'"):
        score_file(rows, open_release(folder), out, "application_id")

    assert not out.exists()
