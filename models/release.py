"""A release: one immutable folder that decides, named by its content and checked before use."""

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.catalogue import definition
from features.definition import FeatureDefinition
from features.schema import FeatureSchema, SchemaInvalid
from models.evaluate import Metric
from scoring.booster import BoosterScorer
from scoring.errors import InvalidPolicy, ModelRefused, SchemaMismatch
from scoring.policy import Policy

MANIFEST = "manifest.json"
MODEL, FEATURES, POLICY, REFERENCE = (
    "model.txt",
    "features.json",
    "policy.toml",
    "reference.parquet",
)
FILES = (MODEL, FEATURES, POLICY, REFERENCE)
EXPECTED = "expected_default_probability"
FORMAT = 1
_SELF_CHECK_SECONDS = 60.0
_ID_LENGTH = 16


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release says of itself; the head of the file's sha256 is the release's id."""

    format: int
    definition: str
    files: dict[str, str]
    training_data: dict[str, str] = {}
    metrics: dict[str, dict[str, Metric]] = {}
    parameters: dict[str, float] = {}
    libraries: dict[str, str] = {}
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference rows: float32[n, features] with their default probabilities, float64[n]."""

    features: NDArray[np.float32]
    default_probability: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Release:
    """A release that passed its self-check, ready to decide."""

    id: str
    folder: Path
    definition: FeatureDefinition
    scorer: BoosterScorer
    policy: Policy
    reference: Reference
    manifest: Manifest

    @property
    def schema(self) -> FeatureSchema:
        """The model's features, in order."""
        return self.definition.schema


class ReleaseRefused(Exception):
    """A release is damaged or does not do what it says; names the file and the reason."""

    def __init__(self, folder: Path, file: str, reason: str) -> None:
        msg = f"release {folder}: {file}: {reason}"
        super().__init__(msg)
        self.folder = folder
        self.file = file
        self.reason = reason


def write_release(
    parent_folder: Path,
    model_text: str,
    schema: FeatureSchema,
    policy_text: str,
    rows: NDArray[np.float32],
    manifest: Manifest,
) -> Path:
    """Write a release folder, named by its id, in one step; give its path."""
    scorer = BoosterScorer(model_text, schema)
    Policy.parse(policy_text, schema.names)
    columns = dict(zip(schema.names, (np.ascontiguousarray(c) for c in rows.T), strict=True))
    reference = pa.table(columns | {EXPECTED: scorer.default_probability(rows)})
    parent_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent_folder, prefix=".unfinished-") as made:
        folder = Path(made)
        (folder / MODEL).write_text(model_text)
        (folder / FEATURES).write_bytes(schema.to_json())
        (folder / POLICY).write_text(policy_text)
        pq.write_table(reference, folder / REFERENCE, compression="zstd", write_page_checksum=True)
        files = {name: _sha256((folder / name).read_bytes()) for name in FILES}
        manifest = msgspec.structs.replace(manifest, files=files)
        content = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic")) + b"\n"
        (folder / MANIFEST).write_bytes(content)
        final = parent_folder / _id(content)
        if not final.exists():
            final.parent.mkdir(exist_ok=True)
            os.rename(folder, final)  # noqa: PTH104 - Path.rename would move the context's folder
            folder.mkdir()  # for the context manager to remove
            final.chmod(0o755)
    return final


def load_release(folder: Path) -> Release:
    """
    Load a release, or raise ReleaseRefused.

    Every file's sha256 is checked before anything is parsed: LightGBM's parser crashes on damaged
    text. Then a throw-away process scores the reference rows, and only then this one loads.
    """
    verify_files(folder)
    command = [sys.executable, "-I", "-c", _SELF_CHECK, str(folder)]
    try:
        checked = subprocess.run(  # noqa: S603 - our own interpreter and program
            command, capture_output=True, timeout=_SELF_CHECK_SECONDS, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        reason = f"the self-check did not end within {_SELF_CHECK_SECONDS:.0f} s"
        raise ReleaseRefused(folder, MODEL, reason) from None
    if checked.returncode != 0:
        last = checked.stderr.strip().splitlines()[-1:] or [f"exit code {checked.returncode}"]
        raise ReleaseRefused(folder, MODEL, f"the self-check failed: {last[0]}")
    return open_release(folder)


_SELF_CHECK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (50, 50))
from pathlib import Path
from models.release import ReleaseRefused, open_release
try:
    open_release(Path(sys.argv[1]))
except ReleaseRefused as refused:
    sys.exit(refused.reason)
"""


def verify_files(folder: Path) -> Manifest:
    """Hold every file against the manifest, and the manifest against the folder's name."""
    if not (folder / MANIFEST).is_file():
        raise ReleaseRefused(folder, MANIFEST, "is missing: no release")
    try:
        content = (folder / MANIFEST).read_bytes()
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ReleaseRefused(folder, MANIFEST, f"is damaged: {error}") from None
    if manifest.format != FORMAT:
        reason = f"format {manifest.format}; this version reads format {FORMAT}"
        raise ReleaseRefused(folder, MANIFEST, reason)
    if _id(content) != folder.resolve().name:
        reason = f"its content is release {_id(content)}, not what the folder's name says"
        raise ReleaseRefused(folder, MANIFEST, reason)
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(found ^ set(manifest.files)):
        state = "is missing" if name in manifest.files else "is no part of the release"
        raise ReleaseRefused(folder, name, state)
    for name, digest in manifest.files.items():
        if _sha256((folder / name).read_bytes()) != digest:
            raise ReleaseRefused(folder, name, "is damaged: its sha256 is not the manifest's")
    return manifest


def open_release(folder: Path) -> Release:
    """Load a release in this process and score its reference rows; see `load_release`."""
    manifest = verify_files(folder)
    try:
        schema = FeatureSchema.from_json((folder / FEATURES).read_bytes())
        of_release = definition(manifest.definition, schema)
        policy = Policy.parse((folder / POLICY).read_text(), schema.names)
        scorer = BoosterScorer((folder / MODEL).read_text(), schema)
    except SchemaInvalid as error:
        raise ReleaseRefused(folder, FEATURES, str(error)) from None
    except InvalidPolicy as error:
        raise ReleaseRefused(folder, POLICY, str(error)) from None
    except (SchemaMismatch, ModelRefused) as error:
        raise ReleaseRefused(folder, MODEL, str(error)) from None
    if of_release.schema.digest != schema.digest:
        reason = f"its features are not those of the definition {manifest.definition!r}"
        raise ReleaseRefused(folder, FEATURES, reason)
    rows = pq.read_table(folder / REFERENCE, page_checksum_verification=True)
    features = np.empty((rows.num_rows, len(schema.names)), dtype=np.float32)
    for index, name in enumerate(schema.names):
        features[:, index] = rows[name].to_numpy()
    expected = rows[EXPECTED].to_numpy()
    if not np.array_equal(scorer.default_probability(features), expected):
        raise ReleaseRefused(folder, MODEL, "does not score the reference rows as it did when made")
    reference = Reference(features, expected)
    return Release(folder.resolve().name, folder, of_release, scorer, policy, reference, manifest)


def _id(manifest: bytes) -> str:
    return _sha256(manifest)[:_ID_LENGTH]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
