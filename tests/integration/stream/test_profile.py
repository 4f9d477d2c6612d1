"""Flame graphs of a process that runs."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from stream.bench.profile import NotProfiled, flame_graph

BUSY = """
def turning_round():
    while True:
        sum(range(1_000))

print(flush=True)
turning_round()
"""


@pytest.fixture
def busy() -> Iterator[int]:
    """A process that works in one function for ever."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def test_a_flame_graph_names_where_the_time_went(busy: int, tmp_path: Path) -> None:
    drawn = tmp_path / "flame.svg"

    with flame_graph(busy, drawn):
        time.sleep(1.5)

    svg = drawn.read_text()
    ET.fromstring(svg)
    assert "turning_round" in svg


def test_a_process_that_is_not_there_is_named(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    drawn = tmp_path / "flame.svg"

    with (
        pytest.raises(NotProfiled, match=rf"could not sample process {ended.pid}: "),
        flame_graph(ended.pid, drawn),
    ):
        time.sleep(0.5)

    assert not drawn.exists()


def test_a_folder_that_is_not_there_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(NotProfiled, match="there is no such folder"),
        flame_graph(1, tmp_path / "none" / "flame.svg"),
    ):
        pytest.fail("it began")


def test_what_fails_while_it_is_sampled_is_what_is_raised(busy: int, tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        flame_graph(busy, tmp_path / "flame.svg"),
    ):
        raise ZeroDivisionError
