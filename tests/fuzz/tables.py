"""
Damage feature tables by chance: as accidents do, and as somebody who seals the file again.

    python -m tests.fuzz.tables --count 10000 --seed 1

A damaged one must be refused in one line, or open with exactly the values of the sound one; so must
a sound one with a damaged `.matrix` beside it. Where the seal is right again the parser sees it:
what it does then it does in a throw-away process, and what passed is a table. Exit code 1: one
ended otherwise. Its seed is printed, and `--seed N --count 1` makes it again.
"""

import hashlib
import io
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import matrix_cache
from features.matrix_cache import open_table
from features.schema import Feature, FeatureSchema
from features.sealed_parquet import SealBroken, _digest, _place_of_digest, write_sealed
from features.snapshot import SnapshotRefused, load_snapshot, snapshot_digest, write_snapshot
from features.table import FeatureTable
from tests.fuzz.apart import Ended, Say, apart
from tests.fuzz.damage import CONTENT, PLACE
from tests.fuzz.run import Verdict, main
from tests.fuzz.thrift import Struct, integers, of, put, read_struct, write_struct

SCHEMA = FeatureSchema(tuple(Feature(f"f{number}") for number in range(14)))
ROWS = 17_000  # two row groups
MOST = 64 << 20
SECONDS = 60.0
MEMORY = (2 << 30) + MOST + MOST // 4  # as the throw-away process has
_ROOM = 1 << 29  # what the fork holds before it begins
_BOMB_BYTES = 1_500_000_000
_HUGE = (0, -1, 1, 2, 7, 255, 2**15, 2**20, 2**31 - 1, -(2**31), 2**32, 2**40, 2**62, -(2**62))


class Sound:
    """A sound table with its `.matrix`, and what it holds."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sound.parquet"
        random = np.random.default_rng(5)
        keys = random.permutation(ROWS)
        matrix = random.normal(0, 10, (ROWS, len(SCHEMA.names))).astype(np.float32)
        matrix[random.random(matrix.shape) < 0.1] = np.nan
        matrix[:, 3] = np.round(matrix[:, 3])
        days = random.integers(0, 300, ROWS).astype("timedelta64[D]")
        dates = np.datetime64("2026-01-01", "us") + days
        write_snapshot(self.path, "application_id", keys, matrix, SCHEMA, dates)
        table = open_table(self.path, SCHEMA).table
        self.matrix = Path(f"{self.path}.matrix")
        self.values = values_of(table)


def values_of(table: FeatureTable) -> str:
    """Name all that a table holds."""
    digest = hashlib.sha256(table.keys.tobytes())
    digest.update(table.matrix.tobytes())
    digest.update(str(table.as_of).encode())
    digest.update(table.as_of_us(np.arange(len(table))).tobytes())
    return digest.hexdigest()


def case(sound: Sound, folder: Path, seed: int) -> Verdict:
    """Make one damaged table, open it, and judge how that ended."""
    random = Random(seed)
    made = folder / "table.parquet"
    shutil.copyfile(sound.path, made)
    if random.random() < 0.3:
        shutil.copyfile(sound.matrix, beside := folder / "table.parquet.matrix")
        how = _beside(random, beside)
        forged = random.random() < 0.5 and _is_plain(beside)
        if forged:
            _sign(beside)
        return _opened(f"{how} beside{' with its digest' if forged else ''}", made, sound, forged)
    if random.random() < 0.5:
        if random.random() < 0.15:
            place = random.choice(PLACE)
            place(random, made)
            return _opened(f"{place.__name__} in the file's place", made, sound)
        damage = random.choice(CONTENT)
        made.write_bytes(damage(random, made.read_bytes()))
        return _opened(damage.__name__, made, sound)
    damage = random.choice(_SPECIAL if random.random() < 0.6 else CONTENT)
    content = damage(random, made.read_bytes())
    made.write_bytes(content)
    if not seal(made):
        return _opened(f"{damage.__name__} not to be sealed", made, sound)
    ended = apart(lambda say: _proved(made, say), seconds=SECONDS, memory=MEMORY + _ROOM)
    return _judged_forged(damage.__name__.strip("_"), ended)


def _opened(how: str, path: Path, sound: Sound, forged: bool = False) -> Verdict:
    def opens(_: Say) -> dict[str, Any]:
        try:
            return {"values": values_of(open_table(path, SCHEMA, most=MOST).table)}
        except SnapshotRefused as refused:
            return {"refused": str(refused)}

    ended = apart(opens, seconds=SECONDS, memory=MEMORY + _ROOM)
    answer = ended.answer or {}
    if "refused" in answer:
        return _refused(how, answer["refused"], "refused", ended)
    same = answer.get("values") == sound.values
    # Whoever can write a digest there can write any table.
    allowed = same or (forged and "values" in answer)
    end = "opened as it was" if same else "beside, with its digest: opened"
    return Verdict(how, end if allowed else f"{ended.died or answer}"[:300], allowed, ended)


def _proved(path: Path, say: Say) -> dict[str, Any]:
    """Do what a throw-away process does, then what the worker does with what passed."""
    digest = snapshot_digest(path)
    told = msgspec.json.decode(
        matrix_cache.load_apart(str(path), SCHEMA.to_json(), digest, str(MOST), "keep")
    )
    if told["refused"]:
        return {"refused": told["refused"]}
    say("proved")
    table = open_table(path, SCHEMA, most=MOST).table
    again = load_snapshot(path, SCHEMA)
    return {"same": values_of(table) == values_of(again)}


def _judged_forged(how: str, ended: Ended) -> Verdict:
    answer = ended.answer or {}
    if "refused" in answer:
        return _refused(how, answer["refused"], "sealed again: refused", ended)
    if "proved" not in ended.said and (ended.died or "raised" in answer):
        return Verdict(how, "sealed again: the throw-away process ended", True, ended)
    same = bool(answer.get("same"))
    end = "sealed again: a table" if same else f"{ended.died or answer}"[:300]
    return Verdict(how, end, same, ended)


def _refused(how: str, reason: str, told: str, ended: Ended) -> Verdict:
    one_line = reason.isprintable() and len(reason) < 1_500
    return Verdict(how, told if one_line else f"no line: {reason!r}"[:300], one_line, ended)


def seal(path: Path) -> bool:
    """Give a file the sha256 that it has; say whether there is a place for it."""
    with path.open("r+b") as file:
        try:
            place = _place_of_digest(file)
        except SealBroken:
            return False
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)
    return True


def _beside(random: Random, path: Path) -> str:
    how = random.randrange(5)
    if how == 0:
        damage_place = random.choice(PLACE)
        damage_place(random, path)
        return damage_place.__name__
    content = path.read_bytes()
    if how < 3:
        # The header, where all sizes stand.
        length = int.from_bytes(content[64:72], "little")
        header, rest = content[72 : 72 + length], content[72 + length :]
        damage = random.choice(CONTENT)
        header = damage(random, header)
        size = random.choice((len(header), len(header), 0, 2**40, 2**64 - 1)).to_bytes(8, "little")
        path.write_bytes(content[:64] + size + header + rest)
        return f"{damage.__name__} of the header"
    damage = random.choice(CONTENT)
    path.write_bytes(damage(random, content))
    return damage.__name__


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size < MOST


def _sign(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:32] + hashlib.sha256(content[64:]).digest() + content[64:])


def _parts(content: bytes) -> tuple[bytes, Struct]:
    length = int.from_bytes(content[-8:-4], "little")
    footer, _ = read_struct(content[-8 - length : -8])
    return content[: -8 - length], footer


def _whole(data: bytes, footer: Struct) -> bytes:
    written = write_struct(footer)
    return data + written + len(written).to_bytes(4, "little") + b"PAR1"


def _footer_numbers(random: Random, content: bytes) -> bytes:
    """Write other numbers into the metadata: rows, sizes, offsets, kinds."""
    data, footer = _parts(content)
    for field in random.sample(integers(footer), random.choice((1, 1, 2, 5))):
        field.value = random.choice((*_HUGE, field.value + 1, field.value - 1, field.value * 1000))
    return _whole(data, footer)


_ROW_GROUPS, _COLUMNS, _META = 4, 1, 3
_CHUNK_SIZE, _DATA_OFFSET, _DICTIONARY_OFFSET = 7, 9, 11


def _column(random: Random, footer: Struct) -> tuple[int, ...]:
    groups = len(of(footer, _ROW_GROUPS)[1])
    columns = len(of(footer, _ROW_GROUPS, 0, _COLUMNS)[1])
    group, column = random.randrange(groups), random.randrange(columns)
    return _ROW_GROUPS, group, _COLUMNS, column, _META


def _pages(data: bytes, meta: Struct) -> list[tuple[Struct, bytes]]:
    """Give the pages of a column's chunk: each its header and its content."""
    at = min(field.value for field in meta if field.id in {_DATA_OFFSET, _DICTIONARY_OFFSET})
    end, pages = at + of(meta, _CHUNK_SIZE), []
    while at < end:
        header, begin = read_struct(data, at)
        at = begin + of(header, 3)
        pages.append((header, data[begin:at]))
    return pages


def _with_pages(
    data: bytes, footer: Struct, column: tuple[int, ...], pages: list[tuple[Struct, bytes]]
) -> bytes:
    """Put a chunk of these pages at the data's end, in the place of a column's."""
    written = [write_struct(header) + page for header, page in pages]
    offsets = {field.id for field in of(footer, *column)} & {_DATA_OFFSET, _DICTIONARY_OFFSET}
    for field in offsets:
        skipped = len(written[0]) if len(offsets) == 2 and field == _DATA_OFFSET else 0
        put(footer, len(data) + skipped, *column, field)
    put(footer, sum(map(len, written)), *column, _CHUNK_SIZE)
    return _whole(data + b"".join(written), footer)


def _page_numbers(random: Random, content: bytes) -> bytes:
    """Write other numbers into a page's header."""
    data, footer = _parts(content)
    column = _column(random, footer)
    pages = _pages(data, of(footer, *column))
    header = random.choice(pages)[0]
    for field in random.sample(integers(header), random.choice((1, 1, 2))):
        field.value = random.choice((*_HUGE, field.value + 1, field.value * 2))
    return _with_pages(data, footer, column, pages)


def _page_bomb(random: Random, content: bytes) -> bytes:
    """Put pages of few bytes that inflate to more than a gigabyte into a column."""
    data, footer = _parts(content)
    column = _column(random, footer)
    pages = _pages(data, of(footer, *column))
    at = random.randrange(len(pages))
    header = [field for field in pages[at][0] if field.id != 4]  # the checksum
    put(header, _BOMB_BYTES, 2)
    put(header, len(_zeros()), 3)
    pages[at] = header, _zeros()
    return _with_pages(data, footer, column, pages)


@cache
def _zeros() -> bytes:
    sink = io.BytesIO()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for _ in range(_BOMB_BYTES // 10_000_000):
            stream.write(bytes(10_000_000))
        stream.flush()
        content: bytes = sink.getvalue()
    return content or sink.getvalue()


def _groups(random: Random, content: bytes) -> bytes:
    """Change the places of row groups, or have them more than once."""
    data, footer = _parts(content)
    kind, groups = of(footer, _ROW_GROUPS)
    groups = random.choice((groups[::-1], groups * 2, groups[:1], groups * 500, []))
    put(footer, (kind, groups), _ROW_GROUPS)
    return _whole(data, footer)


def _columns_swapped(random: Random, content: bytes) -> bytes:
    """Change the places of two columns' chunks: other values under the names."""
    data, footer = _parts(content)
    _, columns = of(footer, _ROW_GROUPS, random.randrange(2), _COLUMNS)
    a, b = random.randrange(len(columns)), random.randrange(len(columns))
    columns[a], columns[b] = columns[b], columns[a]
    return _whole(data, footer)


def _written(table: pa.Table, content: bytes) -> bytes:
    """Write another table as if it were the sound one."""
    metadata = pq.ParquetFile(pa.BufferReader(content)).metadata.metadata
    told = {name: text for name, text in metadata.items() if name.startswith(b"creditstream.")}
    told.pop(b"creditstream.sha256")
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path.cwd()
    path = folder / f"creditstream-fuzz-{id(table)}.parquet"
    try:
        write_sealed(path, table, told)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def _sound_table(content: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(content))


def _other_columns(random: Random, content: bytes) -> bytes:
    """Write a column of another kind: nested, repeated, missing, of texts, of other numbers."""
    table = _sound_table(content)
    at = random.randrange(table.num_columns)
    name, rows = table.column_names[at], table.num_rows
    deep = pa.array([1.0] * rows, pa.float32())
    for _ in range(random.choice((1, 10, 60))):
        deep = pa.StructArray.from_arrays([deep], names=["x"])
    others = (
        deep,
        pa.array(["x" * 40] * rows),
        pa.array([[1.0]] * rows, pa.list_(pa.float32())),
        pa.array([1.0] * rows, pa.float64()),
        pa.array(["a"] * rows).dictionary_encode(),
        pa.array([None] * rows, pa.float32()),
        pa.nulls(rows),
        pa.array([7] * rows, pa.int64()),
        pa.array([1.0] * rows, pa.float16()),
    )
    how = random.randrange(4)
    if how == 0:
        return _written(table.remove_column(at), content)
    if how == 1:
        return _written(table.append_column(name, random.choice(others)), content)
    return _written(table.set_column(at, name, random.choice(others)), content)


def _many_columns(_: Random, content: bytes) -> bytes:
    """Write thousands of columns."""
    table = _sound_table(content).slice(0, 3)
    one = pa.array([1.0] * 3, pa.float32())
    names = [*table.column_names, *(f"more{number}" for number in range(3_000))]
    columns = [*table.columns, *[one] * 3_000]
    return _written(pa.Table.from_arrays(columns, names=names), content)


def _many_rows(_: Random, content: bytes) -> bytes:
    """Say billions of rows, of which there are few."""
    data, footer = _parts(content)
    put(footer, 2**40, 3)
    return _whole(data, footer)


def _long_texts(_: Random, content: bytes) -> bytes:
    """Write keys that are texts, one of them of a megabyte."""
    table = _sound_table(content)
    keys = [str(number) for number in range(table.num_rows - 1)] + ["x" * 1_000_000]
    return _written(table.set_column(0, table.column_names[0], pa.array(keys)), content)


def _odd_metadata(random: Random, content: bytes) -> bytes:
    """Say other things of the table: its date, its key, its rows, its schema."""
    data, footer = _parts(content)
    pairs = of(footer, 5)[1]
    pair = random.choice([one for one in pairs if of(one, 1).startswith(b"creditstream.")])
    odd = (
        b"",
        b"\xff",
        b"x" * 100_000,
        b"-1",
        b"9" * 400,
        b"2026-01-01",
        b"9999-12-31T23:59:59-14:00",
    )
    put(pair, random.choice(odd), 2)
    return _whole(data, footer)


_SPECIAL: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(_footer_numbers, _footer_numbers, _footer_numbers, _page_numbers, _page_numbers),
    *(_page_numbers, _groups, _columns_swapped, _other_columns, _odd_metadata, _long_texts),
    *(_many_rows, _many_columns, _page_bomb),
)


if __name__ == "__main__":
    main(__doc__, Sound, case)
