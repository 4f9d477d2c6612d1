import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from monitoring.metrics import Metrics
from monitoring.service import status_api
from monitoring.status import NotReady, SqlFailed, Status

GOOD = Status(
    role="scoring",
    alive=True,
    started_at=datetime(2026, 11, 24, tzinfo=UTC),
    not_ready=[],
    release="r",
    lag={"credit.applications.v1/0": 7},
)
NO_KAFKA = NotReady(check="kafka", detail="no partition is assigned yet")


def asking(
    status: Status = GOOD,
    registry: CollectorRegistry | None = None,
    run_sql: Callable[[str], bytes] | None = None,
) -> httpx.AsyncClient:
    app: FastAPI = status_api(lambda: status, registry or CollectorRegistry(), run_sql)
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/livez", {"alive": True, "reasons": []}),
        ("/readyz", {"ready": True, "reasons": []}),
        ("/health", {"healthy": True, "reasons": []}),
    ],
)
async def test_a_process_that_is_well_says_so(path: str, answer: dict[str, object]) -> None:
    async with asking() as client:
        found = await client.get(path)

    assert (found.status_code, found.json()) == (200, answer)


async def test_one_that_is_not_ready_says_why_and_is_alive() -> None:
    async with asking(GOOD.model_copy(update={"not_ready": [NO_KAFKA]})) as client:
        live, ready, health = [await client.get(f"/{it}") for it in ("livez", "readyz", "health")]

    reasons = [{"check": "kafka", "detail": "no partition is assigned yet"}]
    assert live.status_code == 200
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "reasons": reasons})
    assert (health.status_code, health.json()) == (503, {"healthy": False, "reasons": reasons})


async def test_one_that_refuses_what_it_was_offered_is_ready_and_says_why() -> None:
    refusing = GOOD.model_copy(update={"refused": "t.parquet: 1 rows after 9"})
    async with asking(refusing) as client:
        ready, health = [await client.get(f"/{path}") for path in ("readyz", "health")]

    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "reasons": [], "refused": "t.parquet: 1 rows after 9"}
    assert health.json() == {"healthy": True, "reasons": []}


async def test_one_that_stands_still_is_not_alive() -> None:
    async with asking(GOOD.model_copy(update={"alive": False})) as client:
        live, ready, health = [await client.get(f"/{it}") for it in ("livez", "readyz", "health")]

    assert [live.status_code, ready.status_code, health.status_code] == [503, 200, 503]


async def test_the_status_is_everything_and_can_be_read_back() -> None:
    async with asking() as client:
        found = await client.get("/status")

    assert Status.model_validate_json(found.content) == GOOD


def test_a_number_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValidationError):
        Status(role="scoring", alive=True, not_ready=[], seconds_since_progress=float("nan"))


async def test_metrics_are_prometheus_text() -> None:
    metrics = Metrics.create()
    metrics.events_consumed.inc(3)

    async with asking(registry=metrics.registry) as client:
        found = await client.get("/metrics")

    assert found.headers["content-type"].startswith("text/plain; version=")
    assert "creditstream_events_consumed_total 3.0" in found.text.splitlines()


async def test_the_documentation_is_there() -> None:
    async with asking(run_sql=str.encode) as client:
        page, described = await client.get("/docs"), await client.get("/openapi.json")

    assert page.status_code == 200
    assert set(described.json()["paths"]) == {
        *("/livez", "/readyz", "/health", "/status", "/metrics", "/api/v1/sql")
    }


async def test_without_a_store_there_is_no_path_for_sql() -> None:
    async with asking() as client:
        found = await client.post("/api/v1/sql", content="SELECT 1")

    assert found.status_code == 404


async def test_a_query_gives_an_arrow_stream() -> None:
    async with asking(run_sql=lambda sql: f"arrow of {sql}".encode()) as client:
        found = await client.post("/api/v1/sql", content="SELECT 'ä'")

    assert (found.status_code, found.content) == (200, "arrow of SELECT 'ä'".encode())
    assert found.headers["content-type"] == "application/vnd.apache.arrow.stream"


def refuse(sql: str) -> bytes:
    msg = f"no such table in {sql}"
    raise SqlFailed(msg)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"SELECT", 400, "no such table in SELECT"),
        (b"\xff", 400, "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b" " * 65_537, 413, "a query has at most 65536 bytes"),
    ],
)
async def test_a_query_that_fails_is_a_problem_document(
    body: bytes, status: int, detail: str
) -> None:
    async with asking(run_sql=refuse) as client:
        found = await client.post("/api/v1/sql", content=body)

    assert found.headers["content-type"] == "application/problem+json"
    assert found.status_code == status
    assert found.json() == {
        "type": "urn:creditstream:problem:query-refused",
        "title": "query refused",
        "status": status,
        "detail": detail,
    }


async def test_of_a_flood_of_queries_some_run_and_the_rest_is_told_to_come_again() -> None:
    answer = threading.Event()
    started = threading.Semaphore(0)

    def slow(sql: str) -> bytes:
        started.release()
        answer.wait(30)
        return sql.encode()

    async with asking(run_sql=slow) as client, asyncio.TaskGroup() as flood:
        asked = [flood.create_task(client.post("/api/v1/sql", content=b"x")) for _ in range(40)]
        await asyncio.to_thread(started.acquire)
        alive = await client.get("/livez")
        answer.set()

    statuses = [found.result().status_code for found in asked]
    assert alive.status_code == 200
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 8
