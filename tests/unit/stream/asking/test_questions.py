from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sinks.store import StoreUnavailable
from stream.asking.questions import ask
from stream.settings import Settings, read_settings


@contextmanager
def a_door(status: int) -> Iterator[str]:
    """Something that answers every question with one status."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def settings(folder: Path, door: str) -> Settings:
    return read_settings({"store.url": f"chdb://{folder / 'nowhere'}", "store.door": door})


def test_a_door_that_fails_is_not_taken_for_a_store_that_nobody_hosts(tmp_path: Path) -> None:
    with a_door(500) as door, pytest.raises(StoreUnavailable, match="500 from"):
        ask(settings(tmp_path, door), "SELECT 1")


@pytest.mark.parametrize("status", [404, 405])
def test_where_no_door_is_the_store_is_opened_here(tmp_path: Path, status: int) -> None:
    with a_door(status) as door, pytest.raises(StoreUnavailable, match="there is no store at"):
        ask(settings(tmp_path, door), "SELECT 1")
    with pytest.raises(StoreUnavailable, match="there is no store at"):
        ask(settings(tmp_path, "http://127.0.0.1:1"), "SELECT 1")
