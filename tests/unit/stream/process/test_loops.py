"""The loops of a worker, and peers that do not answer."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.process.loops import LoopPolicy
from tests.certificates import Authority

PATIENCE_S = 15.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def deaf(authority: Authority) -> Iterator[int]:
    """The port of one who shakes hands and then reads nothing, not even that it is over."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate("deaf"))
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def shake_hands() -> None:
            connection, _ = listening.accept()
            with context.wrap_socket(connection, server_side=True):
                over.wait(PATIENCE_S * 2)

        server = threading.Thread(target=shake_hands)
        server.start()
        yield listening.getsockname()[1]
        over.set()
        server.join()


def test_a_connection_ends_though_its_peer_never_answers(deaf: int, authority: Authority) -> None:
    trusted = ssl.create_default_context(cafile=authority.cafile)

    async def come_and_go() -> float:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection("127.0.0.1", deaf, ssl=trusted)
            began = time.monotonic()
            writer.close()
            with pytest.raises(TimeoutError):
                await writer.wait_closed()
            return time.monotonic() - began

    with asyncio.Runner(loop_factory=LoopPolicy().new_event_loop) as runner:
        assert runner.run(come_and_go()) < PATIENCE_S / 2


def test_a_loop_that_closes_drops_what_still_waits_for_its_peer(
    deaf: int, authority: Authority
) -> None:
    """Else libuv's loop warns of it, and where warnings are errors, remains open."""
    trusted = ssl.create_default_context(cafile=authority.cafile)

    async def come_and_leave_at_once() -> None:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection("127.0.0.1", deaf, ssl=trusted)
            writer.close()

    with asyncio.Runner(loop_factory=LoopPolicy().new_event_loop) as runner:
        loop = runner.get_loop()
        runner.run(come_and_leave_at_once())

    assert loop.is_closed()


def test_to_write_on_a_connection_that_was_lost_is_a_connection_error() -> None:
    """Of another error, such as libuv's loop raises, aiokafka's fetcher ends for good."""

    async def write_when_lost(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"before")
        await writer.drain()
        writer.transport.abort()
        await asyncio.sleep(0.01)  # until it is closed
        with pytest.raises(ConnectionError):
            writer.write(b"after")

    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        asyncio.Runner(loop_factory=LoopPolicy().new_event_loop) as runner,
    ):
        runner.run(write_when_lost(listening.getsockname()[1]))
