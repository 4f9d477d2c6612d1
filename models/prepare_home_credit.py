"""Home Credit's seven tables, split by client into files for training and the stream."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from features.home_credit.applicants import nested
from features.home_credit.build import Raw, TablesRefused, computed, opened
from features.home_credit.definition import DEFINITION
from features.home_credit.definition import KEY as RAW_KEY
from features.home_credit.quality import check
from features.home_credit.sample_files import NOTICE, write_sample
from features.relational.expression import APPLICATION
from features.snapshot import write_snapshot
from features.whole_file import whole_file
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

APPLICATIONS = 9_000
"""So many look-alikes train a model and feed a stream within a demo's minute."""
_SEED = 350
_DAYS_IN_YEAR = 365.25


def prepare_home_credit(
    tables: Path | None, folder: Path, applications: int = APPLICATIONS
) -> Prepared:
    """
    Split a copy of the tables by client and write its files; without one, of look-alikes.

    The same tables give the same split. Raises ExampleMissing, TablesRefused.
    """
    if tables is None:
        with TemporaryDirectory(prefix="creditstream-") as scratch:
            made = Path(scratch) / "tables"
            write_sample(made, applications, _SEED, "parquet")
            return prepare_home_credit(made, folder)
    if not tables.is_dir():
        msg = f"{tables} is missing: name the folder that holds the seven tables"
        raise ExampleMissing(msg)
    with opened(tables) as (raw, faults):
        if raw is None:
            raise TablesRefused(faults)
        if found := check(raw.tables, raw.files).faults:
            raise TablesRefused(found)
        folder.mkdir(parents=True, exist_ok=True)
        prepared = Prepared(folder)
        _write(raw, prepared)
        write_about(prepared, About(DEFINITION.name, synthetic=(tables / NOTICE).exists()))
    return prepared


def _write(raw: Raw, prepared: Prepared) -> None:
    keys, features = computed(raw.tables)
    of_client = ["TARGET", "CODE_GENDER", "NAME_FAMILY_STATUS", "DAYS_BIRTH"]
    clients = raw.tables[APPLICATION].select(RAW_KEY, *of_client).order_by(RAW_KEY).to_pyarrow()
    target = clients["TARGET"].cast(pa.int8())
    labelled = target.is_valid().to_numpy()
    split = Split.of(keys, DEFINITION.name, labelled)
    known = split.in_table
    write_snapshot(
        prepared.features,
        RAW_KEY,
        keys[known],
        features[known],
        DEFINITION.schema,
        raw.files.latest,
    )
    label = target.fill_null(0).to_numpy()
    write_labelled(prepared, DEFINITION.schema, split, keys, features, label)
    columns = {KEY: keys, LABEL: target, "split": split.names, "in_table": known}
    write_table(prepared.labels, pa.table(columns))
    age = -clients["DAYS_BIRTH"].to_numpy() / _DAYS_IN_YEAR
    write_protected(prepared, keys, clients["CODE_GENDER"], clients["NAME_FAMILY_STATUS"], age)
    _write_applications(raw, keys[split.stream].tolist(), prepared.applications)


def _write_applications(raw: Raw, keys: list[int], path: Path) -> None:
    """Write the clients' attributes, a row group a chunk: they need not fit into memory."""
    with whole_file(path) as unfinished:
        writer = None
        for chunk in nested(raw, keys):
            table = chunk.rename_columns({RAW_KEY: KEY})
            writer = writer or pq.ParquetWriter(
                unfinished, table.schema, compression="zstd", write_page_checksum=True
            )
            writer.write_table(table)
        assert writer is not None, "checked tables hold an application"
        writer.close()
