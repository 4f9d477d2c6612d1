"""Writing look-alike data: the competition's files, or Parquet; a folder that appears whole."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from features.home_credit.sample import TABLES, sample, schema_of
from features.home_credit.sample_csv import header, lines

Format = Literal["csv", "parquet"]
Write = Callable[[pa.Table], None]

SYNTHETIC = "creditstream.synthetic"
"""Key of the Parquet files' metadata that says how the rows were made."""
NOTICE = "SYNTHETIC.txt"
_NOTICE = """SYNTHETIC DATA: NO ROW IS REAL.

creditstream made these look-alikes of the seven tables of the Home Credit Default Risk
competition: {applications} applications, seed {seed}. Nobody applied, nobody was lent anything,
and TARGET is drawn from a formula. Good for tests, demonstrations and measurements; no
ground for any conclusion about credit.
"""


class SampleRefused(Exception):
    """Look-alike data cannot be written there; says why."""


def write_sample(
    folder: Path,
    applications: int,
    seed: int,
    file_format: Format = "csv",
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, int]:
    """
    Write the tables of that many applicants and a notice; give the rows of each table.

    The folder appears at the end, whole. `progress` is told how many applicants are done. The
    same number, seed, format and library versions give the same bytes. Raises SampleRefused
    where the folder holds anything already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder} is there already, and not an empty folder"
        raise SampleRefused(msg)
    rows = dict.fromkeys(TABLES, 0)
    with _whole_folder(folder) as unfinished:
        (unfinished / NOTICE).write_text(_NOTICE.format(applications=applications, seed=seed))
        made = json.dumps({"applications": applications, "seed": seed, "real_rows": 0})
        opened = _csv if file_format == "csv" else _parquet
        done = 0
        with ExitStack() as files:
            writers = {
                name: files.enter_context(opened(unfinished / f"{name}.{file_format}", name, made))
                for name in TABLES
            }
            for block in sample(applications, seed):
                for name, table in block.items():
                    writers[name](table)
                    rows[name] += table.num_rows
                done += block[TABLES[0]].num_rows + block[TABLES[1]].num_rows
                progress(done)
    return rows


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder`, which takes its place at the end, or is gone."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for path in unfinished.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _csv(path: Path, table: str, _: str) -> Iterator[Write]:
    with path.open("wb") as file:
        file.write(header(schema_of(table)))

        def write(block: pa.Table) -> None:
            file.write(lines(block))

        yield write


@contextmanager
def _parquet(path: Path, table: str, made: str) -> Iterator[Write]:
    schema = schema_of(table).with_metadata({SYNTHETIC: made})
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=texts
    ) as writer:
        yield lambda block: writer.write_table(block.cast(schema))
