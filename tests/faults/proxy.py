"""A TCP proxy between two neighbours, in a thread of its own, that can spoil the line."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Literal, Self

Line = Literal["whole", "silent", "deaf", "refused"]
"""
What becomes of bytes: `whole` passes them; `silent` passes none, though connections open; `deaf`
passes requests and no answer; `refused` lets nobody connect.
"""

_LARGEST = 65_536
_START_SECONDS = 5.0
# An RST instead of a FIN: linger on, for no time.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """
    Forwards connections from `port` to `target` on 127.0.0.1.

    Whenever the line changes, connections that are open are reset: what a spoiled one has swallowed
    is lost, as on a network.
    """

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.port = 0
        self._line: Line = "whole"
        self._delay_s = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)
        self._loop.close()

    def set(self, line: Line, delay_s: float = 0.0) -> None:
        """Change the line from now on; `delay_s` is added to all that passes, each way."""
        if (line, delay_s) != (self._line, self._delay_s):
            self._do(self._set(line, delay_s))

    def reset(self) -> None:
        """Reset all connections that are open."""
        self._do(self._reset())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _set(self, line: Line, delay_s: float) -> None:
        self._line, self._delay_s = line, delay_s
        await self._reset()
        if line == "refused":
            await self._close()
        elif self._server is None:
            await self._listen()

    async def _reset(self) -> None:
        for writer in list(self._open):
            found = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # closed by the other side meanwhile
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            self._open.discard(writer)
            writer.transport.abort()
            return
        self._open.add(there)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, there, answers=False))
                group.create_task(self._pump(there_reader, writer, answers=True))
        except* OSError:
            pass  # one side is gone, and so is the other
        finally:
            for one in (writer, there):
                self._open.discard(one)
                one.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(_LARGEST):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if self._line == "silent" or (self._line == "deaf" and answers):
                continue
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction
