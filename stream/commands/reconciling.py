"""The command that reconciles."""

import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from stream.commands.boundary import Json, SetOptions, errors, moment, settings_of

_WIDTH = 200


def reconcile(
    hours: Annotated[
        float, typer.Option(min=0.01, max=87_600, help="How far back, where --since is not given.")
    ] = 24,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=moment,
            metavar="TIME",
            help="From this time on, as 2026-11-25T14:00; UTC by default.",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=moment, metavar="TIME", help="To before this time; not given: to now."),
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option(min=0, help="Of the applications; repeatable. All.")
    ] = None,
    *,
    store: Annotated[bool, typer.Option(help="Compare with ClickHouse too.")] = True,
    as_json: Json = False,
    assign: SetOptions = None,
) -> None:
    """Hold applications against decisions, ledger and ClickHouse, and name what differs."""
    import asyncio

    import msgspec
    from rich.console import Console

    from stream.asking.questions import asked
    from stream.reconcile.report import print_report
    from stream.reconcile.run import reconcile as run
    from stream.reconcile.snapshot import Period

    if since is None:
        since = (until or datetime.now(UTC)) - timedelta(hours=hours)
    if until is not None and until <= since:
        msg = f"{until.isoformat()} is not after {since.isoformat()}"
        raise typer.BadParameter(msg, param_hint="--until")
    with errors():
        settings = settings_of(assign)
        with asked(settings) if store else nullcontext() as rows:
            found = asyncio.run(run(settings, Period(since, until), rows, partition))
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
        else:
            console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH)
            print_report(found, console)
        raise typer.Exit(0 if found.good else 1)
