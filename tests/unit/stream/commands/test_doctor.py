"""The doctor, where parts are missing."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.builders import a_release
from tests.unit.stream.commands.command_line import (
    NO_BROKER,
    NO_STORE,
    creditstream,
)


@contextmanager
def a_worker_that_says(status: dict[str, str]) -> Iterator[int]:
    """Serve a status on a port of its own."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(status).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


def test_the_doctor_names_each_missing_part_with_the_setting_to_set() -> None:
    result = creditstream("doctor", *NO_BROKER, *NO_STORE, "--set", "features=table[/b].parquet")

    assert result.exit_code == 1
    missing = [
        line.split(maxsplit=1)[1] for line in result.stdout.splitlines() if "missing" in line
    ]
    assert [(line.partition(":")[0], line.split()[-1]) for line in missing] == [
        ("release", "CREDITSTREAM_RELEASE"),
        ("feature table", "CREDITSTREAM_FEATURES"),
        ("kafka", "CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS"),
        ("clickhouse", "CREDITSTREAM_STORE__URL"),
    ]
    assert "table[/b].parquet" in missing[1]


def test_the_doctor_finds_a_feature_table_missing_where_the_release_is_there(
    tmp_path: Path,
) -> None:
    release = ("--set", f"release={a_release(tmp_path)}")

    result = creditstream("doctor", *NO_BROKER, *NO_STORE, *release)

    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "ok release: " in lines[1]
    assert lines[2] == (
        "missing feature table: .creditstream/features.parquet: there is no such file; "
        "set CREDITSTREAM_FEATURES"
    )


def test_the_doctor_asks_the_running_worker_what_it_refuses(tmp_path: Path) -> None:
    refused = "t.parquet: it differs too much from the table that decides: 1 rows after 9"
    with a_worker_that_says({"role": "scoring", "refused": refused}) as port:
        here = ("--set", f"status.port={port}", "--set", f"features={tmp_path}")
        result = creditstream("doctor", *NO_BROKER, *NO_STORE, *here)

    worker = next(line for line in result.stdout.splitlines() if " worker: " in line)
    assert " ".join(worker.split()) == (
        f"missing worker: the one at http://127.0.0.1:{port} goes on with what it had: {refused}"
    )


def test_the_doctor_misses_no_worker(tmp_path: Path) -> None:
    nobody = ("--set", "status.port=1", "--set", f"features={tmp_path}")

    result = creditstream("doctor", *NO_BROKER, *NO_STORE, *nobody)

    assert "worker: none answers at http://127.0.0.1:1" in result.stdout
