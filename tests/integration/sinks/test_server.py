"""ClickHouse as a server over HTTP: the same rows, refusals by name, failures waited out."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from sinks.migrations import migrate
from sinks.store import ArrowRows, ClickHouse, Store, StoreRefused, StoreUnavailable
from tests.chdb_server import Fault
from tests.clickhouse import ChdbServer, Server
from tests.integration.sinks.conftest import Open, stores_on
from tests.integration.sinks.stored import (
    VIEWS,
    Heard,
    Inserts,
    a_ledger_block,
    an_alarm,
    everything,
    hurried,
    ledger,
    parked,
    rows,
)
from tests.integration.sinks.test_readers import FORBIDDEN
from tests.unit.sinks.decisions import a_batch

LEDGER = "decision_ledger"


def number(store: Store, sql: str) -> int:
    return int(rows(store, sql)[0]["n"])


def stored(store: Store, table: str = LEDGER) -> int:
    return number(store, f"SELECT count() AS n FROM {table}")


def fill(store: Store) -> None:
    """Insert decisions, with and without features, parked events and alarms."""
    sink = Inserts(store)
    sink.insert_ledger(ledger(a_batch(40, missing=[3]), a_batch(5, first_offset=40, release="b")))
    sink.insert_parked([parked(at) for at in range(50, 60)])
    sink.insert_alarms([an_alarm(), an_alarm("a-2", minute=4)])


def shown(store: Store) -> tuple[str, list[dict[str, object]]]:
    return everything(store), rows(store, "SELECT * FROM alarms")


async def accepted(
    store: Store, insert: Callable[[], int], heard: Heard, deadline_s: float = 30.0
) -> int:
    return await hurried(store, heard, deadline_s=deadline_s).until_accepted(insert, LEDGER)


def test_migrating_a_server_makes_every_view_and_may_be_repeated(served: Open) -> None:
    store = served()

    migrate(store)
    migrate(served())

    views = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
    assert {row["name"] for row in rows(store, views)} == set(VIEWS)
    ran = rows(store, "SELECT file, count() AS times FROM schema_migrations GROUP BY file")
    assert {row["times"] for row in ran} == {1}


def test_a_server_shows_what_the_engine_in_process_shows(store: Store, served_store: Store) -> None:
    fill(store)
    fill(served_store)

    assert shown(served_store) == shown(store)
    assert number(served_store, "SELECT count() AS n FROM decisions") == 45


def test_repeats_to_a_server_are_not_stored_and_other_blocks_change_nothing_read(
    served_store: Store,
) -> None:
    fill(served_store)
    before = shown(served_store)

    fill(served_store)
    assert stored(served_store) == 45

    sink = Inserts(served_store)
    for start in range(0, 40, 8):
        sink.insert_ledger(ledger(a_batch(8, first_offset=start, missing=[3] if not start else [])))
    sink.insert_parked([parked(55), parked(54)])
    assert shown(served_store) == before


def test_a_server_without_the_table_or_its_column_refuses_for_good(served_store: Store) -> None:
    sink = Inserts(served_store)

    served_store.command(f"ALTER TABLE {LEDGER} DROP COLUMN score")
    with pytest.raises(StoreRefused) as no_column:
        sink.insert_ledger(ledger(a_batch(1)))
    served_store.command(f"DROP TABLE {LEDGER}")
    with pytest.raises(StoreRefused) as no_table:
        sink.insert_ledger(ledger(a_batch(1)))

    assert (no_column.value.code, no_table.value.code) == (16, 60)


@pytest.mark.parametrize("change", [{"password": "not it"}, {"user": "nobody"}])
def test_a_wrong_user_or_password_is_refused_by_name_and_not_waited_for(
    clickhouse_server: Server, change: dict[str, str]
) -> None:
    stranger = replace(clickhouse_server, **change)

    with pytest.raises(StoreRefused, match=f"{stranger.user}: Authentication failed") as refused:
        stranger.open("creditstream")

    assert refused.value.code == 516
    assert "not it" not in str(refused.value)


@pytest.fixture(scope="module")
def reader(clickhouse_server: Server) -> Iterator[ClickHouse]:
    with stores_on(clickhouse_server) as open_one:
        store = open_one()
        migrate(store)
        Inserts(store).insert_ledger(ledger(a_batch(3)))
        yield open_one(read_only=True)


def test_a_reader_of_a_server_reads(reader: ClickHouse) -> None:
    limits = "SELECT getSetting('readonly') AS r, getSetting('max_memory_usage') AS bytes"

    assert rows(reader, "SELECT count() AS n FROM decisions -- how many") == [{"n": 3}]
    assert reader.query("SELECT outcome FROM decisions WHERE 0").column_names == ["outcome"]
    assert rows(reader, limits) == [{"r": 1, "bytes": 2_000_000_000}]


@pytest.mark.parametrize("filler", ["", "x" * 40_000])
def test_a_readers_query_arrives_as_it_was_written(reader: ClickHouse, filler: str) -> None:
    text = "it's a \\ back\tslash\n'é' % {a:String}" + filler
    literal = text.replace("\\", "\\\\").replace("'", "\\'")

    assert rows(reader, f"SELECT '{literal}' AS text") == [{"text": text}]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_a_reader_of_a_server_does_nothing_else(
    reader: ClickHouse, tmp_path: Path, sql: str
) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")

    with pytest.raises(StoreRefused):
        reader.query(sql.replace("{folder}", str(tmp_path)))

    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]
    assert stored(reader) == 3


def test_a_server_itself_keeps_a_reader_from_writing(reader: ClickHouse) -> None:
    unguarded = replace(reader, guard=None)

    for sql in (f"DROP TABLE {LEDGER}", "INSERT INTO parked_events (path) VALUES ('x')"):
        with pytest.raises((StoreRefused, StoreUnavailable), match="READONLY"):
            unguarded.command(sql)
    assert stored(reader) == 3


def test_a_readers_limit_at_a_server_is_an_error_and_not_a_cut(reader: ClickHouse) -> None:
    with pytest.raises(StoreRefused) as refused:
        reader.query("SELECT number FROM numbers(1000000)")

    assert refused.value.code == 396


def test_a_reader_hears_of_its_time_limit_from_the_server_before_the_driver_hangs_up(
    reader: ClickHouse,
) -> None:
    limit = rows(reader, "SELECT getSetting('max_execution_time') AS s")[0]["s"]

    assert reader.handle.client.timeout.read_timeout > limit


@pytest.mark.parametrize(
    ("code", "status", "cause"),
    [
        (0, 502, "away"),
        (0, 503, "away"),
        (0, 429, "away"),
        (210, 500, "away"),
        (202, 500, "overloaded"),
        (241, 500, "overloaded"),
        (159, 408, "overloaded"),
        (439, 503, "overloaded"),
        (242, 500, "read_only"),
        (164, 500, "read_only"),
        (243, 500, "disk_full"),
        (201, 500, "quota"),
        (252, 500, "too_many_parts"),
        (319, 500, "replicas"),
        (16, 500, "table"),
        (60, 404, "table"),
        (497, 403, "rights"),
        (516, 403, "rights"),
    ],
)
async def test_what_a_server_may_take_later_is_waited_for_and_named(
    chdb_server: ChdbServer, breakable: ClickHouse, code: int, status: int, cause: str
) -> None:
    heard = Heard()
    chdb_server.order(Fault(LEDGER, 3, code=code, status=status))

    refused = await hurried(breakable, heard).insert(a_ledger_block(a_batch(20)))

    assert refused == {}
    assert [away.cause for away in heard.causes] == [cause] * 3
    assert stored(breakable) == 20


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (60, "or run `creditstream init`"),
        (497, "GRANT SELECT, INSERT ON decision_ledger"),
        (516, "CREDITSTREAM_STORE__PASSWORD"),
        (16, "its columns are those of sinks/sql"),
    ],
)
async def test_what_an_operator_must_mend_comes_with_the_way_out(
    chdb_server: ChdbServer, breakable: ClickHouse, code: int, said: str
) -> None:
    heard = Heard()
    chdb_server.order(Fault(LEDGER, 1, code=code))

    await hurried(breakable, heard).insert(a_ledger_block(a_batch(1)))

    assert said in str(heard.causes[0])
    assert f"Code: {code}" in str(heard.causes[0])


async def test_a_disk_that_takes_nothing_more_is_waited_for_and_no_row_is_lost(
    chdb_server: ChdbServer, breakable: ClickHouse
) -> None:
    Inserts(breakable).insert_ledger(ledger(a_batch(3)))
    process = psutil.Process(chdb_server.pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)

    class Mending(Heard):
        def pausing(self, away: StoreUnavailable, pause_s: float) -> None:
            super().pausing(away, pause_s)
            if len(self.causes) == 3:
                process.rlimit(psutil.RLIMIT_FSIZE, before)

    heard = Mending()
    process.rlimit(psutil.RLIMIT_FSIZE, (0, before[1]))
    refused = await hurried(breakable, heard).insert(a_ledger_block(a_batch(300, first_offset=3)))

    assert refused == {}
    assert [away.cause for away in heard.causes] == ["disk_full"] * 3
    assert stored(breakable, "decisions") == 303


def test_an_overloaded_server_cannot_be_opened_now_but_is_not_refused(
    chdb_server: ChdbServer,
) -> None:
    chdb_server.order(Fault("SELECT", 1, code=202))

    with pytest.raises(StoreUnavailable, match="202"):
        chdb_server.server.open("creditstream")
    chdb_server.server.open("creditstream").close()


async def test_a_lost_reply_leaves_each_row_once(
    chdb_server: ChdbServer, breakable: ClickHouse
) -> None:
    sink, heard = Inserts(breakable), Heard()
    tables = ("release_features", LEDGER, "parked_events", "drift_alarms")
    chdb_server.order(*(Fault(table, 2, lose_reply=True) for table in tables))

    await accepted(breakable, lambda: sink.insert_ledger(ledger(a_batch(20))), heard)
    await accepted(breakable, lambda: sink.insert_parked([parked(at) for at in range(5)]), heard)
    await accepted(breakable, lambda: sink.insert_alarms([an_alarm()]), heard)

    assert [stored(breakable, table) for table in tables] == [1, 20, 5, 1]
    assert [stored(breakable, view) for view in ("decisions", "parked", "alarms")] == [20, 5, 1]


def test_the_driver_sends_no_insert_again_of_itself(
    chdb_server: ChdbServer, breakable: ClickHouse
) -> None:
    chdb_server.order(Fault(LEDGER, 1, lose_reply=True))

    with pytest.raises(StoreUnavailable):
        breakable.insert(LEDGER, ArrowRows.of(a_ledger_block(a_batch(3)).rows))


async def test_an_answer_that_comes_late_is_waited_for_and_told_of(
    chdb_server: ChdbServer, breakable: ClickHouse
) -> None:
    sink, heard = Inserts(breakable), Heard()
    chdb_server.order(Fault(LEDGER, 1, delay_s=1.5))

    await accepted(
        breakable, lambda: sink.insert_ledger(ledger(a_batch(20))), heard, deadline_s=0.5
    )

    assert {str(away) for away in heard.overdue_for} == {"no answer within 0.5 s"}
    assert heard.causes == []  # nor is it sent once more
    assert stored(breakable, "decisions") == 20


async def test_a_server_killed_in_mid_load_and_restarted_loses_nothing(
    chdb_server: ChdbServer, breakable: ClickHouse
) -> None:
    sink, heard = Inserts(breakable), Heard()
    polls, size, warm = 40, 50, asyncio.Event()

    async def decisions() -> None:
        for poll in range(polls):
            batches = ledger(a_batch(size, first_offset=poll * size))
            assert await accepted(breakable, partial(sink.insert_ledger, batches), heard) == size
            if poll == polls // 8:
                warm.set()

    async def parkeds() -> None:
        for poll in range(polls):
            events = [parked(poll * size + at) for at in range(size)]
            await accepted(breakable, partial(sink.insert_parked, events), heard)

    async with asyncio.timeout(60), asyncio.TaskGroup() as load:
        load.create_task(decisions())
        load.create_task(parkeds())
        await warm.wait()
        chdb_server.kill()
        await heard.waiting.wait()
        with pytest.raises(StoreUnavailable):
            await asyncio.to_thread(breakable.query, "SELECT 1")
        with pytest.raises(StoreUnavailable):
            await asyncio.to_thread(chdb_server.server.open, "creditstream")
        await asyncio.to_thread(chdb_server.start)

    assert stored(breakable, "decisions") == polls * size
    assert number(breakable, "SELECT uniqExact(event_id) AS n FROM decisions") == polls * size
    assert stored(breakable, "parked") == polls * size


def test_the_stand_in_is_there_and_takes_no_stranger(chdb_server: ChdbServer) -> None:
    url = chdb_server.server.url

    assert httpx.get(f"{url}/ping").text == "Ok.\n"
    assert httpx.post(f"{url}/", content="SELECT 1").headers["X-ClickHouse-Exception-Code"] == "516"
