"""ClickHouse for these tests: one embedded, as a process may open one path, and one over HTTP."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sinks.migrations import migrate
from sinks.store import ClickHouse, open_store
from tests.clickhouse import ChdbServer, Server

Open = Callable[..., ClickHouse]


@contextmanager
def stores_on(server: Server) -> Iterator[Open]:
    """Give what opens stores on a new database of a server; close them and drop it in the end."""
    database = f"test_{uuid.uuid4().hex}"
    stores: list[ClickHouse] = []

    def open_one(*, read_only: bool = False) -> ClickHouse:
        store = server.open(database, read_only=read_only)
        stores.append(store)
        return store

    yield open_one
    if stores:
        stores[0].command(f"DROP DATABASE IF EXISTS {database}")
    for store in stores:
        store.close()


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
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


@pytest.fixture
def served(clickhouse_server: Server) -> Iterator[Open]:
    """Opens stores over HTTP on a database of the test's own; takes it away after it."""
    with stores_on(clickhouse_server) as open_one:
        yield open_one


@pytest.fixture
def served_store(served: Open) -> ClickHouse:
    """A store over HTTP whose tables and views are there."""
    found = served()
    migrate(found)
    return found


@pytest.fixture
def breakable(chdb_server: ChdbServer) -> Iterator[ClickHouse]:
    """A store over HTTP, its tables there, whose server `chdb_server` kills and makes to fail."""
    with stores_on(chdb_server.server) as open_one:
        found = open_one()
        migrate(found)
        yield found
        chdb_server.mend()  # a failed test may have left it dead
