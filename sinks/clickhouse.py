"""The ClickHouse sink: blocks of rows into their tables, once in effect."""

import uuid

import pyarrow as pa

from sinks.blocks import Block
from sinks.store import ArrowRows, Store, StoreRefused


class ClickHouseSink:
    """
    Inserts blocks of rows.

    A row's key makes a repeated insert change nothing that is read through the views; the
    deduplication token, made over the exact rows, spares most repeats. Calls block.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known_releases: set[str] = set()

    def insert(self, block: Block, rows: range) -> None:
        """Insert some rows of a block at once; raises the store's errors."""
        part = block.rows.slice(rows.start, len(rows))
        self._store.insert(block.table, ArrowRows.of(part))

    def name_features(self, block: Block) -> None:
        """Insert the names of the features of releases that were not seen before."""
        for release, names in block.feature_names.items():
            if release not in self._known_releases:
                column = pa.array([list(names)], pa.list_(pa.string()))
                row = pa.table({"release": [release], "names": column})
                self._store.insert("release_features", ArrowRows.of(row))
                self._known_releases.add(release)

    def forget_releases(self) -> None:
        """Insert features' names anew: their table may be another than it was."""
        self._known_releases.clear()

    def takes_again(self, block: Block) -> bool:
        """
        Say whether the table takes a row that it took before; False where it has none.

        The row is in the table once more and, having the same key, changes nothing that is read.
        """
        schema = block.rows.schema
        columns = ", ".join(f"`{name}`" for name in schema.names)
        try:
            found = self._store.query(f"SELECT {columns} FROM {block.table} LIMIT 1")  # noqa: S608
            if not found.num_rows:
                return False
            row = pa.Table.from_pylist(found.to_pylist(), schema=schema)
            # A token of its own: with a known one the engine would not look at the row.
            self._store.insert(block.table, ArrowRows.of(row, uuid.uuid4().hex))
        except (StoreRefused, pa.ArrowException, UnicodeDecodeError):
            return False
        return True
