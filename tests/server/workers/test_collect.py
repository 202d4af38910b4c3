"""Views of all workers, collected by one of them."""

from __future__ import annotations

import asyncio

import pytest

from modelplex.server.workers import collect
from modelplex.server.workers.collect import Collector
from modelplex.server.workers.messages import Answer, Ask, Message


class Wire:
    """What was sent, and a worker's own view."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.local: list[tuple[str, str]] = []

    async def view(self, name: str, owner: str) -> bytes:
        self.local.append((name, owner))
        return b"own"


def collector(wire: Wire, *, count: int = 3) -> Collector:
    return Collector(2, count, send=wire.sent.append, local=wire.view)


async def asked(wire: Wire) -> Ask:
    async with asyncio.timeout(5):
        while not wire.sent:
            await asyncio.sleep(0)
    (message,) = wire.sent
    assert isinstance(message, Ask)
    return message


async def test_the_answers_of_all_others_and_the_own_view() -> None:
    wire = Wire()
    made = collector(wire)
    running = asyncio.create_task(made.collect("health", "agent:a"))
    ask = await asked(wire)
    assert (ask.asker, ask.view, ask.owner) == (2, "health", "agent:a")
    made.receive(Answer(ask.id, 2, 3, b"third"))
    made.receive(Answer(ask.id, 2, 3, b"twice"))
    made.receive(Answer(ask.id + 1, 2, 1, b"of another collection"))
    made.receive(Answer(ask.id, 2, 1, None))
    assert await running == {1: None, 2: b"own", 3: b"third"}


async def test_a_worker_that_does_not_answer_in_time_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "COLLECT_SECONDS", 0.05)
    wire = Wire()
    assert await collector(wire).collect("status") == {1: None, 2: b"own", 3: None}


async def test_requests_for_one_view_share_a_collection() -> None:
    wire = Wire()
    made = collector(wire, count=2)
    running = [asyncio.create_task(made.collect("status")) for _ in range(5)]
    ask = await asked(wire)
    running.pop().cancel()
    made.receive(Answer(ask.id, 2, 1, b"first"))
    assert await asyncio.gather(*running) == [{1: b"first", 2: b"own"}] * 4
    assert len(wire.sent) == len(wire.local) == 1


async def test_another_worker_gets_the_view() -> None:
    wire = Wire()
    collector(wire).receive(Ask(7, 1, "health", "agent:b"))
    async with asyncio.timeout(5):
        while not wire.sent:
            await asyncio.sleep(0)
    assert wire.sent == [Answer(7, 1, 2, b"own")]
    assert wire.local == [("health", "agent:b")]
