"""The places of a server: who waits, in which order they are served, and what is left behind."""

import asyncio

import pytest

from modelplex.mcp import call_slots as module
from modelplex.mcp.call_slots import CallSlots, SlotsFull

PATIENCE = 10.0


class Line:
    """Calls that take a place, in the order in which they got it; each gives it back when it is
    told to.
    """

    def __init__(self, places: CallSlots) -> None:
        self.places = places
        self.served: list[str] = []
        self.over: list[tuple[str, asyncio.Event]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def call(self, owner: str, *, patience: float = PATIENCE) -> asyncio.Task[None]:
        task = asyncio.create_task(self._call(owner, patience))
        self.tasks.append(task)
        return task

    async def _call(self, owner: str, patience: float) -> None:
        await self.places.take(owner, patience=patience)
        over = asyncio.Event()
        self.served.append(owner)
        self.over.append((owner, over))
        try:
            await over.wait()
        finally:
            self.places.give_back(owner)

    async def end(self, count: int = 1) -> None:
        """Let the oldest calls end."""
        for _ in range(count):
            self.over.pop(0)[1].set()
            await turns()

    async def end_all(self) -> None:
        while self.over:
            await self.end()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_are_served_round_robin() -> None:
    line = Line(CallSlots(1))
    for owner in ("a", "a", "a", "a", "b", "b", "c"):
        line.call(owner)
        await turns()
    for _ in range(6):
        await line.end()
    assert line.served == ["a", "a", "b", "c", "a", "b", "a"]
    await line.end_all()
    assert line.places.idle


async def test_one_caller_leaves_places_for_others_that_get_them_at_once() -> None:
    line = Line(CallSlots(16))
    for owner in "a" * 20 + "b" * 20 + "c":
        line.call(owner)
    await turns()
    assert (line.served.count("a"), line.served.count("b"), line.served.count("c")) == (12, 3, 1)
    await line.end_all()
    assert len(line.served) == 41
    assert line.places.idle


async def test_a_call_cancelled_while_it_waits_frees_its_place() -> None:
    line = Line(CallSlots(1))
    line.call("a")
    waiting, next_one = line.call("a"), line.call("b")
    await turns()
    waiting.cancel()
    await turns()
    await line.end()
    assert line.served == ["a", "b"]
    await line.end_all()
    assert next_one.done()
    assert line.places.idle


@pytest.mark.parametrize("cancelled_first", [False, True])
async def test_a_call_that_is_cancelled_in_the_moment_of_its_turn_passes_the_place_on(
    cancelled_first: bool,
) -> None:
    places = CallSlots(1)
    await places.take("a", patience=PATIENCE)
    waiting = asyncio.create_task(places.take("b", patience=PATIENCE))
    next_one = asyncio.create_task(places.take("c", patience=PATIENCE))
    await turns()
    if cancelled_first:
        waiting.cancel()
    places.give_back("a")
    if not cancelled_first:
        waiting.cancel()
    await turns()
    assert waiting.cancelled()
    assert next_one.done()
    places.give_back("c")
    assert places.idle


async def test_a_wait_ends_after_its_patience() -> None:
    line = Line(CallSlots(1))
    line.call("a")
    await turns()
    with pytest.raises(
        SlotsFull, match=r"answers 1 calls, 0 of them of this caller; none came free within 0\.01 seconds"
    ):
        await line.call("b", patience=0.01)
    await line.end_all()
    assert line.places.idle


async def test_so_many_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_OF_ONE", 3)
    monkeypatch.setattr(module, "WAITING", 4)
    line = Line(CallSlots(1))
    for owner in ("a", "a", "a", "a", "b"):
        line.call(owner)
    await turns()
    with pytest.raises(SlotsFull, match="3 of this caller wait already"):
        await line.call("a")
    with pytest.raises(SlotsFull, match="0 of this caller wait already"):
        await line.call("c")
    await line.end_all()
    assert line.places.idle


async def test_a_caller_with_long_arguments_leaves_the_server_to_others_between_two_calls() -> None:
    places = CallSlots(16)
    await places.take("a", patience=PATIENCE, size=module.BYTES_OF_ONE + 1)
    second = asyncio.create_task(places.take("a", patience=PATIENCE, size=1))
    other = asyncio.create_task(places.take("b", patience=PATIENCE, size=1))
    await turns()
    assert not second.done()
    assert other.done()
    places.give_back("a", size=module.BYTES_OF_ONE + 1)
    await turns()
    assert second.done()
    places.give_back("a", size=1)
    places.give_back("b", size=1)
    assert places.idle
