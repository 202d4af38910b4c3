from __future__ import annotations

import asyncio
import threading
import weakref
from functools import partial

import pytest

from modelplex.core.errors import BadRequest
from modelplex.pipeline.offload import LARGE, MANY_VALUES, SMALL, VERY_LARGE, Offload, is_heavy

HEAVY = b"x" * (LARGE + 1)
SECONDS = 10.0


class Gate:
    """Work that runs until it is let go, and tells that it began."""

    def __init__(self) -> None:
        self.began, self.let_go = threading.Event(), threading.Event()

    def __call__(self) -> int:
        self.began.set()
        assert self.let_go.wait(SECONDS)
        return threading.get_ident()


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, SECONDS)


def test_what_is_heavy_is_told_by_size_and_by_what_it_holds() -> None:
    assert not is_heavy(b"{}," * (SMALL // 3))
    assert not is_heavy(b"x" * LARGE)
    assert is_heavy(b"{}," * MANY_VALUES * 2)
    assert is_heavy(HEAVY)


async def test_small_work_stays_on_the_loop_and_large_work_leaves_it_free() -> None:
    offload = Offload()
    assert await offload.run(threading.get_ident, body=b"{}", owner="ann") == threading.get_ident()
    gate = Gate()
    running = asyncio.create_task(offload.run(gate, body=HEAVY, owner="ann"))
    await until(gate.began)  # the loop goes on while the work does
    gate.let_go.set()
    assert await asyncio.wait_for(running, SECONDS) != threading.get_ident()


async def test_owners_take_turns_in_one_thread() -> None:
    offload = Offload()
    first, second, other = Gate(), Gate(), Gate()
    tasks = [
        asyncio.create_task(offload.run(work, body=HEAVY, owner=owner))
        for owner, work in (("ann", first), ("ann", second), ("bob", other))
    ]
    await until(first.began)
    assert not other.began.is_set()
    first.let_go.set()
    await until(other.began)
    assert not second.began.is_set()
    other.let_go.set()
    await until(second.began)
    second.let_go.set()
    await asyncio.wait_for(asyncio.gather(*tasks), SECONDS)


async def test_a_large_body_waits_for_one_very_large_one_at_most() -> None:
    offload = Offload()
    order: list[str] = []

    def note(name: str) -> int:
        order.append(name)
        return 0

    gate = Gate()
    tasks = [asyncio.create_task(offload.run(gate, body=b"x" * VERY_LARGE, owner="ann"))]
    await until(gate.began)
    for name, body in (("very large", b"x" * VERY_LARGE), ("large", HEAVY)):
        for owner in ("bob", "eve"):
            work = partial(note, f"{name} {owner}")
            tasks.append(asyncio.create_task(offload.run(work, body=body, owner=owner)))
    async with asyncio.timeout(SECONDS):
        while "4 waiting" not in repr(offload):
            await asyncio.sleep(0)
    gate.let_go.set()
    await asyncio.wait_for(asyncio.gather(*tasks), SECONDS)
    assert order == ["large bob", "very large eve", "large eve", "very large bob"]
    assert repr(offload) == "<Offload idle, 0 waiting>"


async def test_who_is_gone_while_it_waits_is_not_worked_for_and_who_is_gone_later_keeps_its_place() -> None:
    offload = Offload()
    running, waiting, last = Gate(), Gate(), Gate()
    tasks = [
        asyncio.create_task(offload.run(work, body=HEAVY, owner="ann")) for work in (running, waiting, last)
    ]
    await until(running.began)
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.gather(*tasks[:2], return_exceptions=True)
    assert not last.began.is_set()
    running.let_go.set()
    await until(last.began)
    assert not waiting.began.is_set()
    last.let_go.set()
    await asyncio.wait_for(tasks[2], SECONDS)
    assert repr(offload) == "<Offload idle, 0 waiting>"


async def test_an_error_arrives_as_it_was_raised() -> None:
    def refuse() -> None:
        raise BadRequest("no", param="messages")

    with pytest.raises(BadRequest, match="no") as told:
        await Offload().run(refuse, body=HEAVY, owner="ann")
    assert told.value.param == "messages"


async def test_work_that_nobody_waits_for_is_let_go_before_its_turn() -> None:
    offload = Offload()
    running, waiting = Gate(), Gate()
    tasks = [asyncio.create_task(offload.run(running, body=HEAVY, owner="ann"))]
    await until(running.began)
    tasks.append(asyncio.create_task(offload.run(waiting, body=HEAVY, owner="ann")))
    async with asyncio.timeout(SECONDS):
        while "1 waiting" not in repr(offload):
            await asyncio.sleep(0)
    held = weakref.ref(waiting)
    del waiting
    tasks.pop().cancel()
    async with asyncio.timeout(SECONDS):
        while held() is not None:
            await asyncio.sleep(0)
    assert repr(offload) == "<Offload working, 0 waiting>"
    running.let_go.set()
    await asyncio.wait_for(tasks[0], SECONDS)
