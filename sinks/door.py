"""The door to an embedded store: the status service of the process that hosts it."""

from dataclasses import dataclass

import httpx
import msgspec
import pyarrow as pa

from sinks.store import LONGEST_SECONDS, ArrowRows, StoreRefused, StoreUnavailable

SQL_PATH = "/api/v1/sql"
_MISSING_DOOR = (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)


class StoreNotHosted(StoreUnavailable):
    """No process has the embedded store behind a door, so that it can be opened here."""


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
                timeout=LONGEST_SECONDS,
            )
        except httpx.TransportError as error:
            msg = f"no answer from {self.url}: {error}"
            # Slow is not gone.
            gone = not isinstance(error, httpx.TimeoutException)
            raise (StoreNotHosted if gone else StoreUnavailable)(msg) from error
        if answer.status_code == httpx.codes.OK:
            return self._read(answer.content)
        detail = _detail(answer)
        # A process of another role answers there, or none of ours.
        if answer.status_code in _MISSING_DOOR:
            raise StoreNotHosted(detail)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
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

    def insert(self, table: str, rows: ArrowRows) -> None:
        """Refuse: the door is for reading."""
        msg = f"rows for {table} ({rows.token}): {self.url} can only be read from here"
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
