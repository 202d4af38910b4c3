"""Raw HTTP clients of an ASGI app on real listeners, for tests of connections and listeners."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from modelplex.server.address import Address, Tcp, Unix
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.listeners import Listening, listen

BOUND = 15
"""Seconds that any single wait may take before the test is called hung."""

App = Callable[[Any, Any, Any], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class ErrorFacts(msgspec.Struct):
    message: str
    type: str
    code: str
    param: str | None


class ErrorBody(msgspec.Struct):
    error: ErrorFacts


class RawClient:
    """A client that writes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(BOUND):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines)

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        async with asyncio.timeout(BOUND):
            return status, headers, await self.reader.readexactly(int(headers.get("content-length", "0")))

    async def refusal(self) -> tuple[int, str]:
        """Status and code of a complete refusal: in OpenAI's shape, followed by the end of the
        connection.
        """
        status, headers, body = await self.response()
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        await self.ended()
        return status, msgspec.json.decode(body, type=ErrorBody).error.code

    async def rest(self) -> bytes:
        async with asyncio.timeout(BOUND):
            return await self.reader.read()

    async def ended(self) -> None:
        assert await self.rest() == b""

    def close(self) -> None:
        self.writer.transport.abort()


class Served:
    """An app on one address, and its clients."""

    def __init__(self, listening: Listening, address: Address) -> None:
        self.listening = listening
        self.address = address
        self.clients: list[RawClient] = []

    async def client(self) -> RawClient:
        if isinstance(self.address, Unix):
            streams = await asyncio.open_unix_connection(self.address.path)
        else:
            assert isinstance(self.address, Tcp)
            port = int(self.listening.addresses[0].rsplit(":", 1)[1])
            streams = await asyncio.open_connection(self.address.host, port)
        self.clients.append(RawClient(*streams))
        return self.clients[-1]


@contextlib.asynccontextmanager
async def serving(app: App, address: Address, **limits: Any) -> AsyncGenerator[Served, None]:
    settings: dict[str, Any] = {"drain_timeout": 0.05, **limits}
    served = Served(await listen(app, [address], limits=ConnectionLimits(**settings)), address)
    try:
        yield served
    finally:
        for client in served.clients:
            client.close()
        await served.listening.drain()


async def read_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        piece: bytes = message["body"]
        body += piece
        if not message["more_body"]:
            return body


async def respond(
    send: Any, body: bytes, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, scope["path"].encode() + b" " + await read_body(receive))


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(BOUND):
        await event.wait()
