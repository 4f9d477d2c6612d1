"""The declared features on ClickHouse's engine: the bits that DuckDB gives."""

import subprocess
import sys
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from features.home_credit.build import computed, opened
from features.home_credit.definition import EXPRESSIONS, KEY
from features.home_credit.sample_files import write_sample
from features.relational.in_engine import query
from features.relational.in_memory import finished

# A process of its own: chDB has one engine a process, and other tests have theirs.
ASK = """
import sys
from pathlib import Path
from chdb.session import Session
folder, sql, out = map(Path, sys.argv[1:])
session = Session()
session.query("CREATE DATABASE tables")
session.query("USE tables")
for file in sorted(folder.glob("*.parquet")):
    session.query(f"CREATE VIEW {file.stem} AS SELECT * FROM file('{file}', Parquet)")
out.write_bytes(session.query(sql.read_text(), "Arrow").bytes())
"""


def test_clickhouse_and_duckdb_agree_bit_for_bit(tmp_path: Path) -> None:
    write_sample(tmp_path / "raw", 300, 5, "parquet")
    folder = tmp_path / "parquet"
    folder.mkdir()
    with opened(tmp_path / "raw") as (raw, faults):
        assert raw is not None, faults
        keys, matrix = computed(raw.tables)
        for name, table in raw.tables.items():
            pa.parquet.write_table(table.to_pyarrow(), folder / f"{name}.parquet")
        unbound = {
            name: ibis.table(table.schema(), name=name) for name, table in raw.tables.items()
        }
    asked = query(EXPRESSIONS, unbound, KEY).order_by(KEY)
    (tmp_path / "asked.sql").write_text(str(ibis.to_sql(asked, dialect="clickhouse")))

    arguments = [str(folder), str(tmp_path / "asked.sql"), str(tmp_path / "found.arrow")]
    subprocess.run([sys.executable, "-c", ASK, *arguments], check=True, timeout=120)

    found = pa.ipc.open_file(tmp_path / "found.arrow").read_all()
    values = finished([found[name].to_numpy() for name in EXPRESSIONS])
    assert found[KEY].to_numpy().astype(np.int64).tolist() == keys.tolist()
    differing = (values.view(np.uint32) != matrix.view(np.uint32)).any(axis=0)
    assert not differing.any(), [list(EXPRESSIONS)[at] for at in np.flatnonzero(differing)]
