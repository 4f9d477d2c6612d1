"""The status service: alive, ready or why not, numbers, and SQL where a store is hosted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, ConfigDict

_SQL_BYTES = 65_536
_ARROW = "application/vnd.apache.arrow.stream"
_START_SECONDS = 10.0


class NotReady(BaseModel):
    """A check that says no, and why."""

    check: str
    detail: str


class Status(BaseModel):
    """What a process says of itself; `lag` is in records, by topic/partition."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    role: str
    alive: bool
    not_ready: list[NotReady]
    release: str | None = None
    feature_table_rows: int | None = None
    features_as_of: str | None = None
    lag: dict[str, int] = {}
    counters: dict[str, float] = {}
    seconds_since_progress: float = 0.0


class SqlFailed(Exception):
    """A query that a user sent was refused; says why."""


def status_api(
    snapshot: Callable[[], Status],
    registry: CollectorRegistry,
    run_sql: Callable[[str], bytes] | None = None,
) -> FastAPI:
    """
    Build the service. `snapshot` gives the present state and must not block.

    `run_sql` runs a query read-only, giving an Arrow IPC stream, or raises SqlFailed; without it
    there is no such path.
    """
    app = FastAPI(title="creditstream status", docs_url="/docs", redoc_url=None)

    @app.get("/livez")
    def livez() -> JSONResponse:
        """Whether the process makes progress; says nothing of its neighbours."""
        return _verdict("alive", snapshot().alive, [])

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Whether it can decide, or why not."""
        reasons = snapshot().not_ready
        return _verdict("ready", not reasons, reasons)

    @app.get("/health")
    def health() -> JSONResponse:
        """Both in one."""
        status = snapshot()
        return _verdict("healthy", status.alive and not status.not_ready, status.not_ready)

    @app.get("/status")
    def status() -> Status:
        """Everything."""
        return snapshot()

    @app.get("/metrics")
    def metrics() -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    if run_sql is not None:
        _add_sql(app, run_sql)
    return app


def _add_sql(app: FastAPI, run_sql: Callable[[str], bytes]) -> None:
    @app.post("/api/v1/sql")
    async def sql(request: Request) -> Response:
        """Run a query, read-only: SQL as text in, an Arrow IPC stream out."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _SQL_BYTES:
                return _problem(413, f"a query has at most {_SQL_BYTES} bytes")
        try:
            answer = await asyncio.to_thread(run_sql, body.decode())
        except (SqlFailed, UnicodeDecodeError) as error:
            return _problem(400, str(error))
        return Response(answer, media_type=_ARROW)


def _verdict(name: str, good: bool, reasons: list[NotReady]) -> JSONResponse:
    content: dict[str, Any] = {name: good, "reasons": [reason.model_dump() for reason in reasons]}
    return JSONResponse(content, status_code=200 if good else 503)


def _problem(status: int, detail: str) -> JSONResponse:
    return JSONResponse(
        {"type": "about:blank", "title": "query refused", "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )


@asynccontextmanager
async def served(app: FastAPI, host: str, port: int) -> AsyncIterator[int]:
    """Serve on the running event loop while the context lasts; give the port."""
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    # The process's signals are the worker's, not uvicorn's.
    task = asyncio.create_task(server._serve())  # noqa: SLF001 - `serve` would take the signals
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not server.started:
                if task.done():
                    task.result()
                await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=_START_SECONDS)
