"""Faust: an agent over events, and one over `stream.take`."""

from collections.abc import AsyncIterator
from typing import Any

import faust
from work import Given, Work

TAKEN, WITHIN_SECONDS = 1_000, 0.05


def _app(given: Given) -> faust.App:
    return faust.App(
        given.group,
        broker=f"kafka://{given.servers}",
        value_serializer="raw",
        key_serializer="raw",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        producer_linger=0.005,
    )


def _run(app: faust.App) -> None:
    worker = faust.Worker(app, loglevel="WARN", redirect_stdouts=False)
    worker.execute_from_commandline()


def one_by_one(given: Given) -> None:
    """Decide event by event."""
    app, work = _app(given), Work(given.model, given.table)
    decisions = app.topic(given.decisions, value_serializer="raw", key_serializer="raw")

    @app.agent(app.topic(given.applications, value_serializer="raw", key_serializer="raw"))
    async def decide(stream: Any) -> None:
        async for key, value in stream.items():
            await decisions.send(key=key, value=work.decide(value))

    _run(app)


def batched(given: Given) -> None:
    """Decide what comes within a moment together."""
    app, work = _app(given), Work(given.model, given.table)
    decisions = app.topic(given.decisions, value_serializer="raw", key_serializer="raw")

    @app.agent(app.topic(given.applications, value_serializer="raw", key_serializer="raw"))
    async def decide(stream: Any) -> None:
        events: AsyncIterator[Any] = stream.take_events(TAKEN, within=WITHIN_SECONDS)
        async for taken in events:
            decided = work.decide_many([event.value for event in taken])
            for event, value in zip(taken, decided, strict=True):
                await decisions.send(key=event.key, value=value)

    _run(app)
