"""Tables and views: the SQL files beside this module, run in order; running them again is safe."""

import hashlib
from importlib.resources import files

from sinks.store import Store


def scripts() -> list[tuple[str, str]]:
    """Read the SQL files in order: name and text."""
    entries = [entry for entry in files("sinks").joinpath("sql").iterdir() if _is_sql(entry.name)]
    return [(entry.name, entry.read_text()) for entry in sorted(entries, key=lambda at: at.name)]


def statements(script: str) -> list[str]:
    r"""
    Split a file into its statements, without comment lines; a statement ends at a line's end.

    >>> statements("-- Why.\nSELECT 1;\n\nSELECT ';' AS a,\n2;\n")
    ['SELECT 1', "SELECT ';' AS a,\n2"]
    """
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    found = [statement.strip() for statement in "\n".join([*lines, ""]).split(";\n")]
    return [statement for statement in found if statement]


def migrate(store: Store) -> None:
    """
    Create what is missing and bring views up to date; raises the store's errors.

    Every statement may run again (IF NOT EXISTS, OR REPLACE), so two processes may start at once
    and a view that was dropped by hand comes back. What ran is noted in `schema_migrations`.
    """
    for name, script in scripts():
        for statement in statements(script):
            store.command(statement)
        digest = hashlib.sha256(script.encode()).hexdigest()
        store.command(
            f"INSERT INTO schema_migrations (file, digest) SELECT '{name}', '{digest}' "  # noqa: S608 - our own names
            f"WHERE ('{name}', '{digest}') NOT IN (SELECT file, digest FROM schema_migrations)"
        )


def _is_sql(name: str) -> bool:
    return name.endswith(".sql")
