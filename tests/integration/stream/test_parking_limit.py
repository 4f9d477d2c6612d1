"""The limit on parking, on a broker: what a worker that meets it leaves."""

import pytest

from scoring.parking import ParkingLimit
from stream.agents.scoring import TooMuchParked
from tests.integration.stream.parked import Installation, decided, event, ids
from tests.integration.stream.topics import kafka_at

LIMIT = ParkingLimit(longest_run=10, largest_share=1)


@pytest.mark.real_broker
def test_a_worker_that_meets_the_limit_parks_nothing_of_the_poll_that_crosses_it(
    there: Installation,
) -> None:
    there.send(0, event("good"), *(event(f"e-{n}", AGE=-3) for n in range(30)), event("last"))

    for _ in range(3):
        with pytest.raises(ExceptionGroup) as ended:
            there.work(limit=LIMIT, records=8)
        (error,) = ended.value.exceptions
        assert isinstance(error, TooMuchParked)
        # The first poll holds 7 of them; the one that comes next would make it 15.
        assert [one.offset for one in there.parked(7)] == list(range(1, 8))
    assert str(error).startswith(
        f"{there.kafka.applications}/0: release r would park 15 events one after the other; "
        "CREDITSTREAM_PARKING__LONGEST_RUN is 10. In the poll from offset 8: "
        "8 x invalid $.attributes.AGE. Nothing of it is parked or committed."
    )
    assert decided(there.decisions(1)) == ids(["good"])

    there.work(limit=ParkingLimit(longest_run=0), records=8)
    assert len(there.parked(30)) == 30
    assert decided(there.decisions(2)) == ids(["good", "last"])


@pytest.mark.real_broker
def test_restarts_in_a_row_park_no_more_than_one_worker_would(there: Installation) -> None:
    there.send(1, *(event(f"e-{n}", AGE=-3) for n in range(30)))

    crossed = 0
    for _ in range(8):
        try:
            there.work(limit=LIMIT, records=4, polls=1)  # and then it ends
        except ExceptionGroup as ended:
            crossed += ended.subgroup(TooMuchParked) is not None

    assert crossed == 6
    assert len(there.parked(8)) == 8


@pytest.mark.parametrize(
    ("limit", "every"),
    [(LIMIT, 100), (ParkingLimit(longest_run=0, largest_share=0.5, window=10), 5)],
)
def test_at_least_once_restarts_in_a_row_park_no_more_either(
    mock_broker: str, limit: ParkingLimit, every: int
) -> None:
    there = Installation(kafka_at(mock_broker), exactly_once=False)
    there.send(0, *(event(f"e-{n}", AGE=-3 if n % every else 41) for n in range(30)))

    def crosses() -> bool:
        try:
            there.work(limit=limit, records=3, polls=1)  # and then it ends
        except ExceptionGroup as ended:
            return ended.subgroup(TooMuchParked) is not None
        return False

    assert [crosses() for _ in range(6)] == [False, False, False, True, True, True]
    assert {one.offset for one in there.parked(1)} == {n for n in range(9) if n % every}


@pytest.mark.real_broker
def test_a_producer_of_10000_events_that_are_no_json_stops_nobody_unless_that_is_set(
    there: Installation,
) -> None:
    there.send(0, *[b"{"] * 10_000, event("behind"))

    with pytest.raises(ExceptionGroup):
        there.work(limit=ParkingLimit(counts="all"))
    assert len(there.parked(500)) == 500

    there.work()
    assert len(there.parked(10_000)) == 10_000
    assert decided(there.decisions(1)) == ids(["behind"])
