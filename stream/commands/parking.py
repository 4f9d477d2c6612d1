"""Commands on parked events: list them, show one, drive them again."""

import asyncio
import json
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.commands.boundary import Json, SetOptions, errors, fail, moment, settings_of

if TYPE_CHECKING:
    from stream.parked.events import ParkedTopic, Wanted
    from stream.parked.redriving import RedrivePlan

_SHOWN = 20

_Places = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PLACE",
        help="PARTITION/OFFSET or PARTITION/FIRST-LAST on the topic of parked events; with TOPIC/ "
        "before it, also of the topic where events came from.",
    ),
]
_Code = Annotated[str | None, typer.Option(help="Of this cause: malformed, invalid, ….")]
_Stage = Annotated[str | None, typer.Option(help="Parked at this stage: decode, ….")]
_Since = Annotated[
    datetime | None,
    typer.Option(parser=moment, metavar="TIME", help="Parked at this time or later (UTC)."),
]
_Until = Annotated[
    datetime | None,
    typer.Option(parser=moment, metavar="TIME", help="Parked before this time (UTC)."),
]
_Driven = Annotated[
    bool | None,
    typer.Option(
        "--redriven/--not-redriven",
        help="Only those that were driven again, or not: reads the topic of applications.",
    ),
]


def parked_list(
    places: _Places = None,
    code: _Code = None,
    stage: _Stage = None,
    since: _Since = None,
    until: _Until = None,
    redriven: _Driven = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help=f"The newest so many; default: {_SHOWN}, with --json all."),
    ] = None,
    *,
    as_json: Json = False,
    assign: SetOptions = None,
) -> None:
    """Count parked events by cause, and list the newest; of whom they tell is not shown."""
    with errors():
        wanted = _wanted(places, code, stage, since, until, redriven)
        asyncio.run(_list(settings_of(assign), wanted, limit, as_json=as_json))


def parked_show(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="PARTITION/OFFSET on the topic of parked events, or TOPIC/PARTITION/OFFSET, where "
            "it is parked or came from.",
        ),
    ],
    *,
    as_json: Json = False,
    assign: SetOptions = None,
) -> None:
    """Show all of a parked event: cause, origin, headers, key and value, personal data and all."""
    from stream.parked.shown import page, told_in_full

    with errors():
        wanted = _wanted([place])
        if len(wanted.places[0].offsets) > 1:
            msg = f"{place} is a range; show takes one place"
            raise typer.BadParameter(msg, param_hint="PLACE")
        parked = asyncio.run(_one(settings_of(assign), wanted))
        typer.echo(json.dumps(told_in_full(parked)) if as_json else page(parked))


def parked_send(
    places: _Places = None,
    code: _Code = None,
    stage: _Stage = None,
    since: _Since = None,
    until: _Until = None,
    redriven: _Driven = None,
    *,
    dry_run: Annotated[
        bool, typer.Option(help="Say what would be sent, and send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    assign: SetOptions = None,
) -> None:
    """Drive parked events again: back to the partition that each came from, as it came."""
    with errors():
        wanted = _wanted(places, code, stage, since, until, redriven)
        if not (places or code or stage or since or until):
            msg = "say which: a PLACE, --code, --stage, --since or --until"
            raise typer.BadParameter(msg, param_hint="PLACE")
        asyncio.run(_send(settings_of(assign), wanted, dry_run=dry_run, yes=yes))


def _wanted(
    places: list[str] | None,
    code: str | None = None,
    stage: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    redriven: bool | None = None,
) -> "Wanted":
    from scoring.decode import CODES
    from sinks.parked import STAGES
    from stream.parked.events import PlaceInvalid, Places, Wanted

    for option, value, known in (("--code", code, CODES), ("--stage", stage, STAGES)):
        if value is not None and value not in known:
            msg = f"{value!r} is none of {', '.join(known)}"
            raise typer.BadParameter(msg, param_hint=option)
    try:
        parsed = tuple(map(Places.parse, places or ()))
    except PlaceInvalid as invalid:
        raise typer.BadParameter(str(invalid), param_hint="PLACE") from None
    return Wanted(parsed, code, stage, since, until, redriven)


async def _list(settings: Any, wanted: "Wanted", limit: int | None, *, as_json: bool) -> None:
    from stream.asking.shown import print_rows
    from stream.parked.events import Newest, ParkedTopic, Tally
    from stream.parked.shown import events_table, tally_table, told

    topic = await ParkedTopic.open(settings.kafka, wanted)
    tally = Tally()
    newest = Newest(_SHOWN if limit is None else limit)
    async with aclosing(topic.events()) as events:
        async for parked in events:
            if as_json and limit is None:
                typer.echo(json.dumps(told(parked)))
            else:
                tally.add(parked)
                newest.add(parked)
    if as_json:
        for parked in newest:
            typer.echo(json.dumps(told(parked)))
        return
    typer.echo(f"{_events(tally.events)} on {settings.kafka.parked}")
    if tally.events:
        print_rows(tally_table(tally), as_json=False)
    if found := list(newest):
        typer.echo(f"the newest {len(found)}:")
        print_rows(events_table(found, driven=wanted.redriven is not None), as_json=False)


async def _one(settings: Any, wanted: "Wanted") -> Any:
    from stream.parked.events import ParkedTopic

    return await (await ParkedTopic.open(settings.kafka, wanted)).one()


async def _send(settings: Any, wanted: "Wanted", *, dry_run: bool, yes: bool) -> None:
    from stream.parked.events import ParkedTopic
    from stream.parked.redriving import Redrive, plan, redrive

    topic = await ParkedTopic.open(settings.kafka, wanted)
    if wanted.places:
        await topic.one()
    planned = await plan(topic)
    _say_plan(topic, planned)
    count = planned.tally.events
    if not dry_run and count:
        if count > 1 and not yes:
            _ask(count)
        done = Redrive()
        try:
            await redrive(topic, planned.partitions, done)
        finally:
            partitions = ", ".join(
                f"{n} to {number}" for number, n in sorted(done.sent.items()) if n
            )
            typer.echo(f"{done.sent.total():,} sent, by partition: {partitions or 'none'}")
        late = done.refused - planned.refused
        for reason, number in late.items():
            typer.echo(f"  {number:,} not sent: {reason}")
        planned.refused.update(late)
    if planned.refused:
        raise typer.Exit(1)


def _say_plan(topic: "ParkedTopic", planned: "RedrivePlan") -> None:
    typer.echo(f"{_events(planned.tally.events)} to send to {topic.kafka.applications}")
    for (stage, code, path), number in planned.tally.causes.most_common():
        typer.echo(f"  {number:,} {' '.join(filter(None, (stage, code, path)))}")
    for reason, number in planned.refused.items():
        typer.echo(f"  {number:,} cannot be sent: {reason}")


def _ask(count: int) -> None:
    try:
        typer.confirm(f"Send {count:,} events again?", abort=True)
    except typer.Abort:
        fail("nothing was sent: answer y, or give --yes", 1)


def _events(number: int) -> str:
    return f"{number:,} parked event{'' if number == 1 else 's'}"
