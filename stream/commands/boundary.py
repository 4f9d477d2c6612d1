"""Where commands meet the user: common options, settings, errors as a line and an exit code."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

WORK = Path(".creditstream")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
ExampleName = Annotated[
    Literal["taiwan-default", "home-credit"], typer.Option("--example", help="Whose applicants.")
]
Tables = Annotated[
    Path | None,
    typer.Option(
        "--tables",
        help="The folder of the example's data; home-credit without one makes synthetic data.",
    ),
]
SetOptions = Annotated[
    list[str] | None, typer.Option("--set", help="A setting, as kafka.partitions=8; repeatable.")
]

USAGE, UNREACHABLE, NOT_ALLOWED, BAD_SETTINGS = 2, 69, 77, 78


def settings_of(assign: list[str] | None) -> Any:
    """Read the settings, with those of `--set` on top; raises SettingsInvalid."""
    from stream.settings import SettingsInvalid, read_settings, secret_settings

    pairs = [text.partition("=") for text in assign or []]
    assigned = {name: value for name, _, value in pairs}
    for secret in secret_settings() & assigned.keys():
        msg = (
            f"{secret} is a secret, and whoever lists processes reads command lines: set it by "
            f"{secret}_file or in the environment"
        )
        raise SettingsInvalid(msg)
    return read_settings(assigned)


def moment(text: str) -> datetime:
    """Read a time or day in ISO 8601, in UTC where it has no offset: what options of time parse."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"{text!r} is no time as 2026-11-25T14:00 or 2026-11-25T14:00:00+01:00"
        raise typer.BadParameter(msg) from None


def roles_of(agents: str | None) -> Any:
    """Give the roles that are named, by comma; all where none is. Ends the program for others."""
    from stream.kafka.roles import ROLES

    named = ROLES if agents is None else [role.strip() for role in agents.split(",")]
    if unknown := [role for role in named if role not in ROLES]:
        fail(f"no agents are called {unknown[0]!r}; there are {', '.join(ROLES)}", USAGE)
    return [role for role in ROLES if role in named]


@contextmanager
def errors() -> Iterator[None]:
    """Turn the errors that have a way out into one line and an exit code."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        fail(f"{error.filename or 'output'}: {error.strerror}", 1)
    except MemoryError as error:
        fail(f"not enough memory: {error}", 1)
    except Exception as error:
        module, name = type(error).__module__.split(".")[0], type(error).__name__
        if name == "SettingsInvalid":
            fail(str(error), BAD_SETTINGS)
        if name in ("DecisionIdInvalid", "NoSuchPartition"):
            fail(str(error), USAGE)
        if name in ("KafkaRefused", "RightsMissing"):
            fail(str(error), NOT_ALLOWED)
        if name in (
            "StoreUnavailable",
            "BrokerUnavailable",
            "KafkaUnavailable",
            "EngineUnavailable",
        ):
            fail(str(error), UNREACHABLE)
        if module in ("stream", "models", "features", "scoring", "sinks", "monitoring"):
            fail(str(error), 1)
        raise


def fail(message: str, code: int) -> None:
    """Say what is wrong, and end with the code."""
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)
