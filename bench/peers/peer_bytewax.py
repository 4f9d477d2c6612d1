"""Bytewax: a map, and a map over the batches that its source brings."""

from collections.abc import Callable

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators import Stream
from bytewax.testing import run_main
from work import Given, Work

BATCH = 1_000


def _run(given: Given, step: Callable[[Stream], Stream]) -> None:
    flow = Dataflow("decide")
    servers = [given.servers]
    source = kop.input(
        "applications", flow, brokers=servers, topics=[given.applications], batch_size=BATCH
    )
    config = {"linger.ms": "5"}
    kop.output("out", step(source.oks), brokers=servers, topic=given.decisions, add_config=config)
    run_main(flow)


def one_by_one(given: Given) -> None:
    """Decide event by event."""
    work = Work(given.model, given.table)
    _run(
        given,
        lambda events: op.map(
            "decide", events, lambda event: KafkaSinkMessage(event.key, work.decide(event.value))
        ),
    )


def batched(given: Given) -> None:
    """Decide what a batch of the source brought together."""
    work = Work(given.model, given.table)

    def decide(events: list) -> list:
        decided = work.decide_many([event.value for event in events])
        return [
            KafkaSinkMessage(event.key, value) for event, value in zip(events, decided, strict=True)
        ]

    _run(given, lambda events: op.flat_map_batch("decide", events, decide))
