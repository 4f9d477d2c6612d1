"""The commands that bring all they need."""

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import EXAMPLE
from tests.e2e.running import assert_gone, assert_report, started, wait_until


def reconciled(said: str) -> int:
    """See that a demo lost nothing and decided nothing twice; give how many it decided."""
    counted = re.search(r"consumed ([\d,]+) = decided ([\d,]+) \+ parked ([\d,]+) ", said)
    assert counted, said
    consumed, decided, parked = (int(number.replace(",", "")) for number in counted.groups())
    assert consumed == decided + parked
    assert parked > 0
    assert "lost 0 decided twice 0" in said
    return decided


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder from which the example is found as from a checkout."""
    (tmp_path / "examples").symlink_to(EXAMPLE.parent)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_reconciles_measures_explains_reports_and_leaves_no_process(
    checkout: Path,
) -> None:
    with started(checkout, "demo", "--seconds", "20", "--rate", "100") as demo:
        wait_until(lambda: len(demo.family()) > 3, 60, "processes of all roles")
        code = demo.process.wait(200)
        assert_gone(demo)
        said = demo.said()

    assert code == 0, said
    decided = reconciled(said)
    assert decided > 1_000
    measured = re.search(r"AUC of the stream .*?: (0\.\d+) \(95 % interval (0\.\d+) to 0\.", said)
    assert measured
    auc, low = float(measured[1]), float(measured[2])
    assert 0.6 < low < auc
    words = r"application \d+: (\w+), default probability [\d.]+%, \d+ points"
    assert sorted(re.findall(words, said)) == ["approve", "decline", "refer"]
    report = re.search(r"drift report[^:]*: (\S+drift\.html)", said)
    assert report
    assert_report(Path(report[1]), rows=decided // 2)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_of_home_credit_decides_new_applicants_and_says_that_none_is_real(
    tmp_path: Path,
) -> None:
    arguments = ("--example", "home-credit", "--seconds", "20", "--no-kill")
    with started(tmp_path, "demo", *arguments) as demo:
        code = demo.process.wait(200)
        assert_gone(demo)
        said = demo.said()

    assert code == 0, said
    assert reconciled(said) > 500
    assert "what happened, to SYNTHETIC applicants" in said
    measured = re.search(r"AUC of the stream against SYNTHETIC labels: (0\.\d+) ", said)
    assert measured
    assert float(measured[1]) > 0.6
    assert re.search(r"\w+_INCOME\w* (has moved|no longer looks)", said), said
    assert re.search(r"because: .* \([RK]\d\d\)", said)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_up_answers_the_commands_that_it_prints_and_ends_with_0_when_told_to(
    checkout: Path,
) -> None:
    with started(checkout, "up") as up:
        settings = up.await_said(r"\. (\S+settings\.sh)", 120)[1]
        send = up.await_said(r"(\S+creditstream simulate --rate \S+ --data \S+)", 10)[1]
        ask = up.await_said(r"(\S+creditstream sql )", 10)[1]
        assert len(up.family()) > 3

        def ran(command: str) -> str:
            """Run a command in a shell, as it was printed; give what it says."""
            script = f". {settings}; {command}"
            done = subprocess.run(
                ["sh", "-ec", script], cwd=checkout, capture_output=True, text=True, check=True
            )
            return done.stdout.strip()

        assert ran(f"{send} --count 20 --bad-share 0") == "20 good and 0 bad events sent"
        count = f"{ask} --json 'SELECT count() AS n FROM decisions'"
        wait_until(lambda: ran(count) == '{"n":20}', 30, "20 decisions")

        up.process.send_signal(signal.SIGTERM)
        code = up.process.wait(40)
        assert_gone(up)

    assert code == 0
