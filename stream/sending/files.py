"""Files and the example's applicants to application events."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

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
from stream.settings import EventSettings, KafkaSettings

_CHUNK = 2_000
# A step of the event loop at most: 30 ms where an applicant has hundreds of rows.
_AT_ONCE = 32
_SOURCE = "creditstream-send"
# With a row's number behind it, an event's id of at most 64 characters.
_RUN = re.compile("[!-~]{1,55}")
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


@dataclass(frozen=True, slots=True)
class FileRun:
    """
    What a file's rows do not say of their events: how ids begin, and when they were submitted.

    It follows from the file and not from the clock, so that who sends a file again, after an
    error half way or by mistake, sends the same bytes, which are known as sent again.
    """

    name: str
    submitted_at: datetime

    @classmethod
    def of(
        cls,
        path: Path,
        key: str,
        limits: EventSettings,
        name: str | None = None,
        submitted_at: datetime | None = None,
    ) -> "FileRun":
        """
        Make the run of a file; by default it is submitted when the file was last changed.

        Without a `name` the digest of content, key and time is one, so that events of two files are
        not taken for one another. Raises RowsRefused for a file that cannot be read, for one so
        old that its events would be parked, and for a name that no event's id can begin with.
        """
        try:
            changed = datetime.fromtimestamp(path.stat().st_mtime_ns // 10**9, UTC)
            content = path.read_bytes()
        except OSError as error:
            msg = f"{path}: {error.strerror}"
            raise RowsRefused(msg) from None
        if submitted_at is None:
            age = datetime.now(UTC) - changed
            if age > timedelta(days=limits.max_age_days):
                too = f"more than {limits.max_age_days:g} days ago"
            elif -age > timedelta(seconds=limits.max_ahead_seconds):
                too = "in the future"
            else:
                too = ""
            if too:
                msg = (
                    f"{path}: last changed {changed:%Y-%m-%d}, {too}, when its events would have "
                    "been submitted: say when with --submitted-at"
                )
                raise RowsRefused(msg)
            submitted_at = changed
        if name is not None and not _RUN.fullmatch(name):
            msg = (
                f"run {name!a}: an event's id is a run's name, 1 to 55 printable ASCII "
                "characters without a space, and the row's number"
            )
            raise RowsRefused(msg)
        if name is None:
            said = f"\n{key}\n{submitted_at.isoformat()}".encode()
            name = f"send-{hashlib.sha256(content + said).hexdigest()[:12]}"
        return cls(name, submitted_at)


async def send_file(kafka: KafkaSettings, path: Path, key: str, run: FileRun) -> int:
    """
    Send each row as an application event; columns beside the key are its attributes.

    Raises RowsRefused, KafkaUnavailable, KafkaRefused, RightsMissing.
    """
    records = records_of(path, key, run)
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


def records_of(path: Path, key: str, run: FileRun) -> list[OutRecord]:
    """
    Make the events of a file's rows, as `send_file` sends them; raises RowsRefused.

    A row's own `event_id` and `submitted_at` go before those of the run.
    """
    rows = read_rows(path, key)
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if any(pc.any(pc.is_inf(floats)).as_py() for floats in _floats(column)):
            msg = f"{path}: column {name!r} holds an infinity, which JSON has not"
            raise RowsRefused(msg)
    values = [
        _values(column, name, path)
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    ]
    records = []
    for number, each in enumerate(zip(*values, strict=True)):
        row = dict(zip(rows.column_names, each, strict=True))
        application_id = row.pop(key)
        if not isinstance(application_id, int):
            msg = f"{path}: row {number}: key {application_id!r} is no whole number"
            raise RowsRefused(msg)
        event_id = str(row.pop("event_id", f"{run.name}-{number:08d}"))
        submitted_at = str(row.pop("submitted_at", run.submitted_at.isoformat()))
        event = {
            "event_id": event_id,
            "application_id": application_id,
            "submitted_at": submitted_at,
            "attributes": row,
        }
        if not row:
            del event["attributes"]
        headers = cloud_event(event_id, submitted_at, _SOURCE)
        sent_ms = int(datetime.now(UTC).timestamp() * 1000)
        key_bytes = str(application_id).encode()
        records.append(OutRecord(key_bytes, _ENCODER.encode(event), headers, sent_ms))
    return records


def _values(column: pa.ChunkedArray, name: str, path: Path) -> list[Any]:
    try:
        return cast("list[Any]", column.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException) as error:
        msg = f"{path}: column {name!r} cannot be read: {error}"
        raise RowsRefused(msg) from None


def _floats(column: Any) -> Iterator[Any]:
    """Give the columns of floats that a column is, or holds in its lists and objects."""
    if pa.types.is_floating(column.type):
        yield column
    elif pa.types.is_struct(column.type):
        for part in column.flatten():
            yield from _floats(part)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        yield from _floats(pc.list_flatten(column))


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
