"""
ClickHouse's HTTP interface over chDB, as far as clickhouse-connect needs it, with faults to order.

    python -P chdb_server.py FOLDER PORT USER PASSWORD [CERTIFICATE [AUTHORITY]]

The real engine behind the real client, but not ClickHouse's own server: one user who may do
everything, no sessions, answers uncompressed, and a body must say its length. It serves on
127.0.0.1, on a free port where PORT is 0, and says `listening on PORT` when it does. What was
acknowledged is in FOLDER, and is there again after a kill. `POST /faults` takes the faults to come;
`GET /busy` gives the number of statements under way.
With a CERTIFICATE (and its key, PEM) it speaks https; with an AUTHORITY it asks clients for one,
which may tell the user instead of a password.
It needs the standard library and chDB alone, so that it may run as a file.
"""

import base64
import binascii
import contextlib
import json
import random
import re
import ssl
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# What stands in the URL beside settings; the engine does not know these.
_NO_SETTINGS = frozenset(
    {"buffer_size", "client_protocol_version", "compress", "database", "decompress", "query"}
    | {"query_id", "quota_key", "role", "session_check", "session_id", "session_timeout"}
    | {"wait_end_of_query"}
)
_PARAMETER = "param_"
_INSERT = re.compile(
    r"\s*(INSERT\s+INTO\s.+?)\s+FORMAT\s+(\w+)[^\S\n]*\n", re.IGNORECASE | re.DOTALL
)
_CODE = re.compile(r"Code: (\d+)\. .*", re.DOTALL)
# Below the range that outgoing connections take theirs from: there, a client that tries the port of
# a stopped server again and again in the end connects to itself.
_PORTS = range(20_000, 32_000)
_NOT_ENOUGH_SPACE = 243
_STD_EXCEPTION, _AUTHENTICATION_FAILED = 1001, 516
# As ClickHouse's exceptionCodeToHTTPStatus.cpp, for codes that tests meet; all others are 500.
_STATUS = {
    6: HTTPStatus.BAD_REQUEST,
    62: HTTPStatus.BAD_REQUEST,
    47: HTTPStatus.NOT_FOUND,
    60: HTTPStatus.NOT_FOUND,
    81: HTTPStatus.NOT_FOUND,
    159: HTTPStatus.REQUEST_TIMEOUT,
    439: HTTPStatus.SERVICE_UNAVAILABLE,
    497: HTTPStatus.FORBIDDEN,
    _AUTHENTICATION_FAILED: HTTPStatus.FORBIDDEN,
}


@dataclass
class Fault:
    """
    What befalls the next `times` requests whose query holds `when`.

    With a `code` of ClickHouse's or an HTTP `status` they are refused and do nothing; with
    `lose_reply` they are done, and the connection is closed without an answer. Before anything
    else they wait for `delay_s` seconds.
    """

    when: str
    times: int
    code: int = 0
    status: int = 0
    lose_reply: bool = False
    delay_s: float = 0.0


class Refused(Exception):
    """A request has no result; says so in ClickHouse's way, if there is a `code`."""

    def __init__(self, message: str, code: int, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or _STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


class Engine:
    """The engine of this process, which has `folder` to itself."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._kept = self._connect()  # the engine stays as long as one handle does

    def _connect(self) -> Any:
        import chdb

        # Two packages bring this module, and which is installed last decides whether it has types.
        connect: Any = chdb.connect
        return connect(self._folder)

    def run(self, sql: str, data: bytes, url: Mapping[str, str]) -> bytes:
        """
        Run a statement, with settings, parameters and database from `url`; raises Refused.

        A handle of its own keeps a request's settings from all others.
        """
        handle = self._connect()
        try:
            if url.get("database"):
                handle.query("USE `{}`".format(url["database"].replace("`", "\\`")))
            settings = [
                name for name in url if name not in _NO_SETTINGS and not name.startswith(_PARAMETER)
            ]
            # A server checks all settings of a request before `readonly` forbids the change.
            for name in sorted(settings, key="readonly".__eq__):
                value = url[name].replace("\\", "\\\\").replace("'", "\\'")
                handle.query(f"SET {name} = '{value}'")
            if insert := _INSERT.match(sql + "\n"):
                self._insert(handle, insert[1], insert[2], sql[insert.end() :].encode() + data)
                return b""
            parameters = {
                name.removeprefix(_PARAMETER): value
                for name, value in url.items()
                if name.startswith(_PARAMETER)
            }
            answer: bytes = handle.query(sql, "TabSeparated", params=parameters).bytes()
        except OSError as error:
            msg = f"Code: {_NOT_ENOUGH_SPACE}. DB::Exception: {error} (NOT_ENOUGH_SPACE)"
            raise Refused(msg, _NOT_ENOUGH_SPACE) from error
        except Exception as error:
            found = _CODE.search(str(error))
            if found is None:
                msg = f"Code: {_STD_EXCEPTION}. DB::Exception: {error!r}"
                raise Refused(msg, _STD_EXCEPTION) from error
            raise Refused(found[0], int(found[1])) from error
        else:
            return answer or b""
        finally:
            handle.close()

    @staticmethod
    def _insert(handle: Any, statement: str, form: str, data: bytes) -> None:
        # Not `send_insert`: that says nothing of a commit that failed, as on a full disk.
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            handle.query(f"{statement} FROM INFILE '{file.name}' FORMAT {form}")


class Server(ThreadingHTTPServer):
    """The engine, its one user, the statements under way, and the faults to come."""

    daemon_threads = True

    def __init__(self, engine: Engine, port: int, user: str, password: str) -> None:
        self.engine = engine
        self.user, self.password = user, password
        self.busy = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def order(self, faults: list[Fault]) -> None:
        """Replace the faults to come."""
        with self._lock:
            self._faults = faults

    def fault_for(self, sql: str) -> Fault | None:
        """Take one that a request meets off the list."""
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fault.when in sql:
                    fault.times -= 1
                    return fault
        return None

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count what runs inside."""
        with self._lock:
            self.busy += 1
        try:
            yield
        finally:
            with self._lock:
                self.busy -= 1


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def do_GET(self) -> None:
        """Say that the server is there, or how busy."""
        if self.path == "/ping":
            self._answer(HTTPStatus.OK, b"Ok.\n")
        elif self.path == "/busy":
            self._answer(HTTPStatus.OK, f"{self.server.busy}\n".encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"There is no such page here.\n")

    def do_POST(self) -> None:
        """Run a statement, or take an order of faults."""
        try:
            body = self._body()
            if self.path == "/faults":
                self.server.order([Fault(**fault) for fault in json.loads(body)])
                answer: bytes | None = b""
            else:
                with self.server.counted():
                    answer = self._run(body)
        except Refused as refused:
            headers = {"X-ClickHouse-Exception-Code": str(refused.code)} if refused.code else {}
            self._answer(refused.status, f"{refused}\n".encode(), headers)
            return
        if answer is None:
            self.close_connection = True
        else:
            headers = {"X-ClickHouse-Format": "TabSeparated"} if answer else {}
            self._answer(HTTPStatus.OK, answer, headers)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the library's
        """Say nothing."""

    def _run(self, body: bytes) -> bytes | None:
        """Give the result of a statement; None where nobody shall hear of it."""
        url = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if self.headers.get_content_type() == "multipart/form-data":
            url |= _form(self.headers["Content-Type"], body)
            body = b""
        # A statement in the URL has its data in the body; else both stand in the body.
        sql, data = (url["query"], body) if "query" in url else _split(body)
        self._check_password()
        fault = self.server.fault_for(sql)
        if fault is not None:
            time.sleep(fault.delay_s)
            if fault.code or fault.status:
                code = f"Code: {fault.code}. DB::Exception: " if fault.code else ""
                msg = f"{code}as ordered by a test"
                raise Refused(msg, fault.code, fault.status)
        answer = self.server.engine.run(sql, data, url)
        return None if fault is not None and fault.lose_reply else answer

    def _body(self) -> bytes:
        if self.headers.get("Content-Encoding", "identity") != "identity":
            self.close_connection = True
            msg = "Code: 48. DB::Exception: this server takes no compressed body"
            raise Refused(msg, 48, HTTPStatus.NOT_IMPLEMENTED)
        if "Content-Length" not in self.headers:
            self.close_connection = True
            msg = "Code: 381. DB::Exception: a body must say its length"
            raise Refused(msg, 381, HTTPStatus.LENGTH_REQUIRED)
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _check_password(self) -> None:
        if self.headers.get("X-ClickHouse-SSL-Certificate-Auth") == "on":
            self._check_certificate()
            return
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        try:
            decoded = base64.b64decode(credentials).decode() if scheme == "Basic" else ""
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        user, _, password = decoded.partition(":")
        if (user, password) != (self.server.user, self.server.password):
            msg = (
                f"Code: {_AUTHENTICATION_FAILED}. DB::Exception: {user}: Authentication failed: "
                "password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)"
            )
            raise Refused(msg, _AUTHENTICATION_FAILED)

    def _check_certificate(self) -> None:
        shown = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else {}
        subject: Any = (shown or {}).get("subject", ())
        names = [value for name in subject for _, value in name]
        user = self.headers.get("X-ClickHouse-User", "")
        if [user] != names or user != self.server.user:
            msg = f"Code: {_AUTHENTICATION_FAILED}. DB::Exception: {user}: Authentication failed"
            raise Refused(msg, _AUTHENTICATION_FAILED)

    def _answer(
        self, status: int, content: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-ClickHouse-Query-Id", str(uuid.uuid4()))
        self.send_header("X-ClickHouse-Timezone", "UTC")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _split(body: bytes) -> tuple[str, bytes]:
    """Part a statement from the data that an INSERT carries after its first FORMAT line."""
    insert = _INSERT.match(body.decode("latin-1"))
    end = insert.end() if insert else len(body)
    return body[:end].decode(), body[end:]


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """Read what the client sends as a form when it is too long for a URL."""
    parts = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    found = {}
    for part in parts.walk():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if name is not None and isinstance(content, bytes):
            found[str(name)] = content.decode()
    return found


def _listening(engine: Engine, port: int, user: str, password: str) -> Server:
    if port:
        return Server(engine, port, user, password)
    while True:
        with contextlib.suppress(OSError):
            return Server(engine, random.choice(_PORTS), user, password)


def main(
    folder: str, port: str, user: str, password: str, certificate: str = "", authority: str = ""
) -> None:
    """Serve until killed."""
    engine = Engine(folder)
    with _listening(engine, int(port), user, password) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if authority:
                context.load_verify_locations(authority)
                context.verify_mode = ssl.CERT_REQUIRED
            server.socket = context.wrap_socket(server.socket, server_side=True)
        print(f"listening on {server.server_port}", flush=True)  # noqa: T201 - how we tell the port
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
