"""Streamable HTTP, of either era: a request is a POST, and its own response or stream answers it.

Headers repeat the outgoing body and never come from a client. Source: the specification's
"Transports", 2025-03-26 to 2026-07-28.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, cast

from modelplex.http_client import HttpResponse, ResponseTooLarge
from modelplex.mcp.constants import INTERNAL_ERROR, META_VERSION, Era, Json
from modelplex.mcp.servers.background import BackgroundTasks
from modelplex.mcp.servers.channel import Channel, ConnectionLost, HttpRefused, PendingRequest, SessionGone
from modelplex.mcp.servers.header_params import standard_headers
from modelplex.mcp.servers.http_endpoint import (
    EVENT_STREAM,
    JSON_HEADERS,
    ConnectionNotMade,
    HttpEndpoint,
    content_type,
    discard,
    is_event_stream,
    refused,
    send_in_background,
)
from modelplex.mcp.servers.sse_events import EventReader

RETRY_SECONDS: Final = 1.0
"""Pause before a broken stream is resumed, unless the server names one."""
MAX_RETRY_SECONDS: Final = 60.0
MIN_RETRY_SECONDS: Final = 0.1
"""A server that names 0 and ends each stream after an event would keep the gateway busy."""
MAX_RESUMES: Final = 5
"""Attempts in a row without an event, after which a broken stream is given up."""
DELETE_SECONDS: Final = 2.0
"""Timeout of the DELETE that ends a session."""


class HttpChannel(Channel):
    """Messages to one URL. A legacy server may have a session, and a stream of its own messages."""

    def __init__(self, endpoint: HttpEndpoint) -> None:
        super().__init__()
        self.cancels_by_message = False
        self._endpoint = endpoint
        self._session: str | None = None
        self._tasks = BackgroundTasks()
        self._closed = False

    def __repr__(self) -> str:
        return f"<HttpChannel {self._endpoint.url.origin} {self.era or 'unsettled'} session={self._session is not None}>"

    async def open(self) -> None:
        """Each request has a connection of its own."""

    def set_version(self, era: Era, version: str) -> None:
        super().set_version(era, version)
        self.cancels_by_message = era == "legacy"

    async def request(self, message: Json, pending: PendingRequest) -> Json:
        """As `Channel.request`. Closing the channel ends pending requests."""
        work = asyncio.get_running_loop().create_task(self._post(message, pending))
        try:
            either: set[asyncio.Future[Any]] = {work, self.lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise ConnectionLost(self.lost.result())
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def _post(self, message: Json, pending: PendingRequest) -> Json:
        try:
            response = await self._endpoint.post(message, self._request_headers(message, pending))
        except ConnectionNotMade as error:
            self.fail(error.sentence)
            raise
        try:
            return await self._read_response(response, pending)
        finally:
            response.close()

    async def _read_response(self, response: HttpResponse, pending: PendingRequest) -> Json:
        status = response.status
        if status == 404 and self._session is not None:
            raise SessionGone
        if status in {202, 204}:
            raise ConnectionLost("It accepted a request and sent no response.")
        if status >= 400:
            message = await self._endpoint.read_error(response)
            if message is None or status in {401, 403, 429} or status >= 500:
                raise refused(response)
            return message
        if pending.method == "initialize":
            session = response.header(b"mcp-session-id")
            self._session = session.decode("latin-1") if session else None
        match content_type(response):
            case b"text/event-stream":
                return await self._read_stream(response, pending)
            case b"application/json":
                return await self._read_json(response, pending)
            case _:
                raise HttpRefused("It answered with neither JSON nor a stream of events.", status=415)

    async def _read_json(self, response: HttpResponse, pending: PendingRequest) -> Json:
        try:
            found = self._receive(await self._endpoint.body(response), pending)
        except ResponseTooLarge as error:
            limit: Json = {"code": INTERNAL_ERROR, "message": error.sentence, "data": {"reason": "limit"}}
            return {"id": pending.id, "error": limit}
        if found is None:
            raise ConnectionLost("It answered without a response to the request.")
        return found

    def _receive(self, data: bytes, pending: PendingRequest | None) -> Json | None:
        """Deliver the messages of an event or a body. Returns the response to the request, if it is
        among them.
        """
        found: Json | None = None
        for message in self._endpoint.messages.read(data):
            if "method" in message:
                self.deliver(message, pending)
            elif pending is not None and message.get("id") == pending.id:
                found = message
        return found

    async def _read_stream(self, response: HttpResponse, pending: PendingRequest) -> Json:
        """Read a stream until the response. A legacy stream with event ids is resumed."""
        reader = self._endpoint.reader()
        failures = 0
        while True:
            received = False
            try:
                async with contextlib.aclosing(self._endpoint.events(response, reader)) as events:
                    async for event in events:
                        received = True
                        if event.data and (found := self._receive(event.data, pending)) is not None:
                            return found
                reason = "It ended the stream before its response."
            except ConnectionLost as lost:
                reason = lost.sentence
            failures = 0 if received else failures + 1
            if not reader.last_id or self.era == "modern" or failures > MAX_RESUMES:
                raise ConnectionLost(reason)
            await asyncio.sleep(_retry_seconds(reader))
            response = await self._resume(reader)

    async def _resume(self, reader: EventReader) -> HttpResponse:
        response = await self._get_stream(reader)
        if response.status == 200:
            return response
        response.close()
        if response.status == 404 and self._session is not None:
            raise SessionGone
        raise ConnectionLost(f"Its stream broke, and it refused to resume it (status {response.status}).")

    async def _get_stream(self, reader: EventReader) -> HttpResponse:
        headers = {**self._session_headers(), "Accept": EVENT_STREAM.decode()}
        if reader.last_id:
            headers["Last-Event-ID"] = reader.last_id
        return await self._endpoint.send(b"GET", headers=headers)

    def _request_headers(self, message: Json, pending: PendingRequest) -> dict[str, str]:
        params = cast("Json", message.get("params") or {})
        meta = params.get("_meta")
        version = cast("Json", meta).get(META_VERSION) if isinstance(meta, dict) else None
        if self.era != "legacy" and isinstance(version, str):
            standard = standard_headers(pending.method, params)
            return {**JSON_HEADERS, "MCP-Protocol-Version": version, **standard, **pending.headers}
        return {**JSON_HEADERS, **self._session_headers()} if pending.method != "initialize" else JSON_HEADERS

    def _session_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self._session is not None:
            headers["Mcp-Session-Id"] = self._session
        if self.era is not None:
            headers["MCP-Protocol-Version"] = self.version
        return headers

    async def send(self, message: Json) -> None:
        """Modern servers get no notifications: a closed stream is a cancellation."""
        if self.era != "legacy":
            return
        await discard(await self._endpoint.post(message, {**JSON_HEADERS, **self._session_headers()}))
        if message.get("method") == "notifications/initialized" and not self._closed:
            self._tasks.start(self._listen())

    def send_soon(self, message: Json) -> None:
        send_in_background(self, message, self._tasks)

    async def _listen(self) -> None:
        """Read messages that belong to no request, while the session lasts and the server offers
        the stream.
        """
        reader = self._endpoint.reader()
        failures = 0
        while failures <= MAX_RESUMES:
            with contextlib.suppress(ConnectionLost):
                try:
                    response = await self._get_stream(reader)
                except HttpRefused:
                    return
                if not is_event_stream(response):
                    response.close()
                    return  # not offered, or the session is over: the next request notices it
                async with contextlib.aclosing(self._endpoint.events(response, reader)) as events:
                    async for event in events:
                        failures = 0
                        if event.data:
                            self._receive(event.data, None)
            failures += 1
            await asyncio.sleep(_retry_seconds(reader))

    async def close(self) -> None:
        self._closed = True
        self.fail("The gateway closed the connection.")
        await self._tasks.cancel()
        if self.era == "legacy" and self._session is not None:
            with contextlib.suppress(ConnectionLost, HttpRefused, TimeoutError):
                async with asyncio.timeout(DELETE_SECONDS):
                    (await self._endpoint.send(b"DELETE", headers=self._session_headers())).close()


def _retry_seconds(reader: EventReader) -> float:
    seconds = RETRY_SECONDS if reader.retry is None else max(MIN_RETRY_SECONDS, reader.retry)
    return min(MAX_RETRY_SECONDS, seconds)
