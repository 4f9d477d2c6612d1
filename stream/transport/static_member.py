"""A group's member with a name of its own, which ends where another takes that name."""

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError


class MemberReplaced(KafkaError):  # type: ignore[misc] # untyped library
    """A static member is one no more: another took its name, or its session ran out."""

    errno = 82  # Kafka's FENCED_INSTANCE_ID, which aiokafka does not know


class StaticCoordinator(GroupCoordinator):  # type: ignore[misc] # untyped library
    """
    A group's member which, where it has a name of its own, never takes that name back by itself.

    aiokafka's heartbeat does not tell the name, so a member whose name another has taken is only
    told that it is unknown. It would join again, and the two would throw each other out for ever.
    """

    _leaving = False

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
