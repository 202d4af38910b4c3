"""Runs work that takes processor time, and does no I/O, in a thread beside the event loop.

A large body takes up to a second to parse, judge and translate. On the event loop every other
caller would wait for that second. In a thread the interpreter switches every few milliseconds, and
the loop goes on serving. Small bodies stay on the loop: a thread costs more than parsing them.

A process would not share the interpreter's lock, but body and result would be copied to it and
back. Slicing the work on the loop would make every pure reader and writer a generator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from modelplex.core.fair_queue import FairQueue
from modelplex.dialects.core.bounds import may_have_more_values

Result = TypeVar("Result")

VERY_LARGE = 2_097_152
"""Bytes from which a body has its turn after the smaller ones: it takes tenths of a second."""
SMALL = 16_384
"""Bytes that are always read on the loop: about a millisecond, whatever they hold."""
LARGE = 262_144
"""Bytes from which a body is always read in a thread: half a millisecond of copying for each pass
over it.
"""
LARGE_FOR_C = 1_572_864
"""Bytes from which a body is decoded in a thread: about half a millisecond."""
MANY_VALUES = 4_000
"""JSON values from which a body between the two is read in a thread: about 10 ms of walking."""


def is_large(body: bytes) -> bool:
    """Whether decoding the top level of this, or another pass in C, takes longer than others should
    wait. In a thread it would hold the interpreter all the same, but for the other slices.
    """
    return len(body) > LARGE_FOR_C


_last_body: tuple[bytes, bool] = (b"", False)
"""The last body of a middle size, and whether it is heavy: each step of a request asks for it."""


def is_heavy(body: bytes) -> bool:
    """Whether judging or translating this takes longer than others should wait."""
    global _last_body  # noqa: PLW0603 - a cache of one entry
    size = len(body)
    if size > LARGE or size <= SMALL:
        return size > LARGE
    last, heavy = _last_body
    if last is not body:
        heavy = may_have_more_values(body, MANY_VALUES)
        _last_body = (body, heavy)
    return heavy


Outcome = tuple[Any, BaseException | None]
"""What work returned, or what it raised."""


class _Job:
    """One piece of work. Its work and outcome are cleared as soon as they are used: the thread may
    hold the job for some time after its end.
    """

    __slots__ = ("done", "outcome", "work")

    def __init__(self, work: Callable[[], Any], done: asyncio.Future[Outcome]) -> None:
        self.work: Callable[[], Any] | None = work
        self.outcome: Outcome = (None, None)
        self.done: asyncio.Future[Outcome] | None = done

    @property
    def is_wanted(self) -> bool:
        return self.done is not None and not self.done.cancelled()

    def run(self) -> None:
        work, self.work = self.work, None
        assert work is not None
        try:
            self.outcome = (work(), None)
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            self.outcome = (None, error)
        finally:
            work = None  # an error holds this frame

    def resolve(self) -> None:
        done, self.done = self.done, None
        outcome, self.outcome = self.outcome, (None, None)
        if done is not None and not done.cancelled():
            done.set_result(outcome)


class Offload:
    """One thread for the work of all callers, who take turns.

    All threads share one interpreter, so that more of them do no more work, and each contends with
    the event loop for it: with two threads the 99th percentile of small requests in `make soak` was
    9.6 to 11.5 ms, and with one 7.4 to 7.7 ms. So that the session of some hundred kilobytes waits
    for one body of many megabytes at most, very large bodies have every second turn at most.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="offload")
        self._large: FairQueue[_Job] = FairQueue()
        self._very_large: FairQueue[_Job] = FairQueue()
        self._last: tuple[FairQueue[_Job], str] = (self._very_large, "")
        """The queue and the owner whose work was started last."""
        self.is_working = False

    def __repr__(self) -> str:
        waiting = len(self._large) + len(self._very_large)
        return f"<Offload {'working' if self.is_working else 'idle'}, {waiting} waiting>"

    async def run(self, work: Callable[[], Result], *, body: bytes, owner: str) -> Result:
        """Return what `work` returns, or raise what it raises: here where `body` is small, else in
        a thread, in turn with the work of other owners. Cancellation does not stop work that runs;
        the next work waits for its end.
        """
        if not is_heavy(body):
            return work()
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        job = _Job(work, done)
        queue = self._very_large if len(body) >= VERY_LARGE else self._large
        queue.add(owner, job)
        del work
        if not self.is_working:
            self._start()
        try:
            result, error = await done
        except asyncio.CancelledError:
            queue.discard(owner, job)  # it holds a body, and its turn may be seconds away
            raise
        if error is None:
            return result  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            del error, done  # an error holds this frame, which must not hold the error

    def _start(self) -> None:
        """Start the next work, if there is any: not of the last queue and owner, if others wait."""
        last, last_owner = self._last
        other = self._large if last is self._very_large else self._very_large
        for queue in (other, last):
            while queue:
                owner = next((each for each in queue if each != last_owner), last_owner)
                job = queue.pop(owner)
                if job.is_wanted:
                    self._last = (queue, owner)
                    self.is_working = True
                    self._pool.submit(self._run, asyncio.get_running_loop(), job)
                    return

    def _run(self, loop: asyncio.AbstractEventLoop, job: _Job) -> None:
        """Runs in the thread."""
        job.run()
        loop.call_soon_threadsafe(self._finish, job)

    def _finish(self, job: _Job) -> None:
        self.is_working = False
        job.resolve()
        self._start()
