"""Every dependency has a reason, in docs/dependencies.md."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def name_of(requirement: str) -> str:
    found = re.match(r"[\w-]+", requirement)
    assert found is not None
    return found[0]


def test_every_dependency_stands_with_its_reason_in_the_docs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "docs" / "dependencies.md").read_text().splitlines()
    reasons = " ".join(line for line in lines if line.startswith("|"))
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    required = [requirement for group in groups for requirement in group]

    missing = {
        name_of(text) for text in required if not re.search(rf"\b{name_of(text)}\b", reasons)
    }

    assert missing == set()
