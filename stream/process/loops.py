"""The event loops of a process: libuv's, with a bound on the end of TLS."""

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import uvloop

_CLOSING_SECONDS = 1.0
"""What a peer has to say that it heard of the end; libuv's loop would give it 30 s."""

_made: "WeakSet[Loop]" = WeakSet()


class Loop(uvloop.Loop):
    """
    A loop whose connections end as those who use them expect.

    By TLS they are dropped where the peer does not answer that they end. A broker that has an
    answer of its own under way often does not, and aiokafka waits for each connection before it has
    stopped: longer than a worker has to stop in.

    Those whose end is not heard of when the loop itself closes are dropped before. libuv's loop
    would warn of each, and log what their peers say later as errors.

    To write on one that was lost is a ConnectionError. libuv's loop raises RuntimeError until all
    have heard of the loss; aiokafka takes that for no loss, and its fetcher ends for good.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ending: set[Any] = set()
        _made.add(self)

    def close(self) -> None:
        """Close as any loop does."""
        if self._ending and not self.is_running():
            for transport in self._ending:
                transport.abort()
            self._ending.clear()
            self.call_soon(self.stop)  # when they have been told
            self.run_forever()
        super().close()

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect as any loop does."""
        if options.get("ssl"):
            options.setdefault("ssl_shutdown_timeout", _CLOSING_SECONDS)
        transport, protocol = await super().create_connection(*arguments, **options)
        return _Transport(transport, self._ends), protocol

    def _ends(self, transport: Any) -> None:
        if not self.is_closed():
            self._ending.add(transport)
            self.call_later(_CLOSING_SECONDS, self._ending.discard, transport)


class _Transport:
    """A transport that tells of its end, and of its loss when it is written to."""

    def __init__(self, transport: Any, ends: Callable[[Any], None]) -> None:
        self._transport = transport
        self._ends = ends

    def close(self) -> None:
        self._transport.close()
        self._ends(self._transport)

    def write(self, data: bytes) -> None:
        try:
            self._transport.write(data)
        except RuntimeError as error:
            if not self._transport.is_closing():
                raise
            raise ConnectionResetError(str(error)) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class LoopPolicy(uvloop.EventLoopPolicy):  # type: ignore[misc] # made when it is asked for
    """Makes such loops."""

    def _loop_factory(self) -> Loop:
        return Loop()


def all_tasks() -> list["asyncio.Task[Any]"]:
    """Give the tasks of all such loops of the process, from any thread."""
    return [
        task for loop in list(_made) if not loop.is_closed() for task in asyncio.all_tasks(loop)
    ]
