"""A tool server that does as little as possible, so that the gateway is measured: `tools_echo.py`
over stdio, `tools_echo.py PORT` over HTTP.

It has both eras and uses the standard library only: about 10 µs per call over stdio, where a server
of an SDK takes a thousand.
"""

import asyncio
import json
import sys
from typing import Any, Final

Json = dict[str, Any]

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
INFO: Final[Json] = {"name": "echo", "version": "1"}
SCHEMA: Final[Json] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOL: Final[Json] = {"name": "echo", "description": "Says it again.", "inputSchema": SCHEMA}
MARK: Final = "io.modelcontextprotocol/serverInfo"


def result(method: str, params: Json) -> Json | None:
    match method:
        case "tools/call":
            return {"content": [{"type": "text", "text": params["arguments"]["text"]}], "isError": False}
        case "tools/list":
            return {"tools": [TOOL], "ttlMs": 300_000, "cacheScope": "private"}
        case "server/discover":
            told: Json = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}
            return {**told, "ttlMs": 300_000, "cacheScope": "private", "_meta": {MARK: INFO}}
        case "initialize":
            return {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": INFO}
        case "ping":
            return {}
        case _:
            return None


def answer(data: bytes) -> bytes | None:
    message: Json = json.loads(data)
    if "id" not in message:
        return None
    found = result(message["method"], message.get("params", {}))
    head: Json = {"jsonrpc": "2.0", "id": message["id"]}
    if found is None:
        return json.dumps({**head, "error": {"code": -32601, "message": "Method not found"}}).encode()
    return json.dumps({**head, "result": {"resultType": "complete", **found}}).encode()


def over_stdio() -> None:
    for line in sys.stdin.buffer:
        said = answer(line)
        if said is not None:
            sys.stdout.buffer.write(said + b"\n")
            sys.stdout.buffer.flush()


class Http(asyncio.Protocol):
    """HTTP/1.1 for POSTs with a content-length; nothing else is supported."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while True:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            lowered = head.lower()
            _, _, after = lowered.partition(b"content-length:")
            length = int(after.partition(b"\r\n")[0]) if after else 0
            if len(rest) < length:
                return
            body, self._data = rest[:length], rest[length:]
            self._transport.write(respond(body) if head.startswith(b"POST") else plain(405))


def respond(body: bytes) -> bytes:
    said = answer(body)
    return plain(202) if said is None else plain(200, said)


def plain(status: int, body: bytes = b"") -> bytes:
    kind = b"content-type: application/json\r\n" if body else b""
    return b"HTTP/1.1 %d -\r\n%bcontent-length: %d\r\n\r\n%b" % (status, kind, len(body), body)


async def over_http(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Http, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(over_http(int(sys.argv[1])))
    else:
        over_stdio()
