"""The feature table: every known applicant's features in memory, immutable, replaced whole."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.schema import FeatureSchema

Keys = NDArray[np.generic] | Sequence[int] | Sequence[str]

# An event's applicant_id has no more, so that a longer key could never be found.
LONGEST_KEY = 64
# Every so-manieth key stands in the fence, which fits the processor's cache.
_STRIDE = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TableInvalid(Exception):
    """Keys and matrix make no feature table: says why, naming a key."""


class FeatureTable:
    """
    Applicant key to feature row.

    `keys` are int64 or text, `matrix` is float32 of shape (len(keys), features). Both are held
    sorted by key and read-only; a look-up is a binary search, so memory is the matrix and the
    keys: 8 bytes for a number, its longest one's UTF-8 bytes for a text, and a 256th of that.
    `as_of` is the data's date (aware, UTC); where rows have dates of their own, `row_as_of_us`
    holds them, int64 microseconds since 1970, 8 bytes a row, and `as_of` is the latest. `digest`
    names the content. Raises TableInvalid.
    """

    __slots__ = ("_fence", "as_of", "digest", "keys", "matrix", "row_as_of_us", "schema")

    def __init__(
        self,
        schema: FeatureSchema,
        keys: Keys,
        matrix: NDArray[np.float32],
        *,
        as_of: datetime | None = None,
        row_as_of_us: NDArray[np.int64] | None = None,
        digest: str = "",
    ) -> None:
        found = encoded_keys(keys)
        if matrix.shape != (len(found), len(schema.names)) or matrix.dtype != np.float32:
            msg = (
                f"{len(found)} keys and {len(schema.names)} features make no table "
                f"with values of {matrix.dtype} and shape {matrix.shape}"
            )
            raise TableInvalid(msg)
        dates = row_as_of_us
        if dates is not None and (
            as_of is None or dates.shape != (len(found),) or dates.dtype != np.int64
        ):
            msg = f"{len(found)} keys and dates of {dates.dtype} and shape {dates.shape} of {as_of}"
            raise TableInvalid(msg)
        order = order_of(found)
        if order is not None:
            found, matrix = found[order], matrix[order]
            dates = None if dates is None else dates[order]
        self.schema = schema
        self.keys = np.ascontiguousarray(found)
        self._fence = self.keys[::_STRIDE].copy()
        self.matrix = np.ascontiguousarray(matrix)
        self.row_as_of_us = None if dates is None else np.ascontiguousarray(dates)
        for held in (self.keys, self.matrix, self.row_as_of_us):
            if held is not None:
                held.flags.writeable = False
        self.as_of = as_of
        self.digest = digest

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def keys_are_text(self) -> bool:
        """Whether look-ups go by text (an applicant_id) or by int64 (an application_id)."""
        return self.keys.dtype.kind == "S"

    @property
    def nbytes(self) -> int:
        """Bytes that the table holds: matrix, keys with their fence, and the rows' dates."""
        dates = 0 if self.row_as_of_us is None else self.row_as_of_us.nbytes
        return int(self.matrix.nbytes + self.keys.nbytes + self._fence.nbytes + dates)

    def rows(self, keys: Keys) -> NDArray[np.int64]:
        """
        Give each key's row in `matrix`: int64 of the length of `keys`, -1 where absent.

        The fence says in which 256 rows a key can be; then all keys halve theirs at once, so that
        the processor fetches their cache lines side by side and not one after the other.

        >>> from features.schema import Feature
        >>> schema = FeatureSchema((Feature("age"),))
        >>> table = FeatureTable(schema, np.array([7, 3]), np.float32([[41], [29]]))
        >>> table.rows([3, 5, 7]).tolist()
        [0, -1, 1]
        """
        wanted = np.asarray(keys)
        if not len(self.keys) or not wanted.size:
            return np.full(wanted.size, -1, dtype=np.int64)
        if wanted.dtype.kind == "U":
            wanted = _utf8(wanted)
        # A text wider than all keys would have them all copied to its width. What is cut is not
        # equal below.
        narrow = wanted.astype(self.keys.dtype) if self.keys_are_text else wanted
        at = np.searchsorted(self._fence, narrow, side="right") - 1
        at = np.maximum(at, 0) * _STRIDE
        step = _STRIDE // 2
        while step:
            further = np.minimum(at + step, len(self.keys) - 1)
            at = np.where(self.keys[further] <= narrow, further, at)
            step //= 2
        return np.where(self.keys[at] == wanted, at, -1).astype(np.int64, copy=False)

    def as_of_us(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """
        Give the date of each row of the table: int64 microseconds since 1970.

        `rows` are rows of `matrix`; the -1 of an absent key is none. Raises IndexError for what
        is no row, and TableInvalid where the table has no date.
        """
        if self.as_of is None:
            msg = "the table has no as_of"
            raise TableInvalid(msg)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            msg = f"rows {rows.min()} to {rows.max()} are not all of {len(self)}"
            raise IndexError(msg)
        if self.row_as_of_us is not None:
            return self.row_as_of_us[rows]
        of_all = (self.as_of - _EPOCH) // timedelta(microseconds=1)
        return np.full(len(rows), of_all, dtype=np.int64)


def encoded_keys(keys: Keys) -> NDArray[Any]:
    """
    Give keys as a table holds them: int64, or text as UTF-8, a quarter of NumPy's own size.

    Bytes are taken to be UTF-8 already.
    Raises TableInvalid where they are neither, or a text is longer than LONGEST_KEY.
    """
    found = np.asarray(keys)
    if found.dtype.kind == "i":
        return found.astype(np.int64, copy=False)
    if found.dtype.kind == "S":
        return found
    if found.dtype.kind != "U":
        msg = f"keys are int64 or text, not {found.dtype}"
        raise TableInvalid(msg)
    long = np.flatnonzero(np.strings.str_len(found) > LONGEST_KEY)
    if long.size:
        msg = f"key {found[long[0]]!s} has more than {LONGEST_KEY} characters"
        raise TableInvalid(msg)
    return _utf8(found)


def order_of(keys: NDArray[Any]) -> NDArray[np.intp] | None:
    """Give the order that sorts keys, None where they are sorted; refuse one that stands twice."""
    if len(keys) < 2 or bool((keys[1:] > keys[:-1]).all()):
        return None
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
    if repeated.size:
        key = ordered[repeated[0]]
        msg = f"key {key.decode() if isinstance(key, bytes) else key!s} stands twice"
        raise TableInvalid(msg)
    return order


def _utf8(texts: NDArray[Any]) -> NDArray[np.bytes_]:
    # A lone surrogate, which is no Unicode, matches no key; it must not end the worker.
    return np.strings.encode(texts, "utf-8", "surrogatepass")
