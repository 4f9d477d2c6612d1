"""Commands that make and check features."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stream.commands.boundary import Json, errors

if TYPE_CHECKING:
    from features.home_credit.quality import Quality

# A text: a path would lose one of an address' two slashes, and so what it is.
Tables = Annotated[str, typer.Option(help="The folder of the seven tables, CSV or Parquet.")]
Source = Annotated[
    str,
    typer.Option(
        help="The folder of the seven tables, CSV or Parquet, or the address of an engine that has "
        "them: clickhouse://user:password@host:8123/database."
    ),
]
_MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def sample(
    applications: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="How many; the competition has 356255.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="A new folder.")],
    seed: Annotated[int, typer.Option(min=0)] = 350,
    file_format: Annotated[Literal["csv", "parquet"], typer.Option("--format")] = "csv",
) -> None:
    """Write synthetic look-alikes of Home Credit's seven tables; no row is real."""
    from rich.console import Console
    from rich.progress import Progress

    from features.home_credit.sample_files import NOTICE, write_sample

    with errors():
        with Progress(console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task("synthetic applications", total=applications)
            rows = write_sample(
                out,
                applications,
                seed,
                file_format,
                lambda done: shown.update(task, completed=done),
            )
        typer.echo(f"SYNTHETIC data, no row is real ({NOTICE}): {out}")
        for table, count in rows.items():
            typer.echo(f"  {table:24s} {count:12,d} rows")


def build(
    tables: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="A Parquet file.")],
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=_MOMENTS, help="The data's date (UTC); default: the newest file's."),
    ] = None,
    changed_since: Annotated[
        datetime | None,
        typer.Option(
            formats=_MOMENTS,
            help="Compute only applicants with rows in files written since (UTC), and keep the "
            "others as OUT has them.",
        ),
    ] = None,
) -> None:
    """Check the seven tables of Home Credit, and build the feature table."""
    from features.home_credit.build import build as build_table

    with errors():
        with _steps() as said:
            built = build_table(
                tables,
                out,
                as_of=_in_utc(as_of),
                changed_since=_in_utc(changed_since),
                said=said,
                checked=_print_quality,
            )
        typer.echo(f"{out}: {built.rows:,} applicants as of {built.as_of.isoformat()}")
        if changed_since is not None:
            typer.echo(f"  {built.computed:,} of them computed anew")


def create(
    file: Annotated[
        Path, typer.Argument(help="Rows of key and features: Parquet, CSV, JSON lines.")
    ],
    release: Annotated[Path, typer.Option(help="The release whose features these are.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A Parquet file.")],
    key: str = "application_id",
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=_MOMENTS, help="The rows' date (UTC); default: their column as_of."),
    ] = None,
) -> None:
    """Make the feature table of your own release from rows of your own."""
    from models.feature_table import write_feature_table
    from models.release import load_release
    from stream.composition import release_folder

    with errors():
        found = load_release(release_folder(release))
        rows = write_feature_table(file, found, out, key, _in_utc(as_of))
        typer.echo(f"{out}: {rows:,} rows of release {found.id}'s features")


def check(
    what: Annotated[
        str,
        typer.Argument(help="A folder of raw tables, an engine's address, or a feature table."),
    ],
    definition: Annotated[str, typer.Option(help="Of the feature table.")] = "home_credit",
    *,
    as_json: Json = False,
) -> None:
    """Check raw tables, or a feature table against its definition; 1 where there are faults."""
    with errors():
        raw = "://" in what or Path(what).is_dir()
        good = _check_tables(what, as_json) if raw else _check_file(Path(what), definition)
    if not good:
        raise typer.Exit(1)


def _check_tables(where: str, as_json: bool) -> bool:
    from features.home_credit.build import checked

    with _steps() as said:
        said("checking")
        quality = checked(where)
    if as_json:
        typer.echo(json.dumps(asdict(quality)))
    else:
        _print_quality(quality)
    return not quality.faults


def _check_file(path: Path, name: str) -> bool:
    import numpy as np

    from features.catalogue import definition
    from features.snapshot import load_snapshot

    schema = definition(name).schema
    table = load_snapshot(path, schema)
    typer.echo(f"{path}: {len(table):,} applicants as of {table.as_of}, sha256 {table.digest}")
    beyond = 0
    for at, feature in enumerate(schema.features):
        column = table.matrix[:, at]
        low = -np.inf if feature.minimum is None else np.float32(feature.minimum)
        high = np.inf if feature.maximum is None else np.float32(feature.maximum)
        rows = np.flatnonzero((column < low) | (column > high))
        if len(rows):
            beyond += 1
            shown = f"{feature.name} is between {low:g} and {high:g}"
            typer.echo(f"  {shown}; not in {len(rows):,} rows, first {column[rows[0]]:g}")
    typer.echo("  all values are within their features' bounds" if not beyond else "")
    return not beyond


def describe(
    definition: Annotated[str, typer.Argument(help="home_credit or taiwan_default.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write a page of Markdown.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Say what each feature is and how it is computed."""
    from features.catalogue import definition as find
    from features.page import feature_page, features_told

    with errors():
        found = find(definition)
        if out is not None:
            out.write_text(feature_page(found), "utf-8")
            typer.echo(f"{out}: {len(found.schema.names)} features")
        elif as_json:
            typer.echo(json.dumps(features_told(found)))
        else:
            for feature in features_told(found):
                typer.echo(f"{feature['name']}\n  {feature['meaning']}")
                if feature["formula"]:
                    typer.echo(f"  = {feature['formula']}")


def parity(
    tables: Tables,
    applicants: Annotated[int | None, typer.Option(min=1, help="How many; default: all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which, where not all.")] = 0,
    *,
    as_json: Json = False,
) -> None:
    """Compare the built table with what events of the same rows give, bit for bit."""
    from models.parity import parity as compare

    with errors(), _steps() as said:
        said("building")
        found = compare(tables, applicants, seed, lambda done: said(f"compared {done:,}"))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        values = found.applicants * found.features
        typer.echo(
            f"{len(found.differences):,} differences in {found.applicants:,} applicants x "
            f"{found.features} features ({values:,} values, float32 bit for bit)"
        )
        for key, name, of_table, of_event in found.differences[:10]:
            typer.echo(f"  applicant {key}: {name} is {of_table!r} in the table, {of_event!r} here")
        for key, why in found.rejected[:10]:
            typer.echo(f"  applicant {key}: the event is refused: {why}")
        if found.applicants:
            each = found.event_seconds / found.applicants * 1e6
            size = found.event_bytes / found.applicants / 1e3
            typer.echo(f"  decoding and computing took {each:,.0f} µs an event of {size:,.0f} kB")
    if not found.good:
        raise typer.Exit(1)


def _in_utc(moment: datetime | None) -> datetime | None:
    from datetime import UTC

    if moment is None:
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        msg = f"{moment} is out of the calendar in UTC"
        raise typer.BadParameter(msg) from None


@contextmanager
def _steps() -> Iterator[Any]:
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def _print_quality(quality: "Quality") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for title, found in (("faults", quality.faults), ("notes", quality.notes)):
        if not found:
            continue
        table = Table("file", "column", "row", "rule", "value", "times", title=title)
        for one in found:
            row = "" if one.row is None else f"{one.row:,}"
            cells = (one.file, one.column, row, one.rule, one.value)
            table.add_row(*map(escape, cells), f"{one.count:,}")
        console.print(table)
    for name, rows in quality.rows.items():
        console.print(f"  {name:24}{rows:14,} rows", highlight=False)
    if quality.there:
        there = sum(quality.there.values())
        console.print(f"  {there} of {len(quality.there)} critical columns are there")
