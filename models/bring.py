"""Bring your own model: any LightGBM text model becomes a release."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.catalogue import BY_NAME
from features.schema import Feature, FeatureSchema, SchemaInvalid
from models.policies import policy_text
from models.release import FORMAT, Manifest, ReleaseRefused, write_release
from scoring.booster import feature_names_of
from scoring.errors import InvalidPolicy, ModelRefused, SchemaMismatch

_REFER, _DECLINE = 0.30, 0.50


def create_release(model: Path, reference: Path, policy: Path | None, out: Path) -> Path:
    """
    Make a release of a model's text file; give its folder.

    Names and order of the features are the model's; the reference rows hold them by name. Without
    a policy, the cut-offs are the risk bands' 0.30 and 0.50. Raises ReleaseRefused.
    """
    for path in (model, reference, *([policy] if policy else [])):
        if not path.is_file():
            raise ReleaseRefused(out, path.name, f"{path} is missing")
    text = model.read_text()
    try:
        schema = FeatureSchema(tuple(Feature(name) for name in feature_names_of(text)))
    except SchemaInvalid as error:
        raise ReleaseRefused(out, model.name, f"no LightGBM text model: {error}") from None
    try:
        rows = pq.read_table(reference)
    except (pa.ArrowException, OSError) as error:
        raise ReleaseRefused(out, reference.name, str(error)) from None
    missing = [name for name in schema.names if name not in rows.column_names]
    if missing:
        raise ReleaseRefused(out, reference.name, f"columns are missing: {', '.join(missing)}")
    features = np.empty((rows.num_rows, len(schema.names)), dtype=np.float32)
    for index, name in enumerate(schema.names):
        try:
            features[:, index] = rows[name].cast(pa.float64()).to_numpy()
        except pa.ArrowException as error:
            raise ReleaseRefused(out, reference.name, f"column {name!r}: {error}") from None
    policy_words = policy.read_text() if policy else policy_text(BY_NAME, _REFER, _DECLINE)
    manifest = Manifest(format=FORMAT, definition=BY_NAME, files={})
    try:
        return write_release(out, text, schema, policy_words, features, manifest)
    except (SchemaMismatch, ModelRefused) as error:
        raise ReleaseRefused(out, model.name, str(error)) from None
    except InvalidPolicy as error:
        raise ReleaseRefused(out, "policy.toml", str(error)) from None
