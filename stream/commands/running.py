"""Commands that run something: the demo, workers, and senders of applications."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from stream.commands.boundary import (
    WORK,
    ExampleName,
    SetOptions,
    Tables,
    errors,
    moment,
    roles_of,
    settings_of,
)


def demo(
    example: ExampleName = "taiwan-default",
    tables: Tables = None,
    seconds: Annotated[float, typer.Option(min=20, help="How long applications flow.")] = 25,
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="Applications a second; default: 200, of home-credit 40."),
    ] = None,
    *,
    drift: Annotated[bool, typer.Option(help="Change an attribute's unit half-way.")] = True,
    kill: Annotated[bool, typer.Option(help="Kill the worker with SIGKILL half-way.")] = True,
) -> None:
    """Everything embedded: train, stream, break it twice, and reconcile."""
    from stream.demo.examples import example_of
    from stream.demo.run import run_demo

    with errors():
        chosen = example_of(example, tables)
        raise typer.Exit(run_demo(chosen, WORK / "demo", seconds, rate, drift=drift, kill=kill))


def up(example: ExampleName = "taiwan-default", tables: Tables = None) -> None:
    """Run the demo's installation until Ctrl-C."""
    from stream.demo.examples import example_of
    from stream.demo.run import run_up

    with errors():
        raise typer.Exit(run_up(example_of(example, tables), WORK / "up"))


def worker(
    agents: Annotated[str, typer.Option(help="scoring, sink or monitor; several by comma.")],
    assign: SetOptions = None,
    *,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run agents until told to stop."""
    from stream.process.memory import stays_for_good

    with stays_for_good():
        from stream.process.logs import configure_logging
        from stream.process.supervisor import end_with_parent, supervise
        from stream.worker import run_worker

    with errors():
        settings = settings_of(assign)
        roles = roles_of(agents)
        configure_logging(as_json=settings.log_json)
        if with_parent:
            end_with_parent()
        if len(roles) == 1:
            run_worker(settings, roles[0])
        else:
            raise typer.Exit(supervise(settings, roles))


def init(assign: SetOptions = None) -> None:
    """Create what is missing: topics, and ClickHouse's tables and views."""
    import asyncio

    from sinks.migrations import migrate
    from stream.kafka.topics import check_partitions, create_topics
    from stream.store import store_of

    with errors():
        settings = settings_of(assign)
        created = asyncio.run(create_topics(settings.kafka))
        migrate(store_of(settings))
        made = ", ".join(created) or "none, all there"
        typer.echo(f"topics created: {made}; tables and views are up to date")
        asyncio.run(check_partitions(settings.kafka))


def send(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Parquet, CSV or JSON lines (.jsonl)."),
    ],
    key: Annotated[str, typer.Option(help="The column of application ids.")] = "application_id",
    run: Annotated[
        str | None,
        typer.Option(
            help="Begins each event's id, in 1 to 55 printable ASCII characters; default: a digest "
            "of file, key and time."
        ),
    ] = None,
    submitted_at: Annotated[
        datetime | None,
        typer.Option(
            parser=moment,
            metavar="TIME",
            help="Of rows without a time of their own; default: when the file was last changed.",
        ),
    ] = None,
    assign: SetOptions = None,
) -> None:
    """
    Send a file's rows as application events.

    A file sent again makes the same events, which are decided once: also after an error half way.
    """
    import asyncio

    from stream.sending.files import FileRun, send_file

    with errors():
        settings = settings_of(assign)
        of_file = FileRun.of(file, key, settings.events, run, submitted_at)
        count = asyncio.run(send_file(settings.kafka, file, key, of_file))
        typer.echo(
            f"{count:,} event{'' if count == 1 else 's'} sent, submitted "
            f"{of_file.submitted_at:%Y-%m-%d %H:%M:%S} UTC where a row says nothing else; "
            f"ids begin with {of_file.name}"
        )


def simulate(
    rate: Annotated[float, typer.Option(min=0.1, max=1_000_000)] = 50,
    count: Annotated[
        int | None, typer.Option(min=0, help="Stop after so many; default: never.")
    ] = None,
    data: Annotated[Path, typer.Option(help="A folder that `prepare` made.")] = WORK,
    bad_share: Annotated[float, typer.Option(min=0, max=1)] = 0.01,
    assign: SetOptions = None,
) -> None:
    """Send the example's applications at a rate."""
    import asyncio

    from stream.sending.files import simulate_example

    with errors():
        kafka = settings_of(assign).kafka
        sent = asyncio.run(simulate_example(kafka, data, rate, count, bad_share))
        typer.echo(f"{sent.good} good and {sent.bad} bad events sent")
