"""The command line; heavy libraries are imported by the command that needs them."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="creditstream",
    help="Streaming real-time scoring of credit applications.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
release_app = typer.Typer(help="Releases: what decides.", no_args_is_help=True)
app.add_typer(release_app, name="release")
decision_app = typer.Typer(help="Decisions, by their id.", no_args_is_help=True)
app.add_typer(decision_app, name="decision")
bench_app = typer.Typer(help="Measurements, with machine and versions.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

EXAMPLE = Path("examples/taiwan_default")
WORK = Path(".creditstream")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
SetOptions = Annotated[
    list[str] | None, typer.Option("--set", help="A setting, as kafka.partitions=8; repeatable.")
]

_UNREACHABLE, _BAD_SETTINGS = 69, 78


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=20, help="How long applications flow.")] = 25,
    rate: Annotated[float, typer.Option(min=1, help="Applications a second.")] = 200,
    *,
    drift: Annotated[bool, typer.Option(help="Change an attribute's unit half-way.")] = True,
    kill: Annotated[bool, typer.Option(help="Kill the worker with SIGKILL half-way.")] = True,
) -> None:
    """Everything embedded: train, stream, break it twice, and reconcile."""
    from stream.demo import run_demo

    with _errors():
        raise typer.Exit(run_demo(EXAMPLE, WORK / "demo", seconds, rate, drift=drift, kill=kill))


@app.command()
def up() -> None:
    """Run the demo's installation until Ctrl-C."""
    from stream.demo import run_up

    with _errors():
        raise typer.Exit(run_up(EXAMPLE, WORK / "up"))


@app.command()
def worker(
    agents: Annotated[str, typer.Option(help="scoring, sink or monitor; several by comma.")],
    assign: SetOptions = None,
    *,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run agents until told to stop."""
    from stream.app import ROLES
    from stream.logs import configure_logging
    from stream.supervisor import end_with_parent, supervise
    from stream.worker import run_worker

    with _errors():
        settings = _settings(assign)
        roles = [role.strip() for role in agents.split(",")]
        unknown = [role for role in roles if role not in ROLES]
        if unknown:
            _fail(f"no agents are called {unknown[0]!r}; there are {', '.join(ROLES)}", 2)
        configure_logging(as_json=settings.log_json)
        if with_parent:
            end_with_parent()
        if len(roles) == 1:
            run_worker(settings, next(role for role in ROLES if role == roles[0]))
        else:
            raise typer.Exit(supervise(settings, [role for role in ROLES if role in roles]))


@app.command()
def init(assign: SetOptions = None) -> None:
    """Create what is missing: topics, and ClickHouse's tables and views."""
    import asyncio

    from sinks.migrations import migrate
    from stream.topics import create_topics
    from stream.worker import store_of

    with _errors():
        settings = _settings(assign)
        created = asyncio.run(create_topics(settings.kafka))
        migrate(store_of(settings))
        made = ", ".join(created) or "none, all there"
        typer.echo(f"topics created: {made}; tables and views are up to date")


@app.command()
def prepare(
    example: Annotated[Path, typer.Option(help="The folder of the example's data.")] = EXAMPLE,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the files go.")] = WORK,
) -> None:
    """Split the example by client: feature table, training rows, applications."""
    from models.prepare import prepare as prepare_example

    with _errors():
        prepared = prepare_example(example, out)
        files = ", ".join(path.name for path in sorted(prepared.folder.glob("*.parquet")))
        typer.echo(f"prepared {example}: {files}")


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="A folder that `prepare` made.")] = WORK,
    out: Annotated[Path, typer.Option("-o", "--out", help="A folder of releases.")] = WORK
    / "releases",
    seed: int = 350,
    *,
    as_json: Json = False,
) -> None:
    """Train a release on the prepared example."""
    from features.taiwan_default import DEFINITION
    from models.prepare import LABEL, Prepared
    from models.release import load_release
    from models.train import read_labelled
    from models.train import train as train_release

    with _errors():
        prepared = Prepared(data)
        schema = DEFINITION.schema
        folder = train_release(
            read_labelled(prepared.training, schema, LABEL),
            read_labelled(prepared.calibration, schema, LABEL),
            schema,
            DEFINITION.name,
            out,
            seed=seed,
        )
        _show_release(load_release(folder), as_json=as_json)


@release_app.command("list")
def release_list(
    folder: Annotated[Path, typer.Argument(help="A folder of releases.")] = WORK / "releases",
    *,
    as_json: Json = False,
) -> None:
    """List the releases of a folder."""
    from models.registry import list_releases

    found = list_releases(folder)
    if as_json:
        typer.echo(json.dumps([{"release": one.id, "refused": one.refused} for one in found]))
        return
    for one in found:
        auc = f"calibration AUC {one.auc.value:.4f}" if one.auc else ""
        typer.echo(f"{one.id}  {one.refused or auc}".rstrip())
    if not found:
        typer.echo(f"no release in {folder}")


@release_app.command("show")
def release_show(folder: Path, *, as_json: Json = False) -> None:
    """Show a release after its self-check."""
    from models.release import load_release

    with _errors():
        _show_release(load_release(folder), as_json=as_json)


@release_app.command("check")
def release_check(folder: Path) -> None:
    """Check every file's digest, and that the model scores its reference rows as when made."""
    from models.release import load_release

    with _errors():
        release = load_release(folder)
        rows = len(release.reference.features)
        typer.echo(f"release {release.id} is sound: {rows} reference rows score bit for bit")
        typer.echo(f"  reasons are computed by {release.scorer.explained_by}")


@release_app.command("create")
def release_create(
    model: Annotated[Path, typer.Option(help="A LightGBM text model.")],
    reference: Annotated[Path, typer.Option(help="Parquet rows with the model's features.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A folder of releases.")],
    policy: Annotated[Path | None, typer.Option(help="A policy.toml.")] = None,
) -> None:
    """Make a release of your own LightGBM model."""
    from models.bring import create_release

    with _errors():
        typer.echo(str(create_release(model, reference, policy, out)))


@app.command()
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

    with _errors():
        rows = score_file(file, load_release(release_folder(release)), out, key)
        typer.echo(f"{rows} rows decided: {out}")


@app.command()
def send(
    file: Path,
    key: str = "application_id",
    run: Annotated[
        str | None, typer.Option(help="Begins each event's id; default: the file's digest.")
    ] = None,
    assign: SetOptions = None,
) -> None:
    """Send a file's rows as application events."""
    import asyncio

    from stream.send import send_file

    with _errors():
        typer.echo(f"{asyncio.run(send_file(_settings(assign).kafka, file, key, run))} events sent")


@app.command()
def simulate(
    rate: Annotated[float, typer.Option(min=0.1)] = 50,
    count: Annotated[int | None, typer.Option(help="Stop after so many; default: never.")] = None,
    data: Annotated[Path, typer.Option(help="A folder that `prepare` made.")] = WORK,
    bad_share: Annotated[float, typer.Option(min=0, max=1)] = 0.01,
    assign: SetOptions = None,
) -> None:
    """Send the example's applications at a rate."""
    import asyncio

    from stream.send import simulate_example

    with _errors():
        kafka = _settings(assign).kafka
        sent = asyncio.run(simulate_example(kafka, data, rate, count, bad_share))
        typer.echo(f"{sent.good} good and {sent.bad} bad events sent")


@decision_app.command("show")
def decision_show(decision_id: str, *, as_json: Json = False, assign: SetOptions = None) -> None:
    """Show a decision with the features that it was made on."""
    from stream.reading import print_decision
    from stream.stored import find_decision, release_of

    with _errors():
        settings = _settings(assign)
        stored = find_decision(settings, decision_id)
        if as_json:
            typer.echo(json.dumps(stored, default=str))
        else:
            print_decision(stored, release_of(settings, stored))


@decision_app.command("reproduce")
def decision_reproduce(decision_id: str, assign: SetOptions = None) -> None:
    """Make a decision again from its stored features and its release, and compare every bit."""
    from stream.stored import find_decision, release_of, reproduce

    with _errors():
        settings = _settings(assign)
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


@app.command()
def sql(query: str, *, as_json: Json = False, assign: SetOptions = None) -> None:
    """Ask ClickHouse, read-only."""
    from stream.reading import ask, print_rows

    with _errors():
        print_rows(ask(_settings(assign), query), as_json=as_json)


@app.command()
def drift(*, as_json: Json = False, assign: SetOptions = None) -> None:
    """Show drift alarms, the newest first, and each feature's statistics."""
    from stream.reading import ask, print_drift, print_rows

    with _errors():
        settings = _settings(assign)
        alarms = "SELECT raised_at, detector, subject, value, text FROM alarms LIMIT 20"
        print_rows(ask(settings, alarms), as_json=as_json)
        if not as_json:
            print_drift(settings)


@app.command()
def report(
    hours: Annotated[int, typer.Option(min=1, help="How far back to look.")] = 24,
    every: Annotated[
        float | None, typer.Option(min=1, help="Draw it again after so many minutes, for ever.")
    ] = None,
    assign: SetOptions = None,
) -> None:
    """Draw recent decisions against the release's reference, as HTML and JSON."""
    from datetime import timedelta

    from stream.logs import configure_logging
    from stream.reporting import report as draw
    from stream.reporting import report_regularly

    with _errors():
        settings = _settings(assign)
        if every is not None:
            configure_logging(as_json=settings.log_json)
            report_regularly(settings, hours, timedelta(minutes=every))
            return
        files = draw(settings, hours)
        typer.echo(f"{files.html}\n{files.json}")


@app.command()
def contracts(
    out: Annotated[Path, typer.Option("-o", "--out", help="A folder; the project's is docs.")],
    assign: SetOptions = None,
) -> None:
    """Write JSON Schemas, an AsyncAPI document, and the tables of a contracts.md in the folder."""
    from stream.contracts import write_contracts

    with _errors():
        settings = _settings(assign)
        for path in write_contracts(out, settings.kafka, settings.events):
            typer.echo(str(path))


@bench_app.command("pipeline")
def bench_pipeline(
    events: Annotated[int, typer.Option(min=1_000, help="How many end to end.")] = 200_000,
    *,
    as_json: Json = False,
) -> None:
    """Measure one worker on one core, end to end at the embedded broker and stage by stage."""
    from rich.console import Console

    from stream.bench import bench_pipeline as measure
    from stream.bench import print_bench

    with _errors():
        result = measure(Console(stderr=True), EXAMPLE, WORK / "bench", events)
        print_bench(result, as_json=as_json)


@app.command()
def doctor(*, assign: SetOptions = None) -> None:
    """Say what works, what is missing, and how to get it."""
    from stream.doctor import examine

    with _errors():
        raise typer.Exit(examine(_settings(assign)))


def _settings(assign: list[str] | None) -> Any:
    from stream.settings import read_settings

    pairs = [text.partition("=") for text in assign or []]
    return read_settings({name: value for name, _, value in pairs})


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


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the errors that have a way out into one line and an exit code."""
    try:
        yield
    except Exception as error:
        module, name = type(error).__module__.split(".")[0], type(error).__name__
        if name == "SettingsInvalid":
            _fail(str(error), _BAD_SETTINGS)
        if name in ("StoreUnavailable", "BrokerUnavailable", "KafkaUnavailable"):
            _fail(str(error), _UNREACHABLE)
        if module in ("stream", "models", "features", "scoring", "sinks", "monitoring"):
            _fail(str(error), 1)
        raise


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)
