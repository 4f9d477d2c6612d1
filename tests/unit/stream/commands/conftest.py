"""What all tests of commands begin with: a folder and an environment that are empty."""

import os
from pathlib import Path

import pytest

from stream.settings import PREFIX


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave a developer's `.env`, environment and `.creditstream` out of it."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
