"""
Quix Streams: a streaming data frame, and a sink that is given batches.

Its data frames know no batch but windows of a key; a `BatchingSink` has what came since the last
checkpoint.
"""

from confluent_kafka import Producer
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch
from work import Given, Work

BATCH, SECONDS = 1_000, 0.05


def _application(given: Given, **options: float) -> Application:
    return Application(
        broker_address=given.servers,
        consumer_group=given.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="WARNING",
        producer_extra_config={"linger.ms": 5},
        **options,
    )


def one_by_one(given: Given) -> None:
    """Decide event by event."""
    work, app = Work(given.model, given.table), _application(given)
    frame = app.dataframe(app.topic(given.applications, value_deserializer="bytes"))
    frame.apply(work.decide).to_topic(app.topic(given.decisions, value_serializer="bytes"))
    app.run()


class DecisionSink(BatchingSink):
    """Decides a batch and writes its decisions."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._work = Work(given.model, given.table)
        self._topic = given.decisions
        self._producer = Producer({"bootstrap.servers": given.servers, "linger.ms": 5})

    def write(self, batch: SinkBatch) -> None:
        """Decide and write all, and be done when the broker has it."""
        items = list(batch)
        for item, value in zip(
            items, self._work.decide_many([item.value for item in items]), strict=True
        ):
            self._producer.produce(self._topic, value, item.key)
            self._producer.poll(0)
        self._producer.flush()


def batched(given: Given) -> None:
    """Decide what came since the last checkpoint together."""
    app = _application(given, commit_every=BATCH, commit_interval=SECONDS)
    frame = app.dataframe(app.topic(given.applications, value_deserializer="bytes"))
    frame.sink(DecisionSink(given))
    app.run()
