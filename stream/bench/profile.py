"""Where a process's time goes: a flame graph of it, sampled from outside by py-spy."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.process.children import await_end

_SAMPLES_A_SECOND = "200"
_WRITING_SECONDS = 30.0


class NotProfiled(Exception):
    """No flame graph could be taken; says why, and the way out."""


@contextmanager
def flame_graph(pid: int, output: Path) -> Iterator[None]:
    """
    Sample all threads of a process while the block runs, then write a flame graph to `output`.

    The process is never halted for a sample. Waiting threads are left out, compiled code counts
    for the Python function that called it. Raises NotProfiled where py-spy is missing, or may not
    look into the process (it needs ptrace), or the process is not there.
    """
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if program is None:
        msg = "py-spy is missing: install creditstream[profile]"
        raise NotProfiled(msg)
    if not output.absolute().parent.is_dir():
        msg = f"{output}: there is no such folder"
        raise NotProfiled(msg)
    options = ["--threads", "--nonblocking", "--rate", _SAMPLES_A_SECOND, "--format", "flamegraph"]
    with tempfile.TemporaryDirectory(prefix="creditstream-profile-") as folder:
        drawn = Path(folder) / "flame.svg"
        log = Path(folder) / "log"
        with log.open("wb") as said:
            command = [program, "record", "--pid", str(pid), *options, "--output", str(drawn)]
            sampling = subprocess.Popen(command, stdout=said, stderr=said)  # noqa: S603
            try:
                yield
            except BaseException:
                sampling.kill()
                sampling.wait()
                raise
            # As Ctrl-C does: it draws what it has.
            sampling.send_signal(signal.SIGINT)
            await_end(sampling, _WRITING_SECONDS)
        if not drawn.is_file():
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            msg = (
                f"py-spy could not sample process {pid}: {lines[-1]}. It needs the right to trace "
                "(root, CAP_SYS_PTRACE, or kernel.yama.ptrace_scope=0)"
            )
            raise NotProfiled(msg)
        shutil.move(drawn, output)
