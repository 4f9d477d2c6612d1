"""Commands that make and check what decides, and decide files with it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.commands.boundary import WORK, ExampleName, Json, Tables, errors


def prepare(
    example: ExampleName = "taiwan-default",
    tables: Tables = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the files go.")] = WORK,
) -> None:
    """Split an example by client: feature table, training rows, applications."""
    from stream.demo.examples import example_of

    with errors():
        chosen = example_of(example, tables)
        prepared = chosen.prepare(chosen.tables, out)
        files = ", ".join(path.name for path in sorted(prepared.folder.glob("*.parquet")))
        synthetic = "SYNTHETIC, no client is real: " if prepared.about.synthetic else ""
        typer.echo(f"prepared {example}: {synthetic}{files}")


def train(
    data: Annotated[Path, typer.Option(help="A folder that `prepare` made.")] = WORK,
    out: Annotated[Path, typer.Option("-o", "--out", help="A folder of releases.")] = WORK
    / "releases",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 350,
    *,
    as_json: Json = False,
) -> None:
    """Train a release on a prepared example."""
    from models.prepared import Prepared
    from models.release import load_release
    from models.train import train_prepared

    with errors():
        folder = train_prepared(Prepared(data), out, seed)
        _show_release(load_release(folder), as_json=as_json)


def release_list(
    folder: Annotated[Path, typer.Argument(help="A folder of releases.")] = WORK / "releases",
    *,
    as_json: Json = False,
) -> None:
    """List the releases of a folder; 1 where one is damaged."""
    from models.registry import list_releases

    with errors():
        found = list_releases(folder)
    if as_json:
        typer.echo(json.dumps([{"release": one.id, "refused": one.refused} for one in found]))
    else:
        for one in found:
            auc = f"calibration AUC {one.auc.value:.4f}" if one.auc else ""
            typer.echo(f"{one.id}  {one.refused or auc}".rstrip())
        if not found:
            typer.echo(f"no release in {folder}")
    if any(one.refused for one in found):
        raise typer.Exit(1)


def release_show(folder: Path, *, as_json: Json = False) -> None:
    """Show a release after its self-check."""
    from models.release import load_release
    from stream.composition import release_folder

    with errors():
        _show_release(load_release(release_folder(folder)), as_json=as_json)


def release_check(folder: Path) -> None:
    """Check every file's digest, and that the model scores its reference rows as when made."""
    from models.release import load_release
    from stream.composition import release_folder

    with errors():
        release = load_release(release_folder(folder))
        rows = len(release.reference.features)
        typer.echo(f"release {release.id} is sound: {rows} reference rows score bit for bit")
        typer.echo(f"  probabilities are computed by {release.scorer.scored_by}")
        typer.echo(f"  reasons are computed by {release.scorer.explained_by}")


def release_create(
    model: Annotated[Path, typer.Option(help="A LightGBM text model.")],
    reference: Annotated[Path, typer.Option(help="Parquet rows with the model's features.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A folder of releases.")],
    policy: Annotated[Path | None, typer.Option(help="A policy.toml.")] = None,
) -> None:
    """Make a release of your own LightGBM model."""
    from models.bring import create_release

    with errors():
        typer.echo(str(create_release(model, reference, policy, out)))


def score(
    file: Path,
    release: Annotated[Path, typer.Option(help="A release folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A Parquet file.")],
    key: str = "application_id",
) -> None:
    """Decide the rows of a file, without Kafka."""
    from models.release import load_release
    from models.score_file import score_file
    from stream.composition import release_folder

    with errors():
        rows = score_file(file, load_release(release_folder(release)), out, key)
        typer.echo(f"{rows} rows decided: {out}")


def _show_release(release: Any, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        document = {"release": release.id, "manifest": msgspec.to_builtins(release.manifest)}
        typer.echo(json.dumps(document))
        return
    cutoffs = release.policy.cutoffs
    typer.echo(f"release {release.id}  {release.folder}")
    typer.echo(f"  {len(release.schema.names)} features, definition {release.definition.name}")
    typer.echo(f"  approve below {cutoffs.refer:.4f}, decline from {cutoffs.decline:.4f}")
    for part, metrics in release.manifest.metrics.items():
        for name, metric in metrics.items():
            typer.echo(
                f"  {part} {name:10s} {metric.value:.4f}  [{metric.low:.4f}, {metric.high:.4f}]"
            )
