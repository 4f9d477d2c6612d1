import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest

from models.release import load_release
from sinks.store import StoreUnavailable
from stream.reading import AnswerUnreadable, ask, print_decision, print_rows
from stream.settings import Settings, read_settings
from tests.builders import a_release


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


def test_a_decision_without_features_names_neither_a_feature_nor_a_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = load_release(a_release(tmp_path))
    reason = {"code": "N01", "feature": "", "contribution": 0.0}
    stored = {
        "outcome": "refer",
        "application_id": "A-7",
        "default_probability": None,
        "score": None,
        "risk_band": None,
        "reasons": [reason],
        "event_id": "0d2c",
        "source": "web",
        "origin_topic": "applications",
        "origin_partition": 2,
        "origin_offset": 41,
        "submitted_at": "2026-01-02",
        "decided_at": "2026-01-02",
        "feature_source": "none",
        "features_as_of": None,
        "features_age_s": None,
        "features_stale": False,
        "features": [],
        "release": release.id,
    }

    print_decision(stored, release)

    told = capsys.readouterr().out.splitlines()
    assert "+0.0000  No information about the applicant is available. (N01)" in told
    assert "features none" in told


def test_what_would_act_on_a_terminal_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(pa.table({"a": ["\x1b[31mred\u202e", "two\nlines, ä"]}), as_json=False)

    shown = capsys.readouterr().out
    assert r"\x1b[31mred\u202e" in shown
    assert "two" in shown
    assert "lines, ä" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("as_json", [True, False])
def test_bytes_that_are_no_text_are_told_with_the_way_out(*, as_json: bool) -> None:
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\x00\0\0\0\x01\0\0\0"), pa.py_buffer(b"\xff")]
    )

    with pytest.raises(AnswerUnreadable, match=r"ask for hex\(column\)"):
        print_rows(pa.table({"a": text}), as_json=as_json)


def test_json_lines_are_json_whatever_a_row_holds(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    rows = pa.table({"value": [float("nan"), 1.5], "at": [at, at], "big": [2**63 - 1, None]})

    print_rows(rows, as_json=True)

    lines = capsys.readouterr().out.splitlines()
    assert "NaN" not in lines[0]
    assert [json.loads(line) for line in lines] == [
        {"value": None, "at": "2026-01-02T03:04:05Z", "big": 2**63 - 1},
        {"value": 1.5, "at": "2026-01-02T03:04:05Z", "big": None},
    ]
