"""Where a process stands."""

import asyncio

from stream.process.loops import LoopPolicy
from stream.process.stacks import stacks


async def wait_for_good() -> None:
    await asyncio.Event().wait()


async def outer() -> None:
    await wait_for_good()


def test_threads_are_told_and_what_tasks_await() -> None:
    async def ask() -> str:
        waiting = asyncio.create_task(outer(), name="that waits")
        await asyncio.sleep(0)
        told = await asyncio.to_thread(stacks)
        waiting.cancel()
        return told

    with asyncio.Runner(loop_factory=LoopPolicy().new_event_loop) as runner:
        told = runner.run(ask())

    assert "thread MainThread\n" in told
    _, _, after = told.partition("task that waits\n")
    assert (
        after.index("in outer\n") < after.index("in wait_for_good\n") < after.index("in Event.wait")
    )
