"""Coroutines that run within callbacks, and as tasks of asyncio once they have to."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from modelplex.eager_task import EagerTask, Waiter, in_asyncio_task, new_waiter


class Started:
    """A started task, and what it has done."""

    def __init__(self, coroutine: Callable[[Started], Coroutine[Any, Any, None]]) -> None:
        self.loop = asyncio.get_running_loop()
        self.steps: list[str] = []
        self.waiter: Waiter | None = None
        self.ended = asyncio.Event()
        self.task = EagerTask(coroutine(self), loop=self.loop, on_end=self.ended.set)
        self.task.start()

    async def wait(self) -> None:
        self.waiter = new_waiter(self.loop)
        await self.waiter

    def wake(self) -> None:
        assert self.waiter is not None
        self.waiter.wake()

    async def end(self) -> None:
        async with asyncio.timeout(10):
            await self.ended.wait()


async def test_it_runs_within_start_and_wake() -> None:
    async def work(run: Started) -> None:
        run.steps.append("started")
        await run.wait()
        run.steps.append("woken")

    run = Started(work)
    assert (run.steps, run.ended.is_set()) == (["started"], False)
    run.wake()
    assert (run.steps, run.ended.is_set()) == (["started", "woken"], True)
    run.wake()
    run.task.cancel()
    await asyncio.sleep(0)
    assert run.steps == ["started", "woken"]


async def test_a_future_of_asyncio_makes_it_a_task_whose_waits_are_futures() -> None:
    going = asyncio.Event()

    async def work(run: Started) -> None:
        await run.wait()
        await going.wait()
        run.steps.append(type(asyncio.current_task()).__name__)
        await run.wait()
        run.steps.append("woken")

    run = Started(work)
    run.wake()
    going.set()
    while len(run.steps) < 1:
        await asyncio.sleep(0)
    run.wake()
    await run.end()
    assert run.steps == ["Task", "woken"]


async def test_in_asyncio_task_allows_timeouts() -> None:
    async def work(run: Started) -> None:
        await in_asyncio_task()
        async with asyncio.timeout(10):
            await in_asyncio_task()
            run.steps.append("timed")

    run = Started(work)
    await run.end()
    assert run.steps == ["timed"]


async def test_an_error_of_a_future_reaches_the_coroutine() -> None:
    async def work(run: Started) -> None:
        future: asyncio.Future[None] = run.loop.create_future()
        run.loop.call_soon(future.set_exception, LookupError())
        with pytest.raises(LookupError):
            await future
        run.steps.append("caught")

    run = Started(work)
    await run.end()
    assert run.steps == ["caught"]


async def _in_callbacks(run: Started) -> None:
    await run.wait()


async def _in_a_task(run: Started) -> None:
    await asyncio.Event().wait()


async def _twice(run: Started) -> None:
    try:
        await run.wait()
    except asyncio.CancelledError:
        run.steps.append("first")
    await asyncio.Event().wait()


@pytest.mark.parametrize("work", [_in_callbacks, _in_a_task, _twice])
@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_cancelling_raises_where_it_waits(
    work: Callable[[Started], Coroutine[Any, Any, None]], steps: int
) -> None:
    async def watched(run: Started) -> None:
        try:
            await work(run)
        except asyncio.CancelledError:
            run.steps.append("cancelled")
            raise

    run = Started(watched)
    for _ in range(steps):
        await asyncio.sleep(0)
    run.task.cancel()
    if work is _twice:
        while not run.steps:
            await asyncio.sleep(0)
        run.task.cancel()
    await run.end()
    assert run.steps == (["first", "cancelled"] if work is _twice else ["cancelled"])


async def test_cancelling_while_it_becomes_a_task_waits_for_the_task() -> None:
    async def work(run: Started) -> None:
        await run.wait()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            run.steps.append("cancelled")
            raise

    run = Started(work)
    run.task.cancel()  # runs in the next iteration, before the first step of the task
    run.wake()
    await run.end()
    assert run.steps == ["cancelled"]


async def test_an_ended_task_is_freed_without_the_collector() -> None:
    class Held:
        pass

    def started() -> tuple[Started, weakref.ref[Held]]:
        held = Held()

        async def work(run: Started, held: Held = held) -> None:
            await run.wait()

        return Started(work), weakref.ref(held)

    gc.disable()
    try:
        run, held = started()
        run.wake()
        del run
        assert held() is None
    finally:
        gc.enable()


async def test_one_that_starts_another_goes_on_as_itself() -> None:
    async def inner(run: Started) -> None:
        await run.wait()

    async def outer(run: Started) -> None:
        other = Started(inner)
        await run.wait()
        other.wake()
        run.steps.append("woken")

    run = Started(outer)
    run.wake()
    assert run.steps == ["woken"]
