"""Where commands meet the user: common options, settings, errors as a line and an exit code."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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

UNREACHABLE, BAD_SETTINGS = 69, 78


def settings_of(assign: list[str] | None) -> Any:
    """Read the settings, with those of `--set` on top; raises SettingsInvalid."""
    from stream.settings import read_settings

    pairs = [text.partition("=") for text in assign or []]
    return read_settings({name: value for name, _, value in pairs})


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
