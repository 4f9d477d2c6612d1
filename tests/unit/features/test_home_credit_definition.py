"""The features of Home Credit: those that were asked for, each declared once."""

import math
from pathlib import Path

import numpy as np
import pytest

from features.catalogue import definition
from features.home_credit import build
from features.home_credit.definition import DEFINITION, EXPRESSIONS, SCHEMA
from features.home_credit.tables import CRITICAL, TABLES
from features.relational.expression import Aggregate, Column, walk
from features.relational.in_memory import InMemory

NAMES = Path(__file__).with_name("home_credit_features.txt").read_text().split()
ROOT = Path(__file__).parents[3]


def test_the_features_are_the_189_in_their_order() -> None:
    assert len(NAMES) == 189
    assert list(EXPRESSIONS) == NAMES == list(SCHEMA.names)
    assert definition("home_credit") is DEFINITION


def test_table_and_event_compute_the_one_declaration() -> None:
    assert vars(build)["EXPRESSIONS"] is EXPRESSIONS
    of_event = getattr(DEFINITION.compute, "__self__", None)
    assert isinstance(of_event, InMemory)
    assert of_event.expressions == tuple(EXPRESSIONS.values())


def test_no_feature_is_defined_anywhere_else() -> None:
    """A derived feature's name stands in no other module that computes."""
    own = [name for name in NAMES if not isinstance(EXPRESSIONS[name], Column)]
    places = [
        path
        for room in ("features", "scoring", "stream")
        for path in (ROOT / room).rglob("*.py")
        if path.name not in {"definition.py", "words.py"}  # words compute nothing
    ]
    assert len(places) > 50
    for path in places:
        text = path.read_text()
        assert not [
            name for name in own if f'"{name}"' in text and name not in TABLES["application"]
        ], path


def test_critical_columns_are_columns_and_forty() -> None:
    assert sum(map(len, CRITICAL.values())) == 40
    for table, names in CRITICAL.items():
        assert set(names) <= set(TABLES[table])


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_is_explained_and_bounded(name: str) -> None:
    assert SCHEMA.features[NAMES.index(name)].meaning
    columns = [part for part in walk(EXPRESSIONS[name]) if isinstance(part, Column)]
    assert columns
    assert all(math.isfinite(bound) for c in columns if c.categories is None for bound in c.bounds)


def test_a_thin_file_has_its_application_alone() -> None:
    columns = {
        f"{table.name}.{known.name}": np.full(1 if table.name == "application" else 0, 3.0)
        for table in TABLES.values()
        for known in table.values()
    }
    columns |= {name: np.zeros(1) for name in TABLES if name != "application"}

    (row,) = DEFINITION.compute(columns)

    of_history = [any(isinstance(p, Aggregate) for p in walk(e)) for e in EXPRESSIONS.values()]
    assert np.isnan(row).tolist() == of_history
