"""ClickHouse: a server, or the engine in this process."""

import errno
import hashlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa

from sinks.query_guard import CANONICAL_SQL, FORBIDDEN_FUNCTIONS_SQL, QueryForbidden, QueryGuard
from sinks.refusals import Cause, passing

TIMEOUT_SECONDS = 10
# For the engine in process the driver writes a file of its own.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ARROW_STREAM = "ArrowStream"
_TOKEN_DIGITS = 32
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
    """ClickHouse is away or overloaded, by its `cause`: back off and try again."""

    def __init__(self, message: str, cause: Cause = "away") -> None:
        super().__init__(message)
        self.cause = cause


class StoreRefused(Exception):
    """ClickHouse understood and said no; trying again changes nothing."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Certificates:
    """
    PEM files for https: whom to trust, and our own certificate with its key.

    Without the first, whom the system trusts; with the second and no password, it tells the user.
    """

    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None


SYSTEMS_OWN = Certificates()
"""Whom the system trusts, and no certificate of ours."""


@dataclass(frozen=True, slots=True)
class ArrowRows:
    """
    Rows as an Arrow stream, written once for all that is done with them.

    The `token` names exactly these rows, unless it is given.
    """

    columns: tuple[str, ...]
    content: pa.Buffer
    token: str

    @classmethod
    def of(cls, rows: pa.Table, token: str | None = None) -> "ArrowRows":
        """Write rows; the same rows get the same token."""
        content = _stream(rows.unify_dictionaries().combine_chunks())
        digest = token or hashlib.sha256(content).hexdigest()[:_TOKEN_DIGITS]
        return cls(tuple(rows.schema.names), content, digest)

    def table(self) -> pa.Table:
        """Read them back."""
        return pa.ipc.open_stream(self.content).read_all()


class Store(Protocol):
    """What can be asked of ClickHouse. Calls block; use a thread. Errors: the two above."""

    def query(self, sql: str) -> pa.Table:
        """Run a query."""
        ...

    def command(self, sql: str) -> None:
        """Run a statement without a result."""
        ...

    def insert(self, table: str, rows: ArrowRows) -> None:
        """Insert rows; the same token is inserted once."""
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

    @property
    def embedded(self) -> bool:
        """Whether the engine is in this process."""
        return self._reopen is not None

    def ask(self, call: Callable[[Any], Any], *, may_pass: bool = True) -> Any:
        """Do something with the client; raises StoreUnavailable, StoreRefused."""
        if self._reopen is None:
            return _ask(partial(call, self.client), may_pass=may_pass)
        with self._lock:
            if self._failed:
                # Opened before the other is closed: the engine stays while it has one handle.
                failed, self.client = self.client, self._reopen()
                failed.close()
            self._failed = True  # until it has answered
            answer = _ask(partial(call, self.client), may_pass=may_pass)
            self._failed = False
            return answer

    def read(
        self,
        sql: str,
        parameters: dict[str, str] | None = None,
        *,
        may_pass: bool = True,
    ) -> pa.Table:
        """Run a query and read its result as Arrow."""

        def call(client: Any) -> Any:
            return client.raw_query(sql, parameters=parameters, fmt=_ARROW_STREAM)

        content = self.ask(call, may_pass=may_pass)
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
        return self.handle.read(canonical, may_pass=False)

    def command(self, sql: str) -> None:
        """Run a statement."""
        self.handle.ask(lambda client: client.command(sql))

    def insert(self, table: str, rows: ArrowRows) -> None:
        """Insert an Arrow stream in one block."""
        settings = {
            "async_insert": 0,
            "insert_deduplication_token": rows.token,
            # An event's month is its producer's to choose: a block may hold some thousand.
            "max_partitions_per_insert_block": 0,
            # One block is work for one thread: the engine's others cost more than they do.
            "max_threads": 1,
        }
        content = rows.content if self.handle.embedded else _stream(rows.table(), "lz4")

        def call(client: Any) -> None:
            columns, block = rows.columns, memoryview(content)
            client.raw_insert(table, columns, block, settings, _ARROW_STREAM)

        # An insert whose reply is lost took effect and comes again: hence the token. (The driver
        # itself sends bytes again, where a line is cut, but never a memoryview.)
        self.handle.ask(call)

    def close(self) -> None:
        """Close the client, and with it an engine in process."""
        self.handle.client.close()


def _stream(rows: pa.Table, compression: str | None = None) -> pa.Buffer:
    stream = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(stream, rows.schema, options=options) as writer:
        writer.write_table(rows)
    return stream.getvalue()


def _ask(call: Callable[[], Any], *, may_pass: bool = True) -> Any:
    from clickhouse_connect.driver import exceptions

    try:
        return call()
    except exceptions.DatabaseError as error:
        code = getattr(error, "code", None) or 0
        cause = passing(code, str(error)) if may_pass else None
        if cause is not None:
            raise StoreUnavailable(str(error), cause) from error
        # Without a code it was the connection, not the engine, that said no.
        away = code == 0 and "Code: " not in str(error)
        if away and not isinstance(error, exceptions.ProgrammingError):
            raise StoreUnavailable(str(error)) from error
        raise StoreRefused(code, str(error)) from error
    except (exceptions.Error, OSError) as error:
        full = isinstance(error, OSError) and error.errno in _NO_SPACE
        raise StoreUnavailable(str(error), "disk_full" if full else "away") from error


def open_store(
    url: str,
    *,
    user: str,
    password: str,
    database: str,
    certificates: Certificates = SYSTEMS_OWN,
    read_only: bool = False,
) -> ClickHouse:
    """
    Open `http(s)://host:port` or `chdb:///path`; `read_only` forbids writing, and bounds queries.

    A database that is not there is created, unless `read_only`.

    Raises StoreUnavailable where nobody answers, and where another process has the path;
    StoreRefused where a server knows no such user with that password, or where its certificate or
    ours is not accepted.
    """
    embedded = url.startswith("chdb://")
    if embedded and read_only and not Path(url.removeprefix("chdb://")).is_dir():
        msg = f"there is no store at {url}"  # the engine would make one
        raise StoreUnavailable(msg)

    def connect() -> Any:
        client = _connect(url, user, password, certificates)
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


def _connect(url: str, user: str, password: str, certificates: Certificates) -> Any:
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
            **_tls_options(certificates, password),
        )
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("clickhouse_connect", "chdb", "urllib3"):
            raise
        msg = f"cannot open the store {url}: {error}"
        if url.startswith("chdb://"):
            msg += "; one process at a time may have it open: the sink's, while that runs"
        code = getattr(error, "code", None) or 0
        cause = passing(code, msg)
        if code and cause is None:
            raise StoreRefused(code, msg) from error
        if refused := _tls_refusal(error):
            msg = f"cannot open the store {url}: {refused}"
            raise StoreRefused(0, msg) from None
        if any(isinstance(one, ssl.SSLEOFError) for one in _causes(error)):
            # So a server ends that wants a certificate, and one that is on its way down.
            msg = f"cannot open the store {url}: it hung up; does it ask for our certificate?"
        raise StoreUnavailable(msg, cause or "away") from error


def _tls_options(certificates: Certificates, password: str) -> dict[str, Any]:
    """Give the driver's options; it checks the server's certificate and name unless told not to."""
    files = {
        "ca_cert": certificates.cafile,
        "client_cert": certificates.certfile,
        "client_cert_key": certificates.keyfile,
    }
    options: dict[str, Any] = {name: str(path) for name, path in files.items() if path is not None}
    if certificates.certfile is not None:
        # `mutual` lets the certificate tell the user, `strict` leaves that to the password.
        options["tls_mode"] = "strict" if password else "mutual"
    return options


def _tls_refusal(error: BaseException) -> str:
    """Say in a line who refuses whose certificate; nothing where it is about something else."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is refused ({cause.verify_message.rstrip('.')})"
        reason = getattr(cause, "reason", None) if isinstance(cause, ssl.SSLError) else None
        if reason and "ALERT" in reason:
            return f"it refuses our certificate ({reason})"
        if reason and "WRONG_VERSION" in reason:
            return f"it does not speak TLS ({reason})"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 20:
        yield error
        # urllib3 gives its own errors a reason, which is the error below.
        below = getattr(error, "reason", None)
        yield from (one for one in (below, *error.args) if isinstance(one, ssl.SSLError))
        error, seen = error.__cause__ or error.__context__, seen + 1


def _use(client: Any, database: str, *, create: bool) -> None:
    from clickhouse_connect.driver.binding import quote_identifier

    name = quote_identifier(database)
    # Asked first, because `CREATE … IF NOT EXISTS` needs the right to create also where it exists.
    if create and not _ask(partial(client.command, f"EXISTS DATABASE {name}")):
        _ask(partial(client.command, f"CREATE DATABASE IF NOT EXISTS {name}"))
    client.database = database
