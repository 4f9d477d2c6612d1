"""Polls of one partition, one after the other."""

from hypothesis import given
from hypothesis import strategies as st

from scoring.byte_strings import ByteStrings
from scoring.poll import HeaderColumns, Headers, Poll

TEXTS = st.none() | st.binary(max_size=8)
HEADERS = st.lists(st.tuples(st.text(max_size=4), TEXTS), max_size=3)
RECORDS = st.lists(st.tuples(TEXTS, TEXTS, HEADERS), min_size=1, max_size=5)

Record = tuple[bytes | None, bytes | None, Headers]


def of(records: list[Record], first: int) -> Poll:
    """Make a poll as the consumer does, with headers that begin behind another's."""
    keys, values, headers = zip(*records, strict=True)
    columns = HeaderColumns.of([[("another", b"header")], *headers])
    own = HeaderColumns(columns.firsts[1:], columns.names, columns.values)
    offsets = range(first, first + len(records))
    times = [7 * offset for offset in offsets]
    return Poll("t", 3, offsets, times, ByteStrings.of(keys), ByteStrings.of(values), own)


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_polls_that_follow_one_another_are_joined_record_by_record(
    polled: list[list[Record]],
) -> None:
    polls: list[Poll] = []
    for records in polled:
        polls.append(of(records, sum(map(len, polls))))
    joined = Poll.joined(polls)

    every = [record for records in polled for record in records]
    assert list(joined.offsets) == list(range(len(every)))
    assert list(joined.produced_at_ms) == [7 * offset for offset in range(len(every))]
    assert list(joined.keys) == [key for key, _, _ in every]
    assert list(joined.values) == [value for _, value, _ in every]
    assert list(joined.headers) == [list(of([one], 0).headers[0]) for one in every]
    assert (joined.topic, joined.partition) == ("t", 3)


def test_a_poll_alone_is_itself() -> None:
    poll = of([(b"k", b"v", [])], 0)

    assert Poll.joined([poll]) is poll
