"""Children of this process: each ends within a time."""

import subprocess


def await_end(child: "subprocess.Popen[bytes]", seconds: float) -> int:
    """Wait until a child has ended, and kill it where it has not in time; give its exit code."""
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
