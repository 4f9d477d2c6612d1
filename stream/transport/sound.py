"""aiokafka's fetcher, where it may end: its reader hears of it, and a close comes to its end."""

import asyncio
from typing import Any

from aiokafka.consumer.fetcher import Fetcher


class SoundFetcher(Fetcher):  # type: ignore[misc] # untyped library
    """
    A fetcher that never stands still in silence.

    aiokafka's own logs an error that it did not expect and fetches no more, for good, while its
    reader waits. Closed while it pauses after a failed fetch, it raises that pause's cancellation:
    what is closed after it is not, and a consumer's thread ends without telling anybody.
    """

    async def fetched_records(self, *given: Any, **options: Any) -> Any:
        """Give what was fetched, by partition; raises KafkaError once fetching has ended."""
        if self._fetch_task.done() and not self._closed:
            self._fetch_task.result()
        return await super().fetched_records(*given, **options)

    async def close(self) -> None:
        """Fetch no more; whatever was under way is dropped."""
        self._closed = True
        self._fetch_task.cancel()
        await asyncio.gather(self._fetch_task, return_exceptions=True)
        for waiter in self._fetch_waiters:
            self._notify(waiter)
        for task in self._pending_tasks:
            task.cancel()
        await asyncio.gather(*self._pending_tasks, return_exceptions=True)
