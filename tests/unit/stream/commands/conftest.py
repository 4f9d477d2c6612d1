"""What all tests of commands begin with: an empty folder and environment, and no log kept."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from stream.settings import PREFIX


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave a developer's `.env`, environment and `.creditstream` out of it."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back what a command that keeps a log set for its process."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**configured)
