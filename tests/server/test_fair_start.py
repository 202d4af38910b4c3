"""Requests that arrive at once are begun one caller after the other."""

from __future__ import annotations

import asyncio

from modelplex.server.fair_start import BYTES_AT_ONCE, OVERHEAD, FairStart

LARGE = BYTES_AT_ONCE + 1


class Line:
    """Requests that take a turn, and the order in which they begin."""

    def __init__(self) -> None:
        self.turns = FairStart()
        self.turns._last_owner = "another, a moment ago"
        self.begun: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, owner: str, size: int) -> asyncio.Task[None]:
        async def request() -> None:
            await self.turns.take(owner, size)
            self.begun.append(owner)

        self.tasks.append(asyncio.create_task(request()))
        return self.tasks[-1]

    async def all(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_large_request_of_another_caller_is_begun_before_the_second_of_one() -> None:
    line = Line()
    for owner in ("a", "a", "a", "b"):
        line.ask(owner, LARGE)
    await line.all()
    assert line.begun == ["a", "b", "a", "a"]


async def test_small_requests_are_begun_at_once_up_to_a_bound() -> None:
    line = Line()
    at_once = BYTES_AT_ONCE // OVERHEAD + 1
    for _ in range(at_once + 1):
        line.ask("a", 0)
    line.ask("b", 0)
    await line.all()
    assert line.begun == ["a"] * at_once + ["b", "a"]


async def test_each_pass_of_the_loop_begins_one_large_request_of_each_caller() -> None:
    line = Line()
    for owner in "aaabbb":
        line.ask(owner, LARGE)
    await line.all()
    assert line.begun == list("ababab")


async def test_a_request_that_is_given_up_takes_no_turn() -> None:
    line = Line()
    line.ask("a", LARGE)
    given_up = line.ask("a", LARGE)
    line.ask("a", LARGE)
    await asyncio.sleep(0)
    given_up.cancel()
    await line.all()
    assert line.begun == ["a", "a"]
    assert repr(line.turns) == "<FairStart 0 waiting>"


async def test_who_comes_later_begins_at_once() -> None:
    line = Line()
    for _ in range(3):
        line.ask("a", LARGE)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(line.begun) == len(line.tasks)


async def test_a_caller_that_is_alone_waits_for_nobody() -> None:
    line = Line()
    line.turns = FairStart()
    for _ in range(3):
        line.ask("a", LARGE)
    await asyncio.sleep(0)
    assert line.begun == ["a", "a", "a"]
