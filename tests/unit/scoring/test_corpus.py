"""Hostile records through the whole pure pipeline: each decided, or parked where it has to be."""

import numpy as np
import pytest

from features.definition import by_name
from features.home_credit.definition import DEFINITION as HOME_CREDIT
from features.schema import Feature, FeatureSchema
from scoring.decode import ApplicationDecoder, EventLimits
from scoring.pipeline import Pipeline
from tests.builders import a_pipeline
from tests.corpus import Case, Parked, a_poll_of, cases, files
from tests.fuzz.oracle import check_alone, check_poll


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return a_pipeline()


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_hostile_record_ends_as_the_index_says(pipeline: Pipeline, case: Case) -> None:
    decided = check_poll(pipeline, a_poll_of((case,)))

    if case.expect == "decided":
        assert len(decided.batch) == 1
        return
    assert [Parked(one.code, one.path) for one in decided.rejections] == [case.expect]


def test_none_of_them_changes_what_becomes_of_its_neighbours(pipeline: Pipeline) -> None:
    poll = a_poll_of(cases())

    decided = check_poll(pipeline, poll)

    check_alone(pipeline, poll, decided)
    expected = np.flatnonzero([case.expect == "decided" for case in cases()])
    assert decided.batch.offsets.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "definition", [HOME_CREDIT, by_name(FeatureSchema((Feature("a"), Feature("b"))))]
)
def test_by_every_contract_each_is_taken_or_rejected(definition: object) -> None:
    decoder = ApplicationDecoder(definition, EventLimits())  # type: ignore[arg-type] # by pytest
    poll = a_poll_of(cases())

    decoded = decoder.decode(poll)

    places = [*decoded.positions, *(rejection.position for rejection in decoded.rejections)]
    assert sorted(places) == list(range(len(poll)))


def test_the_index_names_every_file_and_nothing_twice() -> None:
    names = [case.name for case in cases()]

    assert len(set(names)) == len(names)
    assert files() == {case.name for case in cases() if not case.tombstone}
