"""Home Credit as an example: its clients' split, what is trained on, and what never is."""

import json
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow.parquet as pq
import pytest

from features.home_credit.build import TablesRefused
from features.home_credit.definition import DEFINITION
from features.home_credit.definition import KEY as RAW_KEY
from features.home_credit.sample_files import NOTICE, write_sample
from features.snapshot import load_snapshot
from models.policies import policy_text
from models.prepare_home_credit import prepare_home_credit
from models.prepared import KEY, LABEL, About, ExampleMissing, Prepared
from models.release import load_release
from models.rows import RowsRefused
from models.score_file import score_file
from models.train import read_labelled, train, train_prepared
from scoring.decode import ApplicationDecoder, EventLimits
from scoring.policy import Policy
from tests.builders import a_poll

APPLICATIONS = 1_200
SCHEMA = DEFINITION.schema


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables") / "look-alike"
    write_sample(folder, APPLICATIONS, seed=5, file_format="parquet")
    return folder


@pytest.fixture(scope="module")
def prepared(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare_home_credit(tables, tmp_path_factory.mktemp("data"))


def keys_of(path: Path) -> set[int]:
    return set(pq.read_table(path, columns=[KEY])[KEY].to_pylist())


def test_who_streams_is_never_trained_on_and_who_has_no_label_only_streams(
    prepared: Prepared,
) -> None:
    stream, training, calibration = map(
        keys_of, (prepared.applications, prepared.training, prepared.calibration)
    )
    labels = pq.read_table(prepared.labels).to_pylist()

    assert not stream & training
    assert not stream & calibration
    assert not training & calibration
    assert len(stream | training | calibration) == APPLICATIONS == len(labels)
    unlabelled = {row[KEY] for row in labels if row[LABEL] is None}
    assert unlabelled
    assert unlabelled <= stream


def test_some_who_stream_are_not_in_the_table_and_their_events_give_its_bits(
    prepared: Prepared,
) -> None:
    table = load_snapshot(prepared.features, SCHEMA)
    applications = pq.read_table(prepared.applications).to_pylist()
    known = table.rows(np.array([row[KEY] for row in applications])) >= 0
    assert 0.3 < np.mean(~known) < 0.5
    events = [
        {
            "event_id": str(row[KEY]),
            "application_id": row.pop(KEY),
            "submitted_at": "2026-01-01T00:00:00Z",
            "attributes": row,
        }
        for row in applications
    ]

    decoder = ApplicationDecoder(DEFINITION, EventLimits(bytes=1_000_000))
    decoded = decoder.decode(a_poll(*events))
    computed = DEFINITION.compute(decoded.attributes.columns(np.arange(len(decoded.positions))))

    assert len(decoded.positions) == len(applications)
    rows = table.rows(decoded.application_ids)
    held = table.matrix[rows[known]]
    assert np.array_equal(computed[known].view(np.uint32), held.view(np.uint32))


def test_files_say_whether_a_client_is_real(
    prepared: Prepared, tables: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tables.iterdir():
        if path.name != NOTICE:
            (copy / path.name).symlink_to(path)

    own = prepare_home_credit(copy, tmp_path / "own")

    assert prepared.about == About("home_credit", synthetic=True)
    assert own.about == About("home_credit", synthetic=False)
    assert own.training.read_bytes() == prepared.training.read_bytes()
    assert own.applications.read_bytes() == prepared.applications.read_bytes()


def test_protected_attributes_stand_in_a_file_of_their_own(prepared: Prepared) -> None:
    protected = pq.read_table(prepared.protected)

    assert protected.column_names == [KEY, "sex", "marital_status", "age_band"]
    assert set(protected["sex"].to_pylist()) == {"F", "M"}
    assert {"20-29", "60+"} <= set(protected["age_band"].to_pylist())
    assert protected.num_rows == APPLICATIONS


def test_tables_that_are_not_there_or_faulty_prepare_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExampleMissing, match="seven tables"):
        prepare_home_credit(tmp_path / "none", tmp_path / "out")
    (tmp_path / "few").mkdir()
    with pytest.raises(TablesRefused, match="missing"):
        prepare_home_credit(tmp_path / "few", tmp_path / "out")

    with pytest.raises(ExampleMissing, match="creditstream prepare"):
        _ = Prepared(tmp_path / "out").about


def test_no_tree_splits_on_a_protected_feature(prepared: Prepared, tmp_path: Path) -> None:
    """Sex decides here who defaults, and the model still does not see it."""
    assert {"CODE_GENDER_M", "NAME_FAMILY_STATUS_Married"} <= set(DEFINITION.protected)
    sex = SCHEMA.names.index("CODE_GENDER_M")
    told, checked = (
        replace(part, label=part.features[:, sex].astype(np.int8))
        for part in (
            read_labelled(path, SCHEMA, LABEL) for path in (prepared.training, prepared.calibration)
        )
    )

    def splits(protected: tuple[str, ...]) -> dict[str, int]:
        name = DEFINITION.name
        folder = train(told, checked, SCHEMA, name, tmp_path, protected=protected, rounds=20)
        booster = lightgbm.Booster(model_file=str(folder / "model.txt"))
        counts = booster.feature_importance("split").tolist()
        return dict(zip(booster.feature_name(), counts, strict=True))

    assert splits(())["CODE_GENDER_M"] > 0
    fair = splits(DEFINITION.protected)
    assert sum(fair.values()) > 0
    assert not any(fair[name] for name in DEFINITION.protected)


def test_a_prepared_folder_says_what_is_trained_and_its_rows_decide_as_its_table(
    prepared: Prepared, tmp_path: Path
) -> None:
    release = load_release(train_prepared(prepared, tmp_path / "releases"))

    assert release.definition is DEFINITION
    score_file(prepared.applications, release, tmp_path / "of_rows.parquet", KEY)
    score_file(prepared.features, release, tmp_path / "of_table.parquet", RAW_KEY)
    of_rows, of_table = (
        {
            row.pop(key): row
            # The rows of a table are of another age than those of an event.
            for row in pq.read_table(tmp_path / f"{name}.parquet")
            .drop_columns(["features_age_s", "features_stale"])
            .to_pylist()
        }
        for name, key in (("of_rows", KEY), ("of_table", RAW_KEY))
    )
    both = of_rows.keys() & of_table.keys()
    assert len(both) > 100
    assert {key: of_rows[key] for key in both} == {key: of_table[key] for key in both}
    assert len(release.schema.names) == 189


def test_a_row_that_no_event_may_hold_is_not_scored(prepared: Prepared, tmp_path: Path) -> None:
    release = load_release(train_prepared(prepared, tmp_path / "releases"))
    rows = pq.read_table(prepared.applications).slice(0, 3).to_pylist()
    rows[2]["application"]["AMT_CREDIT"] = -5.0
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(RowsRefused, match=r"row 2: .*\$\.application\.AMT_CREDIT"):
        score_file(path, release, tmp_path / "decided.parquet", KEY)


def test_each_feature_that_the_model_may_use_speaks_for_a_reason() -> None:
    names = SCHEMA.names
    policy = Policy.parse(policy_text(DEFINITION.name, 0.1, 0.5), names)

    for index, name in enumerate(names):
        contributions = np.zeros((1, len(names) + 1))
        contributions[0, index] = 1.0
        rows = np.zeros((1, len(names)), dtype=np.float32)
        rows[0, names.index("DAYS_BIRTH")] = -12_000
        ((reason,),) = policy.reasons(rows, contributions)
        assert reason.feature == name
        assert reason.code.startswith("R") != (name in DEFINITION.protected), name
