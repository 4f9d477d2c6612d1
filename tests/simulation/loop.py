"""An event loop on virtual time; what runs on it belongs to processes that can freeze and die."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any

_CLOSING_ROUNDS, _CLOSING_STEPS = 20, 10


class Process:
    """
    One operating system's process of the simulation: whatever was started on its behalf.

    Frozen (SIGSTOP) it takes no step until it is thawed; dead (SIGKILL) it never takes another.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.cut = False
        """Whether no request of it reaches anybody."""
        self.frozen: list[asyncio.Handle] | None = None
        self.steps_left: int | None = None
        self.at_last_step: Callable[[], None] = lambda: None


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class NothingLeft(Exception):
    """Nothing is ready and nothing is scheduled: the simulation stands still for ever."""


class _Numbered(asyncio.Task[Any]):
    # Sets of tasks (asyncio has them) must go round alike in every run.
    def __init__(self, coro: Any, *, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class _NumberedFuture(asyncio.Future[Any]):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """
    Jumps to the next timer where nothing is ready, so that hours of waiting take no time.

    Threads are virtual too: what is given to an executor runs in the loop, `thread_delays` seconds
    later, and its result comes another while later.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self, thread_delays: Callable[[], tuple[float, float]]) -> None:
        super().__init__()
        self.now = 0.0
        self.world: Context = Context()
        self.tasks: list[_Numbered] = []
        self.steps = 0
        self._numbers = 0
        self._processes: list[Process] = []
        self._left: list[asyncio.Handle] = []
        self._ending = False
        self._thread_delays = thread_delays
        self.set_task_factory(self._new_task)
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self.now

    def spawn(self, process: Process, main: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a process."""
        self._processes.append(process)
        context = Context()
        context.run(PROCESS.set, process)
        return self.create_task(main, context=context)

    def later(self, seconds: float, call: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Let the world, no process, do something later."""
        return self.call_later(seconds, call, *args, context=self.world)

    def freeze(self, process: Process) -> None:
        """Stop a process where it is."""
        if process.frozen is None:
            process.frozen = []

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on; all timers that have run out meanwhile go off at once."""
        waiting, process.frozen = process.frozen or [], None
        self._ready.extend(waiting)

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future whose hash is the same in every run."""
        self._numbers += 1
        return _NumberedFuture(self._numbers, self)

    def run_in_executor(  # type: ignore[override] # without a thread
        self, _executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function in the loop, as late as a thread might."""
        reply = self.create_future()
        before, after = self._thread_delays()

        def call() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                self.call_later(after, _settle, reply, None, error)
            else:
                self.call_later(after, _settle, reply, result, None)

        self.call_later(before, call)
        return reply

    def end(self) -> None:
        """Cancel whatever is left, also of dead processes, and close."""
        self._ending = True
        # Steps that were never taken: without them a task would wait for ever to be cancelled.
        for process in self._processes:
            self._ready.extend(process.frozen or ())
        self._ready.extend(self._left)
        left = self.tasks
        for _ in range(_CLOSING_ROUNDS):
            left = [task for task in left if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            for _ in range(_CLOSING_STEPS):
                self._scheduled.clear()
                self.call_soon(self.stop)
                self.run_forever()
        self.close()
        assert not left, left

    def _new_task(self, _loop: Any, coro: Any, **options: Any) -> _Numbered:
        self._numbers += 1
        task = _Numbered(coro, number=self._numbers, loop=self, **options)
        self.tasks.append(task)
        return task

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)
        if not ready and not self._stopping:
            if not scheduled:
                raise NothingLeft
            self.now = max(self.now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self.now:
            timer = heapq.heappop(scheduled)
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled and self._may_run(handle):
                handle._run()

    def _may_run(self, handle: asyncio.Handle) -> bool:
        self.steps += 1
        context: Context = handle._context  # type: ignore[attr-defined] # no type has it
        process = context.get(PROCESS)
        if process is None or self._ending:
            return True
        if process.steps_left is not None:
            process.steps_left -= 1
            if process.steps_left <= 0:
                process.steps_left = None
                process.at_last_step()
        if process.dead:
            self._left.append(handle)
            return False
        if process.frozen is not None:
            process.frozen.append(handle)
            return False
        return True

    def _write_to_self(self) -> None: ...

    def _process_events(self, event_list: Any) -> None: ...


def _settle(reply: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if reply.done():
        return
    if error is not None:
        reply.set_exception(error)
    else:
        reply.set_result(result)
