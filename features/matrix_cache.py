"""A feature table laid out as it is used, in a file beside its Parquet file: mapped, not parsed."""

import hashlib
import mmap
import os
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.own_process import CheckFailed, in_a_process_of_its_own
from features.regular_file import open_regular
from features.schema import FeatureSchema
from features.snapshot import SnapshotRefused, load_snapshot, nbytes_of, snapshot_digest
from features.table import FeatureTable, TableInvalid
from features.whole_file import whole_file

SUFFIX = ".matrix"
_VERSION = 1
_ALIGNED = 64
# Another version's, or another byte order's, is another mark.
_MARK = f"creditstream matrix {_VERSION} {sys.byteorder}".encode().ljust(32, b"\0")
_BODY = len(_MARK) + hashlib.sha256().digest_size
_LENGTH = 8

MOST_BYTES = 8 << 30
"""Of a table while it is loaded, where nothing else is said."""

# A few columns take some of it; a page would take 2 GiB if it were let.
_MORE_BYTES = 1 << 30
_SECONDS = 300

# The sha256 of tables that this process, or one for it, loaded before: a fact about content.
_PROVED: set[str] = set()


@dataclass(frozen=True, slots=True)
class OpenedTable:
    """A table, and why other workers cannot share its memory; empty where they can."""

    table: FeatureTable
    unshared: str = ""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What the arrays are that follow: keys, the rows' dates where `dated`, matrix.

    `snapshot` is the sha256 that the Parquet file names, `schema` the schema's digest, which is of
    all names in their order; `keys` is the keys' NumPy type.
    """

    snapshot: str
    schema: str
    as_of: datetime
    rows: int
    keys: str
    dated: bool


def open_table(
    path: Path, schema: FeatureSchema, *, most: int = MOST_BYTES, keep: bool = True
) -> OpenedTable:
    """
    Open a Parquet file's feature table, from the file `<name>.matrix` beside it where that is its.

    Else the Parquet file is loaded and the other written for the next to open, whole or not at
    all; where it cannot be written (a folder for reading only, a full disk), or is not to be
    (`keep`), the table stays in this process's own memory. A file that this process never loaded is
    loaded in a throw-away process first, which it may crash, or fill with pages that say little and
    inflate to much: within some more memory than the table says it takes, which is at most `most`
    bytes. Raises SnapshotRefused, as `load_snapshot` does and for the same files, and for those.

    It is its where it names the sha256 that this moment's bytes of the Parquet file have, and its
    own bytes have the sha256 that it begins with. Both are taken each time, since neither size,
    inode nor time of change shows a damaged byte: 0.2 s each for 270 MB, of which no byte has to
    be parsed. What was opened is not looked at again, and must never be written into: replace it,
    as this does, and who has the old one keeps it.
    """
    return OpeningTable(path, most=most, keep=keep).of(schema)


class OpeningTable:
    """
    A feature table that is being opened: its bytes' digests are taken beside other work.

    As `open_table`, whose schema may be known later.
    """

    def __init__(self, path: Path, *, most: int = MOST_BYTES, keep: bool = True) -> None:
        self._path, self._most, self._keep = path, most, keep
        self._kept = path.with_name(path.name + SUFFIX)
        self._beside = ThreadPoolExecutor(2, "feature-table")
        self._digest = self._beside.submit(snapshot_digest, path, most + _MORE_BYTES)
        self._content = self._beside.submit(_content, self._kept, most) if keep else None

    def of(self, schema: FeatureSchema) -> OpenedTable:
        """Give the table, of this schema, once; raises SnapshotRefused."""
        path, most, keep, kept = self._path, self._most, self._keep, self._kept
        # Until its threads have ended they may hold what they mapped.
        self._beside.shutdown()
        content = self._content.result() if self._content else None
        try:
            digest = self._digest.result()
        finally:
            # A refusal holds this frame, and would so hold itself, and what was mapped.
            del self._digest, self._content
        table = _laid_out(content, schema)
        del content
        if table is not None and table.digest == digest:
            return OpenedTable(table)
        del table
        if digest not in _PROVED:
            unwritten = _proved(path, schema, digest, most, keep=keep)
            _PROVED.add(digest)
            table = _mapped(kept, schema, most) if keep and not unwritten else None
            if table is not None and table.digest == digest:
                return OpenedTable(table)
        table = load_snapshot(path, schema, digest)
        if not keep:
            return OpenedTable(table)
        try:
            _write(kept, table)
        except OSError as error:
            return OpenedTable(table, f"{kept} cannot be written: {error}")
        # Its memory goes before the same again is mapped.
        del table
        table = _mapped(kept, schema, most)
        if table is not None and table.digest == digest:
            return OpenedTable(table)
        return OpenedTable(
            load_snapshot(path, schema, digest), f"{kept} is not what was written there"
        )


_PROVE = """
from features import matrix_cache
told = matrix_cache.load_apart(sys.argv[1], sys.stdin.buffer.read(), *sys.argv[2:])
sys.stdout.buffer.write(told)
"""


class _Told(msgspec.Struct, frozen=True):
    """What a throw-away process says of a table; `refused` is empty where it is one."""

    refused: str = ""
    columns: tuple[str, ...] = ()
    unwritten: str = ""


def _proved(path: Path, schema: FeatureSchema, digest: str, most: int, *, keep: bool) -> str:
    """Load a table apart and, to `keep` it, write it; say why that cannot be."""
    arguments = [str(path.absolute()), digest, str(most), "keep" if keep else ""]
    try:
        said = in_a_process_of_its_own(
            _PROVE,
            *arguments,
            given=schema.to_json(),
            seconds=_SECONDS,
            memory=2 * _MORE_BYTES + most + most // 4,
        )
        told = msgspec.json.decode(said, type=_Told)
    except (CheckFailed, msgspec.MsgspecError) as failed:
        raise SnapshotRefused(path, f"cannot be loaded: {failed}") from None
    if told.refused:
        raise SnapshotRefused(path, told.refused, told.columns)
    return told.unwritten


def load_apart(name: str, schema_document: bytes, digest: str, most: str, keep: str) -> bytes:
    """Do what `open_table` has done in a throw-away process; say what came of it."""
    path, schema = Path(name), FeatureSchema.from_json(schema_document)
    told = _Told()
    try:
        held = _held_bytes()
        # Until it is known how large the table is: what metadata may take.
        _bound(held + _MORE_BYTES)
        size = nbytes_of(path, schema, int(most))
        _bound(held + _MORE_BYTES + size + size // 4)
        table = load_snapshot(path, schema, digest)
        if keep:
            _write(path.with_name(path.name + SUFFIX), table)
    except SnapshotRefused as refused:
        told = _Told(refused=refused.reason, columns=refused.columns)
    except MemoryError:
        told = _Told(refused="it takes more memory than the table that it says it holds")
    except OSError as error:
        told = _Told(unwritten=str(error))
    return msgspec.json.encode(told)


def _held_bytes() -> int:
    """Give what this process holds with its libraries alone, which depends on the host."""
    try:
        told = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in told.splitlines() if "VmData" in line)


def _bound(memory: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (min(memory, hard), hard))


def _write(path: Path, table: FeatureTable) -> None:
    assert table.as_of is not None  # every file has one
    dates = table.row_as_of_us
    header = msgspec.json.encode(
        _Header(
            snapshot=table.digest,
            schema=table.schema.digest,
            as_of=table.as_of,
            rows=len(table),
            keys=table.keys.dtype.str,
            dated=dates is not None,
        )
    )
    arrays = [table.keys, *([] if dates is None else [dates]), table.matrix]
    parts: list[bytes | memoryview] = [
        len(header).to_bytes(_LENGTH, "little") + header,
        *(array.reshape(-1).view(np.uint8).data for array in arrays),
    ]
    digest = hashlib.sha256()
    for part in _padded(parts):
        digest.update(part)
    with whole_file(path) as unfinished, unfinished.open("xb") as file:
        file.write(_MARK + digest.digest())
        for part in _padded(parts):
            file.write(part)


def _mapped(path: Path, schema: FeatureSchema, most: int) -> FeatureTable | None:
    """Map a table of this schema; None where the file is missing, damaged or another's."""
    return _laid_out(_content(path, most), schema)


def _content(path: Path, most: int) -> memoryview | None:
    """Map what a file holds behind its digest; None where it is missing or damaged."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if not _BODY + _LENGTH < size <= most + _MORE_BYTES:
                return None
            # Shared with every process that maps it; unmapped when the last array of it goes.
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError:
        return None
    mark, named, body = content[: len(_MARK)], content[len(_MARK) : _BODY], content[_BODY:]
    return body if mark == _MARK and hashlib.sha256(body).digest() == named else None


def _laid_out(body: memoryview | None, schema: FeatureSchema) -> FeatureTable | None:
    if body is None:
        return None
    try:
        return _arrays(body, schema)
    except (msgspec.MsgspecError, TableInvalid, UnicodeDecodeError, TypeError, ValueError):
        return None  # whoever wrote it took its digest, too


def _arrays(body: memoryview, schema: FeatureSchema) -> FeatureTable | None:
    length = int.from_bytes(body[:_LENGTH], "little")
    header = msgspec.json.decode(body[_LENGTH : _LENGTH + length], type=_Header)
    if header.schema != schema.digest:
        return None
    at = _end_of(_LENGTH + length)

    def following(kind: str, *shape: int) -> NDArray[Any]:
        nonlocal at
        found: NDArray[Any] = np.ndarray(shape, kind, body, at)
        at = _end_of(at + found.nbytes)
        return found

    keys = following(header.keys, header.rows)
    dates = following("=i8", header.rows) if header.dated else None
    return FeatureTable(
        schema,
        keys,
        following("=f4", header.rows, len(schema.names)),
        as_of=header.as_of,
        row_as_of_us=dates,
        digest=header.snapshot,
    )


def _end_of(offset: int) -> int:
    return -(-offset // _ALIGNED) * _ALIGNED


def _padded(parts: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    for part in parts:
        yield part
        yield bytes(_end_of(len(part)) - len(part))
