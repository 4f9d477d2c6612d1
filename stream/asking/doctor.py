"""What works and what is missing, each with the way to get it."""

import asyncio
import platform
import shutil
from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console
from rich.markup import escape

from features.snapshot import SnapshotRefused, load_snapshot
from models.release import Release, ReleaseRefused, load_release
from sinks.store import StoreRefused, StoreUnavailable
from stream.asking.questions import ask, status_of
from stream.composition import release_folder, table_file
from stream.kafka.connection import connection_of
from stream.kafka.rights import RightsMissing, check_rights
from stream.kafka.roles import ROLES, Role, inputs_of, outputs_of, rights_of
from stream.kafka.topic_settings import check_parking, check_topic_settings
from stream.kafka.topics import check_partitions, describe_topics
from stream.settings import Settings

_INIT = "run `creditstream init`"
_STORE = "SELECT version() AS version, (SELECT count() FROM schema_migrations) AS migrations"
_NO_SUCH = ("UNKNOWN_DATABASE", "UNKNOWN_TABLE", "there is no store")


class Missing(Exception):
    """A part is not there; says what to do."""


def examine(settings: Settings, roles: Sequence[Role] = ROLES) -> int:
    """Print a line for each part; give 0 if all is there that workers of `roles` need, else 1."""
    console = Console()
    console.print(f"creditstream on Python {platform.python_version()}")
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("release", _release),
        ("feature table", _table),
        ("kafka", partial(_kafka, roles=roles)),
        ("clickhouse", _store),
        ("worker", _worker),
    ]
    failed = 0
    for name, check in checks:
        try:
            state, found = "[green]ok[/]     ", check(settings)
        except Exception as error:  # noqa: BLE001 - the doctor reports whatever is wrong
            failed += 1
            state, found = "[red]missing[/]", str(error)
        console.print(f"  {state} {name}: {escape(found)}", highlight=False, soft_wrap=True)
    for program, why in (
        ("java", "runs Apache Kafka's jars where no Docker is"),
        ("mvn", "fetches them"),
        ("docker", "with an engine and its compose plugin, runs docker compose"),
    ):
        state = "found" if shutil.which(program) else "not found"
        console.print(f"  {state:7s} {program}: {why}")
    console.print("  nothing of this is needed for `creditstream demo`, which brings its own")
    return int(bool(failed))


def _release(settings: Settings) -> str:
    release = _load(settings)
    return f"{release.id}, {len(release.schema.names)} features"


def _load(settings: Settings) -> Release:
    try:
        return load_release(release_folder(settings.release))
    except ReleaseRefused as refused:
        msg = f"{refused}; set CREDITSTREAM_RELEASE"
        raise Missing(msg) from None


def _table(settings: Settings) -> str:
    try:
        schema = _load(settings).schema
    except Missing:
        msg = f"{settings.features} cannot be checked without a release; see CREDITSTREAM_FEATURES"
        raise Missing(msg) from None
    try:
        table = load_snapshot(table_file(settings.features), schema)
    except SnapshotRefused as refused:
        msg = f"{refused}; set CREDITSTREAM_FEATURES"
        raise Missing(msg) from None
    return f"{len(table)} applicants as of {table.as_of}"


def _kafka(settings: Settings, roles: Sequence[Role]) -> str:
    return asyncio.run(_examine_kafka(settings, roles))


async def _examine_kafka(settings: Settings, roles: Sequence[Role]) -> str:
    kafka, connection = settings.kafka, connection_of(settings.kafka)
    topics = {topic for role in roles for topic in inputs_of(kafka, role) + outputs_of(kafka, role)}
    # All that there are: a broker may make a topic of being asked for it.
    there = {topic["topic"] for topic in await describe_topics(connection)}
    missing = []
    for role in roles:
        try:
            await check_rights(connection, rights_of(settings, role))
        except RightsMissing as lacking:
            missing.append(f"{role}: {lacking}")
    if missing:
        raise Missing("; ".join(missing))
    if absent := sorted(topics - there):
        msg = f"not at {connection.servers}: {', '.join(absent)}; {_INIT}"
        raise Missing(msg)
    if "scoring" in roles:
        await check_parking(kafka)
    await check_partitions(kafka)
    doubts = await check_topic_settings(kafka, sorted(topics))
    found = f"{len(topics)} topics at {connection.servers} by {connection.protocol}"
    return "; but ".join([found, *doubts])


def _store(settings: Settings) -> str:
    try:
        version = ask(settings, _STORE)["version"][0].as_py()
    except (StoreUnavailable, StoreRefused) as error:
        hint = "set CREDITSTREAM_STORE__URL"
        if any(name in str(error) for name in _NO_SUCH):
            hint = _INIT
        elif "certificate" in str(error):
            hint = "see CREDITSTREAM_STORE__SSL_CAFILE, …SSL_CERTFILE"
        msg = f"{error}; {hint}"
        raise Missing(msg) from None
    return f"{version} at {settings.store.url}"


def _worker(settings: Settings) -> str:
    """Ask the worker whose status service the settings name what it decides with."""
    url = f"http://{settings.status.host}:{settings.status.port}"
    status = status_of(url) if settings.status.port else None
    if status is None:
        return f"none answers at {url} (CREDITSTREAM_STATUS__PORT)"
    if status["refused"]:
        msg = f"the one at {url} goes on with what it had: {status['refused']}"
        raise Missing(msg)
    return f"{status['role']} at {url}"
