"""How fast a feature table opens, what memory it takes, and how long a key's look-up takes."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from features.matrix_cache import open_table
from features.schema import Feature, FeatureSchema
from features.snapshot import load_snapshot, write_snapshot
from features.table import FeatureTable
from stream.bench.machine import Machine, print_json, print_machine, this_machine

_ROUNDS = 5
_POLLS = 101
_POLL_KEYS = 1_000
_SMALL_ROWS = 1_000
_SWEPT_BYTES = 64 << 20
_AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
_KEY = "application_id"


class Opening(msgspec.Struct, frozen=True):
    """
    One way to open the table, each time in a process of its own; medians.

    Memory as a multiple of the matrix, beyond the same process with a table of 1,000 rows, whose
    own opening took `fixed_bytes`: libraries and their threads. `of_peer` is of the peer's time in
    the same run. `cpu_seconds`, of all threads, say more than `seconds` on a machine with others.
    """

    seconds: float
    cpu_seconds: float
    of_peer: float
    resident: float
    peak: float
    fixed_bytes: int


class Lookups(msgspec.Struct, frozen=True):
    """Looking up the 1,000 keys of a poll, caches swept between two; medians, in microseconds."""

    us_a_key: float
    us_a_key_of_dict: float
    of_dict: float


class TableBench(msgspec.Struct, frozen=True):
    """What `creditstream bench table` found."""

    machine: Machine
    rows: int
    columns: int
    matrix_bytes: int
    parquet_bytes: int
    openings: dict[str, Opening]
    lookups: dict[str, Lookups]


class _Taken(msgspec.Struct, frozen=True):
    seconds: float
    cpu_seconds: float
    resident_bytes: int
    peak_bytes: int
    fixed_bytes: int


def bench_table(console: Console, folder: Path, rows: int, columns: int) -> TableBench:
    """Measure a made-up table of so many applicants and features, a fifth of them missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as made, console.status("writing tables"):
        small, path = Path(made) / "small.parquet", Path(made) / "features.parquet"
        _write(small, _SMALL_ROWS, columns)
        _write(path, rows, columns)
        for table in (small, path):
            open_table(table, _schema(columns))
        parquet_bytes = path.stat().st_size
        with console.status("opening"):
            openings = _openings(small, path, columns, rows * columns * 4)
    with console.status("looking up"):
        numbers = 100_001 + np.cumsum(np.random.default_rng(1).integers(1, 14, rows))
        texts = np.array([b"applicant-%012d" % number for number in numbers.tolist()])
        lookups = {"int64": _lookups(numbers), "text": _lookups(texts)}
    return TableBench(
        machine=this_machine(len(os.sched_getaffinity(0))),
        rows=rows,
        columns=columns,
        matrix_bytes=rows * columns * 4,
        parquet_bytes=parquet_bytes,
        openings=openings,
        lookups=lookups,
    )


def _schema(columns: int) -> FeatureSchema:
    return FeatureSchema(tuple(Feature(f"f{index}") for index in range(columns)))


def _write(path: Path, rows: int, columns: int) -> None:
    random = np.random.default_rng(0)
    matrix = random.standard_normal((rows, columns), dtype=np.float32)
    matrix[random.random((rows, columns), dtype=np.float32) < 0.2] = np.nan
    write_snapshot(path, _KEY, random.permutation(rows), matrix, _schema(columns), _AS_OF)


def _cache(path: Path, columns: int) -> object:
    opened = open_table(path, _schema(columns))
    assert not opened.unshared, opened.unshared
    return opened.table


def _parquet(path: Path, columns: int) -> object:
    return load_snapshot(path, _schema(columns))


def _peer(path: Path, columns: int) -> object:
    """Do what a short script would: no checks, all columns at once, a dict of the keys."""
    read = pq.read_table(path)
    matrix = np.column_stack([read[f"f{index}"].to_numpy() for index in range(columns)])
    return matrix, {key: row for row, key in enumerate(read[_KEY].to_pylist())}


_WAYS = {"cache": _cache, "parquet": _parquet, "pyarrow and a dict": _peer}


def _openings(small: Path, path: Path, columns: int, matrix: int) -> dict[str, Opening]:
    taken: dict[str, list[_Taken]] = {way: [] for way in _WAYS}
    with ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as processes:
        for _ in range(_ROUNDS):
            for way, found in taken.items():
                found.append(processes.submit(_taken, way, small, path, columns).result())
    peer = median(one.seconds for one in taken["pyarrow and a dict"])
    return {
        way: Opening(
            seconds=round(median(one.seconds for one in found), 3),
            cpu_seconds=round(median(one.cpu_seconds for one in found), 3),
            of_peer=round(median(one.seconds for one in found) / peer, 3),
            resident=round(median(one.resident_bytes for one in found) / matrix, 3),
            peak=round(median(one.peak_bytes for one in found) / matrix, 3),
            fixed_bytes=int(median(one.fixed_bytes for one in found)),
        )
        for way, found in taken.items()
    }


def _taken(way: str, small: Path, path: Path, columns: int) -> _Taken:
    empty = _memory("VmRSS")
    _WAYS[way](small, columns)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    started, cpu_started = time.perf_counter(), time.process_time()
    table = _WAYS[way](path, columns)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    resident, peak = _memory("VmRSS") - before, _memory("VmHWM") - before
    del table
    return _Taken(seconds, cpu_s, resident, peak, before - empty)


def _memory(name: str) -> int:
    """Give a line of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _lookups(keys: NDArray[np.int64] | NDArray[np.bytes_]) -> Lookups:
    table = FeatureTable(_schema(1), keys, np.zeros((len(keys), 1), dtype=np.float32))
    rows = {key: row for row, key in enumerate(keys.tolist())}
    random = np.random.default_rng(2)
    swept = np.zeros(_SWEPT_BYTES, dtype=np.uint8)

    def by_dict(poll: Sequence[object]) -> NDArray[np.int64]:
        return np.fromiter((rows.get(key, -1) for key in poll), np.int64, len(poll))

    def taken(look_up: Callable[[Any], object], poll: object) -> float:
        swept[:] += 1
        started = time.perf_counter()
        look_up(poll)
        return time.perf_counter() - started

    def a_poll() -> NDArray[Any]:
        return keys[random.integers(0, len(keys), _POLL_KEYS)]

    ours, others = [], []
    for _ in range(_POLLS):
        ours.append(taken(table.rows, a_poll()))
        others.append(taken(by_dict, a_poll().tolist()))
    a_key = median(ours) / _POLL_KEYS * 1e6
    a_key_of_dict = median(others) / _POLL_KEYS * 1e6
    return Lookups(round(a_key, 3), round(a_key_of_dict, 3), round(a_key / a_key_of_dict, 3))


def print_bench(result: TableBench, *, as_json: bool) -> None:
    """Print a measurement: tables for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    sizes = f"matrix {result.matrix_bytes / 2**20:,.1f} MiB"
    sizes += f", Parquet {result.parquet_bytes / 2**20:,.1f} MiB"
    console.print(f"{result.rows:,} rows of {result.columns} features: {sizes}", highlight=False)
    opened = Table(
        "opened from", "seconds", "processor s", "of the peer's", "resident", "peak", "fixed, MiB"
    )
    console.print("memory in multiples of the matrix", highlight=False)
    for way, found in result.openings.items():
        opened.add_row(
            way,
            f"{found.seconds:.3f}",
            f"{found.cpu_seconds:.3f}",
            f"{found.of_peer:.2f}",
            f"{found.resident:.2f}",
            f"{found.peak:.2f}",
            f"{found.fixed_bytes / 2**20:.0f}",
        )
    console.print(opened)
    looked_up = Table("keys", "microseconds a key", "by a dict", "of the dict's")
    for kind, lookups in result.lookups.items():
        looked_up.add_row(
            kind,
            f"{lookups.us_a_key:.2f}",
            f"{lookups.us_a_key_of_dict:.2f}",
            f"{lookups.of_dict:.2f}",
        )
    console.print(looked_up)
