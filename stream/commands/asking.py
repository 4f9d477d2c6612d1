"""Commands that ask: the store, a decision, drift, the contracts, this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stream.commands.boundary import Json, SetOptions, errors, roles_of, settings_of


def sql(query: str, *, as_json: Json = False, assign: SetOptions = None) -> None:
    """Ask ClickHouse, read-only."""
    from stream.asking.questions import ask
    from stream.asking.shown import print_rows

    with errors():
        print_rows(ask(settings_of(assign), query), as_json=as_json)


def decision_show(decision_id: str, *, as_json: Json = False, assign: SetOptions = None) -> None:
    """Show a decision with the features that it was made on."""
    from stream.asking.decision import find_decision, print_decision, release_of

    with errors():
        settings = settings_of(assign)
        stored = find_decision(settings, decision_id)
        if as_json:
            typer.echo(json.dumps(stored, default=str))
        else:
            print_decision(stored, release_of(settings, stored))


def decision_reproduce(decision_id: str, assign: SetOptions = None) -> None:
    """Make a decision again from its stored features and its release, and compare every bit."""
    from stream.asking.decision import find_decision, release_of, reproduce

    with errors():
        settings = settings_of(assign)
        stored = find_decision(settings, decision_id)
        result = reproduce(stored, release_of(settings, stored))
        for reason in result.reasons:
            typer.echo(
                f"  {reason.contribution:+.4f}  {reason.code} {reason.feature}: {reason.text}"
            )
        for difference in result.differences:
            typer.echo(f"  differs: {difference}")
        if result.differences:
            raise typer.Exit(1)
        typer.echo(f"{stored['outcome']} reproduced by release {stored['release']}, bit for bit")


def drift(*, as_json: Json = False, assign: SetOptions = None) -> None:
    """Show drift alarms, the newest first, and each feature's statistics."""
    from stream.asking.questions import ask
    from stream.asking.shown import print_drift, print_rows

    with errors():
        settings = settings_of(assign)
        alarms = "SELECT raised_at, detector, subject, value, text FROM alarms LIMIT 20"
        print_rows(ask(settings, alarms), as_json=as_json)
        if not as_json:
            print_drift(settings)


def report(
    hours: Annotated[int, typer.Option(min=1, max=87_600, help="How far back to look.")] = 24,
    every: Annotated[
        float | None, typer.Option(min=1, help="Draw it again after so many minutes, for ever.")
    ] = None,
    assign: SetOptions = None,
) -> None:
    """Draw recent decisions against the release's reference, as HTML and JSON."""
    from datetime import timedelta

    from stream.asking.report import report as draw
    from stream.asking.report import report_regularly
    from stream.process.logs import configure_logging

    with errors():
        settings = settings_of(assign)
        if every is not None:
            configure_logging(as_json=settings.log_json)
            report_regularly(settings, hours, timedelta(minutes=every))
            return
        files = draw(settings, hours)
        typer.echo(f"{files.html}\n{files.json}")


def contracts(
    out: Annotated[Path, typer.Option("-o", "--out", help="A folder; the project's is docs.")],
    assign: SetOptions = None,
) -> None:
    """Write JSON Schemas, an AsyncAPI document, and the tables of a contracts.md in the folder."""
    from stream.contracts.files import write_contracts

    with errors():
        settings = settings_of(assign)
        for path in write_contracts(out, settings.kafka, settings.events):
            typer.echo(str(path))


def doctor(
    agents: Annotated[
        str | None, typer.Option(help="For workers of these alone, by comma; default: of all.")
    ] = None,
    assign: SetOptions = None,
) -> None:
    """Say what works, what is missing, and how to get it."""
    from stream.asking.doctor import examine

    with errors():
        roles = roles_of(agents)
        raise typer.Exit(examine(settings_of(assign), roles))
