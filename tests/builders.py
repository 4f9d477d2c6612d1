"""Builders of values that many tests need: small, and with every field named."""

from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from features.definition import FeatureDefinition
from features.schema import FeatureSchema
from features.table import FeatureTable
from features.taiwan_default import DEFINITION
from models.policies import policy_text
from models.release import FORMAT, Manifest, write_release
from scoring.booster import BoosterScorer
from scoring.pipeline import Pipeline
from scoring.policy import Policy
from scoring.poll import Poll

NOW_MS = 1_790_000_000_000
SUBMITTED = "2026-09-21T12:53:20Z"  # NOW_MS

ATTRIBUTES: dict[str, int | float] = {
    "LIMIT_BAL": 120_000,
    "EDUCATION": 2,
    "AGE": 41,
    **dict.fromkeys(["PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"], 0),
    **{f"BILL_AMT{month}": 40_000 + month for month in range(1, 7)},
    **{f"PAY_AMT{month}": 2_000 + month for month in range(1, 7)},
}


def an_event(**changes: Any) -> dict[str, Any]:
    """A valid application event; a change to None takes the field out."""
    event: dict[str, Any] = {
        "event_id": "e-1",
        "application_id": 7,
        "submitted_at": SUBMITTED,
        "attributes": ATTRIBUTES,
    } | changes
    return {name: value for name, value in event.items() if value is not None}


def a_poll(*values: bytes | dict[str, Any] | None, partition: int = 0) -> Poll:
    """A poll of records; dicts are encoded."""
    encoded = [msgspec.json.encode(v) if isinstance(v, dict) else v for v in values]
    n = len(encoded)
    return Poll("applications", partition, range(n), [NOW_MS] * n, [b"k"] * n, encoded, [[]] * n)


def raw_columns(rows: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Attributes of made-up applicants, within their ranges."""
    random = np.random.default_rng(seed)
    columns = {}
    for attribute in DEFINITION.attributes:
        low, high = attribute.minimum or 0.0, min(attribute.maximum or 0.0, 500_000.0)
        drawn = random.uniform(low, high, rows)
        columns[attribute.name] = np.rint(drawn) if attribute.kind == "integer" else drawn
    return columns


@cache
def a_model_text(schema: FeatureSchema = DEFINITION.schema) -> str:
    """A small model that LightGBM trained on made-up applicants."""
    features = DEFINITION.compute(raw_columns(800))[:, : len(schema.names)]
    label = (features[:, 7] + np.random.default_rng(1).normal(0, 2, 800) > 5).astype(int)
    data = lightgbm.Dataset(features, label, feature_name=list(schema.names))
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    return str(lightgbm.train(parameters, data, 15).model_to_string())


def a_pipeline(
    table: FeatureTable | None = None, definition: FeatureDefinition = DEFINITION
) -> Pipeline:
    """A pipeline over the Taiwan example's features; its table knows application 7 alone."""
    names = definition.schema.names
    return Pipeline(
        release="r",
        definition=definition,
        table=table or a_table(),
        scorer=BoosterScorer(a_model_text(), definition.schema),
        policy=Policy.parse(policy_text(definition.name, 0.3, 0.5), names),
    )


def a_table(*keys: int) -> FeatureTable:
    """A feature table of made-up applicants."""
    found = np.array(keys or (7,), dtype=np.int64)
    return FeatureTable(DEFINITION.schema, found, DEFINITION.compute(raw_columns(len(found))))


def a_release(folder: Path, refer: float = 0.3, more: str = "") -> Path:
    """A release folder below `folder`; another cut-off, or more policy, makes another release."""
    rows = DEFINITION.compute(raw_columns(50, seed=3))
    policy = policy_text(DEFINITION.name, refer, 0.5) + more
    manifest = Manifest(format=FORMAT, definition=DEFINITION.name, files={})
    return write_release(folder, a_model_text(), DEFINITION.schema, policy, rows, manifest)
