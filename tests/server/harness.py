"""Raw HTTP clients of an app on real listeners, for tests of connections and listeners."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import msgspec

from modelplex.eager_task import in_asyncio_task
from modelplex.server.address import Address, Tcp, Unix
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.http_exchange import App, HttpExchange
from modelplex.server.listeners import Listening, listen

BOUND = 15
"""Seconds that any single wait may take before the test is called hung."""

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

    async def chunked(self) -> bytes:
        """The body of a stream, after its head."""
        body: list[bytes] = []
        async with asyncio.timeout(BOUND):
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body.append(await self.reader.readexactly(size))
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(body)

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


def unlimited(size: int) -> None:
    """A body may have any size."""


async def disconnect(exchange: HttpExchange) -> None:
    """Return once the client has disconnected."""
    if not exchange.disconnected:
        gone = asyncio.Event()
        exchange.on_disconnect = gone.set
        await until(gone)
    assert exchange.disconnected


async def echo(exchange: HttpExchange) -> None:
    """Responds with the path and the body."""
    body = await exchange.body(unlimited)
    exchange.respond(200, [], exchange.head.path.encode() + b" " + body)


async def until(event: asyncio.Event) -> None:
    await in_asyncio_task()  # an app may be none
    async with asyncio.timeout(BOUND):
        await event.wait()
