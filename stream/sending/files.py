"""Files and the example's applicants to application events."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.prepared import KEY, ExampleMissing, Prepared
from models.rows import RowsRefused, read_rows
from stream.kafka.connection import connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.rights import Right, check_rights
from stream.sending.simulator import Applicant, Sent, Simulator, cloud_event, send_all, send_at_rate
from stream.settings import KafkaSettings

_CHUNK = 2_000
# A step of the event loop at most: 30 ms where an applicant has hundreds of rows.
_AT_ONCE = 32
_SOURCE = "creditstream-send"
# A NaN becomes a null: both mean that there is no value.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Applicants(Iterable[Applicant]):
    """The example's stream of applicants, read anew each time, a few of them at once."""

    path: Path

    def __iter__(self) -> Iterator[Applicant]:
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=_AT_ONCE):
                for row in batch.to_pylist():
                    yield Applicant(int(row.pop(KEY)), row)


def applicants_of(prepared: Prepared) -> Applicants:
    """
    Give the example's stream of applicants, each with the attributes of the event.

    Raises ExampleMissing where nothing is prepared.
    """
    if not prepared.applications.is_file():
        msg = f"{prepared.applications} is missing: `creditstream prepare` makes it; see --data"
        raise ExampleMissing(msg)
    return Applicants(prepared.applications)


async def send_file(kafka: KafkaSettings, path: Path, key: str, run: str | None = None) -> int:
    """
    Send each row as an application event; columns beside the key are its attributes.

    `run` begins the events' ids. Without one the file's digest does, so that events of two files
    are not taken for one another. Raises RowsRefused, KafkaUnavailable, KafkaRefused,
    RightsMissing.
    """
    records = records_of(path, key, run or _run_of(path))
    connection = connection_of(kafka)
    await check_rights(connection, [Right("Write", "topic", kafka.applications)])
    async with (
        connection.errors_named(),
        Publisher(connection, client_id="creditstream-send") as publisher,
    ):
        for start in range(0, len(records), _CHUNK):
            chunk = records[start : start + _CHUNK]
            await send_all(publisher, kafka.applications, kafka.partitions, chunk)
    return len(records)


def records_of(path: Path, key: str, run: str) -> list[OutRecord]:
    """Make the events of a file's rows, as `send_file` sends them; raises RowsRefused."""
    rows = read_rows(path, key)
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if any(pc.any(pc.is_inf(floats)).as_py() for floats in _floats(column)):
            msg = f"{path}: column {name!r} holds an infinity, which JSON has not"
            raise RowsRefused(msg)
    records = []
    for number, row in enumerate(rows.to_pylist()):
        application_id = row.pop(key)
        if not isinstance(application_id, int):
            msg = f"{path}: row {number}: key {application_id!r} is no whole number"
            raise RowsRefused(msg)
        event_id = str(row.pop("event_id", f"{run}-{number:08d}"))
        at = datetime.now(UTC)
        submitted_at = str(row.pop("submitted_at", at.isoformat()))
        event = {
            "event_id": event_id,
            "application_id": application_id,
            "submitted_at": submitted_at,
            "attributes": row,
        }
        if not row:
            del event["attributes"]
        headers = cloud_event(event_id, submitted_at, _SOURCE)
        at_ms = int(at.timestamp() * 1000)
        key_bytes = str(application_id).encode()
        records.append(OutRecord(key_bytes, _ENCODER.encode(event), headers, at_ms))
    return records


def _floats(column: Any) -> Iterator[Any]:
    """Give the columns of floats that a column is, or holds in its lists and objects."""
    if pa.types.is_floating(column.type):
        yield column
    elif pa.types.is_struct(column.type):
        for part in column.flatten():
            yield from _floats(part)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        yield from _floats(pc.list_flatten(column))


def _run_of(path: Path) -> str:
    return f"send-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


async def simulate_example(
    kafka: KafkaSettings, data: Path, rate: float, count: int | None, bad_share: float
) -> Sent:
    """
    Send the example's applications at a rate, `count` of them or for ever.

    Raises ExampleMissing, KafkaUnavailable, KafkaRefused, RightsMissing.
    """
    run = f"sim-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    simulator = Simulator(applicants_of(Prepared(data)), run, bad_share)
    sent = Sent()
    connection = connection_of(kafka)
    await check_rights(connection, [Right("Write", "topic", kafka.applications)])
    async with (
        connection.errors_named(),
        Publisher(connection, client_id="creditstream-simulate") as publisher,
    ):
        await send_at_rate(
            publisher,
            kafka.applications,
            kafka.partitions,
            simulator.events(),
            sent,
            rate=rate,
            count=count,
        )
    return sent
