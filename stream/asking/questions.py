"""Questions to ClickHouse and to running processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import httpx
import pyarrow as pa

from sinks.door import SqlDoor, StoreNotHosted
from stream.settings import Settings
from stream.store import store_of


class Asked(Protocol):
    """What answers queries: a store, or the door of the process that hosts one."""

    def query(self, sql: str) -> pa.Table:
        """Run a query; raises StoreUnavailable, StoreRefused."""
        ...


@contextmanager
def asked(settings: Settings) -> Iterator[Asked]:
    """
    Give what answers queries, read-only.

    An embedded store that a running process hosts is asked through that process's door; one that
    nobody hosts is opened here. Raises StoreUnavailable, StoreRefused.
    """
    if settings.store.url.startswith("chdb://"):
        door = SqlDoor(settings.store.door)
        try:
            door.query("SELECT 1")
        except StoreNotHosted:
            pass
        else:
            yield door
            return
    store = store_of(settings, read_only=True)
    try:
        yield store
    finally:
        store.close()


def ask(settings: Settings, sql: str) -> pa.Table:
    """Run a query on what `asked` gives."""
    with asked(settings) as store:
        return store.query(sql)


def status_of(url: str) -> dict[str, Any] | None:
    """Ask a process for its status; None where nobody answers."""
    try:
        answer = httpx.get(f"{url}/status", timeout=2.0)
    except httpx.TransportError:
        return None
    found: dict[str, Any] = answer.json()
    return found
