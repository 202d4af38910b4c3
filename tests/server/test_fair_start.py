"""Callers take turns starting requests that arrive at once."""

from __future__ import annotations

import asyncio

from modelplex.server.fair_start import BYTES_AT_ONCE, OVERHEAD, FairStart

LARGE = BYTES_AT_ONCE + 1


class Requests:
    """Requests that take turns, and the order in which they start."""

    def __init__(self) -> None:
        self.turns = FairStart()
        self.turns._last_owner = "another, a moment ago"
        self.started: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, owner: str, size: int) -> asyncio.Task[None]:
        async def request() -> None:
            if not self.turns.may_start(owner, size):
                await self.turns.wait(owner, size)
            self.started.append(owner)

        self.tasks.append(asyncio.create_task(request()))
        return self.tasks[-1]

    async def finish(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_large_request_of_another_caller_starts_before_the_second_of_one() -> None:
    requests = Requests()
    for owner in ("a", "a", "a", "b"):
        requests.add(owner, LARGE)
    await requests.finish()
    assert requests.started == ["a", "b", "a", "a"]


async def test_small_requests_start_at_once_up_to_a_limit() -> None:
    requests = Requests()
    at_once = BYTES_AT_ONCE // OVERHEAD + 1
    for _ in range(at_once + 1):
        requests.add("a", 0)
    requests.add("b", 0)
    await requests.finish()
    assert requests.started == ["a"] * at_once + ["b", "a"]


async def test_each_iteration_of_the_loop_starts_one_large_request_of_each_caller() -> None:
    requests = Requests()
    for owner in "aaabbb":
        requests.add(owner, LARGE)
    await requests.finish()
    assert requests.started == list("ababab")


async def test_a_cancelled_request_takes_no_turn() -> None:
    requests = Requests()
    requests.add("a", LARGE)
    cancelled = requests.add("a", LARGE)
    requests.add("a", LARGE)
    await asyncio.sleep(0)
    cancelled.cancel()
    await requests.finish()
    assert requests.started == ["a", "a"]
    assert repr(requests.turns) == "<FairStart 0 waiting>"


async def test_a_request_in_a_later_iteration_starts_at_once() -> None:
    requests = Requests()
    for _ in range(3):
        requests.add("a", LARGE)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(requests.started) == len(requests.tasks)


async def test_a_caller_that_is_alone_does_not_wait() -> None:
    requests = Requests()
    requests.turns = FairStart()
    for _ in range(3):
        requests.add("a", LARGE)
    await asyncio.sleep(0)
    assert requests.started == ["a", "a", "a"]
