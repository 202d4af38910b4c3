"""A value that expires: one fetch for all, ahead of need, and what a failure leaves."""

from __future__ import annotations

import asyncio

import pytest

from modelplex.credentials.source import AHEAD_S, RETRY_S, CredentialError, Expiring, Refreshed
from tests.credentials.clouds import Clock


class Source:
    """Brings `key 1`, `key 2` and so on, each for an hour, when the gate is open."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.fetched = 0
        self.failing = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self) -> Expiring[str]:
        self.fetched += 1
        number = self.fetched
        await self.gate.wait()
        if self.failing:
            raise CredentialError("the service is down")
        return Expiring(f"key {number}", self.clock() + 3600)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_wait_get_what_one_fetch_brings() -> None:
    source = Source(clock := Clock())
    held = Refreshed(source.fetch, clock=clock)
    source.gate.clear()
    waiting = [asyncio.create_task(held.get()) for _ in range(20)]
    await settled()
    source.gate.set()
    assert await asyncio.gather(*waiting) == ["key 1"] * 20
    assert source.fetched == 1


async def test_one_who_leaves_ends_no_fetch() -> None:
    source = Source(clock := Clock())
    held = Refreshed(source.fetch, clock=clock)
    source.gate.clear()
    leaving, staying = asyncio.create_task(held.get()), asyncio.create_task(held.get())
    await settled()
    leaving.cancel()
    await settled()
    source.gate.set()
    assert await staying == "key 1"
    assert source.fetched == 1


async def test_a_value_is_fetched_anew_before_its_end_and_nobody_waits() -> None:
    source = Source(clock := Clock())
    held = Refreshed(source.fetch, clock=clock)
    await held.get()
    clock.now += 3600 - AHEAD_S - 1
    assert await held.get() == "key 1"
    await settled()
    assert source.fetched == 1
    clock.now += 2
    source.gate.clear()
    assert [await held.get() for _ in range(3)] == ["key 1"] * 3
    await settled()
    assert source.fetched == 2
    source.gate.set()
    await settled()
    assert await held.get() == "key 2"


async def test_a_value_that_has_ended_is_waited_for() -> None:
    source = Source(clock := Clock())
    held = Refreshed(source.fetch, clock=clock)
    await held.get()
    clock.now += 3601
    assert held.now() is None
    assert await held.get() == "key 2"


async def test_a_failed_renewal_leaves_the_value_until_its_end() -> None:
    source = Source(clock := Clock())
    held = Refreshed(source.fetch, clock=clock)
    await held.get()
    clock.now += 3600 - 10
    source.failing = True
    assert await held.get() == "key 1"
    await settled()
    assert await held.get() == "key 1"
    await settled()
    assert source.fetched == 2, "not again within RETRY_S"
    clock.now += RETRY_S
    assert await held.get() == "key 1"
    await settled()
    assert source.fetched == 3
    clock.now += 20
    with pytest.raises(CredentialError, match="the service is down"):
        await held.get()
    source.failing = False
    with pytest.raises(CredentialError, match="the service is down"):
        await held.get()
    clock.now += RETRY_S
    assert await held.get() == "key 5"


async def test_a_refused_value_is_renewed_once_for_all() -> None:
    source = Source(clock := Clock())
    held = Refreshed(source.fetch, clock=clock)
    await held.get()
    assert await asyncio.gather(*(held.renewed("key 1") for _ in range(5))) == ["key 2"] * 5
    assert await held.renewed("key 1") == "key 2", "one that was refused late"
    assert source.fetched == 2


async def test_a_source_with_the_same_value_has_no_other() -> None:
    async def fetch() -> Expiring[str]:
        return Expiring("the only key")

    held = Refreshed(fetch)
    assert await held.get() == "the only key"
    assert await held.renewed("the only key") is None
    assert await held.get() == "the only key"


async def test_a_repr_has_no_value() -> None:
    source = Source(clock := Clock())
    held = Refreshed(source.fetch, clock=clock)
    await held.get()
    assert "key 1" not in repr(held)
    assert held.values == ("key 1",)
