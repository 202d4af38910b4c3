"""A tool server over HTTP for tests: each request is answered by a function, on a loopback socket,
and written down.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from modelplex.mcp.constants import Json


class Seen(NamedTuple):
    method: str
    target: str
    headers: Mapping[str, str]
    message: Json

    @property
    def said(self) -> str:
        return str(self.message.get("method", ""))


class Stream:
    """The answer of one request, under way."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, status: int, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self._writer.drain()

    async def json(self, message: object, status: int = 200, **headers: str) -> None:
        body = json.dumps(message).encode()
        await self.head(status, content_type="application/json", content_length=str(len(body)), **headers)
        self._writer.write(body)
        await self._writer.drain()

    async def empty(self, status: int, **headers: str) -> None:
        await self.head(status, content_length="0", **headers)

    async def events(self, **headers: str) -> None:
        await self.head(200, content_type="text/event-stream", **headers)

    async def event(self, message: object, *, id: str = "", name: str = "", retry: int | None = None) -> None:
        lines = [f"id: {id}"] if id else []
        lines += [f"event: {name}"] if name else []
        lines += [f"retry: {retry}"] if retry is not None else []
        lines.append(f"data: {message if isinstance(message, str) else json.dumps(message)}")
        self._writer.write(("\n".join(lines) + "\n\n").encode())
        await self._writer.drain()

    async def gone(self) -> None:
        """Until the other side hangs up."""
        await self.hung_up.wait()

    hung_up: asyncio.Event


Answer = Callable[[Seen, Stream], Awaitable[None]]


class Remote:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def of(self, said: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.said == said]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            seen = Seen(method, target, headers, json.loads(body) if body else {})
            self.seen.append(seen)
            stream = Stream(writer)
            stream.hung_up = asyncio.Event()
            watching = asyncio.ensure_future(self._watch(reader, stream))
            try:
                await self.answer(seen, stream)
            finally:
                watching.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _watch(self, reader: asyncio.StreamReader, stream: Stream) -> None:
        with suppress(ConnectionError):
            await reader.read()
        stream.hung_up.set()


@asynccontextmanager
async def remote(answer: Answer) -> AsyncGenerator[Remote]:
    it = Remote(answer)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()


def result(seen: Seen, value: Json) -> Json:
    return {"jsonrpc": "2.0", "id": seen.message["id"], "result": value}


def error(seen: Seen, code: int, data: object = None) -> Json:
    more = {} if data is None else {"data": data}
    return {"jsonrpc": "2.0", "id": seen.message.get("id"), "error": {"code": code, "message": "no", **more}}


def text(seen: Seen, value: str) -> Json:
    return result(seen, {"content": [{"type": "text", "text": value}]})


TOOL: Json = {
    "name": "echo",
    "inputSchema": {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
        },
    },
}


async def modern(seen: Seen, stream: Stream) -> None:
    """What a modern server answers to what every one must."""
    match seen.said:
        case "server/discover":
            value: Json = {
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
                "resultType": "complete",
            }
            await stream.json(result(seen, value))
        case "tools/list":
            bad: Json = {"name": "bad", "inputSchema": {"type": "object", "x-mcp-header": "Root"}}
            await stream.json(result(seen, {"tools": [TOOL, bad]}))
        case _:
            await stream.json(text(seen, "called"))


async def legacy(seen: Seen, stream: Stream) -> None:
    """What a server with sessions answers, which has no stream beside the requests'."""
    if seen.method != "POST":
        await stream.empty(405 if seen.method == "GET" else 200)
        return
    match seen.said:
        case "server/discover":
            await stream.json(error(seen, -32600), 400)
        case "initialize":
            value: Json = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "l"},
            }
            await stream.json(result(seen, value), mcp_session_id="session-1")
        case "tools/list":
            await stream.json(result(seen, {"tools": [TOOL]}))
        case said if said.startswith("notifications/"):
            await stream.empty(202)
        case _:
            await stream.json(text(seen, "called"))
