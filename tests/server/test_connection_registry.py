"""One timer enforces the deadlines of all connections, and only while there are any."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

from modelplex.server.connection_limits import LINGER_SECONDS, ConnectionLimits
from modelplex.server.connection_registry import ConnectionRegistry


class Connection:
    """A connection that notes its expiry and then has no deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.expired.append(now)
        self.deadline = math.inf


def registry(**limits: Any) -> ConnectionRegistry:
    return ConnectionRegistry(limits=ConnectionLimits(**limits), loop=asyncio.get_running_loop())


def add(to: ConnectionRegistry, *deadlines: float) -> list[Connection]:
    connections = [Connection(deadline) for deadline in deadlines]
    for each in connections:
        to.add(cast("Any", each))
    return connections


async def test_a_sweep_expires_only_the_connections_that_are_late() -> None:
    traffic = registry()
    now = traffic.loop.time()
    late, in_time, endless = add(traffic, now - 1, now + 1000, math.inf)
    traffic.sweep()
    assert len(late.expired) == 1
    assert not in_time.expired
    assert not endless.expired
    traffic.sweep()
    assert len(late.expired) == 1
    assert traffic.sweeper is not None
    traffic.sweeper.cancel()


async def test_the_timer_runs_only_while_there_are_connections() -> None:
    traffic = registry()
    assert traffic.sweeper is None
    (connection,) = add(traffic, math.inf)
    timer = traffic.sweeper
    assert timer is not None
    add(traffic, math.inf)
    assert traffic.sweeper is timer
    for each in tuple(traffic.open):
        traffic.remove(each)
    timer.cancel()
    traffic.sweep()
    assert traffic.sweeper is None
    traffic.add(cast("Any", connection))
    assert traffic.sweeper is not None
    traffic.sweeper.cancel()


async def test_the_interval_is_a_quarter_of_the_shortest_deadline_and_at_most_a_second() -> None:
    assert registry(header_timeout=0.4).sweep_seconds == 0.1
    assert registry().sweep_seconds == min(1.0, LINGER_SECONDS / 4)


async def test_the_last_connection_that_closes_while_draining_is_announced() -> None:
    traffic = registry()
    first, last = add(traffic, math.inf, math.inf)
    traffic.remove(cast("Any", first))
    traffic.draining = True
    assert not traffic.all_closed.is_set()
    traffic.refused.add(cast("Any", last))
    traffic.remove(cast("Any", last))
    assert traffic.all_closed.is_set()
    assert not traffic.refused
    assert repr(traffic) == "<ConnectionRegistry 0 open, 0 running, draining>"
    assert traffic.sweeper is not None
    traffic.sweeper.cancel()
