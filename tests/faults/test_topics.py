"""Topics changed under running workers: what became of every application."""

import time

import pytest

from tests.faults.conftest import Record
from tests.faults.installation import Installation

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]


def test_partitions_added(installation: Installation, record: Record, *, long: bool) -> None:
    times = 3 if long else 1
    waited = []
    for _ in range(times):
        added = time.time()
        installation.widen(installation.partitions + 2)
        waited.append(installation.await_all_partitions_after(added) - added)
    record(
        "partitions added to all topics, to that of applications last",
        "an admin client",
        times,
        f"all at work after {max(waited):.1f} s",
    )
