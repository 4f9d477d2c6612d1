"""One embedded ClickHouse for these tests: a process may open one path at a time."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sinks.migrations import migrate
from sinks.store import ClickHouse, open_store

Open = Callable[..., ClickHouse]


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("chdb")
    path: Path = tmp_path_factory.mktemp("chdb")
    url = f"chdb://{path}"
    # While this handle is open the engine stays, whatever a test closes.
    kept = open_store(url, user="", password="", database="default")
    yield url
    kept.close()


@pytest.fixture
def opened(engine: str) -> Iterator[Open]:
    """Opens stores on a database of the test's own; closes them after it."""
    database = f"test_{uuid.uuid4().hex}"
    stores: list[ClickHouse] = []

    def open_one(*, read_only: bool = False) -> ClickHouse:
        store = open_store(engine, user="", password="", database=database, read_only=read_only)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Open) -> ClickHouse:
    """A store whose tables and views are there."""
    found = opened()
    migrate(found)
    return found
