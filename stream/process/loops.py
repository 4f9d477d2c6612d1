"""The event loops of a process: libuv's, with a bound on the end of TLS."""

from typing import Any

import uvloop

_CLOSING_SECONDS = 1.0
"""What a peer has to say that it heard of the end; libuv's loop would give it 30 s."""


class Loop(uvloop.Loop):
    """
    A loop whose connections by TLS are dropped where the peer does not answer that they end.

    A broker that has an answer of its own under way often does not, and aiokafka waits for each
    connection before it has stopped: longer than a worker has to stop in.
    """

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect as any loop does."""
        if options.get("ssl"):
            options.setdefault("ssl_shutdown_timeout", _CLOSING_SECONDS)
        return await super().create_connection(*arguments, **options)


class LoopPolicy(uvloop.EventLoopPolicy):  # type: ignore[misc] # made when it is asked for
    """Makes such loops."""

    def _loop_factory(self) -> Loop:
        return Loop()
