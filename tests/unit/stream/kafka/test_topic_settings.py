import pytest

from stream.kafka.topic_settings import TopicUnfit, doubts_about


def settings(in_sync: int, cleanup: str = "delete") -> dict[str, str]:
    return {"min.insync.replicas": str(in_sync), "cleanup.policy": cleanup}


@pytest.mark.parametrize(
    ("copies", "in_sync", "doubt"),
    [(1, 1, "has one copy"), (3, 1, "has 3 copies and min.insync.replicas=1"), (5, 1, "5 copies")],
)
def test_a_topic_that_one_lost_broker_may_take_along_is_doubtful(
    copies: int, in_sync: int, doubt: str
) -> None:
    (said,) = doubts_about("t", copies, settings(in_sync))

    assert doubt in said


@pytest.mark.parametrize(("copies", "in_sync"), [(2, 1), (3, 2), (3, 3), (0, 2)])
def test_a_topic_that_keeps_what_it_acknowledges_is_not(copies: int, in_sync: int) -> None:
    assert doubts_about("t", copies, settings(in_sync)) == []


@pytest.mark.parametrize(
    ("copies", "in_sync", "cleanup", "said"),
    [
        (3, 2, "compact", "cleanup.policy=compact"),
        (3, 2, "compact,delete", "cleanup.policy=compact,delete"),
        (2, 3, "delete", "2 copies and min.insync.replicas=3"),
    ],
)
def test_a_topic_that_loses_records_or_takes_none_is_refused(
    copies: int, in_sync: int, cleanup: str, said: str
) -> None:
    with pytest.raises(TopicUnfit, match=said):
        doubts_about("t", copies, settings(in_sync, cleanup))
