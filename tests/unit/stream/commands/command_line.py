"""The command line as a test calls it, without a broker and a store."""

from typer.testing import CliRunner, Result

from stream.cli import app

NOBODY = "127.0.0.1:1"
NO_BROKER = ("--set", f"kafka.bootstrap_servers={NOBODY}")
NO_STORE = ("--set", f"store.url=http://{NOBODY}")


def creditstream(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def refusal(result: Result, code: int) -> str:
    """Give the one line in which a command said why it ended with the code."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line
