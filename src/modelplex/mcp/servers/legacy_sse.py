"""HTTP+SSE of 2024-11-05: one stream carries all messages and names the URL for requests.

A URL of another origin is refused, so that keys do not go to another host. Source: the
specification 2024-11-05, "Transports", HTTP with SSE.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from modelplex.http_client import HttpResponse
from modelplex.mcp.constants import Json
from modelplex.mcp.servers.background import BackgroundTasks
from modelplex.mcp.servers.channel import ConnectionLost, DuplexChannel
from modelplex.mcp.servers.endpoint_url import EndpointUrl
from modelplex.mcp.servers.http_endpoint import (
    HttpEndpoint,
    discard,
    is_event_stream,
    refused,
    send_in_background,
)


class SseChannel(DuplexChannel):
    def __init__(self, endpoint: HttpEndpoint) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._post_url: asyncio.Future[EndpointUrl] = asyncio.get_running_loop().create_future()
        self._tasks = BackgroundTasks()

    def __repr__(self) -> str:
        return f"<SseChannel {self._endpoint.url.origin} {'lost' if self.lost.done() else 'open'}>"

    async def open(self) -> None:
        response = await self._endpoint.send(b"GET", headers={"Accept": "text/event-stream"})
        if not is_event_stream(response):
            response.close()
            raise refused(response)
        self._tasks.start(self._read(response))
        either: set[asyncio.Future[Any]] = {self._post_url, self.lost}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._post_url.done():
            raise ConnectionLost(self.lost.result())

    async def _read(self, response: HttpResponse) -> None:
        try:
            reader = self._endpoint.reader()
            async with contextlib.aclosing(self._endpoint.events(response, reader)) as events:
                async for event in events:
                    if event.name == "endpoint":
                        self._set_post_url(event.data.decode("utf-8", "replace"))
                    else:
                        for message in self._endpoint.messages.read(event.data):
                            self.receive(message)
            self.fail("It ended the stream.")
        except ConnectionLost as lost:
            self.fail(lost.sentence)

    def _set_post_url(self, location: str) -> None:
        url = self._endpoint.url.resolve(location.strip())
        if url is None:
            raise ConnectionLost("It names an address of another origin for requests, which is refused.")
        if not self._post_url.done():
            self._post_url.set_result(url)

    async def send(self, message: Json) -> None:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.version:
            headers["MCP-Protocol-Version"] = self.version
        response = await self._endpoint.post(message, headers, to=self._post_url.result())
        if response.status >= 400:
            response.close()
            raise refused(response)
        await discard(response)

    def send_soon(self, message: Json) -> None:
        send_in_background(self, message, self._tasks)

    async def close(self) -> None:
        self.fail("The gateway closed the connection.")
        await self._tasks.cancel()
