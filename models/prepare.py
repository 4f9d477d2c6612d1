"""The example's data, split by client into the files that training and the stream need."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.snapshot import write_snapshot
from features.taiwan_default import DEFINITION
from features.whole_file import whole_file

KEY = "application_id"
LABEL = "defaulted"
AS_OF = datetime(2005, 9, 30, tzinfo=UTC)
_SOURCE = "credit_card_clients.parquet"
_SALT = "taiwan_default"
_TRAINING, _CALIBRATION, _NOT_IN_TABLE = 60, 75, 40


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    The example's files, all keyed by application_id.

    `features` is the feature table; `training` and `calibration` hold features and the label;
    `applications` the stream's clients with their attributes, `everyone` all clients with theirs;
    `labels` each client's label, split, and whether the table has them; `protected` what scoring
    never reads.
    """

    folder: Path

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


class ExampleMissing(Exception):
    """The example's data are not where they should be."""


def prepare(example: Path, folder: Path) -> Prepared:
    """Split the example by client and write its files; the same input gives the same split."""
    source = example / _SOURCE
    if not source.is_file():
        msg = f"{source} is missing: run from a checkout, or name the folder that holds {_SOURCE}"
        raise ExampleMissing(msg)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = Prepared(folder)
    clients = pq.read_table(source)
    keys = clients["ID"].to_numpy().astype(np.int64)
    label = clients["default_payment_next_month"].to_numpy().astype(np.int8)
    share = np.array([_share(f"{_SALT}:{key}") for key in keys.tolist()])
    stream = share >= _CALIBRATION
    aside = np.array([_share(f"{_SALT}:table:{key}") < _NOT_IN_TABLE for key in keys.tolist()])
    in_table = ~(stream & aside)
    names = [attribute.name for attribute in DEFINITION.attributes]
    features = DEFINITION.compute(
        {name: clients[name].to_numpy().astype(np.float64) for name in names}
    )
    write_snapshot(
        prepared.features, KEY, keys[in_table], features[in_table], DEFINITION.schema, AS_OF
    )
    for path, chosen in (
        (prepared.training, share < _TRAINING),
        (prepared.calibration, (share >= _TRAINING) & ~stream),
    ):
        _write(path, _labelled(keys[chosen], features[chosen], label[chosen]))
    attributes = clients.select(names).add_column(0, KEY, pa.array(keys))
    _write(prepared.everyone, attributes)
    _write(prepared.applications, attributes.filter(pa.array(stream)))
    split = np.where(stream, "stream", np.where(share < _TRAINING, "training", "calibration"))
    columns = {KEY: keys, LABEL: label, "split": split, "in_table": in_table}
    _write(prepared.labels, pa.table(columns))
    _write(
        prepared.protected,
        pa.table(
            {
                KEY: keys,
                "sex": clients["SEX"],
                "marital_status": clients["MARRIAGE"],
                "age_band": _age_bands(clients["AGE"].to_numpy()),
            }
        ),
    )
    return prepared


def _age_bands(age: NDArray[np.integer]) -> NDArray[np.str_]:
    """Give the ten years in which each age lies, as "30-39"; "60+" from 60 on."""
    names = np.array(["under 20", "20-29", "30-39", "40-49", "50-59", "60+"])
    bands: NDArray[np.str_] = names[np.digitize(age, [20, 30, 40, 50, 60])]
    return bands


def _share(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100


def _labelled(
    keys: NDArray[np.int64], features: NDArray[np.float32], label: NDArray[np.int8]
) -> pa.Table:
    columns: dict[str, NDArray[np.generic]] = {KEY: keys}
    columns |= dict(zip(DEFINITION.schema.names, features.T, strict=True))
    return pa.table(
        {name: np.ascontiguousarray(c) for name, c in (columns | {LABEL: label}).items()}
    )


def _write(path: Path, table: pa.Table) -> None:
    with whole_file(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)
