"""Readers: a stranger's SQL reads the tables and does nothing else."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sinks.store import ClickHouse, Store, StoreRefused, StoreUnavailable, open_store
from tests.integration.sinks.conftest import Open
from tests.integration.sinks.stored import Inserts, ledger, rows
from tests.unit.sinks.decisions import a_batch


@pytest.fixture
def reader(store: Store, opened: Open) -> ClickHouse:
    Inserts(store).insert_ledger(ledger(a_batch(3)))
    return opened(read_only=True)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() AS n FROM decisions",
        "select count() as n from decisions;",
        "SELECT count() AS n FROM decisions -- how many",
        "WITH d AS (SELECT * FROM decisions) SELECT count() AS n FROM d",
        "SELECT toUInt64(3) AS n FROM numbers(1)",
    ],
)
def test_a_reader_reads(reader: ClickHouse, sql: str) -> None:
    assert rows(reader, sql) == [{"n": 3}]


def test_a_result_without_rows_keeps_its_columns(reader: ClickHouse) -> None:
    assert reader.query("SELECT outcome FROM decisions WHERE 0").column_names == ["outcome"]


@pytest.mark.parametrize(
    "sql", ["SHOW TABLES", "DESCRIBE decisions", "EXPLAIN SELECT 1", "EXISTS TABLE decisions"]
)
def test_a_reader_looks_around(reader: ClickHouse, sql: str) -> None:
    assert reader.query(sql).num_rows > 0


FORBIDDEN = [
    "INSERT INTO parked_events (path) VALUES ('x')",
    "DROP TABLE decision_ledger",
    "TRUNCATE TABLE decision_ledger",
    "ALTER TABLE decision_ledger DELETE WHERE 1",
    "DELETE FROM decision_ledger WHERE 1",
    "OPTIMIZE TABLE decision_ledger FINAL",
    "CREATE TABLE x (a Int8) ENGINE = Memory",
    "CREATE FUNCTION f AS x -> x",
    "SET readonly = 0",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "SELECT 1; DROP TABLE decision_ledger",
    "SELECT 1; SET readonly = 0; DROP TABLE decision_ledger",
    "SELECT * FROM file('{folder}/secret.csv')",
    "SELECT * FROM `file`('{folder}/secret.csv')",
    "SELECT file('{folder}/secret.csv')",
    "SELECT file /* */ ('{folder}/secret.csv')",
    "SELECT arrayMap(file, ['{folder}/secret.csv'])",
    "SELECT * APPLY(file) FROM (SELECT '{folder}/secret.csv')",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM default.`{folder}/secret.csv`",
    "SELECT 1 INTO OUTFILE '{folder}/out.csv'",
    "SELECT 1 INTO OUTFILE '{folder}/out.csv' FORMAT CSV",
    "SHOW TABLES INTO OUTFILE '{folder}/out.csv'",
    "EXPLAIN SELECT 1 INTO OUTFILE '{folder}/out.csv'",
    "INSERT INTO FUNCTION file('{folder}/out.csv') SELECT 1",
    "SELECT * FROM url('http://127.0.0.1:9/')",
    "SELECT * FROM s3('http://127.0.0.1:9/bucket/x.csv', NOSIGN, 'CSV')",
    "SELECT * FROM remote('127.0.0.1:9', system.one)",
    "SELECT * FROM executable('id', 'TSV', 'a String')",
    "SELECT * FROM Python(SECRET)",
    "SELECT * FROM eval('SELECT 1')",
    "SELECT name FROM system.users",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "USE default",
    "BACKUP TABLE decision_ledger TO File('{folder}/out')",
    "SELECT addressToLine(1)",
    "not sql",
    "",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_a_reader_does_nothing_else(reader: ClickHouse, tmp_path: Path, sql: str) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")

    with pytest.raises(StoreRefused):
        reader.query(sql.replace("{folder}", str(tmp_path)))

    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]
    assert rows(reader, "SELECT count() AS n FROM decision_ledger") == [{"n": 3}]


def test_a_result_above_the_limit_is_an_error_and_not_cut(reader: ClickHouse) -> None:
    with pytest.raises(StoreRefused) as refused:
        reader.query("SELECT number FROM numbers(1000000)")

    assert refused.value.code == 396


def test_time_and_memory_of_a_reader_are_limited(reader: ClickHouse) -> None:
    limits = "SELECT getSetting('max_execution_time') AS s, getSetting('max_memory_usage') AS bytes"

    assert rows(reader, limits) == [{"s": 20.0, "bytes": 2_000_000_000}]


def test_the_writer_beside_a_reader_still_writes(store: Store, reader: ClickHouse) -> None:
    Inserts(store).insert_ledger(ledger(a_batch(1, first_offset=9)))

    assert rows(reader, "SELECT count() AS n FROM decisions") == [{"n": 4}]


def test_a_reader_makes_no_store_where_there_is_none(tmp_path: Path) -> None:
    nowhere = tmp_path / "mistyped"

    with pytest.raises(StoreUnavailable, match=r"there is no store at .*mistyped"):
        open_store(f"chdb://{nowhere}", user="", password="", database="default", read_only=True)

    assert not nowhere.exists()


LEFTOVERS = [
    # It has rows to give before it fails, and would pass for the canonical text of the next query.
    "SELECT 'SELECT 42 AS n' AS sql FROM numbers(200000) WHERE throwIf(number = 190000) = 0",
    "SELECT number AS n FROM numbers(200000) WHERE throwIf(number = 190000) = 0",
    "SELECT 42 AS n FROM numbers(100001)",
]


@pytest.mark.parametrize("failing", LEFTOVERS)
def test_a_query_that_fails_while_running_leaves_nothing_to_the_next(
    reader: ClickHouse, failing: str
) -> None:
    for _ in range(3):
        with pytest.raises(StoreRefused):
            reader.query(failing)

        assert rows(reader, "SELECT count() AS n FROM decisions") == [{"n": 3}]


@pytest.mark.parametrize("failing", LEFTOVERS[:2])
def test_what_fails_for_the_writer_leaves_nothing_to_its_next_question(
    store: ClickHouse, failing: str
) -> None:
    Inserts(store).insert_ledger(ledger(a_batch(3)))
    with pytest.raises(StoreRefused):
        store.query(failing)

    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 3}]
    assert Inserts(store).insert_ledger(ledger(a_batch(2, first_offset=9))) == 2
    assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 5}]


def test_askers_side_by_side_get_their_own_answers(reader: ClickHouse) -> None:
    def ask(number: int) -> object:
        if number % 2:
            with pytest.raises(StoreRefused):
                reader.query(LEFTOVERS[number % 3])
            return None
        return rows(reader, f"SELECT {number} AS n FROM decisions LIMIT 1")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(24)))

    assert answers == [None if number % 2 else [{"n": number}] for number in range(24)]


def test_after_a_failed_query_a_reader_still_only_reads(reader: ClickHouse) -> None:
    with pytest.raises(StoreRefused):
        reader.query(LEFTOVERS[1])

    for forbidden in ("DROP TABLE decision_ledger", "SELECT * FROM numbers(100001)"):
        with pytest.raises(StoreRefused):
            reader.query(forbidden)
    assert rows(reader, "SELECT getSetting('readonly') AS n") == [{"n": 1}]
