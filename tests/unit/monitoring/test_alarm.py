from datetime import UTC, datetime

import msgspec

from monitoring.alarm import Alarm, alarm_id, missing_text, moved_text, unlike_text

AT = datetime(2026, 11, 24, 14, 3, 11, tzinfo=UTC)


def test_an_alarm_survives_its_json() -> None:
    alarm = Alarm(
        alarm_id=alarm_id("r", "psi", "AGE", 0, 7),
        raised_at=AT,
        kind="drift",
        detector="psi",
        subject="AGE",
        value=0.41,
        threshold=0.25,
        since=AT,
        release="r",
        decisions=2_000,
        text="…",
    )

    assert msgspec.json.decode(msgspec.json.encode(alarm), type=Alarm) == alarm


def test_an_id_is_the_same_only_for_the_same_alarm_at_the_same_place() -> None:
    places = [
        ("r", "psi", "AGE", 0, 7),
        ("s", "psi", "AGE", 0, 7),
        ("r", "adwin", "AGE", 0, 7),
        ("r", "psi", "SEX", 0, 7),
        ("r", "psi", "AGE", 1, 7),
        ("r", "psi", "AGE", 0, 8),
    ]

    assert len({alarm_id(*place) for place in places}) == len(places)
    assert alarm_id(*places[0]) == alarm_id(*places[0])


def test_each_text_is_one_plain_sentence() -> None:
    assert moved_text("LIMIT_BAL", 5_300.4, 167_000, "before", 800, AT) == (
        "LIMIT_BAL has moved: mean 5,300 in the last 800 decisions against 167,000 before, "
        "since 14:03:11 UTC."
    )
    assert unlike_text("AGE", 0.411, 0.25, 2_000, AT) == (
        "AGE no longer looks like the release's reference: PSI 0.41 over the last 2,000 decisions "
        "(alarm at 0.25), since 14:03:11 UTC."
    )
    assert missing_text("AGE", 0.12, 0, 2_000, AT) == (
        "AGE is missing in 12% of the last 2,000 decisions against 0% in the release's reference, "
        "since 14:03:11 UTC."
    )
