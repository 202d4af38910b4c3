"""Background tasks."""

import asyncio

from modelplex.mcp.servers.background import BackgroundTasks


async def test_a_task_is_kept_until_it_is_done() -> None:
    tasks, proceed = BackgroundTasks(), asyncio.Event()

    async def work() -> None:
        await proceed.wait()

    tasks.start(work())
    assert len(tasks) == 1
    proceed.set()
    await asyncio.wait_for(tasks.wait(), 5)
    assert len(tasks) == 0
    await tasks.wait()  # without tasks, at once


async def test_wait_raises_no_error_of_a_task() -> None:
    tasks = BackgroundTasks()

    async def fail() -> None:
        raise ValueError

    task = tasks.start(fail())
    await asyncio.wait_for(tasks.wait(), 5)
    assert isinstance(task.exception(), ValueError)


async def test_cancel_waits_for_the_end_of_each_task() -> None:
    tasks, ended, running = BackgroundTasks(), list[int](), asyncio.Event()

    async def work(number: int) -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    for number in range(3):
        tasks.start(work(number))
    await asyncio.wait_for(running.wait(), 5)
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.cancel(), 5)
    assert (sorted(ended), len(tasks)) == ([0, 1, 2], 0)
