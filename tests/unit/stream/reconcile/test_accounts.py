"""The account of a partition: each application in one place, whatever the order it is told in."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.checksum import checksum
from stream.reconcile.accounts import (
    BLOCK,
    Decisions,
    LedgerRows,
    PartitionAccount,
    RecentIds,
    Span,
    Stored,
    Sum,
)

HOUR = 1_000
FATES = ("decided", "parked", "nothing", "both", "twice", "conflict", "no_ledger", "no_decision")


def a_span(first: int, end: int, **changes: int) -> Span:
    fields = {"settled": end, "judged_from": first, "parked_from": first}
    fields |= {"stored": end, "stored_parked": end}
    return Span(first, end, **(fields | changes))


def hashes(*values: int) -> Any:
    return np.array(values, np.uint64)


def numbers(*values: int) -> Any:
    return np.array(values, np.int64)


def decisions(*offsets: int, answer: int = 0) -> Decisions:
    answers = hashes(*(offset + 1 + answer for offset in offsets))
    return Decisions(
        numbers(*offsets), answers, numbers(*(7 for _ in offsets)), hashes(*(0 for _ in offsets))
    )


def ledger(*offsets: int, answer: int = 0) -> LedgerRows:
    found = decisions(*offsets, answer=answer)
    hours = numbers(*(HOUR for _ in offsets))
    return LedgerRows(found.offsets, found.answers, found.made_us, found.answers, hours)


def told(account: PartitionAccount, fates: dict[int, str]) -> None:
    """Tell an account what the topics hold, given what befell each application."""

    def those(*names: str) -> list[int]:
        return [offset for offset, fate in fates.items() if fate in names]

    account.add_decisions(decisions(*those("decided", "both", "twice", "conflict", "no_ledger")))
    account.add_decisions(decisions(*those("twice")))
    account.add_decisions(decisions(*those("conflict"), answer=1))
    account.add_ledger(ledger(*those("decided", "both", "twice", "conflict", "no_decision")))
    parked = those("parked", "both")
    hours = numbers(*(HOUR for _ in parked))
    account.add_parked(numbers(*parked), hashes(*parked), hours)


WRONG = {
    "both": "both",
    "twice": "twice",
    "conflict": "conflict",
    "no_ledger": "not_in_ledger",
    "no_decision": "not_on_decisions",
}


@given(
    fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=40),
    gaps=st.lists(st.integers(1, 3), min_size=40, max_size=40),
    exactly_once=st.booleans(),
)
def test_each_application_is_counted_once_and_each_fault_is_named(
    fates: list[str], gaps: list[int], exactly_once: bool
) -> None:
    offsets = np.cumsum(gaps[: len(fates)]) + 99  # markers of transactions stand between them
    befell = dict(zip(offsets.tolist(), fates, strict=True))
    account = PartitionAccount(a_span(100, 300), exactly_once=exactly_once)

    told(account, befell)
    hours = numbers(*(HOUR + (offset > 120) for offset in offsets.tolist()))
    found, unanswered = account.add_applications(offsets, hours, np.zeros(len(fates), np.uint64))
    for row in unanswered:
        account.settle(int(hours[row]), repeated=row % 2 == 0)

    expected = {(row, WRONG[fate]) for row, fate in enumerate(fates) if fate in WRONG}
    if not exactly_once:
        expected -= {(row, "twice") for row in range(len(fates))}
    assert set(found) == expected
    assert [fates[row] for row in unanswered] == ["nothing"] * fates.count("nothing")
    assert list(account.strangers()) == []
    counts = list(account.hours.values())
    assert sum(one.consumed for one in counts) == len(fates)
    for one in counts:
        assert one.consumed == one.decided + one.parked + one.repeated + one.missing
    assert sum(one.parked for one in counts) == fates.count("parked")
    assert sum(one.again for one in counts) == fates.count("twice") + fates.count("conflict")


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.randoms())
def test_a_checksum_is_the_same_in_any_order_and_another_where_one_is_changed_or_twice(
    values: list[int], random: Any
) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)

    assert checksum(hashes(*values)) == checksum(hashes(*shuffled)) == sum(values) % 2**64
    if values and values[0]:
        assert checksum(hashes(*values, values[0])) != checksum(hashes(*values))
        assert checksum(hashes(values[0] ^ 1, *values[1:])) != checksum(hashes(*values))


@given(
    offsets_there=st.sets(st.integers(3, 2_990), max_size=60),
    lost=st.sets(st.integers(3, 2_990), max_size=4),
    altered=st.sets(st.integers(3, 2_990), max_size=4),
    made_up=st.sets(st.integers(3, 2_990), max_size=4),
)
def test_comparing_by_blocks_finds_just_what_comparing_row_by_row_finds(
    offsets_there: set[int], lost: set[int], altered: set[int], made_up: set[int]
) -> None:
    there = {offset: a_hash("true", offset) for offset in offsets_there}
    account = PartitionAccount(a_span(3, 3_000, stored=2_991), exactly_once=True)
    offsets = numbers(*sorted(there))
    stored = account.ledger_stored
    values = hashes(*(there[offset] for offset in offsets.tolist()))
    stored.add(offsets - 3, values, offsets // 700, np.zeros(len(offsets), bool))
    found = {offset: value for offset, value in there.items() if offset not in lost}
    found |= {offset: a_hash("altered", offset) for offset in altered & there.keys() - lost}
    found |= {offset: a_hash("made up", offset) for offset in made_up - there.keys()}

    only = compared(stored, found)

    flags = {offset: int(stored.flags[offset - 3]) for offset in range(3, 3_000)}
    missing, extra, other = (
        {offset for offset, flag in flags.items() if flag == bit} for bit in (1, 2, 4)
    )
    assert missing == there.keys() - found.keys()
    assert extra == set(only) == found.keys() - there.keys()
    assert other == {
        offset for offset in found.keys() & there.keys() if found[offset] != there[offset]
    }
    assert stored.differs(sums(found, 700)) == bool(missing or extra or other)


def a_hash(what: str, offset: int) -> int:
    """Hash as rows are hashed: of hashes that are no such, two may add up to a third."""
    return int.from_bytes(hashlib.sha256(f"{what} {offset}".encode()).digest()[:8], "little")


def sums(found: dict[int, int], size: int) -> dict[int, Sum]:
    of: dict[int, Sum] = {}
    for offset, value in found.items():
        rows, total = of.get(offset // size, Sum(0, 0))
        of[offset // size] = Sum(rows + 1, (total + value) % 2**64)
    return of


def compared(stored: Stored, found: dict[int, int]) -> list[int]:
    """Compare as an adapter does: the blocks that differ, row by row."""
    only = []
    for block in stored.differing_blocks(sums(found, BLOCK)):
        of_block = {offset: value for offset, value in found.items() if offset // BLOCK == block}
        only += stored.compare(block, of_block)
    return only


def test_an_answer_to_no_application_is_a_stranger() -> None:
    account = PartitionAccount(a_span(10, 20), exactly_once=True)
    told(account, {12: "decided", 13: "parked", 14: "decided", 25: "decided"})

    account.add_applications(numbers(12), numbers(HOUR), hashes(0))

    assert list(account.strangers()) == [(13, "unknown"), (14, "unknown")]


def test_a_decision_of_another_events_content_is_unknown() -> None:
    account = PartitionAccount(a_span(0, 3), exactly_once=True)
    account.add_decisions(decisions(0, 1, 2)._replace(digests=hashes(5, 6, 0)))
    account.add_ledger(ledger(0, 1, 2))

    found, _ = account.add_applications(numbers(0, 1, 2), numbers(1, 1, 1), hashes(5, 7, 8))

    assert found == [(1, "unknown")]


@pytest.mark.parametrize("exactly_once", [True, False])
def test_what_is_not_complete_beyond_the_committed_offset_is_pending(exactly_once: bool) -> None:
    account = PartitionAccount(a_span(0, 5, settled=2), exactly_once=exactly_once)
    told(account, {0: "decided", 1: "nothing", 2: "decided", 3: "no_ledger", 4: "nothing"})

    found, unanswered = account.add_applications(
        np.arange(5), np.full(5, HOUR), np.zeros(5, np.uint64)
    )

    assert (found, unanswered) == ([], [1])
    assert (account.hours[HOUR].decided, account.hours[HOUR].pending) == (2, 2)


def test_what_a_topic_no_longer_keeps_answers_of_is_not_judged() -> None:
    account = PartitionAccount(a_span(0, 6, judged_from=2, parked_from=4), exactly_once=True)
    told(account, {0: "nothing", 1: "decided", 2: "decided", 3: "nothing", 5: "nothing"})

    found, unanswered = account.add_applications(
        numbers(0, 1, 2, 3, 5), np.full(5, HOUR), np.zeros(5, np.uint64)
    )

    assert (found, unanswered) == ([], [4])
    assert (account.hours[HOUR].consumed, account.hours[HOUR].unjudged) == (2, 3)


@pytest.mark.parametrize(("exactly_once", "kinds"), [(True, ["conflict", "twice"]), (False, [])])
def test_an_id_that_came_shortly_before_is_a_fault_exactly_once(
    exactly_once: bool, kinds: list[str]
) -> None:
    account = PartitionAccount(a_span(0, 3), exactly_once=exactly_once)
    told(account, dict.fromkeys(range(3), "decided"))
    account.note_same_id(1, same_event=True)
    account.note_same_id(2, same_event=False)
    account.note_same_id(9, same_event=False)

    found, _ = account.add_applications(np.arange(3), np.full(3, HOUR), np.zeros(3, np.uint64))

    assert sorted(one.kind for one in found) == kinds


def test_an_id_is_remembered_for_as_many_decisions_as_the_window_holds() -> None:
    recent = RecentIds(2)

    assert recent.meet(b"a", 0, b"1") is None
    assert recent.meet(b"b", 1, b"2") is None
    assert recent.meet(b"a", 2, b"1") == (0, b"1")
    assert recent.meet(b"c", 3, b"3") is None
    assert recent.meet(b"b", 4, b"2") is None
