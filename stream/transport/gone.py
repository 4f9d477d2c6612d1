"""
Records that are gone before they were read.

By retention, by hand, by a topic made anew, by a log that was cut short.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.consumer.group_coordinator import UNKNOWN_OFFSET

from stream.transport.sound import SoundFetcher


@dataclass(frozen=True, slots=True)
class Gone:
    """The next record to read is not in its partition, which begins and ends elsewhere."""

    topic: str
    partition: int
    group: str
    wanted: int
    begin: int
    end: int

    @property
    def records(self) -> int:
        """How many offsets were removed unread; 0 where the log is not the one that was read."""
        return max(0, self.begin - self.wanted)

    def __str__(self) -> str:
        where = f"{self.topic}/{self.partition}"
        if self.records:
            removed = f"offsets {self.wanted} to {self.begin - 1} of {where} were removed before"
            return f"{removed} {self.group} had read them: it begins at {self.begin} now"
        return (
            f"{self.group} was to read offset {self.wanted} of {where} next, and it ends at "
            f"{self.end}: the topic was made anew, or its log was cut short"
        )


class RecordsGone(Exception):
    """Records are gone before they were read, and nobody has said to go on without them."""

    def __init__(self, gone: Gone) -> None:
        self.gone = gone
        super().__init__(
            f"{gone}. To go on from its beginning, start once with "
            "CREDITSTREAM_KAFKA__RECORDS_GONE=skip; see docs/operating.md"
        )


class StrictFetcher(SoundFetcher):
    """
    aiokafka's fetcher; without a reset strategy it begins where a log begins, the first time only.

    aiokafka knows one strategy for two things: a partition of which the group has committed
    nothing, and a position that the log does not have. The first is a beginning, the second a loss.
    """

    async def _update_fetch_positions(self, assignment: Any, node_id: Any, tps: Any) -> Any:
        if self._default_reset_strategy == OffsetResetStrategy.NONE:
            for tp in tps:
                state = assignment.state_value(tp)
                if state.has_valid_position or state.awaiting_reset:
                    continue
                try:
                    committed = await state.fetch_committed()
                except asyncio.CancelledError:
                    return False  # as the base does: raised, it would end all fetching
                # It may have been sought meanwhile.
                if state.has_valid_position or state.awaiting_reset:
                    continue
                if committed.offset == UNKNOWN_OFFSET:
                    state.await_reset(OffsetResetStrategy.EARLIEST)
                else:
                    state.reset_to(committed.offset)
        return await super()._update_fetch_positions(assignment, node_id, tps)
