"""The sink's agent on the real engine: bad rows and records are parked, all others are in."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from monitoring.metrics import PREFIX, Metrics
from scoring.poll import Poll
from sinks.blocks import Unfit
from sinks.clickhouse import ClickHouseSink
from sinks.ledger import decode
from sinks.store import Store
from stream.agents.sink import sink_agent
from stream.transport.in_flight import PollInFlight
from tests.integration.sinks.stored import an_alarm, ledger, parked, parked_records, records, rows
from tests.unit.sinks.decisions import a_batch

LEDGER = "decision_ledger"
ALTER = f"ALTER TABLE {LEDGER}"
EACH_SECOND_IS_BAD = f"{ALTER} ADD CONSTRAINT odd CHECK origin_offset % 2 = 0"
ONE_IS_BAD = f"{ALTER} ADD CONSTRAINT one CHECK origin_offset != 13"
WITHOUT_SCORE = f"{ALTER} DROP COLUMN score"


class Sink:
    """An agent of a table, what it parked, and the order in which things happened."""

    def __init__(self, store: Store, table: str = LEDGER) -> None:
        self.metrics = Metrics.create()
        self.waiting: dict[str, str] = {}
        self.parked: list[Unfit] = []
        self.happened: list[str] = []
        self._agent = sink_agent(
            table, ClickHouseSink(store), self._park, self.metrics, self.waiting
        )

    async def _park(self, found: Sequence[Unfit]) -> None:
        await asyncio.sleep(0)
        self.parked += found
        self.happened.append("parked")

    async def write(self, *polls: Poll) -> None:
        def finished(_: PollInFlight) -> None:
            self.happened.append("finished")

        async def stream() -> AsyncIterator[PollInFlight]:
            for poll in polls:
                yield PollInFlight(poll, finished)

        async with asyncio.timeout(60):
            await self._agent(stream())

    def counted(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(PREFIX + name, labels)


async def test_a_row_that_can_never_be_inserted_is_parked_whole_before_its_poll_is_finished(
    store: Store,
) -> None:
    store.command(ONE_IS_BAD)
    sink = Sink(store)

    await sink.write(records("ledger", ledger(a_batch(500), a_batch(10, first_offset=500))))

    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 509}]
    (unfit,) = sink.parked
    assert (unfit.code, unfit.poll.offsets, unfit.release) == ("refused", [13], "release-a")
    assert "VIOLATED_CONSTRAINT" in unfit.rule
    value = unfit.poll.values[0]
    assert value is not None
    assert decode(value).rows.to_pylist()[0]["event_id"] == "e-13"
    assert sink.happened == ["parked", "finished"]
    assert sink.counted("sink_unfit_total", table=LEDGER) == 1
    assert sink.counted("sink_rows_total", table=LEDGER) == 509
    assert sink.waiting == {}

    store.command("ALTER TABLE decision_ledger DROP CONSTRAINT one")
    await Sink(store).write(records("ledger", [value]))  # sent to the ledger again
    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 510}]


async def test_a_bad_row_that_comes_alone_and_first_after_a_start_is_parked(store: Store) -> None:
    await Sink(store).write(records("ledger", ledger(a_batch(3))))
    store.command(ONE_IS_BAD)
    sink = Sink(store)

    await sink.write(records("ledger", ledger(a_batch(1, first_offset=13))))

    assert [unfit.poll.offsets for unfit in sink.parked] == [[13]]
    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 3}]
    assert rows(store, "SELECT count() AS n FROM decision_ledger FINAL") == [{"n": 3}]


@pytest.mark.parametrize(
    ("harm", "mend"),
    [
        ([EACH_SECOND_IS_BAD], [f"{ALTER} DROP CONSTRAINT odd"]),
        ([WITHOUT_SCORE], [f"{ALTER} ADD COLUMN score Nullable(Int32)"]),
        (
            [WITHOUT_SCORE, f"{ALTER} ADD COLUMN score UUID"],
            [WITHOUT_SCORE, f"{ALTER} ADD COLUMN score Nullable(Int32)"],
        ),
        (["RENAME TABLE decision_ledger TO gone"], ["RENAME TABLE gone TO decision_ledger"]),
    ],
)
async def test_a_table_that_takes_no_rows_is_waited_for_until_it_is_mended(
    store: Store, harm: list[str], mend: list[str]
) -> None:
    await Sink(store).write(records("ledger", ledger(a_batch(3))))
    for statement in harm:
        store.command(statement)
    sink = Sink(store)
    later = records("ledger", ledger(a_batch(300, first_offset=3)))
    writing = asyncio.create_task(sink.write(later))

    while not sink.waiting:
        assert not writing.done()
        await asyncio.sleep(0.01)
    assert sink.waiting[LEDGER].startswith("table: ")
    assert sink.counted("sink_waiting", table=LEDGER, cause="table") == 1
    for statement in mend:
        store.command(statement)
    await writing

    assert (sink.parked, sink.waiting) == ([], {})
    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 303}]
    assert sink.counted("sink_waiting", table=LEDGER, cause="table") == 0


@pytest.mark.parametrize(
    ("table", "poll", "view"),
    [
        (LEDGER, records("ledger", [b"not Arrow", *ledger(a_batch(1)), None]), "decisions"),
        ("drift_alarms", records("alarms", [b"not JSON", an_alarm(), None]), "alarms"),
    ],
)
async def test_a_record_that_is_none_of_its_topic_is_parked_and_all_others_are_in(
    store: Store, table: str, poll: Poll, view: str
) -> None:
    sink = Sink(store, table)

    await sink.write(poll)

    assert rows(store, f"SELECT count() AS n FROM {view}") == [{"n": 1}]
    (unfit,) = sink.parked
    assert (unfit.code, unfit.poll.values[unfit.position][:4]) == ("damaged", b"not ")  # type: ignore[index]
    assert sink.happened == ["parked", "finished"]


async def test_a_stranger_on_the_parked_topic_is_parked_and_a_refused_one_is_left_there(
    store: Store,
) -> None:
    store.command("ALTER TABLE parked_events ADD CONSTRAINT one CHECK origin_offset != 3")
    sink = Sink(store, "parked_events")
    stranger = Poll("parked", 1, [9], [0], [b"k"], [b"v"], [[]])

    await sink.write(parked_records([parked(at) for at in range(5)]), stranger)

    assert rows(store, "SELECT count() AS n FROM parked") == [{"n": 4}]
    assert [(one.poll.topic, one.poll.offsets) for one in sink.parked] == [("parked", [9])]
    assert sink.counted("sink_unfit_total", table="parked_events") == 2


async def test_a_block_of_more_months_than_the_engine_likes_is_inserted(store: Store) -> None:
    batch = a_batch(150)
    batch.submitted_at_us[:] -= batch.offsets * 31 * 86_400_000_000
    sink = Sink(store)

    await sink.write(records("ledger", ledger(batch)))

    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 150}]
