"""Pauses of reading, and waits for a peer that does not read."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from modelplex.server.flow_control import FlowControl


class Transport:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


async def test_the_transport_is_paused_and_resumed_once() -> None:
    flow = FlowControl(asyncio.get_running_loop())
    transport = Transport()
    flow.transport = cast("Any", transport)
    for _ in range(2):
        flow.pause_reading()
    for _ in range(2):
        flow.resume_reading()
    assert transport.calls == ["pause", "resume"]


async def test_all_that_wait_are_woken_and_a_cancelled_one_is_forgotten() -> None:
    flow = FlowControl(asyncio.get_running_loop())
    flow.write_paused = True
    waits = [asyncio.create_task(flow.drain()) for _ in range(3)]
    await asyncio.sleep(0)
    waits[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits[1]
    assert not any(each.done() for each in (waits[0], waits[2]))
    flow.wake_drains()
    async with asyncio.timeout(10):
        await asyncio.gather(waits[0], waits[2])
    assert not flow.write_paused
