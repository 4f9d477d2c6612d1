import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scoring.decision import decision_id
from scoring.recent import RecentEvents, event_digest
from tests.builders import NOW_MS, a_pipeline, a_poll, an_event

PIPELINE = a_pipeline()


def identity(number: int) -> bytes:
    return decision_id("shop", f"e-{number}")


EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), max_size=30)


@given(st.lists(EVENTS, max_size=5))
def test_an_event_is_new_once_repeated_with_its_content_and_conflicting_with_another(
    polls: list[list[tuple[int, int]]],
) -> None:
    recent, first_content = RecentEvents(1_000), dict[int, int]()
    for poll in polls:
        ids = [identity(number) for number, _ in poll]
        digests = [event_digest(bytes([number, content])) for number, content in poll]

        found = recent.sort_out(ids, digests)

        for row, (number, content) in enumerate(poll):
            known = number in first_content
            first_content.setdefault(number, content)
            same = first_content[number] == content
            assert (row in found.repeated) == (known and same)
            assert (row in found.conflicting) == (known and not same)
        kept = [r for r in range(len(poll)) if r not in np.concatenate(found)]
        recent.remember([ids[row] for row in kept], [digests[row] for row in kept])


def test_only_so_many_are_known_the_youngest() -> None:
    recent = RecentEvents(3)
    for number in range(5):
        recent.remember([identity(number)], [b"contents"])
    recent.remember([identity(3)], [b"contents"])
    recent.remember([identity(9)], [b"contents"])

    ids = [identity(number) for number in (2, 4, 3, 9)]
    assert recent.sort_out(ids, [b"contents"] * 4).repeated.tolist() == [1, 2, 3]
    assert len(recent) == 3


def test_nothing_is_known_of_a_window_of_no_events() -> None:
    recent = RecentEvents(0)
    recent.remember([identity(1)], [b"contents"])

    found = recent.sort_out([identity(1)], [b"contents"])
    assert [rows.tolist() for rows in found] == [[], []]


def test_an_event_sent_again_is_counted_and_one_with_its_id_and_other_content_parked() -> None:
    recent = RecentEvents(100)
    first = PIPELINE.decide(a_poll(an_event(event_id="a"), b"{"), NOW_MS * 1000, recent)
    assert (len(first.batch), first.repeated, len(first.rejections)) == (1, 0, 1)
    recent.remember(first.batch.decision_ids, first.batch.event_digests)

    other = an_event(event_id="a", application_id=8)
    poll = a_poll(an_event(event_id="b"), other, b"{", an_event(event_id="a"), other)
    again = PIPELINE.decide(poll, NOW_MS * 1000, recent)

    assert list(again.batch.event_ids) == [b"b"]
    assert again.batch.offsets.tolist() == [0]
    assert again.repeated == 1
    assert [(r.position, r.code) for r in again.rejections] == [
        (1, "conflicting_duplicate"),
        (2, "malformed"),
        (4, "conflicting_duplicate"),
    ]
    assert again.rejections[0].path == "$.event_id"
    assert again.rejections[0].value == "'a'"
