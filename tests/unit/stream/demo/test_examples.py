"""The examples to run: what their drift changes, and that commands know them."""

from itertools import islice
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.catalogue import definition
from models.prepared import KEY, ExampleMissing, Prepared
from stream.commands.boundary import ExampleName
from stream.demo.examples import EXAMPLES, Drift, example_of
from stream.sending.files import applicants_of
from stream.sending.simulator import Applicant, Simulator

DEFINITIONS = {"taiwan-default": "taiwan_default", "home-credit": "home_credit"}


def test_the_commands_know_each_example() -> None:
    name, *_ = get_args(ExampleName)

    assert set(get_args(name)) == set(EXAMPLES) == set(DEFINITIONS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_drifts_is_read_by_a_feature(name: str) -> None:
    attributes = definition(DEFINITIONS[name]).attributes

    for step in EXAMPLES[name].drift.path:
        (found,) = (attribute for attribute in attributes if attribute.name == step)
        attributes = found.fields
    assert found.read
    assert found.kind in {"integer", "number"}


def test_every_second_applicant_sends_another_unit_and_nothing_else_changes() -> None:
    change = Drift(("form", "income"), divisor=25.0, one_of=2, told="").change()
    attributes = {"form": {"income": 1000.0, "credit": 7}, "loans": [{"debt": 3}]}
    divided = {"form": {"income": 40.0, "credit": 7}, "loans": [{"debt": 3}]}

    changed = [change(attributes) for _ in range(4)]

    assert changed == [divided, attributes, divided, attributes]
    assert attributes["form"] == {"income": 1000.0, "credit": 7}


def test_an_attribute_that_is_missing_stays_missing() -> None:
    change = Drift(("income",), divisor=25.0, one_of=1, told="").change()

    assert change({"income": None}) == {"income": None}


def test_a_users_own_tables_take_the_place_of_the_usual() -> None:
    own = example_of("home-credit", Path("own"))

    assert own.tables == Path("own")
    assert "own" in own.preparing
    assert "SYNTHETIC" not in own.preparing
    assert example_of("home-credit", None) is EXAMPLES["home-credit"]


def test_applicants_are_read_in_the_files_order_and_again_from_its_begin(tmp_path: Path) -> None:
    prepared = Prepared(tmp_path)
    with pytest.raises(ExampleMissing, match="creditstream prepare"):
        applicants_of(prepared)
    rows = [{KEY: key, "form": {"income": 1.0 * key}} for key in range(1, 101)]
    pq.write_table(pa.Table.from_pylist(rows), prepared.applications, row_group_size=40)

    found = list(applicants_of(prepared))
    events = list(islice(Simulator(applicants_of(prepared), "again").events(), 202))

    assert found == [Applicant(key, {"form": {"income": 1.0 * key}}) for key in range(1, 101)]
    keys = [int(record.key or b"") for record, _ in events]
    assert keys == [*range(1, 101), *range(1, 101), 1, 2]
