"""A tool server over HTTP on a loopback socket: a function responds to each request."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.secret import Secret
from modelplex.mcp.constants import Json
from modelplex.mcp.servers.events import ServerEvent
from modelplex.mcp.servers.server import ManagedServer, ServerRuntime

CALL: Json = {"name": "echo", "arguments": {}}


class Seen(NamedTuple):
    method: str
    target: str
    headers: Mapping[str, str]
    message: Json

    @property
    def rpc_method(self) -> str:
        return str(self.message.get("method", ""))


class Stream:
    """The response to one request."""

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

    async def wait_closed(self) -> None:
        """Wait until the client closes the connection."""
        await self.closed.wait()

    closed: asyncio.Event


Respond = Callable[[Seen, Stream], Awaitable[None]]


class Remote:
    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.seen: list[Seen] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def requests(self, rpc_method: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.rpc_method == rpc_method]

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
            stream.closed = asyncio.Event()
            watching = asyncio.ensure_future(self._watch(reader, stream))
            try:
                await self.respond(seen, stream)
            finally:
                watching.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _watch(self, reader: asyncio.StreamReader, stream: Stream) -> None:
        with suppress(ConnectionError):
            await reader.read()
        stream.closed.set()


@asynccontextmanager
async def remote(respond: Respond) -> AsyncGenerator[Remote]:
    it = Remote(respond)
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
    """The required methods of a modern server."""
    match seen.rpc_method:
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
    """A legacy server with sessions, without a stream of its own messages."""
    if seen.method != "POST":
        await stream.empty(405 if seen.method == "GET" else 200)
        return
    match seen.rpc_method:
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
        case notification if notification.startswith("notifications/"):
            await stream.empty(202)
        case _:
            await stream.json(text(seen, "called"))


@asynccontextmanager
async def server_of(
    it: Remote, *, path: str = "/mcp", headers: dict[str, str] | None = None, **limits: Any
) -> AsyncGenerator[ManagedServer]:
    """A ManagedServer in front of it."""
    url = f"http://127.0.0.1:{it.port}{path}"
    extra: Json = {"timeout": limits.pop("timeout", 60.0), "idempotent": limits.pop("idempotent", ())}
    config = McpServer(
        name="far",
        url=Secret(url),
        headers={name: Secret(value) for name, value in (headers or {}).items()},
        **extra,
    )
    events: list[ServerEvent] = []
    server = ManagedServer(
        config, limits=McpConfig(**limits), runtime=ServerRuntime(random=lambda: 0.0, on_event=events.append)
    )
    try:
        yield server
    finally:
        await server.close()


class SseServer:
    """HTTP+SSE: posted requests are answered on the one stream."""

    def __init__(self, endpoint: str = "/messages?id=1") -> None:
        self.endpoint = endpoint
        self.stream: Stream | None = None

    async def __call__(self, seen: Seen, stream: Stream) -> None:
        if seen.method == "GET":
            await stream.events()
            await stream.event(self.endpoint, name="endpoint")
            self.stream = stream
            await stream.wait_closed()
        elif seen.target == "/mcp":
            await stream.empty(405)
        else:
            await stream.empty(202)
            assert self.stream is not None
            if seen.rpc_method == "initialize":
                value: Json = {
                    "protocolVersion": "2024-11-05",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "o"},
                }
                await self.stream.event(result(seen, value))
            elif "id" in seen.message:
                await self.stream.event(
                    result(seen, {"tools": [TOOL]}) if seen.rpc_method == "tools/list" else text(seen, "old")
                )
