"""Running one case in a fork with limits: it may die, hang or take memory, and that is told."""

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

Say = Callable[[str], None]


@dataclass
class Ended:
    """
    How a case ended: what it said on its way, then its answer, or what it died of.

    `seconds` are by the clock, `memory` is the most that it held, in bytes.
    """

    said: list[str] = field(default_factory=list)
    answer: dict[str, Any] | None = None
    died: str = ""
    seconds: float = 0.0
    memory: int = 0


def apart(case: Callable[[Say], dict[str, Any]], *, seconds: float, memory: int) -> Ended:
    """
    Run a case in a fork of this process, with so much time and memory.

    A fork, not a process of its own: it begins with all libraries loaded. Nothing before may have
    started threads that it would wait for.
    """
    ended, began = Ended(), time.monotonic()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _run(case, write, seconds, memory)
    os.close(write)
    content, deadline = b"", began + seconds
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(read, 1 << 16)
        if not part:
            break
        content += part
    else:
        os.kill(child, signal.SIGKILL)
        ended.died = f"did not end within {seconds:.0f} s"
    os.close(read)
    _, status, used = os.wait4(child, 0)
    if not ended.died and os.WIFSIGNALED(status):
        ended.died = f"died of {signal.Signals(os.WTERMSIG(status)).name}"
    elif not ended.died and status:
        ended.died = f"ended with {os.WEXITSTATUS(status)}"
    for line in content.splitlines():
        word = json.loads(line)
        if isinstance(word, str):
            ended.said.append(word)
        else:
            ended.answer = word
    ended.seconds, ended.memory = time.monotonic() - began, used.ru_maxrss * 1024
    return ended


def _run(case: Callable[[Say], dict[str, Any]], write: int, seconds: float, memory: int) -> None:
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever stops a run lets the case end
        pa.set_memory_pool(pa.system_memory_pool())  # as where it runs in a process of its own
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        def say(word: str) -> None:
            os.write(write, json.dumps(word).encode() + b"\n")

        try:
            answer = case(say)
        except Exception as error:  # noqa: BLE001 - what no door may raise
            answer = {"raised": f"{type(error).__name__}: {error}"[:300]}
        os.write(write, json.dumps(answer).encode() + b"\n")
        code = 0
    finally:
        os._exit(code)
