"""What the engine decides: step.lua in a real Redis, with a clock that the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from modelplex.limits.shared.engine import Engine
from modelplex.limits.shared.messages import (
    NANO,
    SharedAccount,
    SharedEnd,
    SharedMessage,
    SharedReply,
    SharedTotals,
    rows,
    totals_of,
)
from tests.limits.shared.redis_server import RedisServer
from tests.limits.shared.scripted import NOON, SetClock, account


class Node:
    """A gateway that sends what a test says."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.seq = self.ends_seq = 0
        self.lease = 15_000

    async def tell(self, *, first: bool = False, **more: object) -> SharedReply:
        self.seq += 1
        self.ends_seq += bool(more.get("ends"))
        message = SharedMessage(
            node=self.name, seq=self.seq, lease=self.lease, first=first, ends_seq=self.ends_seq
        )
        for name, value in more.items():
            setattr(message, name, value)
        return await self.engine.tell(message)

    async def ask(self, id: str, *accounts: SharedAccount) -> list[str]:
        (outcome,) = rows((await self.tell(reserve=((id, accounts),))).reserve)
        return outcome

    async def end(self, id: str, *names: str, tokens: int = 0, nano: int = 0, requests: int = 1) -> None:
        await self.tell(ends=(SharedEnd(id, names, requests, tokens, nano, True),))

    async def totals(self, name: str) -> SharedTotals:
        return totals_of(await self.tell(read=(name,)))[name]


@pytest.fixture
def clock(redis: RedisServer) -> SetClock:
    return SetClock(redis)


@pytest.fixture
async def engine(clock: SetClock) -> AsyncIterator[Engine]:
    engine = clock.engine()
    yield engine
    await engine.close()


@pytest.fixture
async def a(engine: Engine) -> Node:
    return await node(engine, "a")


@pytest.fixture
async def b(engine: Engine) -> Node:
    return await node(engine, "b")


async def node(engine: Engine, name: str) -> Node:
    node = Node(engine, name)
    assert (await node.tell(first=True)).state == "ok"
    return node


async def test_concurrency_holds_over_two_gateways(a: Node, b: Node) -> None:
    limited = account("x", concurrent=2)
    assert await a.ask("1", limited) == ["ok"]
    assert await b.ask("1", limited) == ["ok"]
    assert await a.ask("2", limited) == ["concurrent", "x", "2"]
    await b.end("1", "x")
    assert await a.ask("2", limited) == ["ok"]


async def test_a_reservation_is_idempotent_by_the_id_of_its_request(a: Node) -> None:
    limited = account("x", concurrent=1, requests=10)
    assert [await a.ask("1", limited), await a.ask("1", limited)] == [["ok"], ["ok"]]
    assert (await a.totals("x")).running == 1


async def test_a_rate_counts_the_last_minute_and_tells_the_wait(a: Node, b: Node, clock: SetClock) -> None:
    limited = account("x", requests=2)
    a.lease = b.lease = 600_000
    await b.tell()
    assert await a.ask("1", limited) == ["ok"]
    clock.forward(20)
    assert await b.ask("1", limited) == ["ok"]
    await a.end("1", "x")
    assert await a.ask("2", limited) == ["rate", "x", "r", "2", "40500"]
    clock.forward(40.5)
    assert await a.ask("2", limited) == ["ok"]
    assert await a.ask("3", limited) == ["rate", "x", "r", "2", "20000"]
    clock.forward(1000)
    await a.tell(first=True)
    assert await a.ask("3", limited) == ["ok"]


async def test_a_withdrawn_request_counts_nowhere(a: Node) -> None:
    limited = account("x", requests=1, tokens=100)
    await a.ask("1", limited)
    await a.end("1", "x", requests=0)
    assert await a.ask("2", limited) == ["ok"]
    assert (await a.totals("x")).spent("total").requests == 0


async def test_tokens_by_the_minute(a: Node, b: Node, clock: SetClock) -> None:
    limited = account("x", per_minute=100)
    await a.ask("1", limited)
    await a.end("1", "x", tokens=100)
    assert await b.ask("1", limited) == ["rate", "x", "t", "100", "60500"]
    clock.forward(61)
    await b.tell(first=True)
    assert await b.ask("1", limited) == ["ok"]


async def test_a_budget_reserves_the_average_of_each_running_request(a: Node, b: Node) -> None:
    limited = account("x", nano=100)
    await a.ask("1", limited)
    await a.end("1", "x", nano=40)
    assert await a.ask("2", limited) == ["ok"]
    assert await b.ask("2", limited) == ["ok"]
    assert await b.ask("3", limited) == ["reserved", "x", "2"]
    await a.end("2", "x", nano=60)
    assert await b.ask("3", limited) == ["budget", "x"]


async def test_a_teams_budget_holds_besides_that_of_its_agents(a: Node, b: Node) -> None:
    team = account("team:t", tokens=100)
    await a.ask("1", account("x", tokens=90), team)
    await a.end("1", "x", "team:t", tokens=80)
    assert await b.ask("1", account("y", concurrent=5), team) == ["ok"]
    await b.end("1", "y", "team:t", tokens=30)
    assert await a.ask("2", account("x", tokens=90), team) == ["budget", "team:t"]
    assert (await a.totals("y")).spent("total").tokens == 30


async def test_a_budget_of_a_day_ends_at_midnight_of_the_engines_clock(a: Node, clock: SetClock) -> None:
    limited, monthly = account("x", tokens=10, period="d"), account("y", tokens=10, period="m")
    for request, each in (("1", limited), ("2", monthly)):
        await a.ask(request, each)
        await a.end(request, each.name, tokens=10)
        assert await a.ask(f"{request}b", each) == ["budget", each.name]
    clock.set(NOON + 12 * 3600)
    await a.tell(first=True)
    assert await a.ask("3", limited) == ["ok"]
    assert await a.ask("4", monthly) == ["budget", "y"]
    clock.set(NOON + 30 * 86_400)  # 2027-01-01
    await a.tell(first=True)
    assert await a.ask("4", monthly) == ["ok"]
    clock.set(NOON)  # a clock that is set back gives no day again
    assert (await a.totals("y")).day == "2027-01-01"


async def test_dates(a: Node, clock: SetClock) -> None:
    for seconds, day in ((951_782_400, "2000-02-29"), (4_107_542_399, "2100-02-28"), (0, "1970-01-01")):
        clock.set(seconds)
        await a.tell(first=True)
        assert (await a.totals(f"d{seconds}")).day == day


async def test_an_ended_request_is_counted_once_however_often_it_is_told(a: Node) -> None:
    await a.ask("1", account("x", tokens=100))
    await a.end("1", "x", tokens=7)
    again = (SharedEnd("1", ("x",), 1, 7, 0),)
    await a.tell()
    a.ends_seq -= 1
    await a.tell(ends=again)
    assert (await a.totals("x")).spent("total").tokens == 7
    a.seq -= 1
    assert (await a.tell()).state == "old"


async def test_the_requests_of_a_dead_gateway_end_with_its_lease_and_are_charged_the_average(
    a: Node, b: Node, clock: SetClock
) -> None:
    limited = account("x", concurrent=1, nano=1000)
    await a.ask("1", limited)
    await a.end("1", "x", nano=100, tokens=4)
    await a.ask("2", limited)
    clock.forward(14)
    await b.tell()
    assert (await b.ask("1", limited))[0] == "concurrent"
    clock.forward(1.1)
    await b.tell()
    totals = await b.totals("x")
    assert totals.running == 0
    assert totals.spent("total").usd == 200 / NANO
    assert await b.ask("3", limited) == ["ok"]
    # It was not dead: what it tells late replaces what was charged.
    assert (await a.tell()).state == "unknown"
    await a.tell(first=True)
    await a.end("2", "x", nano=30, tokens=1)
    assert (await b.totals("x")).spent("total").usd == 130 / NANO
    assert (await b.totals("x")).spent("total").requests == 2


async def test_a_gateway_that_was_away_registers_what_it_runs(a: Node, b: Node, clock: SetClock) -> None:
    limited = account("x", concurrent=2)
    await a.ask("1", limited)
    await a.ask("lost", limited)
    clock.forward(16)
    await b.tell()
    assert (await b.totals("x")).running == 0
    await a.tell(first=True, live=(("1", ("x",)),))
    assert (await b.totals("x")).running == 1
    await a.tell(first=True, live=(("1", ("x",)),))
    assert (await b.totals("x")).running == 1
    await a.tell(first=True)
    assert (await b.totals("x")).running == 0


async def test_an_engine_that_lost_its_data_gets_the_most_that_a_gateway_saw(
    a: Node, b: Node, clock: SetClock
) -> None:
    await a.ask("1", account("x", nano=1000))
    await a.end("1", "x", nano=400, tokens=9)
    seen = await a.totals("x")
    clock.redis.ask("FLUSHALL")
    clock.set(NOON)
    assert (await a.tell()).state == "unknown"
    await b.tell(first=True, seen=(("x", seen.day, tuple(value // 2 for value in seen.values)),))
    await a.tell(first=True, seen=(("x", seen.day, seen.values),))
    assert (await b.totals("x")).values == seen.values
    clock.forward(86_400)
    await a.tell(first=True, seen=(("x", seen.day, seen.values),))
    assert (await a.totals("x")).spent("day").tokens == 0
    assert (await a.totals("x")).spent("month").tokens == 9


async def test_at_most_a_tenth_is_reserved_in_advance(a: Node, b: Node, clock: SetClock) -> None:
    limited = account("x", requests=30, concurrent=40)
    assert rows((await a.tell(hold=(((limited,), 8),))).held) == [3]
    assert rows((await b.tell(hold=(((limited,), 8),))).held) == [0]
    assert rows((await a.tell(hold=(((limited,), 1),))).held) == [1]
    assert rows((await b.tell(hold=(((limited,), 8),))).held) == [2]
    for number in range(27):
        assert await b.ask(str(number), limited) == ["ok"]
    assert (await b.ask("more", limited))[0] == "rate"
    clock.forward(16)  # the lease of both has lapsed: nothing is held
    await a.tell(first=True)
    assert await a.ask("more", limited) == ["ok"]


@pytest.mark.parametrize(
    ("limited", "held"),
    [
        (account("x", concurrent=9), 0),
        (account("x", nano=1000), 0),  # nothing is known about what a request costs
        (account("y", nano=1000), 4),
        (account("y", tokens=1000), 8),
        (account("y", per_minute=50), 5),
    ],
)
async def test_what_is_reserved_in_advance_fits_each_limit(
    a: Node, limited: SharedAccount, held: int
) -> None:
    await a.ask("1", account("y", tokens=1000))
    await a.end("1", "y", tokens=1, nano=20)
    assert rows((await a.tell(hold=(((limited,), 8),))).held) == [held]


async def test_a_gateway_that_ends_leaves_nothing(a: Node, b: Node) -> None:
    await a.tell(hold=(((account("x", requests=100),), 2),))
    await a.tell(leave=True)
    assert (await b.tell()).nodes == 1


async def test_what_a_gateway_did_not_end_is_ended_when_it_leaves(a: Node, b: Node) -> None:
    await a.ask("1", account("x", concurrent=1))
    await a.tell(hold=(((account("y", requests=100),), 2),))
    await a.tell(leave=True)
    assert await b.ask("1", account("x", concurrent=1)) == ["ok"]
    assert rows((await b.tell(hold=(((account("y", requests=20),), 2),))).held) == [2]


async def test_many_requests_of_a_dead_gateway_are_ended_in_pieces(a: Node, b: Node, clock: SetClock) -> None:
    limited = account("x", concurrent=2000)
    await a.tell(reserve=tuple((str(number), (limited,)) for number in range(900)))
    clock.forward(14)
    await b.tell()
    clock.forward(2)
    await b.tell()
    assert 0 < (await b.totals("x")).running < 900
    for _ in range(20):
        await b.tell()
    assert (await b.totals("x")).running == 0
