"""The data of the Taiwan example, split by client into files for training and the stream."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.snapshot import write_snapshot
from features.taiwan_default import DEFINITION
from models.prepared import (
    KEY,
    LABEL,
    About,
    ExampleMissing,
    Prepared,
    Split,
    write_about,
    write_labelled,
    write_protected,
    write_table,
)

AS_OF = datetime(2005, 9, 30, tzinfo=UTC)
_SOURCE = "credit_card_clients.parquet"


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
    split = Split.of(keys, DEFINITION.name, np.ones(len(keys), dtype=bool))
    names = [attribute.name for attribute in DEFINITION.attributes]
    features = DEFINITION.compute(
        {name: clients[name].to_numpy().astype(np.float64) for name in names}
    )
    known = split.in_table
    write_snapshot(prepared.features, KEY, keys[known], features[known], DEFINITION.schema, AS_OF)
    write_labelled(prepared, DEFINITION.schema, split, keys, features, label)
    attributes = clients.select(names).add_column(0, KEY, pa.array(keys))
    write_table(prepared.everyone, attributes)
    write_table(prepared.applications, attributes.filter(pa.array(split.stream)))
    columns = {KEY: keys, LABEL: label, "split": split.names, "in_table": known}
    write_table(prepared.labels, pa.table(columns))
    write_protected(prepared, keys, clients["SEX"], clients["MARRIAGE"], clients["AGE"].to_numpy())
    write_about(prepared, About(DEFINITION.name))
    return prepared
