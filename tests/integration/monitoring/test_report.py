import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import psutil
import pytest

from monitoring.report import ReportRefused, ReportSummary, run_report, write_report

DAY = date(2026, 11, 24)


class Document(msgspec.Struct):
    summary: ReportSummary
    evidently: dict[str, list[dict[str, object]]]


def rows(size: int, seed: int, features: int = 44) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        random.normal(size=(size, features)).astype(np.float32),
        columns=[f"f{feature}" for feature in range(features)],
    )
    frame["flag"] = random.integers(0, 2, size)
    frame["constant"] = 1.0
    frame["nothing"] = np.nan
    return frame


@pytest.mark.slow
def test_a_report_names_what_drifted_and_is_kept_by_day(tmp_path: Path) -> None:
    reference, current = rows(1_000, 1), rows(6_000, 2)
    current["f3"] += 2
    current.loc[:3_000, "f4"] = np.nan
    current.loc[0, "f5"] = np.inf

    files = run_report(reference, current, tmp_path, DAY)

    assert sorted(tmp_path.rglob("*")) == [
        tmp_path / "2026-11-24",
        tmp_path / "2026-11-24" / "drift.html",
        tmp_path / "2026-11-24" / "drift.json",
    ]
    document = msgspec.json.decode(files.json.read_bytes(), type=Document)
    summary = document.summary
    assert (summary.day, summary.rows, summary.reference_rows) == (DAY, 6_000, 1_000)
    assert set(summary.drifted) == {"f3", "f4"}
    assert summary.empty == ["nothing"]
    assert len(summary.drawn) == 40
    assert {"f3", "f4"} < set(summary.drawn)
    assert len(summary.features) == len(reference.columns)
    # Evidently fails the whole for one feature that drifted, and leaves missing values out.
    assert [str(test["status"]) for test in document.evidently["tests"]].count("FAIL") == 2
    html = files.html.read_text()
    assert "f3" in html
    assert html.rstrip().endswith("</html>")


def test_no_decisions_make_no_report(tmp_path: Path) -> None:
    with pytest.raises(ReportRefused, match="there are no recent decisions to compare"):
        write_report(rows(100, 1), rows(0, 2), tmp_path, DAY)

    assert list(tmp_path.iterdir()) == []


def test_features_that_recent_decisions_lack_are_named(tmp_path: Path) -> None:
    current = rows(100, 2).drop(columns=["f3", "flag"])

    with pytest.raises(ReportRefused, match=r"lack features of the reference: f3, flag"):
        write_report(rows(100, 1), current, tmp_path, DAY)


def test_features_without_any_value_make_no_report(tmp_path: Path) -> None:
    nothing = pd.DataFrame({"age": [np.nan] * 5})

    with pytest.raises(ReportRefused, match="no feature has values both in the reference"):
        write_report(nothing, nothing, tmp_path, DAY)


DRAWS = """
import signal, sys
from datetime import date
from pathlib import Path
import numpy as np, pandas as pd
from monitoring.report import run_report
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(20_000, 60)))
    frame.columns = [f"f{n}" for n in frame]
    run_report(frame, frame, Path(sys.argv[1]), date(2026, 1, 2))
"""


@pytest.mark.parametrize(
    ("told", "code"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_nothing_goes_on_drawing_when_who_asked_for_it_ends(
    tmp_path: Path, told: signal.Signals, code: int
) -> None:
    script = tmp_path / "draws.py"
    script.write_text(DRAWS)
    with subprocess.Popen([sys.executable, script, tmp_path / "reports"]) as process:
        found = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        # The pool's worker and multiprocessing's resource tracker.
        while len(family := found.children(recursive=True)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(told)
        assert process.wait(10) == code
        _, alive = psutil.wait_procs(family, timeout=5)

    assert alive == []
    assert not (tmp_path / "reports").exists()
