"""ClickHouse: a server, the engine in this process, or another process that hosts it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx
import msgspec
import pyarrow as pa

from sinks.query_guard import CANONICAL_SQL, FORBIDDEN_FUNCTIONS_SQL, QueryForbidden, QueryGuard

TIMEOUT_SECONDS = 10
SQL_PATH = "/api/v1/sql"
_ARROW_STREAM = "ArrowStream"
# Errors that pass by themselves (names in ClickHouse's ErrorCodes.cpp): memory, time, network,
# too many parts or queries, no space, no replica, a quota used up, a server on its way down.
_TRANSIENT = frozenset(
    {3, 75, 107, 159, 164, 198, 201, 202, 203, 209, 210, 236, 241, 242, 243, 252, 285, 319, 394}
    | {425, 439, 999}
)
_READER_SECONDS = 20
_LONGEST_SECONDS = 30
# The limits must be sent before `readonly`, which forbids any further change. A result above the
# limit is an error: one that is cut would be taken for the whole.
READ_ONLY = {
    "max_execution_time": _READER_SECONDS,
    "max_result_rows": 100_000,
    "result_overflow_mode": "throw",
    "max_memory_usage": 2_000_000_000,
    "readonly": 1,
}
_MISSING_DOOR = (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)


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
    guard: QueryGuard | None = None

    def query(self, sql: str) -> pa.Table:
        """
        Run a query and read its result as Arrow.

        With a guard this is safe for a stranger's SQL: one statement that reads tables, within
        limits; anything else raises StoreRefused.
        """
        if self.guard is None:
            return _read(self.client, sql)
        canonical = _read(self.client, CANONICAL_SQL, {"sql": sql})["sql"][0].as_py()
        try:
            self.guard.check(canonical)
        except QueryForbidden as forbidden:
            raise StoreRefused(0, str(forbidden)) from None
        # Where a reader's query meets a limit, or would write, asking again changes nothing.
        return _read(self.client, canonical, transient=frozenset())

    def command(self, sql: str) -> None:
        """Run a statement."""
        _ask(partial(self.client.command, sql))

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert an Arrow table in one block."""
        settings = {"async_insert": 0, "insert_deduplication_token": token}
        # An insert whose reply is lost took effect and comes again: hence the token. (The driver
        # itself sends none again: an Arrow body is nothing that it can replay.)
        _ask(partial(self.client.insert_arrow, table, rows, settings=settings))

    def close(self) -> None:
        """Close the client, and with it an engine in process."""
        self.client.close()


def _read(
    client: Any,
    sql: str,
    parameters: dict[str, str] | None = None,
    *,
    transient: frozenset[int] = _TRANSIENT,
) -> pa.Table:
    call = partial(client.raw_query, sql, parameters=parameters, fmt=_ARROW_STREAM)
    content = _ask(call, transient=transient)
    return pa.ipc.open_stream(content).read_all() if content else pa.table({})


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
                timeout=_LONGEST_SECONDS,
            )
        except httpx.TransportError as error:
            msg = f"no answer from {self.url}: {error}"
            raise StoreUnavailable(msg) from error
        if answer.status_code == httpx.codes.OK:
            return self._read(answer.content)
        detail = _detail(answer)
        # A process of another role answers there, or none of ours.
        missing = answer.status_code in _MISSING_DOOR
        if missing or answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise StoreUnavailable(detail)
        raise StoreRefused(0, detail)

    def _read(self, content: bytes) -> pa.Table:
        try:
            return pa.ipc.open_stream(content).read_all()
        except pa.ArrowException as error:
            msg = f"{self.url} answered with something other than a result: {error}"
            raise StoreUnavailable(msg) from error

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


def _detail(answer: httpx.Response) -> str:
    """Say what a refusal says: RFC 9457's `detail`, else the beginning of whatever was sent."""
    try:
        return msgspec.json.decode(answer.content, type=_Problem).detail
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"{answer.status_code} from {answer.url}: {answer.text[:200]}"


class _Problem(msgspec.Struct, frozen=True):
    detail: str


def open_store(
    url: str, *, user: str, password: str, database: str, read_only: bool = False
) -> ClickHouse:
    """
    Open `http(s)://host:port` or `chdb:///path`; `read_only` forbids writing, and bounds queries.

    A database that is not there is created, unless `read_only`.

    Raises StoreUnavailable where nobody answers, and where another process has the path;
    StoreRefused where a server knows no such user with that password.
    """
    import clickhouse_connect

    embedded, path = url.startswith("chdb://"), url.removeprefix("chdb://")
    if embedded and read_only and not Path(path).is_dir():  # the engine would make one
        msg = f"there is no store at {url}"
        raise StoreUnavailable(msg)
    try:
        if embedded:
            client = clickhouse_connect.get_client(interface="chdb", path=path)
        else:
            client = clickhouse_connect.get_client(
                dsn=url,
                username=user,
                password=password,
                connect_timeout=TIMEOUT_SECONDS,
                # The server speaks first where a reader's query takes too long.
                send_receive_timeout=_LONGEST_SECONDS,
                query_retries=0,
                autogenerate_session_id=False,
            )
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("clickhouse_connect", "chdb", "urllib3"):
            raise
        msg = f"cannot open the store {url}: {error}"
        code = getattr(error, "code", None) or 0
        if code and code not in _TRANSIENT:
            raise StoreRefused(code, msg) from error
        raise StoreUnavailable(msg) from error
    _use(client, database, create=not read_only)
    if not read_only:
        return ClickHouse(client)
    # chDB keeps settings with the handle, so a reader has a handle of its own, and keeps it.
    for name, value in READ_ONLY.items():
        client.set_client_setting(name, value)
    table_functions, functions = _read(client, FORBIDDEN_FUNCTIONS_SQL).columns
    return ClickHouse(
        client, QueryGuard(set(table_functions[0].as_py()), set(functions[0].as_py()))
    )


def _use(client: Any, database: str, *, create: bool) -> None:
    from clickhouse_connect.driver.binding import quote_identifier

    name = quote_identifier(database)
    # Asked first, because `CREATE … IF NOT EXISTS` needs the right to create also where it exists.
    if create and not _ask(partial(client.command, f"EXISTS DATABASE {name}")):
        _ask(partial(client.command, f"CREATE DATABASE IF NOT EXISTS {name}"))
    client.database = database
