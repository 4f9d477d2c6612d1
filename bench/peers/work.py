"""
The work that all do: read an event, look its applicant up, score, decide, write the decision.

As an expert would write it in Python: a typed JSON decoder, one matrix of features and a dict of
its rows, LightGBM on one thread.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pyarrow.parquet as pq

REFER, DECLINE = 0.3, 0.5


class Application(msgspec.Struct, gc=False):
    """What is read of an event."""

    event_id: str
    application_id: int


class Decision(msgspec.Struct, gc=False):
    """What is written."""

    event_id: str
    application_id: int
    outcome: str
    default_probability: float


_decode = msgspec.json.Decoder(Application).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Given:
    """What a peer is told."""

    servers: str
    applications: str
    decisions: str
    group: str
    model: Path
    table: Path


class Work:
    """Decides events, alone or many at a time."""

    def __init__(self, model: Path, table: Path) -> None:
        self._booster = lightgbm.Booster(model_file=str(model))
        columns = pq.read_table(table)
        keys = columns.column("application_id").to_pylist()
        features = [name for name in columns.column_names if name != "application_id"]
        self._matrix = np.column_stack([columns.column(name).to_numpy() for name in features])
        self._row_of = {key: row for row, key in enumerate(keys)}

    def decide(self, value: bytes) -> bytes:
        """Decide one event."""
        application = _decode(value)
        row = self._row_of[application.application_id]
        (probability,) = self._booster.predict(self._matrix[row : row + 1], num_threads=1)
        return _decision(application, float(probability))

    def decide_many(self, values: Sequence[bytes]) -> list[bytes]:
        """Decide events with one prediction."""
        applications = [_decode(value) for value in values]
        rows = [self._row_of[application.application_id] for application in applications]
        found = self._booster.predict(self._matrix[rows], num_threads=1).tolist()
        return list(map(_decision, applications, found))


def _decision(application: Application, probability: float) -> bytes:
    outcome = "approve" if probability < REFER else "refer" if probability < DECLINE else "decline"
    decision = Decision(application.event_id, application.application_id, outcome, probability)
    return _encode(decision)


def read_arguments() -> tuple[str, Given]:
    """Read a peer's name and what it is told from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    for name in ("servers", "applications", "decisions", "group"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("model", "table"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    given = vars(parser.parse_args())
    return given.pop("peer"), Given(**given)
