"""What a new owner reads back: how far."""

import pytest

from stream.delivery.read_back import last_of


@pytest.mark.parametrize(
    ("count", "last"),
    [(2, range(7, 9)), (6, range(3, 9)), (7, range(3, 9)), (0, range(9, 9))],
)
def test_no_more_is_read_back_than_is_asked_for_or_there(count: int, last: range) -> None:
    assert last_of(range(3, 9), count) == last
    assert list(last_of(range(0), count)) == []
