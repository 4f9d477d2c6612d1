"""Whatever is delivered again, in whatever blocks and by whom: each decision once, the first."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.decision import decision_id
from sinks.clickhouse import ClickHouseSink
from sinks.ledger import encode
from sinks.migrations import migrate
from sinks.store import ArrowRows, ClickHouse, Store, open_store
from tests.chdb_server import Fault
from tests.clickhouse import ChdbServer
from tests.integration.sinks.stored import (
    Heard,
    Inserts,
    a_ledger_block,
    hurried,
    ledger,
    rows,
)
from tests.unit.sinks.decisions import MINUTE_US, START_US, a_batch

LEDGER = "decision_ledger"
ALL = "SELECT count() AS n FROM decision_ledger"
MONTH_US = 31 * 86_400_000_000
SHOWN = (
    "SELECT event_id, application_id, outcome, release, decided_at, origin_offset{features}"
    " FROM {source} ORDER BY event_id"
)

numbers = count()


@dataclass(frozen=True)
class Message:
    """Decisions of one poll: which events, after how many minutes, and the month they name."""

    events: tuple[int, ...]
    minute: int
    outcome: int
    month: int


@dataclass(frozen=True)
class Delivery:
    """A block: which messages, by which sink; whether its reply is lost, so that it comes again."""

    start: int
    size: int
    sink: int
    lost: bool
    merge: bool


messages = st.lists(
    st.builds(
        Message,
        events=st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True).map(tuple),
        minute=st.integers(1, 3),
        outcome=st.integers(0, 2),
        month=st.integers(0, 1),
    ),
    min_size=1,
    max_size=6,
)
deliveries = st.lists(
    st.builds(
        Delivery,
        start=st.integers(0, 5),
        size=st.integers(1, 6),
        sink=st.integers(0, 1),
        lost=st.booleans(),
        merge=st.booleans(),
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def kept(engine: str) -> Iterator[Store]:
    store = open_store(engine, user="", password="", database="redelivery")
    migrate(store)
    yield store
    store.close()


def written(made: Sequence[Message], run: int) -> tuple[list[bytes], list[dict[str, Any]]]:
    """Write messages; give them, and which decisions are the first of their events."""
    values: list[bytes] = []
    first: dict[int, tuple[tuple[int, int], dict[str, Any]]] = {}
    offset = 0
    for number, message in enumerate(made):
        size = len(message.events)
        batch = a_batch(
            size,
            first_offset=offset,
            event_ids=[f"{run}-{event}" for event in message.events],
            decided_at_us=START_US + message.minute * MINUTE_US,
            outcomes=[message.outcome] * size,
            release=f"release-{number}",
        )
        batch.application_ids[:] = message.events
        batch.submitted_at_us[:] = START_US - message.month * MONTH_US
        (row_message,) = encode(batch)
        values.append(row_message)
        for row, event in enumerate(message.events):
            place = (message.minute, offset + row)
            if event not in first or place < first[event][0]:
                first[event] = (
                    place,
                    {
                        "event_id": f"{run}-{event}",
                        "application_id": event,
                        "outcome": ("approve", "refer", "decline")[message.outcome],
                        "release": f"release-{number}",
                        "origin_offset": offset + row,
                        "features": batch.features[row].tolist(),
                    },
                )
        offset += size
    return values, [first[event][1] for event in sorted(first)]


def shown(store: Store, source: str) -> list[dict[str, Any]]:
    features = "" if source == "decisions" else ", features"
    found = rows(store, SHOWN.format(source=source, features=features))
    return [{name: row[name] for name in row if name != "decided_at"} for row in found]


@settings(max_examples=30, deadline=None)
@given(made=messages, delivered=deliveries)
def test_any_blocks_in_any_order_by_any_sink_show_the_first_decision_of_each_event_once(
    kept: Store, made: list[Message], delivered: list[Delivery]
) -> None:
    values, expected = written(made, next(numbers))
    kept.command(f"TRUNCATE TABLE {LEDGER}")
    sinks = [Inserts(kept), Inserts(kept)]

    for block in delivered:
        for _ in range(1 + block.lost):
            sinks[block.sink].insert_ledger(values[block.start : block.start + block.size])
        if block.merge:
            kept.command(f"OPTIMIZE TABLE {LEDGER}")
    for value in values:
        sinks[0].insert_ledger([value])

    plain = [{name: row[name] for name in row if name != "features"} for row in expected]
    assert shown(kept, "decisions") == plain
    assert shown(kept, f"{LEDGER} FINAL") == expected
    kept.command(f"OPTIMIZE TABLE {LEDGER} FINAL")
    assert shown(kept, "decisions") == plain
    assert shown(kept, f"{LEDGER} FINAL") == expected
    # Rows merge within their month; one event that named two months stands in both, and shows once.
    months = {(event, message.month) for message in made for event in message.events}
    assert rows(kept, ALL) == [{"n": len(months)}]


def test_the_engine_throws_away_other_rows_under_a_token_that_it_knows(store: Store) -> None:
    block = a_ledger_block(a_batch(3))
    other = a_ledger_block(a_batch(3, first_offset=3))

    store.insert(LEDGER, ArrowRows.of(block.rows, "token"))
    store.insert(LEDGER, ArrowRows.of(other.rows, "token"))

    assert rows(store, ALL) == [{"n": 3}]
    Inserts(store).insert_ledger(ledger(a_batch(3, first_offset=3)))  # whose token names its rows
    assert rows(store, ALL) == [{"n": 6}]


def test_a_part_of_a_block_has_a_token_of_its_own(store: Store) -> None:
    block = a_ledger_block(a_batch(6))
    sink = ClickHouseSink(store)

    for part in (range(6), range(3), range(3, 6), range(2), range(5, 6), range(3)):
        sink.insert(block, part)

    # The last was known, all others are stored, and none took another's place.
    assert rows(store, ALL) == [{"n": 6 + 3 + 3 + 2 + 1}]
    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 6}]


def test_a_block_that_comes_back_after_the_window_of_tokens_is_stored_again_and_shown_once(
    store: Store,
) -> None:
    store.command(f"ALTER TABLE {LEDGER} MODIFY SETTING non_replicated_deduplication_window = 2")
    blocks = [ledger(a_batch(2, first_offset=2 * at)) for at in range(4)]

    for block in (*blocks, blocks[3], blocks[0]):
        Inserts(store).insert_ledger(block)

    assert rows(store, ALL) == [{"n": 10}]
    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 8}]


def test_an_event_sent_again_with_another_month_is_one_decision(store: Store) -> None:
    first = a_batch(1)
    again = a_batch(1, first_offset=9, event_ids=["e-0"], decided_at_us=START_US + 2 * MINUTE_US)
    again.application_ids[:] = first.application_ids
    again.submitted_at_us[:] = np.array([START_US + MONTH_US])

    Inserts(store).insert_ledger(ledger(again))
    Inserts(store).insert_ledger(ledger(first))
    store.command(f"OPTIMIZE TABLE {LEDGER} FINAL")

    found = rows(store, "SELECT decision_id, origin_offset FROM decisions")
    assert [(row["decision_id"].bytes, row["origin_offset"]) for row in found] == [
        (decision_id("shop", "e-0"), 0)
    ]


async def test_two_sinks_at_once_with_lost_replies_and_other_blocks_show_each_decision_once(
    chdb_server: ChdbServer, breakable: ClickHouse
) -> None:
    size, step = 12, 20
    made = [a_batch(step, first_offset=at * step) for at in range(size)]
    chdb_server.order(Fault(LEDGER, 8, lose_reply=True))

    async def write(together: int) -> None:
        inserter = hurried(breakable, Heard())
        for start in range(0, size, together):
            block = a_ledger_block(*made[start : start + together])
            assert await inserter.insert(block) == {}

    async with asyncio.timeout(60), asyncio.TaskGroup() as sinks:
        for together in (1, 3, 5):
            sinks.create_task(write(together))

    assert rows(breakable, "SELECT count() AS n FROM decisions") == [{"n": size * step}]
    breakable.command(f"OPTIMIZE TABLE {LEDGER} FINAL")
    assert rows(breakable, ALL) == [{"n": size * step}]
