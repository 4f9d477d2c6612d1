"""What a process says of itself, and where."""

import socket
from datetime import datetime

from pydantic import BaseModel, ConfigDict


class NotReady(BaseModel):
    """A check that says no, and why."""

    model_config = ConfigDict(frozen=True)

    check: str
    detail: str


class Status(BaseModel):
    """
    What a process says of itself; `lag` is in records, by topic/partition.

    `refused` says why the release or feature table that now lies there was not taken over.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    role: str
    alive: bool
    started_at: datetime | None = None
    not_ready: list[NotReady]
    delivery: str | None = None
    release: str | None = None
    feature_table_rows: int | None = None
    feature_table_digest: str | None = None
    features_as_of: str | None = None
    refused: str = ""
    lag: dict[str, int] = {}
    counters: dict[str, float] = {}
    seconds_since_progress: float = 0.0


class SqlFailed(Exception):
    """A query that a user sent was refused; says why."""


class CannotListen(Exception):
    """The status service's address is taken or is not this machine's."""


def check_address(host: str, port: int) -> None:
    """See that the service could listen there now; raises CannotListen."""
    listen(host, port).close()


def listen(host: str, port: int) -> socket.socket:
    """Listen there; raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = f"{error.strerror or error}; set CREDITSTREAM_STATUS__PORT"
        msg = f"cannot listen on {host}:{port}: {why}"
        raise CannotListen(msg) from error
