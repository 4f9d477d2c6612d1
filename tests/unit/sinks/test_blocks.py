"""Blocks: what is no row is told apart, and a row that is refused keeps all that it had."""

import random
from collections.abc import Callable

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.poll import Poll
from sinks.blocks import Block, alarm_block, ledger_block, parked_block
from sinks.clickhouse import ClickHouseSink
from sinks.ledger import decode, encode
from sinks.store import ArrowRows
from tests.integration.sinks.stored import an_alarm, parked, parked_records, records
from tests.unit.sinks.decisions import a_batch

READERS: list[Callable[[list[Poll]], Block]] = [ledger_block, parked_block, alarm_block]


def test_what_is_no_ledger_message_is_told_apart_and_nothing_else_is_lost() -> None:
    good = encode(a_batch(3))[0]
    values = [good, b"{}", None, good[:-9], encode(a_batch(2, first_offset=3))[0], b""]

    block = ledger_block([records("ledger", values, first_offset=70)])

    assert block.rows["origin_offset"].to_pylist() == [0, 1, 2, 3, 4]
    places = [(one.poll.offsets[one.position], one.code) for one in block.damaged]
    assert places == [(71, "damaged"), (73, "damaged"), (75, "damaged")]
    assert all(one.rule for one in block.damaged)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 8))
def test_a_damaged_message_of_any_kind_is_one_and_no_error(junk: bytes, at: int, bit: int) -> None:
    flipped = bytearray(encode(a_batch(2))[0])
    flipped[at] ^= 1 << (bit % 8)
    for value in (junk, bytes(flipped)):
        for read in READERS:
            block = read([records("topic", [value])])
            assert block.rows.num_rows + bool(block.damaged) in (1, 2)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("creditstream-origin", b"a/1/99999999999999999999")],
        [("creditstream-origin", b"a/4294967296/1")],
        [("creditstream-origin", "a/1/²".encode())],
    ],
)
def test_a_record_that_does_not_say_why_it_was_parked_is_told_apart(
    headers: list[tuple[str, bytes]],
) -> None:
    whole = parked_records([parked(1)])
    kept = [header for header in whole.headers[0] if header[0] not in dict(headers)]
    changed = Poll("parked", 0, [5], [0], [b"k"], [b"v"], [headers + kept if headers else []])

    block = parked_block([whole, changed])

    assert block.rows.num_rows == 1
    (damaged,) = block.damaged
    assert (damaged.poll.topic, damaged.poll.offsets[damaged.position]) == ("parked", 5)


@pytest.mark.parametrize("change", [{"decisions": 2**63}, {"since": "2026-01-01T00:00:00"}])
def test_an_alarm_that_is_none_of_its_topic_is_told_apart(change: dict[str, object]) -> None:
    alarm = msgspec.json.encode(msgspec.json.decode(an_alarm()) | change)

    block = alarm_block([records("alarms", [b"no json", an_alarm(), alarm])])

    assert block.rows["alarm_id"].to_pylist() == ["a-1"]
    assert [one.position for one in block.damaged] == [0, 2]


@settings(deadline=None)
@given(st.integers(0, 8))
def test_a_refused_decision_is_a_ledger_message_again_with_its_own_origin(row: int) -> None:
    batches = [
        a_batch(4, first_offset=40, missing=[1], applicant_ids=["ada", None, "b", "c"]),
        a_batch(5, first_offset=10, features=3, release="release-b"),
    ]
    block = ledger_block([records("ledger", [encode(batch)[0] for batch in batches])])

    unfit = block.unfit(row, "Code: 469. Column values: score = 7. (VIOLATED_CONSTRAINT)")

    assert unfit is not None
    value = unfit.poll.values[0]
    assert value is not None
    read = decode(value)
    assert pa.Table.from_batches([read.rows]).to_pylist() == block.rows.slice(row, 1).to_pylist()
    assert len(read.feature_names) == (3 if row < 5 else 2)
    assert unfit.release == read.release == block.rows["release"][row].as_py()
    origin = [block.rows[name][row].as_py() for name in ("origin_topic", "origin_offset")]
    assert [unfit.poll.topic, unfit.poll.offsets[0]] == origin
    assert unfit.rule == "Code: 469. (VIOLATED_CONSTRAINT)"
    assert unfit.value.startswith("decision ")


def test_a_refused_alarm_is_parked_as_it_came_and_a_parked_event_is_not_parked_again() -> None:
    alarms = alarm_block([records("alarms", [b"no json", an_alarm()], first_offset=7)])
    events = parked_block([parked_records([parked(1)])])

    unfit = alarms.unfit(0, "no")

    assert unfit is not None
    assert (unfit.poll.values[unfit.position], unfit.poll.offsets[unfit.position]) == (
        an_alarm(),
        8,
    )
    assert events.unfit(0, "no") is None


@pytest.mark.parametrize("read", READERS)
def test_nothing_is_a_block_of_no_rows(read: Callable[[list[Poll]], Block]) -> None:
    assert read([]).rows.num_rows == 0
    assert read([]).damaged == []


class Tokens:
    """A store that notes the tokens under which rows come."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def insert(self, _table: str, rows: ArrowRows) -> None:
        self.seen.append(rows.token)


A_MESSAGE = st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 6))


@settings(deadline=None)
@given(st.lists(A_MESSAGE, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_rows_stand_in_the_order_of_their_applications_however_their_messages_came(
    messages: list[tuple[int, int, int]], dice: random.Random
) -> None:
    values = [
        encode(a_batch(rows, first_offset=first, partition=partition))[0]
        for partition, first, rows in messages
    ]
    wanted = sorted((p, first + at) for p, first, rows in messages for at in range(rows))
    store = Tokens()
    for _ in range(3):
        block = ledger_block([records("ledger", values)])
        names = ("origin_partition", "origin_offset")
        places = zip(*(block.rows[name].to_pylist() for name in names), strict=True)
        assert list(places) == wanted
        ClickHouseSink(store).insert(block, range(block.rows.num_rows))  # type: ignore[arg-type]
        dice.shuffle(values)

    if len(set(wanted)) == len(wanted):
        assert len(set(store.seen)) == 1
