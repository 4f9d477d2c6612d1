"""The limit of what is parked: where it is crossed, what it counts, what it remembers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.decode import CODES
from scoring.parking import ParkingHistory, ParkingLimit, ParkingLimitCrossed, may_be_of_release
from scoring.pipeline import Pipeline
from scoring.poll import Headers, Poll
from tests.builders import ATTRIBUTES, NOW_MS, a_pipeline, a_poll, an_event

REDRIVEN: Headers = [
    ("creditstream-redriven", b"1"),
    ("creditstream-redriven-of", b"credit.parked.v1/0/17"),
]
PIPELINE = a_pipeline()
GOOD, BAD, NOT_JSON = "good", "bad", "not json"


def a_poll_of(kinds: Sequence[str], first: int = 0, headers: Headers = ()) -> Poll:
    """A poll with an event of each kind; one that is bad has an age that the release refuses."""

    def value(number: int, kind: str) -> bytes | dict[str, object]:
        if kind == NOT_JSON:
            return b"{"
        age = -3 if kind == BAD else 41
        event = an_event(event_id=f"e-{number}", attributes=ATTRIBUTES | {"AGE": age})
        return dict(event)

    poll = a_poll(*(value(first + at, kind) for at, kind in enumerate(kinds)))
    n = len(kinds)
    return replace(poll, offsets=range(first, first + n), headers=[headers] * n)


def after(
    limit: ParkingLimit,
    *polls: Sequence[str],
    history: ParkingHistory | None = None,
    pipeline: Pipeline = PIPELINE,
    headers: Headers = (),
) -> ParkingHistory:
    history, first = history or ParkingHistory(), 0
    for kinds in polls:
        poll = a_poll_of(kinds, first, headers)
        history = limit.after(history, poll, pipeline.decide(poll, NOW_MS * 1000))
        first += len(kinds)
    return history


def test_a_run_may_be_as_long_as_the_limit_and_no_longer() -> None:
    limit = ParkingLimit(longest_run=3, largest_share=1)

    assert after(limit, [BAD] * 3, [GOOD], [BAD] * 3).run == 3
    with pytest.raises(ParkingLimitCrossed) as crossed:
        after(limit, [GOOD, BAD, BAD], [BAD, BAD])

    assert (crossed.value.bound, crossed.value.parked) == ("longest_run", 4)
    assert crossed.value.causes == {("invalid", "$.attributes.AGE"): 2}


def test_a_share_is_judged_once_there_are_as_many_events_as_it_is_of() -> None:
    limit = ParkingLimit(longest_run=0, largest_share=0.5, window=4)

    after(limit, [BAD] * 3, [GOOD])
    after(limit, [GOOD, BAD] * 20)
    with pytest.raises(ParkingLimitCrossed) as crossed:
        after(limit, [GOOD, BAD] * 20, [BAD])

    assert (crossed.value.bound, crossed.value.parked) == ("largest_share", 3)


def test_a_good_event_never_crosses_however_bad_those_before_it_were() -> None:
    bad = after(ParkingLimit(longest_run=0, largest_share=0.99, window=4), [BAD, BAD, BAD, GOOD])

    after(ParkingLimit(longest_run=0, largest_share=0.5, window=4), [GOOD] * 4, history=bad)


def test_without_bounds_anything_is_parked_and_nothing_is_held_against_what_comes_later() -> None:
    off = ParkingLimit(longest_run=0, largest_share=1, window=4)

    history = after(off, [BAD] * 50)

    on = ParkingLimit(longest_run=3, largest_share=0.5, window=4)
    assert after(on, [BAD], history=history).run == 1


def test_what_events_bring_along_themselves_neither_counts_nor_ends_a_run() -> None:
    limit = ParkingLimit(longest_run=2, largest_share=0.5, window=4)

    assert after(limit, [NOT_JSON] * 50) == ParkingHistory("r")
    with pytest.raises(ParkingLimitCrossed):
        after(limit, [BAD, NOT_JSON, BAD, NOT_JSON, BAD])
    with pytest.raises(ParkingLimitCrossed) as crossed:
        after(replace(limit, counts="all"), [BAD, NOT_JSON, NOT_JSON])

    assert crossed.value.causes == {("invalid", "$.attributes.AGE"): 1, ("malformed", "$"): 2}


@pytest.mark.parametrize("code", CODES)
def test_a_release_may_be_at_fault_for_what_attributes_may_be_and_for_nothing_else(
    code: str,
) -> None:
    assert may_be_of_release(code, "$.attributes.AGE") == (code == "invalid")
    assert not may_be_of_release(code, "$.event_id")


@pytest.mark.parametrize("off", [True, False])
def test_a_history_is_the_same_read_back_from_its_events(*, off: bool) -> None:
    limit = ParkingLimit(longest_run=5, largest_share=1 if off else 0.9, window=6)
    events = [GOOD, BAD, BAD, GOOD, GOOD, GOOD, BAD, BAD, BAD]

    back = limit.history("r", [kind == BAD for kind in events])

    assert back == after(limit, events)
    assert back.run == 3
    assert limit.history("r", []) == ParkingHistory("r")


def test_a_limit_looks_no_further_back_than_its_bounds() -> None:
    assert ParkingLimit(longest_run=500, window=100).reach == 501
    assert ParkingLimit(longest_run=5, window=100).reach == 100
    assert ParkingLimit(longest_run=5, largest_share=1, window=100).reach == 6
    assert ParkingLimit(longest_run=0, largest_share=1, window=100).reach == 0


def test_events_that_are_driven_again_and_fail_again_do_not_count() -> None:
    limit = ParkingLimit(longest_run=2, largest_share=0.5, window=4)

    assert after(limit, [BAD] * 50, headers=REDRIVEN).run == 0
    with pytest.raises(ParkingLimitCrossed):
        after(limit, [BAD] * 50, headers=[("creditstream-redriven", b"often")])


def test_another_release_begins_anew() -> None:
    limit = ParkingLimit(longest_run=2, largest_share=0.5, window=4)
    history = replace_release(after(limit, [GOOD, GOOD, BAD, BAD]), "another")

    assert after(limit, [BAD], history=history) == after(limit, [BAD])


def replace_release(history: ParkingHistory, release: str) -> ParkingHistory:
    return ParkingHistory(release, history.run, history.count, history.bits)


kinds = st.lists(st.sampled_from([GOOD, BAD, NOT_JSON]), max_size=30)
limits = st.builds(
    ParkingLimit,
    longest_run=st.integers(0, 8),
    largest_share=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    window=st.integers(1, 12),
    counts=st.sampled_from(["release", "all"]),
)


def crossing(limit: ParkingLimit, stream: list[str], cuts: list[int]) -> int | None:
    """Give the first poll's end, by the cuts of a stream, up to which it would be crossed."""
    history = ParkingHistory()
    for begin, end in pairwise([0, *sorted(cuts), len(stream)]):
        poll = a_poll_of(stream[begin:end], begin)
        try:
            history = limit.after(history, poll, PIPELINE.decide(poll, 0))
        except ParkingLimitCrossed:
            return end
        history = ParkingHistory.parse(history.text())  # as a new owner reads it
    return None


@settings(max_examples=40)  # each decides event by event
@given(limits, kinds, st.data())
def test_it_is_crossed_at_the_same_event_however_polls_cut_the_stream(
    limit: ParkingLimit, stream: list[str], data: st.DataObject
) -> None:
    one_by_one = crossing(limit, stream, list(range(1, len(stream))))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=5))

    found = crossing(limit, stream, cuts)

    ends = sorted([*cuts, len(stream)])
    expected = None if one_by_one is None else next(end for end in ends if end >= one_by_one)
    assert found == expected


def test_a_history_fits_beside_an_offset_and_anybody_elses_text_is_none() -> None:
    limit = ParkingLimit(longest_run=0, largest_share=0.99, window=10_000)
    history = after(limit, *[[GOOD, BAD] * 50] * 100)

    assert (history.count, int(history.flags().sum())) == (10_000, 5_000)
    assert len(history.text()) < 4_096  # what a broker takes
    assert ParkingHistory.parse(history.text()) == history
    for text in ("", "x", "{}", '{"run":-1}', '{"count":9,"bits":"AA=="}', '{"bits":"é"}'):
        assert ParkingHistory.parse(text) == ParkingHistory()


@pytest.mark.parametrize("polls", [(3, 4), (1,), (9, 1), (40,), (16, 16, 3)])
def test_polls_of_which_nothing_is_parked_are_remembered_as_any_other(
    polls: tuple[int, ...],
) -> None:
    for limit in (ParkingLimit(window=10), ParkingLimit(window=10, largest_share=1)):
        found = after(limit, *([GOOD] * number for number in polls))

        assert found == limit.history("r", [False] * sum(polls))


def test_a_run_goes_on_over_a_poll_that_says_nothing_of_a_release() -> None:
    limit = ParkingLimit(longest_run=3, largest_share=1)

    assert after(limit, [BAD, BAD], [NOT_JSON]).run == 2
    assert after(limit, [BAD, BAD], [NOT_JSON], [GOOD]).run == 0
