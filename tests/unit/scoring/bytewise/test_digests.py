"""Digests of columns against those of hashlib, one by one."""

from hypothesis import given
from hypothesis import strategies as st

from scoring.byte_strings import ByteStrings
from scoring.bytewise.digests import decision_ids, event_digests
from scoring.decision import DECISION_NAMESPACE, decision_id
from scoring.recent import event_digest

LENGTHS = st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1_000])
VALUES = st.binary(max_size=300) | LENGTHS.map(lambda length: b"x" * length)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@given(st.lists(VALUES, max_size=8))
def test_events_are_named_by_blake2b(values: list[bytes]) -> None:
    assert list(event_digests(ByteStrings.of(values))) == list(map(event_digest, values))


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8))
def test_decisions_are_named_by_their_source_and_event(events: list[tuple[str, str]]) -> None:
    sources = ByteStrings.of(source.encode() for source, _ in events)
    event_ids = ByteStrings.of(event_id.encode() for _, event_id in events)

    found = decision_ids(sources, event_ids, DECISION_NAMESPACE)

    assert list(found) == [decision_id(*event) for event in events]


def test_a_long_name_is_of_many_blocks() -> None:
    names = [("s" * length, "e" * 64) for length in range(1, 257)]

    found = decision_ids(
        ByteStrings.of(source.encode() for source, _ in names),
        ByteStrings.of(event_id.encode() for _, event_id in names),
        DECISION_NAMESPACE,
    )

    assert list(found) == [decision_id(*name) for name in names]
