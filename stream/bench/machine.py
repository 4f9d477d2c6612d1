"""The machine that a measurement was made on."""

import importlib.metadata
import platform
from pathlib import Path

import msgspec
from rich.console import Console

_LIBRARIES = ("aiokafka", "faust-streaming", "lightgbm", "msgspec", "numba", "numpy", "pyarrow")


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured, and with which versions."""

    processor: str
    cores: int
    python: str
    versions: dict[str, str]


def this_machine(cores: int) -> Machine:
    """Describe this machine, of which so many cores may be used."""
    info = Path("/proc/cpuinfo").read_text()
    names = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    return Machine(
        processor=names[0] if names else platform.machine(),
        cores=cores,
        python=platform.python_version(),
        versions={name: importlib.metadata.version(name) for name in _LIBRARIES},
    )


def print_machine(console: Console, machine: Machine) -> None:
    """Print where a measurement was made, for people."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    for line in (f"{machine.processor}, {machine.cores} cores, Python {machine.python}", versions):
        console.print(line, highlight=False, soft_wrap=True)


def print_json(result: msgspec.Struct) -> None:
    """Print a measurement as one JSON document, for machines."""
    print(msgspec.json.format(msgspec.json.encode(result)).decode())  # noqa: T201 - data
