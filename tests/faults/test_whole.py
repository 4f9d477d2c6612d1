"""What became of every application, after all the faults."""

import pytest

from tests.faults.conftest import Record

pytestmark = [pytest.mark.real_broker, pytest.mark.timeout(3_600)]


def test_all_of_it_read_once_more(record: Record) -> None:
    record("all of the above, read once more from the beginning", "the checker", 1, whole=True)
