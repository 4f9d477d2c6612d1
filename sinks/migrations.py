"""Tables and views: the SQL files beside this module, run in order; running them again is safe."""

from importlib.resources import files

from sinks.store import Store


def statements() -> list[str]:
    """Read the statements of all files, in order."""
    scripts = sorted(
        (entry for entry in files("sinks").joinpath("sql").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    found = []
    for script in scripts:
        for statement in script.read_text().split(";\n"):
            lines = [line for line in statement.splitlines() if not line.startswith("--")]
            if "".join(lines).strip():
                found.append("\n".join(lines).strip())
    return found


def migrate(store: Store) -> None:
    """Create what is missing and bring views up to date; raises the store's errors."""
    for statement in statements():
        store.command(statement)
