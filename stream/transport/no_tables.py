"""Faust's tables, of which this system has none."""

from faust.tables import TableManager


class NoTables(TableManager):
    """Starts at once: Faust's own waits a second, in case somebody still declares a table."""

    async def on_start(self) -> None:
        """Begin what an assignment of partitions passes through."""
        await self._update_channels()
        await self.recovery.start()
