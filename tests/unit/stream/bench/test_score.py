"""The measurement of scoring, on a model that takes a second."""

import json
import shlex
import sys

import pytest
from rich.console import Console

from stream.bench import score
from stream.bench.score import KERNEL, ONE_THREAD, Shape, print_bench

TOLD = {"us_a_row": {"another": {"1": 2.0, "64": 1.0}}, "told": {"another": "1.0, ready in 0.1 s"}}


def test_each_shape_is_scored_by_each_way_and_held_against_lightgbm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = Shape("500 x 31", 10, 4, features=5, categorical=1)
    monkeypatch.setattr(score, "SHAPES", (shape,))
    monkeypatch.setattr(score, "BATCHES", (1, 64, 1_024))
    other = shlex.join([sys.executable, "-c", f"print({json.dumps(TOLD)!r})"])

    result = score.bench_score(Console(quiet=True), 1, other)

    (scored,) = result.shapes
    assert scored.equal
    assert scored.scored_by == "kernel"
    assert scored.us_a_row["another"] == {1: 2.0, 64: 1.0}
    assert all(taken > 0 for way in (KERNEL, ONE_THREAD) for taken in scored.us_a_row[way].values())
    assert result.ratio_to_lightgbm_one_thread == scored.ratio_to_lightgbm_one_thread[1_024]

    print_bench(result, as_json=True)
    told = capsys.readouterr().out
    assert next(iter(json.loads(told))) == "ratio_to_lightgbm_one_thread"

    print_bench(result, as_json=False)
    shown = capsys.readouterr().out
    assert "every bit as LightGBM's" in shown
    assert "another 1.0, ready in 0.1 s" in shown
