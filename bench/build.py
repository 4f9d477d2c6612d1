"""
Home Credit's feature table built by creditstream and by pandas, in one run: time, memory, ratio.

    creditstream features sample --applications 356255 --format parquet -o TABLES
    python bench/build.py TABLES

Each runs in a process of its own; memory is the most that it held at once. creditstream checks the
tables before it computes, pandas does not. Last, both tables are compared value by value.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

HERE = Path(__file__).parent
# pandas makes a sum of nothing 0.
EMPTY_IS_ZERO = ("_SUM", "_COUNT", "DEBT_TO_CREDIT_RATIO")


def measured(command: list[str]) -> tuple[float, float]:
    """Run a command: seconds, and its greatest resident memory in GiB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def differing(ours: Path, theirs: Path) -> dict[str, float]:
    """Give each shared feature's greatest difference, relative where the value is above 1."""
    left, right = pq.read_table(ours), pq.read_table(theirs)
    found = {}
    for name in left.column_names[1:]:
        if name in right.column_names:
            a, b = (t[name].to_numpy().astype(np.float64) for t in (left, right))
            if name.endswith(EMPTY_IS_ZERO):
                a, b = np.nan_to_num(a), np.nan_to_num(b)
            assert np.array_equal(np.isnan(a), np.isnan(b)), name
            found[name] = float(np.nanmax(np.abs(a - b) / np.maximum(1, np.abs(b)), initial=0))
    return found


def main(tables: str) -> None:
    """Measure both and print a line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.parquet", Path(folder) / "pandas.parquet"
        program = str(Path(sys.executable).with_name("creditstream"))
        build = ["features", "build", "--tables", tables, "-o", str(ours)]
        seconds, memory = measured([program, *build])
        peer = [sys.executable, str(HERE / "pandas_build.py"), tables, str(theirs)]
        peer_seconds, peer_memory = measured(peer)
        worst = differing(ours, theirs)
        rows = pq.read_metadata(ours).num_rows
    sys.stdout.write(
        json.dumps(
            {
                "applicants": rows,
                "seconds": round(seconds, 1),
                "gib": round(memory, 2),
                "pandas_seconds": round(peer_seconds, 1),
                "pandas_gib": round(peer_memory, 2),
                "seconds_of_pandas": round(seconds / peer_seconds, 2),
                "memory_of_pandas": round(memory / peer_memory, 2),
                "features_compared": len(worst),
                "greatest_difference": max(worst.values()),
                "of": max(worst, key=worst.__getitem__),
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main(sys.argv[1])
