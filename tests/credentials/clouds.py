"""A scripted cloud: a server that answers each request by a function; and a clock that is set."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from tests.upstreams import Scripted, Seen, provider

Reply = tuple[int, Any]
"""Status and body: bytes as they are, anything else as JSON."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def cloud(reply: Callable[[Seen], Reply]) -> AsyncGenerator[Scripted, None]:
    """Serves until the block ends; `url` has no path."""

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, body = reply(scripted.seen[-1])
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()

    async with provider(act) as scripted:
        scripted.url = scripted.url.removesuffix("/v1")
        yield scripted


def form(seen: Seen) -> dict[str, str]:
    """The fields of a form, each of which comes once."""
    return {name: value for name, (value,) in parse_qs(seen.body.decode(), strict_parsing=True).items()}
