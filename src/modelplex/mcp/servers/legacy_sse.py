"""HTTP+SSE of 2024-11-05: one stream carries all messages and names the address for requests.

An address of another origin is refused, so that keys do not go to another host. Source: the
specification 2024-11-05, "Transports", HTTP with SSE.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import msgspec

from modelplex.http_client import HttpResponse as Answer
from modelplex.http_client import SendError
from modelplex.mcp.constants import Era, Json
from modelplex.mcp.servers.address import Address
from modelplex.mcp.servers.session import ConnectionLost, DuplexChannel, HttpRefused, PendingRequest
from modelplex.mcp.servers.stdio import within
from modelplex.mcp.servers.streamable_http import (
    BACKGROUND_SECONDS,
    MOST_BACKGROUND,
    SMALL,
    HttpEndpoint,
    messages_of,
    refused_by,
)


class SseChannel(DuplexChannel):
    cancels_by_message = True
    pid = None

    def __init__(self, http_endpoint: HttpEndpoint) -> None:
        super().__init__()
        self._http = http_endpoint
        self._version = ""
        self._endpoint: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<SseChannel {self._http.address.origin} {'lost' if self.lost.done() else 'open'}>"

    def settle(self, era: Era, version: str) -> None:
        self._version = version

    async def open(self) -> None:
        answer = await self._http.send(b"GET", headers={"Accept": "text/event-stream"})
        kind = (answer.header(b"content-type") or b"").lower()
        if answer.status != 200 or not kind.startswith(b"text/event-stream"):
            answer.close()
            raise refused_by(answer)
        self._aside(self._read(answer))
        either: set[asyncio.Future[Any]] = {self._endpoint, self.lost}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._endpoint.done():
            raise ConnectionLost(self.lost.result())

    async def _read(self, answer: Answer) -> None:
        try:
            async with contextlib.aclosing(self._http.events(answer, self._http.reader())) as events:
                async for event in events:
                    if event.name == "endpoint":
                        self._named(event.data.decode("utf-8", "replace"))
                    else:
                        for message in messages_of(self._http.hide(event.data), limit=self._http.passed):
                            self.receive(within(message, size=len(event.data), limit=self._http.passed))
            self.fail("It ended the stream.")
        except ConnectionLost as lost:
            self.fail(lost.sentence)

    def _named(self, location: str) -> None:
        endpoint = self._http.address.joined(location.strip())
        if endpoint is None:
            raise ConnectionLost("It names an address of another origin for requests, which is refused.")
        if not self._endpoint.done():
            self._endpoint.set_result(endpoint)

    async def carry(self, message: Json, call: PendingRequest) -> Json:
        response = self.wait(call.id)
        try:
            await self.send(message)
            return await response
        finally:
            self.forget(call.id, response)

    async def send(self, message: Json) -> None:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._version:
            headers["MCP-Protocol-Version"] = self._version
        answer = await self._http.send(
            b"POST", body=msgspec.json.encode(message), headers=headers, to=self._endpoint.result()
        )
        if answer.status >= 400:
            answer.close()
            raise refused_by(answer)
        with contextlib.suppress(SendError):
            await answer.body(limit=SMALL)

    def send_soon(self, message: Json) -> None:
        if len(self._tasks) < MOST_BACKGROUND:
            self._aside(self._send_quietly(message))

    async def _send_quietly(self, message: Json) -> None:
        with contextlib.suppress(ConnectionLost, HttpRefused, TimeoutError):
            async with asyncio.timeout(BACKGROUND_SECONDS):
                await self.send(message)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        self.fail("It was left.")
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
