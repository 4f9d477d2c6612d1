"""Running what may crash, never end or take all memory in a throw-away process with limits."""

import os
import signal
import subprocess
import sys

SECONDS = 60
MEMORY_BYTES = 2 << 30

# The system's killer, where memory runs out all the same, begins here.
_LIMITS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({memory}, {memory}))
resource.setrlimit(resource.RLIMIT_CPU, ({cpu}, {cpu}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    with open("/proc/self/oom_score_adj", "w") as first_to_go:
        first_to_go.write("1000")
except OSError:
    pass
"""
# Else each core of the host would take its share of the memory, and Arrow a gibibyte at once.
_MODEST = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


class CheckFailed(Exception):
    """A throw-away process crashed, did not end, or gave a reason to refuse."""


def in_a_process_of_its_own(
    code: str,
    *arguments: str,
    given: bytes = b"",
    seconds: float = SECONDS,
    memory: int = MEMORY_BYTES,
) -> str:
    """
    Run Python code with `arguments` as `sys.argv[1:]` and `given` to read; give what it printed.

    The process may have `memory` bytes and take `seconds`, of the processor and by the clock.
    Raises CheckFailed with the last line that it said, or with the signal that ended it.
    """
    limits = _LIMITS.format(memory=memory, cpu=max(1, int(seconds)))
    command = [sys.executable, "-I", "-c", limits + code, *arguments]
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter and code
            command,
            capture_output=True,
            input=given,
            timeout=seconds,
            check=False,
            env=os.environ | _MODEST,
        )
    except subprocess.TimeoutExpired:
        msg = f"did not end within {seconds:.0f} s"
        raise CheckFailed(msg) from None
    if ended.returncode < 0:
        msg = f"died of {signal.Signals(-ended.returncode).name}"
        raise CheckFailed(msg)
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise CheckFailed(said[-1] if said else f"exit code {ended.returncode}")
    return ended.stdout.decode(errors="replace").strip()
