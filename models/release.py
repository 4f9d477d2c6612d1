"""A release: one immutable folder that decides, named by its content and checked before use."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.catalogue import UnknownDefinition, definition
from features.definition import FeatureDefinition
from features.numbers import numbers_of
from features.one_line import one_line
from features.own_process import CheckFailed, in_a_process_of_its_own
from features.regular_file import read_regular
from features.schema import FeatureSchema, SchemaInvalid
from models.evaluate import Metric
from models.proofs import is_proved, keep_proof
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
LARGEST = {
    MANIFEST: 1 << 20,
    MODEL: 512 << 20,
    FEATURES: 16 << 20,
    POLICY: 1 << 20,
    REFERENCE: 256 << 20,
}
"""Bytes that a file of a release has, at most."""

EXPECTED = "expected_default_probability"
FORMAT = 1
_ID_LENGTH = 16
_EXPLAINED_ROWS = 8
_TOLERANCE = 1e-9
_MOST_REFERENCE_VALUES = 64 << 20
_SATURATED = 20.0  # log-odds beyond which a float64 probability no longer tells them


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
        self.folder = folder
        self.file = one_line(file)
        self.reason = one_line(reason)
        super().__init__(f"release {one_line(folder)}: {self.file}: {self.reason}")


def write_release(
    parent_folder: Path,
    model_text: str,
    schema: FeatureSchema,
    policy_text: str,
    rows: NDArray[np.float32],
    manifest: Manifest,
) -> Path:
    """
    Write a release folder, named by its id, in one step; give its path.

    `rows` are the reference rows, float32[n, features]. Raises SchemaMismatch, ModelRefused or
    InvalidPolicy where the parts make no release.
    """
    scorer = BoosterScorer(model_text, schema, rows)
    Policy.parse(policy_text, schema.names)
    if EXPECTED in schema.names or not len(rows):
        msg = f"a release has at least one reference row and no feature called {EXPECTED!r}"
        raise SchemaMismatch(msg)
    columns = dict(zip(schema.names, (np.ascontiguousarray(c) for c in rows.T), strict=True))
    reference = pa.table(columns | {EXPECTED: _scores(scorer, rows)})
    parent_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent_folder, prefix=".unfinished-") as made:
        folder = Path(made)
        (folder / MODEL).write_bytes(model_text.encode())
        (folder / FEATURES).write_bytes(schema.to_json())
        (folder / POLICY).write_bytes(policy_text.encode())
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


def load_release(folder: Path, *, trusted: bool = False) -> Release:
    """
    Load a release, or raise ReleaseRefused.

    Each file's sha256 is checked before anything reads it. LightGBM's parser may crash or never
    end on text that it did not write, so the release first proves itself in a throw-away process;
    what it takes there of memory and time, it takes here at most.
    With `trusted` a release whose very content has proved itself before on this machine skips
    that process; all that it proved there of its scores is still checked.
    """
    content = read_content(folder)
    if not (trusted and is_proved(content.digest)):
        _prove(folder)
        keep_proof(content.digest)
    return _open(folder, content)


def open_release(folder: Path) -> Release:
    """Load a release that was proved elsewhere; as `load_release`, in this process alone."""
    return _open(folder, read_content(folder))


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a release's files, each read once and as its manifest, of a sha256, says."""

    digest: str
    manifest: Manifest
    model: bytes
    features: bytes
    policy: bytes
    reference: bytes

    @property
    def id(self) -> str:
        """The release's name."""
        return self.digest[:_ID_LENGTH]


def read_content(folder: Path) -> Content:
    """Read every file; hold it against the manifest, and the manifest against the folder's name."""
    content = _read(folder, MANIFEST)
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ReleaseRefused(folder, MANIFEST, f"is damaged: {error}") from None
    if manifest.format != FORMAT:
        reason = f"format {manifest.format}; this version reads format {FORMAT}"
        raise ReleaseRefused(folder, MANIFEST, reason)
    if _id(content) != folder.resolve().name:
        reason = f"its content is release {_id(content)}, not what the folder's name says"
        raise ReleaseRefused(folder, MANIFEST, reason)
    if set(manifest.files) != set(FILES):
        reason = f"names {', '.join(manifest.files) or 'no file'} instead of {', '.join(FILES)}"
        raise ReleaseRefused(folder, MANIFEST, reason)
    extra = next((path.name for path in folder.iterdir() if path.name not in LARGEST), None)
    if extra is not None:
        raise ReleaseRefused(folder, extra, "is no part of the release")
    model, features, policy, reference = (_read(folder, name) for name in FILES)
    found = dict(zip(FILES, (model, features, policy, reference), strict=True))
    for name, digest in manifest.files.items():
        if _sha256(found[name]) != digest:
            raise ReleaseRefused(folder, name, "is damaged: its sha256 is not the manifest's")
    return Content(_sha256(content), manifest, model, features, policy, reference)


_SELF_CHECK = """
from pathlib import Path
from models.release import ReleaseRefused, open_release
try:
    open_release(Path(sys.argv[1]))
except ReleaseRefused as refused:
    sys.exit(f"{refused.file}\\t{refused.reason}")
"""


def _prove(folder: Path) -> None:
    try:
        in_a_process_of_its_own(_SELF_CHECK, str(folder.resolve()))
    except CheckFailed as failed:
        file, tab, reason = str(failed).partition("\t")
        if tab:
            raise ReleaseRefused(folder, file, reason) from None
        raise ReleaseRefused(folder, MODEL, f"the self-check failed: {failed}") from None


def _open(folder: Path, content: Content) -> Release:
    schema, of_release = _definition(folder, content)
    try:
        policy = Policy.parse(content.policy.decode(), schema.names)
    except (InvalidPolicy, UnicodeDecodeError) as error:
        raise ReleaseRefused(folder, POLICY, str(error)) from None
    reference = _reference(folder, content, schema)
    try:
        scorer = BoosterScorer(content.model.decode(), schema, reference.features)
        scores = _scores(scorer, reference.features)
    except (SchemaMismatch, ModelRefused, UnicodeDecodeError) as error:
        raise ReleaseRefused(folder, MODEL, str(error)) from None
    if not np.array_equal(scores, reference.default_probability):
        raise ReleaseRefused(folder, MODEL, "does not score the reference rows as it did when made")
    return Release(content.id, folder, of_release, scorer, policy, reference, content.manifest)


def _definition(folder: Path, content: Content) -> tuple[FeatureSchema, FeatureDefinition]:
    try:
        schema = FeatureSchema.from_json(content.features)
        of_release = definition(content.manifest.definition, schema)
    except SchemaInvalid as error:
        raise ReleaseRefused(folder, FEATURES, str(error)) from None
    except UnknownDefinition as error:
        raise ReleaseRefused(folder, MANIFEST, str(error)) from None
    if of_release.schema.digest != schema.digest:
        reason = f"its features are not those of the definition {content.manifest.definition!r}"
        raise ReleaseRefused(folder, FEATURES, reason)
    return schema, of_release


def _reference(folder: Path, content: Content, schema: FeatureSchema) -> Reference:
    try:
        source = pa.BufferReader(content.reference)
        file = pq.ParquetFile(source, page_checksum_verification=True)
        if file.metadata.num_rows * file.metadata.num_columns > _MOST_REFERENCE_VALUES:
            reason = f"holds more than {_MOST_REFERENCE_VALUES} values"
            raise ReleaseRefused(folder, REFERENCE, reason)
        rows = file.read()
    except (pa.ArrowException, OSError) as error:
        raise ReleaseRefused(folder, REFERENCE, f"no readable Parquet file: {error}") from None
    expected = pa.schema([*((name, pa.float32()) for name in schema.names), (EXPECTED, "double")])
    if not rows.schema.equals(expected) or not rows.num_rows:
        reason = "does not hold rows of the features, in order, and their default probability"
        raise ReleaseRefused(folder, REFERENCE, reason)
    features = np.empty((rows.num_rows, len(schema.names)), dtype=np.float32)
    for index, name in enumerate(schema.names):
        features[:, index] = numbers_of(rows[name])
    return Reference(features, numbers_of(rows[EXPECTED]))


def _scores(scorer: BoosterScorer, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score reference rows, and see that the model gives probabilities and explains them."""
    scores = scorer.default_probability(rows)
    if scores.shape != (len(rows),) or not bool(((scores >= 0) & (scores <= 1)).all()):
        msg = "gives values that are no probabilities on the reference rows"
        raise ModelRefused(msg)
    explained = scorer.contributions(rows[:_EXPLAINED_ROWS])
    if not bool(np.isfinite(explained).all()):
        msg = "gives contributions that are not finite on the reference rows"
        raise ModelRefused(msg)
    odds = scores[:_EXPLAINED_ROWS]
    with np.errstate(divide="ignore"):
        log_odds = np.log(odds / (1 - odds))
    told = np.abs(log_odds) < _SATURATED
    if not np.allclose(explained.sum(axis=1)[told], log_odds[told], rtol=_TOLERANCE, atol=1e-5):
        msg = "is explained by contributions that do not add up to the log-odds that it gives"
        raise ModelRefused(msg)
    of_lightgbm = scorer.contributions_of_lightgbm(rows[:_EXPLAINED_ROWS])
    if not np.allclose(explained, of_lightgbm, rtol=_TOLERANCE, atol=_TOLERANCE):
        msg = "is explained by our tables otherwise than by LightGBM: please report this model"
        raise ModelRefused(msg)
    return scores


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_regular(folder / name, LARGEST[name])
    except FileNotFoundError:
        reason = "is missing: no release" if name == MANIFEST else "is missing"
        raise ReleaseRefused(folder, name, reason) from None
    except OSError as error:
        raise ReleaseRefused(folder, name, f"cannot be read: {error}") from None


def _id(manifest: bytes) -> str:
    return _sha256(manifest)[:_ID_LENGTH]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
