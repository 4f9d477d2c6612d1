"""Bring your own model: any LightGBM text model becomes a release."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.catalogue import BY_NAME
from features.own_process import CheckFailed, in_a_process_of_its_own
from features.schema import Feature, FeatureSchema, SchemaInvalid
from models.policies import policy_text
from models.release import FORMAT, Manifest, ReleaseRefused, write_release
from models.rows import RowsRefused, named_features
from scoring.booster import feature_names_of
from scoring.errors import InvalidPolicy, ModelRefused, SchemaMismatch

_REFER, _DECLINE = 0.30, 0.50
_MEMORY_BYTES = 8 << 30  # the reference rows are whose release it is


_MAKE = """
from pathlib import Path
from models.bring import make_release
from models.release import ReleaseRefused
model, reference, policy, out = sys.argv[1:]
try:
    print(make_release(Path(model), Path(reference), Path(policy) if policy else None, Path(out)))
except ReleaseRefused as refused:
    sys.exit(f"{refused.file}\\t{refused.reason}")
"""


def create_release(model: Path, reference: Path, policy: Path | None, out: Path) -> Path:
    """
    Make a release of a model's text file; give its folder.

    Names and order of the features are the model's; the reference rows hold them by name. Without
    a policy, the cut-offs are the risk bands' 0.30 and 0.50. The model is read in a throw-away
    process, which it may crash. Raises ReleaseRefused.
    """
    if out.exists() and not out.is_dir():
        raise ReleaseRefused(out, out.name, "is no folder")
    for path in (model, reference, *([policy] if policy else [])):
        if not path.is_file():
            raise ReleaseRefused(out, path.name, f"{path} is missing")
    given = [str(path.resolve()) if path else "" for path in (model, reference, policy, out)]
    try:
        return out / Path(in_a_process_of_its_own(_MAKE, *given, memory=_MEMORY_BYTES)).name
    except CheckFailed as failed:
        file, tab, reason = str(failed).partition("\t")
        if tab:
            raise ReleaseRefused(out, file, reason) from None
        raise ReleaseRefused(out, model.name, f"LightGBM, reading it, {failed}") from None


def make_release(model: Path, reference: Path, policy: Path | None, out: Path) -> Path:
    """Do what `create_release` does, in this process."""
    text = _text_of(model, out)
    policy_words = _text_of(policy, out) if policy else policy_text(BY_NAME, _REFER, _DECLINE)
    try:
        schema = FeatureSchema(tuple(Feature(name) for name in feature_names_of(text)))
    except SchemaInvalid as error:
        raise ReleaseRefused(out, model.name, f"no LightGBM text model: {error}") from None
    try:
        rows = pq.ParquetFile(reference).read()
        features = named_features(rows, schema.names, reference)
    except (RowsRefused, pa.ArrowException, OSError) as error:
        raise ReleaseRefused(out, reference.name, str(error)) from None
    if not len(features):
        raise ReleaseRefused(out, reference.name, "holds no rows; a release has one at least")
    manifest = Manifest(format=FORMAT, definition=BY_NAME, files={})
    try:
        return write_release(out, text, schema, policy_words, features, manifest)
    except (SchemaMismatch, ModelRefused) as error:
        raise ReleaseRefused(out, model.name, str(error)) from None
    except InvalidPolicy as error:
        name = policy.name if policy else "policy.toml"
        raise ReleaseRefused(out, name, str(error)) from None


def _text_of(file: Path, out: Path) -> str:
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ReleaseRefused(out, file.name, f"is not UTF-8: {error}") from None
