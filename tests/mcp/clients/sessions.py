"""Legacy sessions over HTTP, for tests."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.mcp.clients.scripted import (
    BOUND,
    Place,
    Wire,
)

Headers = list[tuple[str, str]]


async def until(holds: Any) -> None:
    async with asyncio.timeout(BOUND):
        while not holds():
            await asyncio.sleep(0.005)


async def listen(there: Place, headers: Headers, *more: tuple[str, str]) -> Wire:
    wire = await there.open(b"", [*headers, *more], method="GET")
    status, heads = await wire.head()
    assert (status, heads["content-type"]) == (200, "text/event-stream")
    return wire
