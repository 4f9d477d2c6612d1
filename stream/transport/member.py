"""A consumer group's member: when it is one, and when it is one no more."""

from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError


class MemberReplaced(KafkaError):  # type: ignore[misc] # untyped library
    """A static member is one no more: another took its name, or its session ran out."""

    errno = 82  # Kafka's FENCED_INSTANCE_ID, which aiokafka does not know


class Member(GroupCoordinator):  # type: ignore[misc] # untyped library
    """
    A group's member which is one while it takes partitions over, and never takes back its own name.

    aiokafka sends no heartbeat before its callbacks are done: a member that needs longer than its
    session for them would be thrown out, and go on beside its successor until it is told.

    Nor does its heartbeat tell the name that a member may have, so one whose name another has taken
    is only told that it is unknown. It would join again, and the two would throw each other out for
    ever.
    """

    _leaving = False

    async def _on_join_complete(self, *args: Any) -> None:
        self._start_heartbeat_task()
        await super()._on_join_complete(*args)

    async def _maybe_leave_group(self) -> None:
        self._leaving = True  # by our own will
        try:
            await super()._maybe_leave_group()
        finally:
            self._leaving = False

    def reset_generation(self) -> None:
        """Forget the membership; raises MemberReplaced where the broker has forgotten ours."""
        if self._group_instance_id is None or self._leaving or self.generation <= 0:
            super().reset_generation()
            return
        msg = (
            f"no longer {self._group_instance_id!r} in group {self.group_id}: another process has "
            "the same CREDITSTREAM_KAFKA__GROUP_INSTANCE_ID, or this one was silent for longer "
            "than CREDITSTREAM_KAFKA__SESSION_TIMEOUT"
        )
        raise MemberReplaced(msg)
