"""An installation for measurements: a model of made-up rows, and a table of made-up applicants."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from features.catalogue import BY_NAME
from features.schema import Feature, FeatureSchema
from features.snapshot import write_snapshot
from models.policies import policy_text
from models.release import FORMAT, MODEL, Manifest, write_release
from scoring.booster import feature_names_of
from stream.bench.score import SHAPES, Rows, trained
from stream.demo.installation import free_ports
from stream.settings import Settings, Way, read_settings

SHAPE = "500 x 31"
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A release, a feature table, and rows of the model's, float32[n, features]."""

    folder: Path
    release: Path
    table: Path
    rows: Rows

    @property
    def model(self) -> Path:
        """The model's text."""
        return self.release / MODEL


def made_up(folder: Path, applicants: int | None = None) -> MadeUp:
    """Train a model of 500 trees and 189 features; of `applicants` some have the same features."""
    text, rows = trained(next(shape for shape in SHAPES if shape.name == SHAPE))
    schema = FeatureSchema(tuple(Feature(name) for name in feature_names_of(text)))
    policy = policy_text(BY_NAME, 0.3, 0.5)
    manifest = Manifest(format=FORMAT, definition=BY_NAME, files={})
    release = write_release(folder / "releases", text, schema, policy, rows[:100], manifest)
    table = folder / "features.parquet"
    keys = np.arange(1, (applicants or len(rows)) + 1, dtype=np.int64)
    known = rows[np.arange(len(keys)) % len(rows)]
    write_snapshot(table, "application_id", keys, known, schema, datetime.now(UTC))
    return MadeUp(folder, release, table, rows)


def settings_for(made: MadeUp, servers: str, way: Way) -> Settings:
    """Give settings for topics, groups and a port of their own."""
    name = uuid.uuid4().hex[:8]
    topics = ("applications", "decisions", "ledger", "parked", "alarms")
    kafka = {topic: f"{topic}.{name}" for topic in topics} | {
        "bootstrap_servers": servers,
        "group_prefix": name,
        "partitions": PARTITIONS,
    }
    settings = read_settings()
    (port,) = free_ports(1)
    return settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update=kafka),
            "release": made.release,
            "features": made.table,
            "delivery": way,
            "reasons": "on_demand",
            "status": settings.status.model_copy(update={"port": port}),
        }
    )
