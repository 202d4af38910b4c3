"""The hostile callers of the soak: `python -m benchmarks.soak_hostile FOLDER CPU_SHARE [CALLER
...]`.

Each caller repeats one thing that must not harm other callers, on its own agent's socket
(FOLDER/NAME.sock) or on the shared one (FOLDER/m.sock). Bodies are made once. All callers together
use at most CPU_SHARE of one core, so that the gateway is measured and not the scheduler. Every
second a line of JSON has each caller's count.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

WAIT_S = 40.0
"""Longer than the gateway waits for a body."""
IDLE_CONNECTIONS = 2400
UNFINISHED = 40
SLOW = 60
OPEN_FILES = 8192
NICE = 10
CHAT = "/v1/chat/completions"
ANSWER_LIMIT = 2**27

AGENTS = (
    "limited",
    "refused",
    "hang_ups",
    "unfinished",
    "slow",
    "idle",
    "stalls",
    "streams",
    "tools",
    "circuits",
    "waiting",
)
"""Each has its own socket in the soak's config."""
RATES = {"limited": "rate = { requests = 1 }", "waiting": "concurrent = 4"}


def head(length: int, *, path: str = CHAT, rows: str = "", close: bool = True) -> bytes:
    end = "connection: close\r\n" if close else ""
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{rows}{end}"
        f"content-length: {length}\r\n\r\n"
    ).encode()


def post(body: bytes, *, path: str = CHAT, rows: str = "", close: bool = True) -> bytes:
    return head(len(body), path=path, rows=rows, close=close) + body


def chat(model: str, text: str = "Hi", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more}).encode()


def mcp(method: str, *, id: int = 1, close: bool = True, **params: Any) -> bytes:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "soak", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": meta}}
    rows = f"accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n"
    if "name" in params:
        rows += f"mcp-name: {params['name']}\r\n"
    return post(json.dumps(message).encode(), path="/mcp/v1", rows=rows, close=close)


LARGE = "x" * 9_900_000
START = b'{"model":"good","messages":[{"role":"user","content":"x"}]'
REFUSED_BODIES = {
    "unknown model": post(chat("nobody", LARGE)),
    "broken JSON": post(chat("good", LARGE)[:-1]),
    "policy": post(chat("good", LARGE)[:-1] + b',"messages":[]}'),
    "MCP, broken": post(
        b"{" + LARGE[:4_000_000].encode(),
        path="/mcp/v1",
        rows="accept: application/json, text/event-stream\r\n",
    ),
}
STALLS = {
    "objects": post(START + b',"stop":[' + b"{}," * 3_000_000 + b'{"a":1,"a":2}]}'),
    "hosted tools": post(START + b',"tools":[' + b",".join([b'{"type":"web_search"}'] * 400_000) + b"]}"),
    "parameters of a data URL": post(
        b'{"model":"good","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:' + b";a=b" * 2_200_000 + b'"}}]}]}'
    ),
    "messages, translated": post(
        b'{"model":"good","max_tokens":9,"messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 320_000) + b"]}",
        path="/v1/messages",
    ),
}  # fmt: skip
CALLERS = {
    "refused": 1,
    "limited": 1,
    "unfinished": UNFINISHED,
    "slow": SLOW,
    "idle": IDLE_CONNECTIONS,
    "stalls": 1,
    "streams": 1,
    "tools": 1,
    "sessions": 1,
    "circuits": 1,
    "hang_ups": 1,
    "waiting": 1,
}
"""The callers by method name, with how many of each run at once."""
STREAMS = ("endless-arguments", "endless-calls", "endless-data", "endless-blank", "endless-comments")


class Hostile:
    """All callers, and their counts."""

    def __init__(self, folder: Path, share: float) -> None:
        self.folder = folder
        self.share = share
        self.done: Counter[str] = Counter()
        self.began = time.monotonic()

    def socket(self, name: str) -> str:
        return str(self.folder / f"{name}.sock")

    async def pace(self, seconds: float) -> None:
        """Wait, and longer while the callers have used more CPU than their share."""
        await asyncio.sleep(seconds)
        ahead = time.process_time() / self.share - (time.monotonic() - self.began)
        if ahead > 0:
            await asyncio.sleep(ahead)

    async def ask(self, name: str, data: bytes) -> bytes:
        """Reads the whole response. Returns its status line."""
        async with connection(self.socket(name)) as (reader, writer):
            writer.write(data)
            first = await reader.read(4096)
            left = ANSWER_LIMIT
            while left > 0 and (piece := await reader.read(2**18)):
                left -= len(piece)
        return first[:12]

    async def run(self, only: Sequence[str]) -> None:
        """Run until killed. `only` names some of CALLERS; empty means all. An error of a caller
        ends only its turn.
        """
        tasks: list[asyncio.Task[None]] = []
        for name, many in CALLERS.items():
            if name in only or not only:
                act: Callable[[], Awaitable[None]] = getattr(self, name)
                tasks += [asyncio.create_task(self.forever(act, late=5 * at / many)) for at in range(many)]
        while True:
            await asyncio.sleep(1)
            print(json.dumps(self.done), flush=True)

    async def forever(self, act: Callable[[], Awaitable[None]], *, late: float = 0.0) -> None:
        await asyncio.sleep(late)
        while True:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(WAIT_S):
                    await act()
            await self.pace(0.02)

    def count(self, what: str, status: bytes = b"") -> None:
        self.done[f"{what} {status[9:12].decode()}".rstrip()] += 1

    # --- callers

    async def refused(self) -> None:
        for data in REFUSED_BODIES.values():
            self.count("refused bodies", await self.ask("refused", data))
            await self.pace(1.0)

    async def limited(self) -> None:
        """An agent above its rate, with bodies of 9.9 MB."""
        self.count("bodies beyond a rate", await self.ask("limited", REFUSED_BODIES["policy"]))
        await self.pace(1.0)

    async def unfinished(self) -> None:
        """A body of 10 MB without its last byte, for as long as the gateway waits."""
        path = CHAT if self.done["unfinished bodies"] % 2 else "/mcp/v1"
        rows = "accept: application/json, text/event-stream\r\n"
        size = 10_000_000 if path == CHAT else 4_000_000
        async with connection(self.socket("unfinished" if size > 5_000_000 else "m")) as (reader, writer):
            writer.write(head(size, path=path, rows=rows))
            # A request that is refused by its head is refused before it has sent its body.
            with suppress(TimeoutError):
                status = await asyncio.wait_for(reader.read(4096), 0.2)
                self.count("unfinished bodies", status)
                await self.pace(2.0)
                return
            for _ in range(size // 1_000_000):
                writer.write(b" " * 999_999)
                await writer.drain()
                await self.pace(0.02)
            self.count("unfinished bodies", await reader.read(4096))

    async def slow(self) -> None:
        """A byte a second."""
        async with connection(self.socket("slow")) as (reader, writer):
            writer.write(head(1000))
            while not reader.at_eof():
                writer.write(b" ")
                with suppress(TimeoutError):
                    self.count("slow bodies", await asyncio.wait_for(reader.read(4096), 1.0))
                    break

    async def idle(self) -> None:
        """One of a thousand connections: silent, after one response, or with half a head."""
        number = self.done["idle connections"]
        async with connection(self.socket("idle")) as (reader, writer):
            self.count("idle connections")
            if number % 3:
                writer.write(
                    b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"[: 47 if number % 3 == 1 else 20]
                )
            while await reader.read(4096):
                pass
        await self.pace(5.0)

    async def stalls(self) -> None:
        for name, data in STALLS.items():
            self.count(f"stall: {name}", await self.ask("stalls", data))
            await self.pace(5.0)

    async def streams(self) -> None:
        for model in STREAMS:
            for path in (CHAT, "/v1/messages"):
                body = chat(model, stream=True, max_tokens=9)
                self.count(model, await self.ask("streams", post(body, path=path)))
                await self.pace(2.0)

    async def tools(self) -> None:
        calls = [
            mcp("tools/call", name="echo__echo", arguments={"text": "y" * 100_000}, id=n) for n in range(30)
        ]
        for status in await asyncio.gather(
            *(self.ask("tools", data) for data in calls), return_exceptions=True
        ):
            self.count("tool calls", status if isinstance(status, bytes) else b"")
        self.count("tool lists", await self.ask("tools", mcp("tools/list")))
        await self.pace(1.0)

    async def sessions(self) -> None:
        """Sessions that are never ended."""
        params = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "soak", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        rows = "accept: application/json, text/event-stream\r\n"
        self.count(
            "sessions", await self.ask("tools", post(json.dumps(message).encode(), path="/mcp/v1", rows=rows))
        )
        await self.pace(0.1)

    async def circuits(self) -> None:
        """Requests to which the good caller's provider responds with 500."""
        self.count("provoked failures", await self.ask("circuits", post(chat("fail-500"))))
        await self.pace(0.5)

    async def hang_ups(self) -> None:
        """Disconnects during the body, and before the response."""
        async with connection(self.socket("hang_ups")) as (_, writer):
            writer.write(REFUSED_BODIES["policy"][:2_000_000])
            await writer.drain()
        async with connection(self.socket("hang_ups")) as (_, writer):
            writer.write(post(chat("silent", "x" * 100_000)))
            await writer.drain()
            await asyncio.sleep(0.1)
        self.count("hang-ups")
        await self.pace(0.3)

    async def waiting(self) -> None:
        """More concurrent requests than the agent may have, each of 1 MB, to a model that never
        responds.
        """
        data = post(chat("silent", "x" * 1_000_000))
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.gather(*(self.ask("waiting", data) for _ in range(8)))
        self.count("requests that wait")
        await self.pace(1.0)


@asynccontextmanager
async def connection(path: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def main(folder: str, share: str, *only: str) -> None:
    os.nice(NICE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))
    with suppress(KeyboardInterrupt):
        asyncio.run(Hostile(Path(folder), float(share)).run(only))


if __name__ == "__main__":
    main(*sys.argv[1:])
