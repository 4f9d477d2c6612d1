import asyncio
import signal

import httpx
import pytest
from prometheus_client import CollectorRegistry

from monitoring.service import served, status_api
from monitoring.status import CannotListen, Status

APP = status_api(lambda: Status(role="scoring", alive=True, not_ready=[]), CollectorRegistry())


async def test_it_answers_on_the_port_it_names_while_the_context_lasts() -> None:
    async with served(APP, "127.0.0.1", 0) as port, httpx.AsyncClient() as client:
        found = await client.get(f"http://127.0.0.1:{port}/livez")

    assert found.status_code == 200
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/livez")


async def test_it_leaves_the_processs_signals_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async with served(APP, "127.0.0.1", 0):
        during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    assert during == before


async def test_an_address_that_is_taken_is_named_and_ends_nothing() -> None:
    async with served(APP, "127.0.0.1", 0) as port:
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}.*in use"):
            async with served(APP, "127.0.0.1", port):
                pass


async def test_on_loopback_a_name_that_points_here_gets_no_answer() -> None:
    async with served(APP, "127.0.0.1", 0) as port, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}/status"
        statuses = [
            (await client.get(url, headers={"host": host})).status_code
            for host in (f"127.0.0.1:{port}", f"localhost:{port}", "rebound.example")
        ]

    assert statuses == [200, 200, 400]


async def test_elsewhere_any_name_will_do() -> None:
    async with served(APP, "0.0.0.0", 0) as port, httpx.AsyncClient() as client:
        found = await client.get(
            f"http://127.0.0.1:{port}/livez", headers={"host": "scoring-0.scoring"}
        )

    assert found.status_code == 200


async def test_the_loop_goes_on_beside_it() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with served(APP, "127.0.0.1", 0) as port, httpx.AsyncClient() as client:
        task = asyncio.create_task(turn())
        await client.get(f"http://127.0.0.1:{port}/status")
        task.cancel()

    assert turns > 1
