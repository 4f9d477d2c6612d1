"""The declared features on ClickHouse's engine: the bits that DuckDB gives."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import clickhouse_connect
import ibis.expr.types as ir
import pytest

from features.home_credit.build import TablesRefused, build, checked, opened
from features.home_credit.raw_engine import EngineUnavailable
from features.home_credit.raw_files import FILE, ROW
from features.home_credit.sample_files import write_sample
from tests.clickhouse import Server

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
DATABASE = "home_credit"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("look_alike") / "tables"
    write_sample(folder, 300, 5, "parquet")
    return folder


@pytest.fixture
def address(folder: Path, clickhouse_server: Server) -> Iterator[str]:
    """The look-alike tables in a database of a server, as somebody may have loaded them."""
    host = clickhouse_server.url.removeprefix("http://")
    login = f"{quote(clickhouse_server.user)}:{quote(clickhouse_server.password)}"
    client = clickhouse_connect.get_client(
        dsn=clickhouse_server.url,
        username=clickhouse_server.user,
        password=clickhouse_server.password,
        autogenerate_session_id=False,
    )
    client.command(f"CREATE DATABASE {DATABASE}")
    with opened(folder) as (raw, faults):
        assert raw is not None, faults
        for name, table in raw.tables.items():
            _load(client, f"{DATABASE}.{name}", table.drop(ROW, FILE))
    yield f"clickhouse://{login}@{host}/{DATABASE}"
    client.command(f"DROP DATABASE {DATABASE}")
    client.close()


def _load(client: clickhouse_connect.driver.Client, name: str, table: ir.Table) -> None:
    kinds = {
        column: "Nullable(String)" if kind.is_string() else "Nullable(Float64)"
        for column, kind in table.schema().items()
    }
    columns = ", ".join(f"{column} {kind}" for column, kind in kinds.items())
    client.command(f"CREATE TABLE {name} ({columns}) ENGINE = MergeTree ORDER BY tuple()")
    client.insert_arrow(name, table.to_pyarrow())


def built(where: str | Path, out: Path) -> bytes:
    build(where, out, as_of=AS_OF, said=lambda _: None, checked=lambda _: None)
    return out.read_bytes()


def test_clickhouse_builds_the_same_file_to_the_byte(
    folder: Path, address: str, tmp_path: Path
) -> None:
    assert built(address, tmp_path / "there.parquet") == built(folder, tmp_path / "here.parquet")


def test_faults_at_an_engine_are_told_by_table_and_column(
    address: str, clickhouse_server: Server
) -> None:
    with closing(clickhouse_server.open(DATABASE)) as store:
        store.command("INSERT INTO bureau SELECT * FROM bureau LIMIT 1")
        store.command("ALTER TABLE POS_CASH_balance DROP COLUMN SK_DPD")

    (missing,) = checked(address).faults
    assert (missing.file, missing.column, missing.rule) == (
        "POS_CASH_balance",
        "SK_DPD",
        "a column is missing",
    )

    with closing(clickhouse_server.open(DATABASE)) as store:
        store.command("ALTER TABLE POS_CASH_balance ADD COLUMN SK_DPD Nullable(Float64)")
    (repeated,) = checked(address).faults
    assert (repeated.file, repeated.column) == ("bureau", "SK_ID_BUREAU")


def test_an_engine_needs_a_date_and_an_address_that_answers(tmp_path: Path) -> None:
    nowhere = "clickhouse://me:secret@127.0.0.1:1/home_credit"
    with pytest.raises(TablesRefused, match="give --as-of"):
        build(nowhere, tmp_path / "o", said=lambda _: None, checked=lambda _: None)

    with pytest.raises(EngineUnavailable, match=r"clickhouse://127\.0\.0\.1/home_credit") as error:
        checked(nowhere)
    assert "secret" not in str(error.value)
