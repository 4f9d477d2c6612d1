"""An example's prepared files, and how clients are split into them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.schema import FeatureSchema
from features.whole_file import whole_file

KEY = "application_id"
LABEL = "defaulted"
_TRAINING, _CALIBRATION, _NOT_IN_TABLE = 60, 75, 40


class ExampleMissing(Exception):
    """An example's data are not where they should be."""


class About(msgspec.Struct, frozen=True):
    """What prepared files are: of which feature definition, and whether no client is real."""

    definition: str
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    An example's files, all keyed by application_id; the feature table by its own key.

    `features` is the feature table; `training` and `calibration` hold features and the label;
    `applications` the stream's clients with their attributes, `everyone` all clients with theirs,
    where an example has it; `labels` each client's label, null where none is known, split, and
    whether the table has them; `protected` what scoring never reads.
    """

    folder: Path

    @property
    def about(self) -> About:
        """What the files say of themselves; raises ExampleMissing."""
        try:
            return msgspec.json.decode(self.description.read_bytes(), type=About)
        except (OSError, msgspec.DecodeError) as error:
            state = "is damaged" if self.description.is_file() else "is missing"
            cause = f" ({error})" if isinstance(error, msgspec.DecodeError) else ""
            msg = f"{self.description} {state}{cause}: `creditstream prepare` makes it"
            raise ExampleMissing(msg) from None

    @property
    def description(self) -> Path:
        """The definition of the features, and whether the clients are real."""
        return self.folder / "prepared.json"

    @property
    def features(self) -> Path:
        """The feature table."""
        return self.folder / "features.parquet"

    @property
    def training(self) -> Path:
        """Features and label of the clients to train on."""
        return self.folder / "training.parquet"

    @property
    def calibration(self) -> Path:
        """Features and label of the clients to choose cut-offs on."""
        return self.folder / "calibration.parquet"

    @property
    def applications(self) -> Path:
        """Attributes of the clients who will apply."""
        return self.folder / "applications.parquet"

    @property
    def everyone(self) -> Path:
        """Attributes of all clients."""
        return self.folder / "everyone.parquet"

    @property
    def labels(self) -> Path:
        """Label, split and whether in the table, of all clients."""
        return self.folder / "labels.parquet"

    @property
    def protected(self) -> Path:
        """Sex, marital status and age band, for fairness monitoring alone."""
        return self.folder / "protected.parquet"


@dataclass(frozen=True, slots=True)
class Split:
    """
    Which of n clients are for what: bool[n] each.

    Of the stream's clients some are not `in_table`: their features come from their events.
    """

    training: NDArray[np.bool_]
    calibration: NDArray[np.bool_]
    in_table: NDArray[np.bool_]

    @classmethod
    def of(cls, keys: NDArray[np.int64], salt: str, labelled: NDArray[np.bool_]) -> Self:
        """Split by a hash of the key; clients without a label are the stream's."""
        share = _shares(f"{salt}:{key}" for key in keys.tolist())
        aside = _shares(f"{salt}:table:{key}" for key in keys.tolist()) < _NOT_IN_TABLE
        training = labelled & (share < _TRAINING)
        calibration = labelled & (share >= _TRAINING) & (share < _CALIBRATION)
        return cls(training, calibration, training | calibration | ~aside)

    @property
    def stream(self) -> NDArray[np.bool_]:
        """The clients who apply, never seen in training."""
        return ~(self.training | self.calibration)

    @property
    def names(self) -> NDArray[np.str_]:
        """Each client's part by its name."""
        names: NDArray[np.str_] = np.where(
            self.stream, "stream", np.where(self.training, "training", "calibration")
        )
        return names


def _shares(texts: Iterable[str]) -> NDArray[np.int64]:
    """Give each text's place among a hundred equal parts."""
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return np.fromiter((int.from_bytes(digest[:8], "big") % 100 for digest in digests), np.int64)


def write_labelled(
    prepared: Prepared,
    schema: FeatureSchema,
    split: Split,
    keys: NDArray[np.int64],
    features: NDArray[np.float32],
    label: NDArray[np.int8],
) -> None:
    """Write the rows to train on and to choose cut-offs on, with their labels."""
    for path, chosen in (
        (prepared.training, split.training),
        (prepared.calibration, split.calibration),
    ):
        columns: dict[str, NDArray[np.generic]] = {KEY: keys[chosen]}
        columns |= dict(zip(schema.names, features[chosen].T, strict=True))
        columns[LABEL] = label[chosen]
        write_table(path, pa.table({name: np.ascontiguousarray(c) for name, c in columns.items()}))


def write_protected(
    prepared: Prepared,
    keys: NDArray[np.int64],
    sex: pa.ChunkedArray,
    marital_status: pa.ChunkedArray,
    age: NDArray[np.integer] | NDArray[np.floating],
) -> None:
    """Write what fairness is watched by; `age` is in years."""
    columns = {"sex": sex, "marital_status": marital_status, "age_band": _age_bands(age)}
    write_table(prepared.protected, pa.table({KEY: keys, **columns}))


def _age_bands(age: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.str_]:
    """Give the ten years in which each age lies, as "30-39"; "60+" from 60 on."""
    names = np.array(["under 20", "20-29", "30-39", "40-49", "50-59", "60+"])
    bands: NDArray[np.str_] = names[np.digitize(age, [20, 30, 40, 50, 60])]
    return bands


def write_about(prepared: Prepared, about: About) -> None:
    """Write what the files are, at the end: a folder without it is not prepared."""
    with whole_file(prepared.description) as unfinished:
        unfinished.write_bytes(msgspec.json.encode(about))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a file of the prepared ones, whole."""
    with whole_file(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)
