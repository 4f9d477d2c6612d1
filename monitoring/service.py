"""The status service: alive, ready or why not, numbers, and SQL where a store is hosted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from monitoring.status import NotReady, SqlFailed, Status, listen

_SQL_BYTES = 65_536
_SQL_SECONDS = 10.0  # for a query to arrive
_SQL_TOGETHER = 8
_ARROW = "application/vnd.apache.arrow.stream"
_SECONDS_TO_START_OR_STOP = 10.0
_LOOPBACK = ("127.0.0.1", "localhost")


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
        """Whether it can decide, or why not; `refused` where it goes on with what it had."""
        status = snapshot()
        return _verdict("ready", not status.not_ready, status.not_ready, status.refused)

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
    running = asyncio.BoundedSemaphore(_SQL_TOGETHER)

    @app.post("/api/v1/sql")
    async def sql(request: Request) -> Response:
        """Run a query, read-only: SQL as text in, an Arrow IPC stream out."""
        if running.locked():
            return _problem(503, f"{_SQL_TOGETHER} queries are running: ask again later")
        async with running:
            body = bytearray()
            try:
                async with asyncio.timeout(_SQL_SECONDS):
                    async for chunk in request.stream():
                        body += chunk
                        if len(body) > _SQL_BYTES:
                            return _problem(413, f"a query has at most {_SQL_BYTES} bytes")
            except TimeoutError:
                return _problem(408, f"no whole query within {_SQL_SECONDS:.0f} s")
            try:
                answer = await asyncio.to_thread(run_sql, body.decode())
            except (SqlFailed, UnicodeDecodeError) as error:
                return _problem(400, str(error))
        return Response(answer, media_type=_ARROW)


def _verdict(name: str, good: bool, reasons: list[NotReady], refused: str = "") -> JSONResponse:
    content: dict[str, Any] = {name: good, "reasons": [reason.model_dump() for reason in reasons]}
    if refused:
        content["refused"] = refused
    return JSONResponse(content, status_code=200 if good else 503)


def _problem(status: int, detail: str) -> JSONResponse:
    content = {
        "type": "urn:creditstream:problem:query-refused",
        "title": "query refused",
        "status": status,
        "detail": detail,
    }
    return JSONResponse(content, status_code=status, media_type="application/problem+json")


class _Server(uvicorn.Server):
    """uvicorn inside a process whose signals are the worker's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


@asynccontextmanager
async def served(app: FastAPI, host: str, port: int) -> AsyncIterator[int]:
    """
    Serve on the running event loop while the context lasts; give the port, chosen if it is 0.

    Listening on loopback it answers only to loopback's names: a page in the user's browser whose
    name was made to point here could otherwise read what SQL gives. Raises CannotListen.
    """
    # uvicorn would end the process where an address is taken, so it is handed an open socket.
    listening = listen(host, port)
    guarded = TrustedHostMiddleware(app, allowed_hosts=_LOOPBACK) if host in _LOOPBACK else app
    server = _Server(uvicorn.Config(guarded, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with asyncio.timeout(_SECONDS_TO_START_OR_STOP):
            while not server.started:
                if task.done():
                    task.result()
                await asyncio.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=_SECONDS_TO_START_OR_STOP)
        task.cancel()
        listening.close()
