"""The tables by applicant: what an event would say of each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.csv
import pytest

from features.home_credit import applicants
from features.home_credit.applicants import attributes_of
from features.home_credit.build import Raw, computed, opened
from features.home_credit.definition import DEFINITION, KEY
from features.home_credit.sample_files import write_sample
from features.home_credit.tables import TABLES
from scoring.decode import ApplicationDecoder, EventLimits
from tests.builders import a_poll

APPLICANTS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables") / "look-alike"
    write_sample(folder, APPLICANTS, seed=3)
    return folder


@pytest.fixture(scope="module")
def raw(folder: Path) -> Iterator[Raw]:
    with opened(folder) as (raw, faults):
        assert raw is not None, faults
        yield raw


def in_file(folder: Path, table: str) -> list[dict[str, Any]]:
    nothing = pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=[""])
    rows: list[dict[str, Any]] = pyarrow.csv.read_csv(
        folder / f"{table}.csv", convert_options=nothing
    ).to_pylist()
    return rows


def test_an_applicant_has_the_rows_of_the_files_in_their_order(folder: Path, raw: Raw) -> None:
    found = dict(attributes_of(raw, range(200_000)))

    forms = in_file(folder, "application_train") + in_file(folder, "application_test")
    assert list(found) == sorted(form[KEY] for form in forms)
    for form in forms:
        expected = {name: value for name, value in form.items() if name not in {KEY, "TARGET"}}
        assert found[form[KEY]]["application"] == expected
    loans = {row["SK_ID_BUREAU"]: row[KEY] for row in in_file(folder, "bureau")}
    for table in list(TABLES)[1:]:
        rows = in_file(folder, table)
        for key, attributes in found.items():
            of_applicant = [r for r in rows if r.get(KEY, loans.get(r.get("SK_ID_BUREAU"))) == key]
            without_key = [{n: v for n, v in row.items() if n != KEY} for row in of_applicant]
            assert attributes[table] == without_key


def test_attributes_make_an_event_whose_features_have_the_tables_bits(raw: Raw) -> None:
    keys, expected = computed(raw.tables)
    events = [
        msgspec.json.encode(
            {
                "event_id": str(key),
                "application_id": key,
                "submitted_at": "2026-01-01T00:00:00Z",
                "attributes": attributes,
            }
        )
        for key, attributes in attributes_of(raw, keys.tolist())
    ]

    decoder = ApplicationDecoder(DEFINITION, EventLimits(bytes=10_000_000))
    decoded = decoder.decode(a_poll(*events))
    features = DEFINITION.compute(decoded.attributes.columns(np.arange(len(decoded.positions))))

    assert decoded.application_ids.tolist() == keys.tolist()
    assert np.array_equal(features.view(np.uint32), expected.view(np.uint32))


def test_only_who_is_asked_for_comes_and_chunks_leave_no_seam(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    everyone = dict(attributes_of(raw, range(200_000)))
    some = sorted(everyone)[5:40]
    monkeypatch.setattr(applicants, "CHUNK", 4)

    assert dict(attributes_of(raw, [*reversed(some), 7])) == {key: everyone[key] for key in some}
    assert not dict(attributes_of(raw, []))
