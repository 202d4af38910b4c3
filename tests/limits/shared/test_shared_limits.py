"""The gateway's side, with a real engine that the test takes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from modelplex.limits.shared.messages import SharedAccount, SharedTotals
from modelplex.limits.shared.shared_limits import MOST, OnLoss, SharedLease, SharedLimits, SharedRefusal
from tests.limits.shared.redis_server import RedisServer
from tests.limits.shared.scripted import NOON, FailingEngine, SetClock, account
from tests.processes import until

X = account("x", concurrent=20, tokens=10_000)


class Side:
    """One gateway. `now` is its own clock, of which it only uses differences."""

    def __init__(self, clock: SetClock, name: str, *, on_loss: OnLoss = "refuse") -> None:
        self.engine = FailingEngine(clock.engine())
        self.now = 0.0
        self.told: dict[str, SharedTotals] = {}
        self.changes: list[str | None] = []
        self.limits = SharedLimits(
            self.engine,
            node=name,
            lease=15.0,
            on_loss=on_loss,
            clock=lambda: self.now,
            on_totals=self.told.__setitem__,
            on_change=self.changes.append,
        )

    async def reserve(self, id: str, limited: SharedAccount = X) -> SharedLease:
        lease = await self.limits.reserve(id, (limited,))
        assert isinstance(lease, SharedLease), lease
        return lease

    async def refused(self, id: str, limited: SharedAccount = X) -> SharedRefusal:
        refusal = await self.limits.reserve(id, (limited,))
        assert isinstance(refusal, SharedRefusal), refusal
        return refusal

    async def told_all(self) -> None:
        await until(lambda: self.limits.status()["not_told"] == 0, what="what was used")

    async def away(self) -> None:
        self.engine.failing = "before"
        self.limits._renewal_due()
        await until(lambda: not self.limits.is_connected, what="the loss")

    async def back(self) -> None:
        self.engine.failing = ""
        await until(lambda: self.limits.is_connected, what="the engine")


@pytest.fixture
def clock(redis: RedisServer) -> SetClock:
    return SetClock(redis)


@pytest.fixture
async def a(clock: SetClock) -> AsyncIterator[Side]:
    side = Side(clock, "a")
    await side.limits.open()
    yield side
    await side.limits.close()


@pytest.fixture
async def b(clock: SetClock) -> AsyncIterator[Side]:
    side = Side(clock, "b", on_loss="open")
    await side.limits.open()
    yield side
    await side.limits.close()


async def test_a_request_takes_one_message_and_its_end_goes_with_the_next(a: Side) -> None:
    sent = len(a.engine.sent)
    lease = await a.reserve("1")
    assert len([each for each in a.engine.sent[sent:] if each.reserve]) == 1
    a.limits.end(lease, requests=1, tokens=5)
    a.limits.end(lease, requests=1, tokens=5)
    await a.reserve("2")
    last = a.engine.sent[-1]
    assert ([each.id for each in last.ends], [each[0] for each in last.reserve]) == (["1"], ["2"])
    assert a.limits.spent("x", "total").tokens == 5
    assert a.told["x"].running == 1


async def test_requests_that_wait_share_a_message(a: Side) -> None:
    many = account("x", concurrent=2000)
    found = await asyncio.gather(*(a.reserve(str(number), many) for number in range(MOST + 10)))
    assert len({each.id for each in found}) == MOST + 10
    assert len([each for each in a.engine.sent if each.reserve]) <= 3


async def test_the_engines_clock_tells_the_time(a: Side, clock: SetClock) -> None:
    a.now += 100
    assert a.limits.wall() == pytest.approx(NOON + 100)
    clock.forward(5)
    await a.reserve("1")
    assert a.limits.wall() == pytest.approx(NOON + 5)


async def test_a_message_of_which_the_reply_is_lost_counts_once(a: Side, b: Side) -> None:
    first = await a.reserve("1")
    a.limits.end(first, requests=1, tokens=7)
    a.engine.failing = "after"
    waiting = asyncio.create_task(a.refused("2"))
    assert (await waiting).why == "away"
    await a.back()
    await a.told_all()
    await b.reserve("3")
    assert (b.told["x"].spent("total").tokens, b.told["x"].running) == (7, 1)
    assert [change is None for change in a.changes] == [False, True]


async def test_a_short_loss_is_not_seen_by_a_request(a: Side) -> None:
    first = await a.reserve("1")
    a.limits.end(first, requests=1, tokens=7)
    tell = a.engine.tell
    faults = iter(["after"])

    async def once(message: object) -> object:
        a.engine.failing = next(faults, "")
        return await tell(message)  # type: ignore[arg-type]

    a.engine.tell = once  # type: ignore[method-assign,assignment]
    lease = await a.reserve("2")
    assert lease.id == "2"
    await a.told_all()
    await a.reserve("3")
    assert (a.told["x"].spent("total").tokens, a.told["x"].running) == (7, 2)
    assert a.changes == []


async def test_without_the_engine_the_lease_is_used_up_and_then_requests_are_refused(
    a: Side, b: Side
) -> None:
    many = account("x", concurrent=20)
    running = [await a.reserve(str(number), many) for number in range(3)]
    a.limits._renewal_due()
    await until(lambda: any(each.hold for each in a.engine.sent), what="a renewal")
    await b.reserve("other", many)
    await a.away()
    found = [await a.limits.reserve(f"w{number}", (many,)) for number in range(4)]
    assert [isinstance(each, SharedLease) for each in found] == [True, True, False, False]
    assert a.limits.counts["on_lease"] == 2
    assert a.limits.counts["refused_without"] == 2
    for lease in running:
        a.limits.end(lease, requests=1, tokens=1)
    await a.back()
    await a.told_all()
    await b.reserve("last", many)
    assert (b.told["x"].running, b.told["x"].spent("total").tokens) == (4, 3)


async def test_a_lapsed_lease_is_not_used(a: Side) -> None:
    many = account("x", concurrent=20)
    await a.reserve("1", many)
    a.limits._renewal_due()
    await until(lambda: any(each.hold for each in a.engine.sent), what="a renewal")
    await a.away()
    a.now += 15.1
    assert (await a.refused("2", many)).why == "away"


async def test_open_leaves_requests_to_this_gateway_and_tells_them_later(a: Side, b: Side) -> None:
    await b.away()
    assert (await b.refused("1")).why == "open"
    lease = b.limits.lease("1", (X,))
    b.limits.end(lease, requests=1, tokens=11)
    assert b.limits.status()["state"] == "away"
    await b.back()
    await b.told_all()
    await a.reserve("2")
    assert a.told["x"].spent("total").tokens == 11
    assert b.limits.counts["open"] == 1


async def test_a_gateway_whose_lease_lapsed_registers_again(a: Side, b: Side, clock: SetClock) -> None:
    lease = await a.reserve("1")
    clock.forward(16)
    b.limits._renewal_due()
    await b.reserve("2")
    assert b.told["x"].running == 2 or b.told["x"].running == 1
    await a.reserve("3")
    assert a.told["x"].running == 3
    a.limits.end(lease, requests=1, tokens=4)
    await a.told_all()
    assert a.changes == []


async def test_a_request_that_is_cancelled_while_it_waits_counts_nowhere(a: Side) -> None:
    waiting = asyncio.create_task(a.reserve("1"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await until(lambda: bool(a.limits.counts["reserved"]), what="the reply")
    await a.told_all()
    await a.reserve("2")
    assert a.told["x"].running == 1


async def test_watched_accounts_are_told_at_each_renewal(a: Side, b: Side) -> None:
    a.limits.end(await a.reserve("1"), requests=1, tokens=9)
    await a.told_all()
    b.limits.watched = lambda: ["x"]
    b.limits._renewal_due()
    await until(lambda: "x" in b.told, what="the account")
    assert b.told["x"].spent("total").tokens == 9


async def test_an_engine_that_is_away_at_the_start_is_found_later(clock: SetClock) -> None:
    side = Side(clock, "c")
    side.engine.failing = "before"
    await side.limits.open()
    assert (await side.refused("1")).why == "away"
    await side.back()
    await side.reserve("2")
    await side.limits.close()
    assert [change is None for change in side.changes] == [False, True]
    assert side.limits.losses == 1
    assert "away" not in repr(side.limits)


async def test_a_fault_of_ours_keeps_no_request_waiting(a: Side) -> None:
    async def broken(message: object) -> object:
        raise TypeError(message)

    a.engine.tell = broken  # type: ignore[method-assign,assignment]
    assert (await a.refused("1")).why == "away"
    assert a.changes == ["TypeError"]
    assert a.limits.status()["state"] == "away"
