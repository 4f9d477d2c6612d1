"""The command line: every command by its name."""

import asyncio
import logging
import signal
import sys

import typer

from stream.commands import asking, featuring, making, measuring, parking, reconciling, running
from stream.process.loops import LoopPolicy


def _group(meaning: str) -> typer.Typer:
    return typer.Typer(help=meaning, no_args_is_help=True)


app = typer.Typer(
    name="creditstream",
    help="Streaming real-time scoring of credit applications.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    running.demo,
    running.up,
    running.worker,
    running.init,
    making.prepare,
    making.train,
    making.score,
    running.send,
    running.simulate,
    asking.sql,
    asking.drift,
    asking.report,
    asking.contracts,
    reconciling.reconcile,
    asking.doctor,
):
    app.command()(command)

releases = _group("Releases: what decides.")
releases.command("list")(making.release_list)
releases.command("show")(making.release_show)
releases.command("check")(making.release_check)
releases.command("create")(making.release_create)
app.add_typer(releases, name="release")

decisions = _group("Decisions, by their id.")
decisions.command("show")(asking.decision_show)
decisions.command("reproduce")(asking.decision_reproduce)
app.add_typer(decisions, name="decision")

parked = _group("Parked events: what could not be decided.")
parked.command("list")(parking.parked_list)
parked.command("show")(parking.parked_show)
parked.command("send")(parking.parked_send)
app.add_typer(parked, name="parked")

features = _group("Features, and the data that they are made of.")
features.command("sample")(featuring.sample)
features.command("build")(featuring.build)
features.command("create")(featuring.create)
features.command("check")(featuring.check)
features.command("describe")(featuring.describe)
features.command("parity")(featuring.parity)
app.add_typer(features, name="features")

benches = _group("Measurements, with machine and versions.")
benches.command("pipeline")(measuring.bench_pipeline)
benches.command("score")(measuring.bench_score)
benches.command("peers")(measuring.bench_peers)
benches.command("latency")(measuring.bench_latency)
benches.command("start")(measuring.bench_start)
benches.command("delivery")(measuring.bench_delivery)
benches.command("reconcile")(measuring.bench_reconcile)
benches.command("table")(measuring.bench_table)
app.add_typer(benches, name="bench")
app.command("profile")(measuring.profile)


def main() -> None:
    """Run the command line; SIGTERM ends a command as Ctrl-C does: in order."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # A command without a log says in its own line why it ended; a worker's log replaces this.
    logging.getLogger().addHandler(logging.NullHandler())
    # For all loops, as Faust's consumer has one of its own.
    asyncio.set_event_loop_policy(LoopPolicy())
    app()
