"""Where a process stands: the stacks of its threads, and what its tasks wait for."""

import sys
import threading
import traceback
from asyncio import Task
from collections.abc import Iterator
from typing import Any

from stream.process.loops import all_tasks


def stacks() -> str:
    """Tell where all threads, and all tasks of their loops, stand; callable from any thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    told = [
        f"thread {names.get(ident, ident)}\n" + "".join(traceback.format_stack(frame))
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - there is no other way
    ]
    told += [f"task {task.get_name()}\n" + "".join(_awaits(task)) for task in all_tasks()]
    return "".join(told)


def _awaits(task: "Task[Any]") -> Iterator[str]:
    """Follow what a task awaits, from its own coroutine to the innermost one."""
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            code = frame.f_code
            yield f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_qualname}\n'
        awaited = getattr(coroutine, "cr_await", None)
        coroutine = awaited if awaited is not None else getattr(coroutine, "gi_yieldfrom", None)
