"""One installation for all commands."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from rich.console import Console

from models.prepared import KEY
from stream.demo.examples import example_of
from stream.demo.installation import Installation, installed
from tests.e2e.commands.asked import SENT, applications, count, send
from tests.e2e.conftest import EXAMPLE
from tests.e2e.running import wait_until

NOBODY = 99_000_001
"""An applicant whom no feature table knows."""


@pytest.fixture(scope="package")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all commands, which has decided a file of applications."""
    folder = tmp_path_factory.mktemp("installation")
    with installed(
        Console(quiet=True), example_of("taiwan-default", EXAMPLE), folder / "all"
    ) as running:
        send(running, applications(running.prepared), "first", folder / "first.parquet")
        unknown = pa.table({KEY: [NOBODY], "event_id": ["odd-[/b][red]"]})
        send(running, unknown, "unknown", folder / "unknown.parquet")
        wait_until(lambda: count(running, "first") == SENT, 60, "all applications decided")
        wait_until(lambda: count(running, "odd") == 1, 30, "the odd one decided")
        yield running
