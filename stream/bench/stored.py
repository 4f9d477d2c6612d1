"""What of a run's events is in ClickHouse, as the sink that is measured tells itself."""

import asyncio

from sinks.door import SqlDoor

_LOOK_SECONDS = 0.1
_TABLES = ("decision_ledger", "parked_events")


async def await_stored(door: SqlDoor, topic: str, events: int, patience_s: float) -> None:
    """Wait until so many events of a topic are decided or parked in ClickHouse."""
    asked = "SELECT origin_topic FROM {} WHERE origin_topic = '{}'"
    every = " UNION ALL ".join(asked.format(table, topic) for table in _TABLES)
    async with asyncio.timeout(patience_s):
        while True:
            found = door.query(f"SELECT count() AS n FROM ({every})")  # noqa: S608
            if found["n"][0].as_py() >= events:
                return
            await asyncio.sleep(_LOOK_SECONDS)
