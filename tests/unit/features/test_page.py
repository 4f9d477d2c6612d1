"""The pages of features are what their declarations say."""

from pathlib import Path

import pytest

from features.catalogue import definition
from features.page import feature_page

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["home_credit"])
def test_the_page_of_features_is_what_is_declared(name: str) -> None:
    written = (DOCS / f"{name}_features.md").read_text()

    assert written == feature_page(definition(name)), (
        f"write it: creditstream features describe {name} -o docs/{name}_features.md"
    )
    assert written.count("\n| `") == len(definition(name).schema.names)
