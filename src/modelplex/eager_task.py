"""Runs a coroutine without a task of asyncio, as long as it waits for our own connections only.

A task of asyncio runs in a later iteration of the loop than the callback that caused it, once at
its start and once after each wait. An EagerTask runs within the callback: `start` runs the
coroutine until it first waits, and the `wake` of its Waiter runs it on. Where the coroutine awaits
a future of asyncio, it becomes a task of asyncio for the rest of its life.

Python 3.12 has `asyncio.eager_task_factory`, which covers the start, but no wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, Protocol

_running: EagerTask | None = None
"""The task whose coroutine runs at this moment, below the current callback."""


class Wakeable(Protocol):
    """What goes on when it is woken, within a callback of the loop."""

    def wake(self) -> None: ...


class Waiter(Wakeable, Protocol):
    """One wait of one coroutine. `wake` ends it; it may be called within any callback of the loop,
    but not by the coroutine itself.
    """

    def __await__(self) -> Generator[Any, None, None]: ...


class _FutureWaiter(asyncio.Future[None]):
    def wake(self) -> None:
        if not self.done():
            self.set_result(None)


def new_waiter(loop: asyncio.AbstractEventLoop) -> Waiter:
    """What the current coroutine awaits, once and at once; the one that wakes it keeps it until
    then.
    """
    return _running or _FutureWaiter(loop=loop)


async def in_asyncio_task() -> None:
    """Return within a task of asyncio, which `asyncio.timeout` and `asyncio.current_task` need."""
    if _running is not None:
        await asyncio.sleep(0)


class EagerTask:
    """One coroutine, which raises nothing but CancelledError. `on_end` is called at its end."""

    __slots__ = ("_cancelled", "_coroutine", "_loop", "_on_end", "_task", "_waits")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        *,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[], None],
    ) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._loop = loop
        self._on_end = on_end
        self._task: _AsyncioTask | None = None
        self._waits = False
        self._cancelled = False

    def __repr__(self) -> str:
        state = "ended" if self._coroutine is None else "waiting" if self._waits else "running"
        return f"<EagerTask {state}{'' if self._task is None else ', a task of asyncio'}>"

    def start(self) -> None:
        """Run until the first wait."""
        self._run()

    def __await__(self) -> Generator[Any, None, None]:
        self._waits = True
        yield self

    def wake(self) -> None:
        if self._waits:
            self._waits = False
            self._run()

    def cancel(self) -> None:
        """Raise CancelledError where the coroutine waits, in a later iteration of the loop."""
        if self._coroutine is not None and not self._cancelled:
            self._cancelled = True
            self._loop.call_soon(self._cancel)

    def _cancel(self) -> None:
        if self._coroutine is None:
            return
        if self._task is not None and not self._task.begun:
            # Cancelled now, it would end without the coroutine.
            self._loop.call_soon(self._cancel)
            return
        self._cancelled = False
        if self._task is not None:
            self._task.task.cancel()
        else:
            self._waits = False
            self._run(asyncio.CancelledError())

    def _run(self, error: BaseException | None = None) -> None:
        global _running  # noqa: PLW0603 - as asyncio keeps its current task
        coroutine = self._coroutine
        assert coroutine is not None
        outer, _running = _running, self
        try:
            awaited = coroutine.send(None) if error is None else coroutine.throw(error)
        except (StopIteration, asyncio.CancelledError):
            self._end()
        except BaseException:
            self._end()
            raise
        else:
            if awaited is not self:
                self._task = _AsyncioTask(coroutine, awaited, loop=self._loop)
                self._task.task.add_done_callback(self._end)
        finally:
            _running = outer

    def _end(self, task: object = None) -> None:
        del task
        self._coroutine = self._task = None
        self._on_end()


class _AsyncioTask:
    """The rest of a coroutine that awaits this already, as a task of asyncio."""

    __slots__ = ("_awaited", "_coroutine", "begun", "task")

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], awaited: Any, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._coroutine = coroutine
        self._awaited = awaited
        self.begun = False
        self.task = loop.create_task(self._go_on())

    async def _go_on(self) -> None:
        self.begun = True
        with suppress(asyncio.CancelledError):
            await self

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, awaited = self._coroutine, self._awaited
        del self._coroutine, self._awaited
        if awaited is None:  # asyncio.sleep(0): this is the later iteration that it waits for
            try:
                awaited = coroutine.send(None)
            except StopIteration:
                return
        while True:
            try:
                try:
                    value = yield awaited
                except BaseException as error:  # noqa: BLE001 - passed on to the coroutine
                    awaited = coroutine.throw(error)
                else:
                    awaited = coroutine.send(value)
            except StopIteration:
                return
