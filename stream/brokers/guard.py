"""Run a command that ends when the process that asked for it is gone, however that ended.

    python -I guard.py PARENT FOLDER COMMAND...

Run as a file by an isolated interpreter, so it needs the standard library alone. The command's
process id is the first line on standard output. When standard input ends, or PARENT is no longer
the parent, the command is killed; where the parent died, FOLDER is removed too.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

_LOOK_SECONDS = 0.5
_DYING_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def main(parent: int, folder: str, command: list[str]) -> int:
    """Run the command to its end; give its exit code, 128 + n for signal n."""
    # The command comes from our own code, and `_begin` runs before any thread is started.
    child = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_begin(os.getpid()),  # noqa: PLW1509
    )
    signal.signal(signal.SIGTERM, lambda *_: child.kill())
    ended = threading.Event()
    threading.Thread(target=_watch, args=(parent, child, ended), daemon=True).start()
    code = child.wait()
    # A parent that dies closes its files a moment before its children are another's.
    deadline = time.monotonic() + _DYING_SECONDS
    while ended.is_set() and os.getppid() == parent and time.monotonic() < deadline:
        time.sleep(0.01)
    if os.getppid() != parent:
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _begin(guard: int) -> Callable[[], None]:
    """Make what the child does first: die with the guard (Linux), and say its process id."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def begin() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        os.write(1, f"process {os.getpid()}\n".encode())

    return begin


def _watch(parent: int, child: subprocess.Popen[bytes], ended: threading.Event) -> None:
    # The end of standard input is the quick sign. It does not come where a fork of the parent
    # still holds the pipe, so the parent's process id is looked at, too. (PDEATHSIG would not do
    # here: it follows the thread that started us, which may end long before its process.)
    while os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    ended.set()
    child.kill()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
