"""A scripted tool backend, a gateway in front of it, and a client that writes HTTP byte by byte."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelplex.config.mcp_settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.mcp.clients.http import McpHttp
from modelplex.mcp.constants import (
    INVALID_PARAMS,
    LEGACY_VERSIONS,
    META_CAPABILITIES,
    META_SUBSCRIPTION,
    META_VERSION,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    NEWEST_LEGACY,
    Json,
    McpClient,
    McpReply,
)
from modelplex.server.process import GatewayProcess
from tests.gateways import gateway

BOUND = 15
"""Seconds that any single wait may take before the test is called hung."""
TOOLS = [
    {"name": "one__echo", "description": "Says it again", "inputSchema": {"type": "object"}, "server": "one"},
    {
        "name": "one__where",
        "inputSchema": {
            "type": "object",
            "properties": {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "count": {"type": "integer", "x-mcp-header": "Count"},
                "deep": {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}},
            },
        },
        "server": "one",
    },
]


class ScriptedBackend:
    """Tools by their last name: echo answers with its arguments, `hold` waits for `go`, others as
    below. What happened is in `seen`.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.parties: list[McpClient] = []
        self.channels: dict[str, Callable[[Json], None]] = {}
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    def has_server(self, server: str) -> bool:
        return server in {"one", "two"}

    async def request(self, client: McpClient, message: Json, *, server: str | None = None) -> McpReply:
        self.parties.append(client)
        method, params = message["method"], message.get("params", {})
        self.seen.append((method, server))
        if method == "initialize" and client.era == "legacy":
            asked = params.get("protocolVersion")
            version = asked if asked in LEGACY_VERSIONS else NEWEST_LEGACY
            return McpReply(
                {"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "m", "version": "1"}}
            )
        if method == "tools/list":
            return McpReply({"tools": [{k: v for k, v in tool.items() if k != "server"} for tool in TOOLS]})
        if method == "server/discover" and client.era == "modern":
            return McpReply(
                {
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {},
                    "ttlMs": 0,
                    "cacheScope": "private",
                    "resultType": "complete",
                }
            )
        if method == "ping" and client.era == "legacy":
            return McpReply({})
        if method == "subscriptions/listen":
            return await self._listen(client, message)
        if method == "tools/call":
            return await self._call(client, message)
        return McpReply.failed(METHOD_NOT_FOUND, f"Method not found: {method}")

    async def _listen(self, client: McpClient, message: Json) -> McpReply:
        meta = {"_meta": {META_SUBSCRIPTION: message["id"]}}
        client.send({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": meta})
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return McpReply(meta)

    async def _call(self, client: McpClient, message: Json) -> McpReply:
        params = message["params"]
        name = str(params.get("name")).rpartition("__")[2]
        arguments = params.get("arguments", {})
        match name:
            case "echo" | "where":
                return text(json.dumps(arguments))
            case "hold":
                self.begun.set()
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
                return text("held")
            case "tell":
                for number in range(arguments["times"]):
                    client.send(progress(arguments.get("token", "t"), number))
                self.begun.set()
                if arguments.get("hold"):
                    await self.go.wait()
                    client.send(progress(arguments.get("token", "t"), "last"))
                return text("told")
            case "ask":
                reply = await client.send_request("sampling/createMessage", {"messages": []})
                return text(json.dumps({"result": reply.result, "error": reply.error}))
            case "needy":
                return McpReply.failed(
                    MISSING_CAPABILITY, "needs sampling", {"requiredCapabilities": {"sampling": {}}}
                )
            case "breaks":
                raise RuntimeError("nobody foresaw this")
            case "own":
                return McpReply.failed(-32050, "its own")
            case _:
                return McpReply.failed(
                    INVALID_PARAMS, f"Unknown tool: {params.get('name')}", reason="unknown"
                )

    def open_session(
        self, client: McpClient, *, server: str | None = None, channel: Callable[[Json], None]
    ) -> None:
        self.channels[client.session] = channel
        self.seen.append(("opened", server))

    def close_session(self, client: McpClient) -> None:
        del self.channels[client.session]
        self.seen.append(("closed", None))

    async def tool_list(self, caller: Caller) -> McpReply:
        return McpReply(result={"tools": TOOLS})

    async def call_tool(self, caller: Caller, name: str, arguments: Mapping[str, Any]) -> McpReply:
        if name in {
            "policy",
            "limit",
            "timeout",
            "crash_loop",
            "invalid",
            "capability",
            "client",
            "invalid_answer",
        }:
            refused = McpReply.failed(-32603, f"no: {name}", {"retryAfterMs": 2500}, reason=name)
            return (
                McpReply(text(f"no: {name}", error=True).result, reason=name) if name == "policy" else refused
            )
        if name == "fails":
            return text("it failed", error=True)
        client: Any = None
        return await self._call(client, {"params": {"name": name, "arguments": dict(arguments)}})

    def schema(self, caller: Caller, name: str, *, server: str | None = None) -> Json | None:
        return next((tool["inputSchema"] for tool in TOOLS if tool["name"] == name), None)  # type: ignore[return-value]


def text(said: str, *, error: bool = False) -> McpReply:
    return McpReply({"content": [{"type": "text", "text": said}], **({"isError": True} if error else {})})


def progress(token: Any, number: Any) -> Json:
    return {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": token, "progress": number},
    }


# --- messages ---


def request(method: str, params: Json | None = None, *, id: Any = 1) -> Json:
    return {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}


def call(name: str, arguments: Json | None = None, *, id: Any = 1) -> Json:
    return request("tools/call", {"name": name, "arguments": arguments or {}}, id=id)


def enveloped(message: Json, *, version: str = "2026-07-28", capabilities: Json | None = None) -> Json:
    meta = {META_VERSION: version, META_CAPABILITIES: capabilities or {}}
    return {**message, "params": {**message.get("params", {}), "_meta": meta}}


BOTH = ("accept", "application/json, text/event-stream")


def modern_headers(message: Json, **more: str) -> list[tuple[str, str]]:
    params = message.get("params", {})
    headers = [BOTH, ("mcp-protocol-version", "2026-07-28"), ("mcp-method", message["method"])]
    name = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}.get(message["method"])
    if name is not None:
        headers.append(("mcp-name", params[name]))
    return [*headers, *((key.replace("_", "-"), value) for key, value in more.items())]


# --- HTTP by hand ---


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> int:
        code: int = self.json["error"]["code"]
        return code


@dataclass
class Event:
    id: str | None
    data: Any
    name: str = "message"


class Wire:
    """One connection. `events` reads what a stream brings, one at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.rest = b""

    async def send(self, method: str, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> None:
        lines = [f"{method} {path} HTTP/1.1"]
        if not any(name == "host" for name, _ in headers):
            lines.append("host: localhost")
        lines += [f"{name}: {value}" for name, value in headers]
        lines.append(f"content-length: {len(body)}")
        self.writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(BOUND):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines)

    async def whole(self) -> Answer:
        status, headers = await self.head()
        async with asyncio.timeout(BOUND):
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while piece := await self._chunk():
                    body += piece
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(status, headers, body)

    async def _chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def event(self) -> Event | None:
        """The next one; None at the end of the stream. Comments are left out."""
        async with asyncio.timeout(BOUND):
            while True:
                while b"\n\n" not in self.rest:
                    piece = await self._chunk()
                    if not piece:
                        return None
                    self.rest += piece
                block, _, self.rest = self.rest.partition(b"\n\n")
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
                if fields:
                    number = fields[b"id"].decode() if b"id" in fields else None
                    data = fields.get(b"data", b"")
                    name = fields.get(b"event", b"message").decode()
                    return Event(
                        number, json.loads(data) if name == "message" and data else data.decode(), name
                    )

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@dataclass
class Place:
    """A gateway with a scripted backend. `post` is one request on a connection of its own."""

    process: GatewayProcess
    backend: ScriptedBackend
    front: McpHttp
    port: int
    socket: str
    now: list[float]
    wires: list[Wire] = field(default_factory=list[Wire])

    async def wire(self, *, unix: bool = False) -> Wire:
        opening = (
            asyncio.open_unix_connection(self.socket)
            if unix
            else asyncio.open_connection("127.0.0.1", self.port)
        )
        wire = Wire(*await opening)
        self.wires.append(wire)
        return wire

    async def open(
        self,
        message: Any,
        headers: Sequence[tuple[str, str]] = (BOTH,),
        *,
        method: str = "POST",
        path: str = "/mcp/v1",
        unix: bool = False,
    ) -> Wire:
        wire = await self.wire(unix=unix)
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        await wire.send(method, path, body, headers)
        return wire

    async def post(self, message: Any, headers: Sequence[tuple[str, str]] = (BOTH,), **more: Any) -> Answer:
        wire = await self.open(message, headers, **more)
        answer = await wire.whole()
        await wire.close()
        return answer

    async def modern(self, message: Json, *, path: str = "/mcp/v1", **more: str) -> Answer:
        return await self.post(enveloped(message), modern_headers(message, **more), path=path)

    async def session(
        self, version: str = "2025-11-25", *, path: str = "/mcp/v1", **more: Any
    ) -> list[tuple[str, str]]:
        """Begin one; what its later requests carry."""
        asked = request(
            "initialize", {"protocolVersion": version, "capabilities": {"sampling": {}}, "clientInfo": {}}
        )
        answer = await self.post(asked, path=path, **more)
        assert answer.status == 200, answer
        return [BOTH, ("mcp-session-id", answer.headers["mcp-session-id"]), ("mcp-protocol-version", version)]


@asynccontextmanager
async def place(
    folder: Path, *, config: McpConfig | None = None, silence: float = 15.0, server: str = "", **more: Any
) -> AsyncGenerator[Place]:
    """A gateway on a port and on a socket, in this process."""
    async with gateway(f"[server]\n{server}\n", folder=folder) as running:
        backend, now, ids = ScriptedBackend(), [0.0], itertools.count(1)
        front = McpHttp(
            backend,
            config or McpConfig(enabled=True),
            ids=lambda: f"{next(ids):032x}",
            clock=lambda: now[0],
            silence=silence,
            **more,
        )
        running.process.app.mcp = front
        there = Place(
            running.process,
            backend,
            front,
            int(running.base.rpartition(":")[2].strip("/")),
            running.socket,
            now,
        )
        try:
            yield there
        finally:
            for wire in there.wires:
                wire.writer.close()
            await front.close()
