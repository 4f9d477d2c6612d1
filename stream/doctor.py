"""What works and what is missing, each with the way to get it."""

import asyncio
import platform
import shutil
from collections.abc import Callable

from rich.console import Console

from features.snapshot import load_snapshot
from models.release import load_release
from sinks.store import StoreRefused, StoreUnavailable
from stream.composition import release_folder
from stream.reading import ask
from stream.settings import Settings
from stream.topics import describe_topics


def examine(settings: Settings) -> int:
    """Print a line for each part; give 0 if all a worker needs is there, else 1."""
    console = Console()
    console.print(f"creditstream on Python {platform.python_version()}")
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("release", _release),
        ("feature table", _table),
        ("kafka", _kafka),
        ("clickhouse", _store),
    ]
    failed = 0
    for name, check in checks:
        try:
            console.print(f"  [green]ok[/]      {name}: {check(settings)}")
        except Exception as error:  # noqa: BLE001 - the doctor reports whatever is wrong
            failed += 1
            console.print(f"  [red]missing[/] {name}: {error}", markup=True, highlight=False)
    for program, why in (
        ("java", "runs Apache Kafka's jars where no Docker is"),
        ("mvn", "fetches them"),
        ("docker", "runs docker compose"),
    ):
        state = "found" if shutil.which(program) else "not found"
        console.print(f"  {state:7s} {program}: {why}")
    console.print("  nothing of this is needed for `creditstream demo`, which brings its own")
    return int(bool(failed))


def _release(settings: Settings) -> str:
    release = load_release(release_folder(settings.release))
    return f"{release.id}, {len(release.schema.names)} features"


def _table(settings: Settings) -> str:
    release = load_release(release_folder(settings.release))
    table = load_snapshot(settings.features, release.schema)
    return f"{len(table)} applicants as of {table.as_of}"


def _kafka(settings: Settings) -> str:
    servers = settings.kafka.bootstrap_servers
    return f"{len(asyncio.run(describe_topics(servers)))} topics at {servers}"


def _store(settings: Settings) -> str:
    try:
        version = ask(settings, "SELECT version() AS version")["version"][0].as_py()
    except (StoreUnavailable, StoreRefused) as error:
        msg = f"{error}; set CREDITSTREAM_STORE__URL"
        raise ConnectionError(msg) from None
    return f"{version} at {settings.store.url}"
