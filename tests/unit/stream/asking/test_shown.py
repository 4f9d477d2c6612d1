import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from stream.asking.shown import AnswerUnreadable, print_rows


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
