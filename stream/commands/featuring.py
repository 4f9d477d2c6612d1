"""Commands that make and check features."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stream.commands.boundary import errors


def sample(
    applications: Annotated[int, typer.Option(min=1, help="How many; the competition has 356255.")],
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
