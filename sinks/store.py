"""ClickHouse: a server over HTTP, the real engine in process, or a running process that hosts it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import httpx
import pyarrow as pa

TIMEOUT_SECONDS = 10
SQL_PATH = "/api/v1/sql"
_ARROW_STREAM = "ArrowStream"
# Errors that pass by themselves (names in ClickHouse's ErrorCodes.cpp): memory, time, network,
# too many parts or queries, no space, no replica.
_TRANSIENT = frozenset(
    {3, 107, 159, 164, 202, 203, 209, 210, 241, 242, 243, 252, 285, 319, 425, 999}
)
_READONLY_CODE = 164
# The limits must be sent before `readonly`, which forbids any further change.
READ_ONLY = {
    "max_execution_time": 20,
    "max_result_rows": 100_000,
    "result_overflow_mode": "break",
    "readonly": 1,
}


class StoreUnavailable(Exception):
    """ClickHouse is away or overloaded: back off and try again."""


class StoreRefused(Exception):
    """ClickHouse understood and said no; trying again changes nothing."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Store(Protocol):
    """What can be asked of ClickHouse. Calls block; use a thread. Errors: the two above."""

    def query(self, sql: str) -> pa.Table:
        """Run a query."""
        ...

    def command(self, sql: str) -> None:
        """Run a statement without a result."""
        ...

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows; the same token is inserted once. The token must name the exact rows."""
        ...

    def close(self) -> None:
        """Let go of connection or engine."""
        ...


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """A store through clickhouse-connect: a server, or chDB in this process."""

    client: Any
    read_only: bool = False

    def query(self, sql: str) -> pa.Table:
        """Run a query and read its result as Arrow."""
        call = partial(self.client.raw_query, sql, fmt=_ARROW_STREAM)
        # A server that is read-only for a while says the same code as a query that may not write.
        transient = _TRANSIENT - {_READONLY_CODE} if self.read_only else _TRANSIENT
        content = _ask(call, transient=transient)
        if not content:
            return pa.table({})
        return pa.ipc.open_stream(content).read_all()

    def command(self, sql: str) -> None:
        """Run a statement."""
        _ask(partial(self.client.command, sql))

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert an Arrow table in one block."""
        settings = {"async_insert": 0, "insert_deduplication_token": token}
        _ask(partial(self.client.insert_arrow, table, rows, settings=settings))

    def close(self) -> None:
        """Close the client, and with it an engine in process."""
        self.client.close()


def _ask(call: Callable[[], Any], *, transient: frozenset[int] = _TRANSIENT) -> Any:
    from clickhouse_connect.driver import exceptions

    try:
        return call()
    except exceptions.DatabaseError as error:
        code = getattr(error, "code", None) or 0
        # Without a code it was the connection, not the engine, that said no.
        if code in transient or (code == 0 and "Code: " not in str(error)):
            raise StoreUnavailable(str(error)) from error
        raise StoreRefused(code, str(error)) from error
    except (exceptions.Error, OSError) as error:
        raise StoreUnavailable(str(error)) from error


@dataclass(frozen=True, slots=True)
class SqlDoor:
    """A store that can only be asked: through the status service of the process that hosts it."""

    url: str

    def query(self, sql: str) -> pa.Table:
        """Run a query; the process that hosts the store runs it read-only."""
        try:
            answer = httpx.post(
                self.url + SQL_PATH,
                content=sql.encode(),
                headers={"content-type": "text/plain"},
                timeout=TIMEOUT_SECONDS * 3,
            )
        except httpx.TransportError as error:
            msg = f"no answer from {self.url}: {error}"
            raise StoreUnavailable(msg) from error
        if answer.status_code == httpx.codes.OK:
            return pa.ipc.open_stream(answer.content).read_all()
        detail = answer.json().get("detail", answer.text)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise StoreUnavailable(detail)
        raise StoreRefused(0, detail)

    def command(self, sql: str) -> None:
        """Refuse: the door is for reading."""
        msg = f"the store behind {self.url} can only be read from here: {sql[:60]}"
        raise StoreRefused(0, msg)

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Refuse: the door is for reading."""
        msg = f"{len(rows)} rows for {table} ({token}): {self.url} can only be read from here"
        raise StoreRefused(0, msg)

    def close(self) -> None:
        """Nothing is held."""


def open_store(
    url: str, *, user: str, password: str, database: str, read_only: bool = False
) -> ClickHouse:
    """
    Open `http(s)://host:port` or `chdb:///path`; `read_only` forbids writing, and bounds queries.

    Raises StoreUnavailable where nobody answers, and where another process has the path.
    """
    import clickhouse_connect

    try:
        if url.startswith("chdb://"):
            path = url.removeprefix("chdb://")
            client = clickhouse_connect.get_client(interface="chdb", path=path)
        else:
            client = clickhouse_connect.get_client(
                dsn=url,
                username=user,
                password=password,
                database=database,
                connect_timeout=TIMEOUT_SECONDS,
                send_receive_timeout=TIMEOUT_SECONDS,
                query_retries=0,
                autogenerate_session_id=False,
            )
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("clickhouse_connect", "chdb", "urllib3"):
            raise
        msg = f"cannot open the store {url}: {error}"
        raise StoreUnavailable(msg) from error
    if read_only:
        # chDB keeps settings with the handle, so a reader has a handle of its own, and keeps it.
        for name, value in READ_ONLY.items():
            client.set_client_setting(name, value)
    return ClickHouse(client, read_only)
