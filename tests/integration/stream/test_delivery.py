"""Delivery to brokers: who may write, what is visible, and where a new owner goes on."""

import asyncio
import uuid
from collections.abc import Sequence

import msgspec
import pytest
from aiokafka.errors import ProducerFenced

from scoring.parking import ParkingHistory
from scoring.poll import Poll
from stream.agents.scoring import decide_and_encode
from stream.contracts.codec import decision_records
from stream.delivery.at_least_once import AtLeastOnce, SharedPartition
from stream.delivery.choice import DeliveryImpossible, delivery_of
from stream.delivery.exactly_once import ExactlyOnce, LogTruncated, OwnedPartition
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Output, PublisherClosed
from stream.kafka.topics import check_topics, create_topics
from stream.settings import KafkaSettings, read_settings
from tests.builders import NOW_MS, a_pipeline, an_event
from tests.committed import committed
from tests.integration.stream.topics import kafka_at
from tests.packed import records_in
from tests.unit.sinks.decisions import a_batch


def a_poll(kafka: KafkaSettings, first: int, count: int) -> Poll:
    offsets = range(first, first + count)
    nothing: list[None] = [None] * count
    return Poll(kafka.applications, 0, offsets, [0] * count, nothing, nothing, [[]] * count)


def held(delivery: ExactlyOnce, partition: int = 0) -> OwnedPartition:
    lease = delivery.lease(partition)
    assert lease is not None
    return lease


def shared(delivery: AtLeastOnce, partition: int = 0) -> SharedPartition:
    lease = delivery.lease(partition)
    assert lease is not None
    return lease


def applications(kafka: KafkaSettings, count: int, bad: Sequence[int] = ()) -> Poll:
    """Applications from offset 0 on, always the same ones."""
    trace = ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")
    values = [
        b"{" if at in bad else msgspec.json.encode(an_event(event_id=f"e-{at}"))
        for at in range(count)
    ]
    stamps = [NOW_MS] * count
    keys = [b"k"] * count
    return Poll(kafka.applications, 0, range(count), stamps, keys, values, [[trace]] * count)


def output(kafka: KafkaSettings, *values: bytes) -> list[Output]:
    return [Output(kafka.decisions, [OutRecord(b"k", value, [], 1) for value in values])]


async def test_a_broker_without_transactions_gets_at_least_once(mock_broker: str) -> None:
    kafka = {"kafka.bootstrap_servers": mock_broker}

    assert isinstance(await delivery_of(read_settings(kafka), "group"), AtLeastOnce)
    with pytest.raises(DeliveryImpossible, match="CREDITSTREAM_DELIVERY=at_least_once"):
        await delivery_of(read_settings(kafka | {"delivery": "exactly_once"}), "group")


@pytest.mark.real_broker
async def test_a_broker_with_transactions_gets_exactly_once_unless_told_otherwise(
    real_broker: str,
) -> None:
    kafka = {"kafka.bootstrap_servers": real_broker}

    assert isinstance(await delivery_of(read_settings(kafka), "group"), ExactlyOnce)
    told = read_settings(kafka | {"delivery": "at_least_once"})
    assert isinstance(await delivery_of(told, "group"), AtLeastOnce)


async def test_at_least_once_a_partitions_history_is_kept_and_read_back_by_the_next_owner(
    mock_broker: str,
) -> None:
    kafka, group, history = kafka_at(mock_broker), uuid.uuid4().hex, ParkingHistory("r", 3)
    await check_topics(kafka, kafka.topics)  # at the mock, asking makes them
    async with AtLeastOnce(kafka, group) as delivery:
        await delivery.take_over([0, 1])
        await shared(delivery).deliver(a_poll(kafka, 0, 1), output(kafka, b"1"), history)
        await shared(delivery).deliver(a_poll(kafka, 1, 1), output(kafka, b"2"))
        assert shared(delivery).parking == history

        await delivery.take_over([0])
        assert shared(delivery).parking == ParkingHistory()  # nothing on the topics says more
        assert delivery.lease(1) is None


@pytest.mark.real_broker
async def test_at_least_once_what_an_owner_began_is_finished_as_it_was_decided_then(
    real_broker: str,
) -> None:
    kafka, group = kafka_at(real_broker), uuid.uuid4().hex
    await create_topics(kafka)
    pipeline = a_pipeline()
    poll = applications(kafka, 6, bad=(1,))
    ((decided, outputs),) = decide_and_encode(
        kafka, pipeline, [(poll, None)], 1_790_000_000_000_000
    )
    decisions, ledger, parked = outputs
    records = records_in(decisions)
    async with AtLeastOnce(kafka, group) as killed:
        await killed.take_over([0])
        publisher = shared(killed).publisher
        # Two of five decisions are out, ledger and parked event are; no offset is committed.
        await publisher.publish_all(0, [ledger, parked, Output(kafka.decisions, records[:2])])

    async with AtLeastOnce(kafka, group) as new:
        await new.take_over([0])
        lease = shared(new)
        again = applications(kafka, 8, bad=(1, 7))
        left = await lease.take_up(again, None, pipeline.policy.text_of)

        assert left.offsets == [6, 7]
        found = await committed(kafka, kafka.decisions, 5)
        assert found == [record.value for record in records]
        ids, digests = decided.batch.decision_ids, decided.batch.event_digests
        assert lease.recent.sort_out(ids, digests).repeated.tolist() == [*range(5)]

        # Once it is all there, it is left out in silence.
        await new.take_over([0])
        assert (await shared(new).take_up(again, None, str)).offsets == [6, 7]
        assert len(await committed(kafka, kafka.decisions, 6)) == 5


@pytest.mark.real_broker
async def test_at_least_once_the_ledger_is_out_before_a_decision_is(real_broker: str) -> None:
    kafka, group = kafka_at(real_broker), uuid.uuid4().hex
    await create_topics(kafka)
    oversized = Output(kafka.ledger, [OutRecord(None, b"x" * 2_000_000, [], 1)])
    async with AtLeastOnce(kafka, group) as delivery:
        await delivery.take_over([0])
        with pytest.raises(ExceptionGroup):
            await shared(delivery).deliver(
                a_poll(kafka, 0, 1), [*output(kafka, b"unseen"), oversized]
            )

    assert await committed(kafka, kafka.decisions, 0) == []


@pytest.mark.real_broker
async def test_what_became_of_a_partitions_events_goes_with_its_offset_to_the_next_owner(
    real_broker: str,
) -> None:
    kafka, group, history = kafka_at(real_broker), uuid.uuid4().hex, ParkingHistory("r", 3)
    await create_topics(kafka)
    async with ExactlyOnce(kafka, group) as old, ExactlyOnce(kafka, group) as new:
        await old.take_over([0])
        await held(old).deliver(a_poll(kafka, 0, 5), output(kafka, b"first"), history)
        await new.take_over([0, 1])

        assert (held(new).next_offset, held(new).parking) == (5, history)
        assert (held(new, 1).next_offset, held(new, 1).parking) == (0, ParkingHistory())


@pytest.mark.real_broker
async def test_a_new_owner_goes_on_behind_what_is_committed_and_the_old_one_is_fenced_off(
    real_broker: str,
) -> None:
    kafka, group = kafka_at(real_broker), uuid.uuid4().hex
    await create_topics(kafka)
    async with ExactlyOnce(kafka, group) as old, ExactlyOnce(kafka, group) as new:
        await old.take_over([0, 1])
        assert (await held(old).take_up(a_poll(kafka, 0, 5), 8, str)).offsets == range(5)
        await held(old).deliver(a_poll(kafka, 0, 5), output(kafka, b"first"))
        assert (await held(old).take_up(a_poll(kafka, 3, 5), 8, str)).offsets == [*range(5, 8)]
        assert not await held(old).take_up(a_poll(kafka, 0, 5), 8, str)

        with pytest.raises(LogTruncated, match=r"/0 ends at 3, but all before 5 was decided"):
            await held(old).take_up(a_poll(kafka, 0, 3), 3, str)

        assert new.lease(0) is None
        await new.take_over([0])
        assert (await held(new).take_up(a_poll(kafka, 0, 8), 8, str)).offsets == [*range(5, 8)]
        with pytest.raises(BaseExceptionGroup) as refused:
            await held(old).deliver(a_poll(kafka, 5, 3), output(kafka, b"of the old owner"))
        assert refused.group_contains(ProducerFenced)
        await held(new).deliver(a_poll(kafka, 5, 3), output(kafka, b"second"))

    assert await committed(kafka, kafka.decisions, 2) == [b"first", b"second"]


@pytest.mark.real_broker
async def test_a_poll_that_outlives_its_lease_is_not_delivered_by_the_next_one(
    real_broker: str,
) -> None:
    kafka, group = kafka_at(real_broker), uuid.uuid4().hex
    await create_topics(kafka)
    async with ExactlyOnce(kafka, group) as delivery:
        await delivery.take_over([0])
        lease = held(delivery)
        left = await lease.take_up(a_poll(kafka, 0, 5), 5, str)

        await delivery.take_over([0])
        await held(delivery).deliver(a_poll(kafka, 0, 5), output(kafka, b"by the next"))
        with pytest.raises(PublisherClosed):
            await lease.deliver(left, output(kafka, b"once more"))

    assert await committed(kafka, kafka.decisions, 1) == [b"by the next"]


@pytest.mark.real_broker
async def test_what_a_dead_owner_left_open_is_never_seen(real_broker: str) -> None:
    kafka, group = kafka_at(real_broker), uuid.uuid4().hex
    await create_topics(kafka)
    async with ExactlyOnce(kafka, group) as dead, ExactlyOnce(kafka, group) as new:
        await dead.take_over([0])
        publisher = held(dead).publisher
        await publisher._entered().begin_transaction()
        await publisher.publish_all(0, output(kafka, b"not committed"))

        async with asyncio.timeout(5):  # far less than the broker would wait by itself
            await new.take_over([0])
            await held(new).deliver(a_poll(kafka, 0, 3), output(kafka, b"committed"))
            assert await committed(kafka, kafka.decisions, 1) == [b"committed"]


@pytest.mark.real_broker
async def test_large_and_ordinary_records_share_a_transaction(real_broker: str) -> None:
    kafka, group = kafka_at(real_broker), uuid.uuid4().hex
    await create_topics(kafka)
    parked = Output(kafka.parked, [OutRecord(b"k", b"x" * 1_900_000, [], 1)], 2_020_000)
    decisions = output(kafka, *(b"%06d" % n + b"d" * 600 for n in range(5_000)))
    async with ExactlyOnce(kafka, group) as delivery:
        await delivery.take_over([0])
        await held(delivery).deliver(a_poll(kafka, 0, 5_001), [*decisions, parked])

    found = await committed(kafka, kafka.decisions, 5_000)
    assert [value[:6] for value in found] == [b"%06d" % n for n in range(5_000)]
    assert [len(value) for value in await committed(kafka, kafka.parked, 1)] == [1_900_000]


@pytest.mark.real_broker
async def test_a_new_owner_knows_what_was_decided_last_whatever_else_stands_there(
    real_broker: str,
) -> None:
    kafka = kafka_at(real_broker).model_copy(update={"resend_window": 7})
    group = uuid.uuid4().hex
    await create_topics(kafka)
    async with ExactlyOnce(kafka, group) as delivery:
        await delivery.take_over([0, 1])
        foreign = [
            OutRecord(b"k", b"not ours", [("ce_id", value), ("creditstream-event", b"00")], 1)
            for value in (None, b"\xff", b"no uuid")
        ]
        foreign.append(OutRecord(b"k", None, [], 1))
        outputs = [Output(kafka.decisions, foreign)]
        await held(delivery).deliver(a_poll(kafka, 0, 1), outputs)
        batches = [a_batch(2, first_offset=1 + 2 * n) for n in range(3)]
        for batch in batches:
            poll = a_poll(kafka, int(batch.offsets[0]), 2)
            records = Output(kafka.decisions, decision_records(batch))
            await held(delivery).deliver(poll, [records])

        await delivery.take_over([0, 1])
        recent, of_other = held(delivery).recent, held(delivery, 1).recent

    assert recent is not None
    assert of_other is not None
    assert (len(recent), len(of_other)) == (6, 0)
    ids = [one for batch in batches for one in batch.decision_ids]
    digests = [one for batch in batches for one in batch.event_digests]
    assert recent.sort_out(ids, digests).repeated.tolist() == [*range(6)]
    assert recent.sort_out(ids, digests[::-1]).conflicting.tolist() == [*range(6)]
