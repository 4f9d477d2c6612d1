"""Running what may crash or never end in a throw-away process with limits."""

import signal
import subprocess
import sys

_SECONDS = 60
_CPU_SECONDS = 50
_MEMORY_BYTES = 8 << 30

_LIMITS = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY_BYTES}, {_MEMORY_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({_CPU_SECONDS}, {_CPU_SECONDS}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
"""


class CheckFailed(Exception):
    """A throw-away process crashed, did not end, or gave a reason to refuse."""


def in_a_process_of_its_own(code: str, *arguments: str, seconds: float = _SECONDS) -> str:
    """
    Run Python code with `arguments` as `sys.argv[1:]`; give what it printed.

    The process has 8 GiB of address space, 50 s of processor time and `seconds` by the clock.
    Raises CheckFailed with the last line that it said, or with the signal that ended it.
    """
    command = [sys.executable, "-I", "-c", _LIMITS + code, *arguments]
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter and code
            command,
            capture_output=True,
            timeout=seconds,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        msg = f"did not end within {seconds:.0f} s"
        raise CheckFailed(msg) from None
    if ended.returncode < 0:
        msg = f"died of {signal.Signals(-ended.returncode).name}"
        raise CheckFailed(msg)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]
        raise CheckFailed(last[0])
    return ended.stdout.strip()
