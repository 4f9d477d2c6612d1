import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Self

import pytest

from features.taiwan_default import DEFINITION
from models.policies import policy_text
from monitoring.metrics import PREFIX, Metrics
from scoring.booster import BoosterScorer
from scoring.parking import ParkingHistory, ParkingLimit, ParkingLimitCrossed
from scoring.pipeline import Pipeline
from scoring.policy import Policy
from scoring.poll import Poll
from scoring.recent import RecentEvents
from stream.agents.scoring import TooMuchParked, _count, decide_and_encode, scoring_agent
from stream.kafka.publisher import Output
from stream.settings import KafkaSettings
from stream.transport.in_flight import PollInFlight
from tests.builders import (
    ATTRIBUTES,
    NOW_MS,
    SUBMITTED,
    a_model_text,
    a_pipeline,
    a_poll,
    a_table,
    an_event,
)

WORD = '\n[freshness]\nmax_age_days = 35\nstale = "recompute"\n'


def test_the_age_of_the_tables_rows_is_counted_and_what_was_done_with_stale_ones() -> None:
    table = a_table(1, 2, 3)
    table.as_of = datetime.fromisoformat(SUBMITTED).astimezone(UTC) - timedelta(days=36)
    policy = policy_text(DEFINITION.name, 0.3, 0.5) + WORD
    pipeline = Pipeline(
        release="r",
        definition=DEFINITION,
        table=table,
        scorer=BoosterScorer(a_model_text(), DEFINITION.schema),
        policy=Policy.parse(policy, DEFINITION.schema.names),
    )
    recomputed = [an_event(event_id=f"e-{key}", application_id=key) for key in (1, 2, 9)]
    referred = an_event(event_id="e-3", application_id=3, attributes=None)
    poll = a_poll(*recomputed, referred)
    metrics = Metrics.create()

    _count(metrics, poll, pipeline.decide(poll, NOW_MS * 1000), NOW_MS * 1_000_000)

    def at(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(PREFIX + name, labels)

    actions = ("refer", "recompute", "note")
    assert [at("features_stale_total", action=action) for action in actions] == [1, 2, 0]
    assert at("feature_age_seconds_count") == 1
    assert at("feature_age_seconds_sum") == 36 * 86_400


class Kept:
    """A delivery that keeps what it is given; itself its only lease."""

    parking = ParkingHistory()

    def __init__(self) -> None:
        self.recent = RecentEvents(0)
        self.offsets: list[int] = []
        self.delivered: list[int] = []  # how many at once

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def take_over(self, partitions: Collection[int]) -> None: ...

    def lease(self, partition: int) -> Self | None:
        return self if partition == 0 else None

    async def take_up(
        self, poll: Poll, end_offset: int | None, text_of: Callable[[str], str]
    ) -> Poll:
        assert (end_offset, text_of("no code")) == (8, "no code")
        return poll.since(2)

    async def deliver(
        self, poll: Poll, outputs: Sequence[Output], parking: ParkingHistory | None = None
    ) -> None:
        assert outputs
        assert parking is not None
        self.offsets += [int(offset) for offset in poll.offsets]
        self.delivered.append(len(poll))
        self.parking = parking


def in_flight(
    first: int, on_finish: Callable[[PollInFlight], None] = lambda _: None, partition: int = 0
) -> PollInFlight:
    """Two events from an offset on."""
    events = [an_event(event_id=f"e-{number}") for number in range(first, first + 2)]
    poll = replace(a_poll(*events, partition=partition), offsets=range(first, first + 2))
    return PollInFlight(poll, on_finish, end_offset=8)


async def each_of(polls: Sequence[PollInFlight]) -> AsyncIterator[PollInFlight]:
    for poll in polls:
        yield poll


async def test_what_is_delivered_or_another_owners_is_left_out() -> None:
    finished: list[PollInFlight] = []
    polls = delivered, stale, taken, of_another = [
        in_flight(0, finished.append),
        in_flight(2, finished.append),
        in_flight(4, finished.append),
        in_flight(6, finished.append, partition=1),
    ]
    stale.stale = True

    delivery = Kept()
    agent = scoring_agent(KafkaSettings(), delivery, a_pipeline, Metrics.create())
    await agent(each_of(polls))

    assert delivery.offsets == [4, 5]
    assert finished == [delivered, taken]
    assert not stale.finished
    assert not of_another.finished


async def test_polls_that_wait_are_decided_as_one_and_each_is_finished() -> None:
    polls = [in_flight(first) for first in range(2, 14, 2)]

    delivery = Kept()
    agent = scoring_agent(KafkaSettings(), delivery, a_pipeline, Metrics.create())
    await agent(each_of(polls))

    assert delivery.offsets == list(range(2, 14))
    assert len(delivery.delivered) < len(polls)
    assert all(poll.finished for poll in polls)


async def test_a_poll_that_crosses_the_limit_ends_the_agent_and_is_not_delivered() -> None:
    delivery = Kept()
    good, bad = an_event(), an_event(attributes=ATTRIBUTES | {"AGE": -3})
    finished = asyncio.Event()
    first, crossing, behind = (
        PollInFlight(
            replace(a_poll(*events), offsets=range(at, at + 4)),
            lambda _: finished.set(),
            end_offset=8,
        )
        for at, events in ((2, [good, bad, bad, bad]), (6, [bad] * 4), (10, [good] * 4))
    )

    async def all_polls() -> AsyncIterator[PollInFlight]:
        yield first
        await finished.wait()
        yield crossing
        yield behind

    limit = ParkingLimit(longest_run=5)
    agent = scoring_agent(KafkaSettings(), delivery, a_pipeline, Metrics.create(), limit=limit)
    with pytest.raises(ExceptionGroup) as ended:
        await agent(all_polls())

    (error,) = ended.value.exceptions
    assert isinstance(error, TooMuchParked)
    assert str(error) == (
        "applications/0: release r would park 7 events one after the other; "
        "CREDITSTREAM_PARKING__LONGEST_RUN is 5. In the poll from offset 6: "
        "4 x invalid $.attributes.AGE. Nothing of it is parked or committed. If the release is "
        "wrong, put the one before back (CREDITSTREAM_RELEASE) and start again; if the events are, "
        "raise CREDITSTREAM_PARKING__LONGEST_RUN to park them (0: no limit)"
    )
    assert delivery.offsets == [2, 3, 4, 5]
    assert [poll.finished for poll in (first, crossing, behind)] == [True, False, False]


def test_a_share_that_is_too_large_is_told_with_its_window_and_the_rest_of_the_causes() -> None:
    causes = Counter({("invalid", f"$.attributes.A{n}"): 9 - n for n in range(5)})
    crossed = ParkingLimitCrossed("largest_share", 31, causes)

    said = str(
        TooMuchParked(a_poll(b""), "r", ParkingLimit(largest_share=0.3, window=100), crossed)
    )

    assert (
        "would park 31 of the last 100 events; CREDITSTREAM_PARKING__LARGEST_SHARE is 0.3." in said
    )
    assert "9 x invalid $.attributes.A0" in said
    assert ", 2 other causes. " in said
    assert said.endswith("raise CREDITSTREAM_PARKING__LARGEST_SHARE to park them (1: no limit)")


def test_what_is_decided_together_puts_out_what_each_alone_would() -> None:
    kafka, pipeline = KafkaSettings(), a_pipeline(a_table(1, 2))
    bad = an_event(attributes=ATTRIBUTES | {"AGE": -3})
    polls = [
        a_poll(*(an_event(event_id=f"a-{key}", application_id=key) for key in (1, 2, 3))),
        a_poll(partition=1),
        a_poll(bad, b"{", partition=2),
        a_poll(an_event(event_id="b-1", application_id=2), bad, partition=5),
    ]
    now_us = NOW_MS * 1000

    together = decide_and_encode(kafka, pipeline, [(poll, None) for poll in polls], now_us)

    for poll, (decided, outputs) in zip(polls, together, strict=True):
        ((alone, expected),) = decide_and_encode(kafka, pipeline, [(poll, None)], now_us)
        assert [one.topic for one in outputs] == [one.topic for one in expected]
        assert list(decided.batch.decisions()) == list(alone.batch.decisions())
        for found, wanted in zip(outputs, expected, strict=True):
            # The same rows stand in an Arrow message in more than one way: see the ledger's tests.
            if found.topic != kafka.ledger:
                assert list(found.records) == list(wanted.records)
