"""ClickHouse: a server, or the engine in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa

from sinks.query_guard import CANONICAL_SQL, FORBIDDEN_FUNCTIONS_SQL, QueryForbidden, QueryGuard

TIMEOUT_SECONDS = 10
_ARROW_STREAM = "ArrowStream"
# Errors that pass by themselves (names in ClickHouse's ErrorCodes.cpp): memory, time, network,
# too many parts or queries, no space, no replica, a quota used up, a server on its way down.
_TRANSIENT = frozenset(
    {3, 75, 107, 159, 164, 198, 201, 202, 203, 209, 210, 236, 241, 242, 243, 252, 285, 319, 394}
    | {425, 439, 999}
)
_READER_SECONDS = 20
LONGEST_SECONDS = 30
# The limits must be sent before `readonly`, which forbids any further change. A result above the
# limit is an error: one that is cut would be taken for the whole.
READ_ONLY = {
    "max_execution_time": _READER_SECONDS,
    "max_result_rows": 100_000,
    "result_overflow_mode": "throw",
    "max_memory_usage": 2_000_000_000,
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


class Handle:
    """
    A client, and for the engine in process how to make another.

    What chDB had computed of a query that then failed, it gives as the answer to the next one on
    the same handle, whoever asks it. So a handle through which an error went is never used again.
    """

    def __init__(self, client: Any, reopen: Callable[[], Any] | None = None) -> None:
        self.client = client
        self._reopen = reopen
        self._lock = Lock()
        self._failed = False

    def ask(self, call: Callable[[Any], Any], *, transient: frozenset[int] = _TRANSIENT) -> Any:
        """Do something with the client; raises StoreUnavailable, StoreRefused."""
        if self._reopen is None:
            return _ask(partial(call, self.client), transient=transient)
        with self._lock:
            if self._failed:
                # Opened before the other is closed: the engine stays while it has one handle.
                failed, self.client = self.client, self._reopen()
                failed.close()
            self._failed = True  # until it has answered
            answer = _ask(partial(call, self.client), transient=transient)
            self._failed = False
            return answer

    def read(
        self,
        sql: str,
        parameters: dict[str, str] | None = None,
        *,
        transient: frozenset[int] = _TRANSIENT,
    ) -> pa.Table:
        """Run a query and read its result as Arrow."""

        def call(client: Any) -> Any:
            return client.raw_query(sql, parameters=parameters, fmt=_ARROW_STREAM)

        content = self.ask(call, transient=transient)
        return pa.ipc.open_stream(content).read_all() if content else pa.table({})


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """A store through clickhouse-connect: a server, or chDB in this process."""

    handle: Handle
    guard: QueryGuard | None = None

    def query(self, sql: str) -> pa.Table:
        """
        Run a query and read its result as Arrow.

        With a guard this is safe for a stranger's SQL: one statement that reads tables, within
        limits; anything else raises StoreRefused.
        """
        if self.guard is None:
            return self.handle.read(sql)
        canonical = self.handle.read(CANONICAL_SQL, {"sql": sql})["sql"][0].as_py()
        try:
            self.guard.check(canonical)
        except QueryForbidden as forbidden:
            raise StoreRefused(0, str(forbidden)) from None
        # Where a reader's query meets a limit, or would write, asking again changes nothing.
        return self.handle.read(canonical, transient=frozenset())

    def command(self, sql: str) -> None:
        """Run a statement."""
        self.handle.ask(lambda client: client.command(sql))

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert an Arrow table in one block."""
        settings = {
            "async_insert": 0,
            "insert_deduplication_token": token,
            # An event's month is its producer's to choose: a block may hold some thousand.
            "max_partitions_per_insert_block": 0,
        }
        # An insert whose reply is lost took effect and comes again: hence the token. (The driver
        # itself sends none again: an Arrow body is nothing that it can replay.)
        self.handle.ask(lambda client: client.insert_arrow(table, rows, settings=settings))

    def close(self) -> None:
        """Close the client, and with it an engine in process."""
        self.handle.client.close()


def _ask(call: Callable[[], Any], *, transient: frozenset[int] = _TRANSIENT) -> Any:
    from clickhouse_connect.driver import exceptions

    try:
        return call()
    except exceptions.DatabaseError as error:
        code = getattr(error, "code", None) or 0
        # Without a code it was the connection, not the engine, that said no.
        away = code == 0 and "Code: " not in str(error)
        if code in transient or (away and not isinstance(error, exceptions.ProgrammingError)):
            raise StoreUnavailable(str(error)) from error
        raise StoreRefused(code, str(error)) from error
    except (exceptions.Error, OSError) as error:
        raise StoreUnavailable(str(error)) from error


def open_store(
    url: str, *, user: str, password: str, database: str, read_only: bool = False
) -> ClickHouse:
    """
    Open `http(s)://host:port` or `chdb:///path`; `read_only` forbids writing, and bounds queries.

    A database that is not there is created, unless `read_only`.

    Raises StoreUnavailable where nobody answers, and where another process has the path;
    StoreRefused where a server knows no such user with that password.
    """
    embedded = url.startswith("chdb://")
    if embedded and read_only and not Path(url.removeprefix("chdb://")).is_dir():
        msg = f"there is no store at {url}"  # the engine would make one
        raise StoreUnavailable(msg)

    def connect() -> Any:
        client = _connect(url, user, password)
        _use(client, database, create=not read_only)
        # chDB keeps settings with the handle, so a reader has a handle of its own.
        for name, value in READ_ONLY.items() if read_only else ():
            client.set_client_setting(name, value)
        return client

    handle = Handle(connect(), connect if embedded else None)
    if not read_only:
        return ClickHouse(handle)
    table_functions, functions = handle.read(FORBIDDEN_FUNCTIONS_SQL).columns
    guard = QueryGuard(set(table_functions[0].as_py()), set(functions[0].as_py()))
    return ClickHouse(handle, guard)


def _connect(url: str, user: str, password: str) -> Any:
    import clickhouse_connect

    try:
        if url.startswith("chdb://"):
            path = url.removeprefix("chdb://")
            return clickhouse_connect.get_client(interface="chdb", path=path)
        # Not `dsn=url`: of that the driver takes no scheme, and speaks plain HTTP to https.
        place = urlsplit(url)
        return clickhouse_connect.get_client(
            interface=place.scheme,
            host=place.hostname,
            port=place.port or 0,
            username=user,
            password=password,
            connect_timeout=TIMEOUT_SECONDS,
            # The server speaks first where a reader's query takes too long.
            send_receive_timeout=LONGEST_SECONDS,
            query_retries=0,
            autogenerate_session_id=False,
        )
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("clickhouse_connect", "chdb", "urllib3"):
            raise
        msg = f"cannot open the store {url}: {error}"
        if url.startswith("chdb://"):
            msg += "; one process at a time may have it open: the sink's, while that runs"
        code = getattr(error, "code", None) or 0
        if code and code not in _TRANSIENT:
            raise StoreRefused(code, msg) from error
        raise StoreUnavailable(msg) from error


def _use(client: Any, database: str, *, create: bool) -> None:
    from clickhouse_connect.driver.binding import quote_identifier

    name = quote_identifier(database)
    # Asked first, because `CREATE … IF NOT EXISTS` needs the right to create also where it exists.
    if create and not _ask(partial(client.command, f"EXISTS DATABASE {name}")):
        _ask(partial(client.command, f"CREATE DATABASE IF NOT EXISTS {name}"))
    client.database = database
