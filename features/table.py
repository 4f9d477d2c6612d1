"""The feature table: every known applicant's features in memory, immutable, replaced whole."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from features.schema import FeatureSchema


class TableInvalid(Exception):
    """Keys and matrix make no feature table: says why, naming a key."""


class FeatureTable:
    """
    Applicant key to feature row.

    `keys` are int64 or text, `matrix` is float32 of shape (len(keys), features). Both are held
    sorted by key and read-only; a look-up is a binary search, so memory is the matrix and the
    keys. `as_of` is the data's date (aware, UTC) and `digest` names the content.
    """

    __slots__ = ("_keys", "as_of", "digest", "matrix", "schema")

    def __init__(
        self,
        schema: FeatureSchema,
        keys: NDArray[np.int64] | NDArray[np.str_] | Sequence[str],
        matrix: NDArray[np.float32],
        *,
        as_of: datetime | None = None,
        digest: str = "",
    ) -> None:
        found = np.asarray(keys)
        if found.dtype.kind not in "iU":
            msg = f"keys are int64 or text, not {found.dtype}"
            raise TableInvalid(msg)
        if found.dtype.kind == "i":
            found = found.astype(np.int64, copy=False)
        if matrix.shape != (len(found), len(schema.names)) or matrix.dtype != np.float32:
            msg = f"{len(found)} keys and {len(schema.names)} features, but {matrix.shape} values"
            raise TableInvalid(msg)
        if len(found) > 1 and not bool((found[1:] > found[:-1]).all()):
            order = np.argsort(found, kind="stable")
            found, matrix = found[order], matrix[order]
            repeated = np.flatnonzero(found[1:] == found[:-1])
            if repeated.size:
                msg = f"key {found[repeated[0]]!s} stands twice"
                raise TableInvalid(msg)
        self.schema = schema
        self._keys = np.ascontiguousarray(found)
        self.matrix = np.ascontiguousarray(matrix)
        self._keys.flags.writeable = False
        self.matrix.flags.writeable = False
        self.as_of = as_of
        self.digest = digest

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keys_are_text(self) -> bool:
        """Whether look-ups go by text (an applicant_id) or by int64 (an application_id)."""
        return self._keys.dtype.kind == "U"

    def rows(self, keys: NDArray[np.generic] | Sequence[int] | Sequence[str]) -> NDArray[np.int64]:
        """
        Give each key's row in `matrix`: int64 of the length of `keys`, -1 where absent.

        >>> from features.schema import Feature
        >>> schema = FeatureSchema((Feature("age"),))
        >>> table = FeatureTable(schema, np.array([7, 3]), np.float32([[41], [29]]))
        >>> table.rows([3, 5, 7]).tolist()
        [0, -1, 1]
        """
        wanted = np.asarray(keys)
        if not len(self._keys) or not wanted.size:
            return np.full(wanted.size, -1, dtype=np.int64)
        at = np.searchsorted(self._keys, wanted)
        at[at == len(self._keys)] = 0
        return np.where(self._keys[at] == wanted, at, -1).astype(np.int64, copy=False)
