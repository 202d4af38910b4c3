"""A gateway with work on it: three agents, three providers of which one fails, and tool servers.

Models answer as their names say, so that a test decides what happens when:

    ...-fast     a whole stream at once
    ...-slow     a token each 20 ms, until it is stopped
    ...-silent   nothing, until it is stopped
    ...-halts    some tokens, then nothing
    ...-down     503, every time

Those of REAL_NAMES do the same under names as in the pictures of the documents.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gateways import Running, gateway
from tests.upstreams import Scripted, chunk, provider

METADATA = '[record]\ncontent = "metadata"\n'
WORDS = (
    "The build fails because the second migration renames a column that the first one still reads . ".split()
)

REAL_NAMES = {
    "claude-opus-4-6": "slow",
    "gpt-5.2": "slower",
    "qwen3-32b": "slowest",
    "claude-haiku-4-6": "halts",
    "gpt-5.2-pro": "silent",
    "claude-sonnet-4-6": "fast",
    "gpt-5.2-mini": "fast",
    "qwen3-8b": "fast",
    "gpt-5.2-codex": "down",
}
INTERVALS = {"slow": 0.02, "slower": 0.034, "slowest": 0.06}
"""Seconds between two tokens."""

TOOL_SERVER = """
import json, os, sys
description = open(os.environ["WORDS"]).read()
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    schema = {"type": "object", "properties": {"path": {"type": "string"}, "lines": {"type": "integer"}}, "required": ["path"]}
    match asked["method"]:
        case "initialize":
            answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": True}},
                                "serverInfo": {"name": "files", "version": "1.4.0"}, "instructions": "Paths are relative to the repository."}
        case "tools/list":
            answer["result"] = {"tools": [
                {"name": "read_file", "description": description, "inputSchema": schema},
                {"name": "search", "description": "Find text in the repository.", "inputSchema": schema}]}
        case "tools/call":
            answer["result"] = {"content": [{"type": "text", "text": "def main(): ..."}]}
        case _:
            answer["error"] = {"code": -32601, "message": "no"}
    print(json.dumps(answer), flush=True)
"""


async def model_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request of OpenAI's chat API, answered as its model's name says."""
    model: str = json.loads(_bodies[-1].seen[-1].body)["model"]
    does = REAL_NAMES.get(model) or model.rpartition("-")[2]
    if does == "down":
        data = (
            b'{"error": {"message": "The model is overloaded.", "type": "overloaded", "code": "overloaded"}}'
        )
        head = b"HTTP/1.1 503 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(data) + data)
        return
    if does == "silent":
        await reader.read()
        raise ConnectionResetError
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    count, written = 40, 0
    while does in INTERVALS or written < count:
        _piece(writer, chunk({"content": WORDS[written % len(WORDS)] + " "}))
        written += 1
        if does in INTERVALS:
            await asyncio.sleep(INTERVALS[does])
        await writer.drain()
    if does == "halts":
        await reader.read()
        raise ConnectionResetError
    usage = {"prompt_tokens": 1200, "completion_tokens": count, "total_tokens": 1200 + count}
    _piece(writer, chunk({}, finish="stop"))
    _piece(writer, chunk(usage={**usage, "prompt_tokens_details": {"cached_tokens": 800}}))
    _piece(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")


_bodies: list[Scripted] = []


def _piece(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


@dataclass
class Scene:
    running: Running
    folder: Path
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    @property
    def url(self) -> str:
        """The page, with its token."""
        return self.running.process.page.links(self.running.process.addresses)[0]

    @property
    def token(self) -> str:
        return self.running.process.page.token()

    async def call(self, agent: str, model: str, *, header: str = "", **more: Any) -> bytes:
        """One streamed call of an agent through its socket: the whole response. `header` is a line
        more, with its end.
        """
        reader, writer = await asyncio.open_unix_connection(str(self.folder / f"{agent}.sock"))
        body = json.dumps(
            {
                "model": model,
                "messages": [{"role": "user", "content": "Why does the build fail?"}],
                "stream": True,
            }
            | more
        ).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{header}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        try:
            return await reader.read()
        finally:
            writer.close()

    def start(self, agent: str, model: str, **more: Any) -> None:
        """The same in the background, until the scene ends."""
        task = asyncio.create_task(self._quietly(agent, model, more))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _quietly(self, agent: str, model: str, more: dict[str, Any]) -> None:
        with suppress(ConnectionError):
            await self.call(agent, model, **more)

    async def end(self) -> None:
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def _real(family: str) -> list[str]:
    return [name for name in REAL_NAMES if name.startswith(family)]


def config(folder: Path, url: str, *, more: str = "", server: str = "") -> str:
    words = folder / "words"
    if not words.exists():
        words.write_text("Read a file of the repository.")
    command = json.dumps([sys.executable, "-c", TOOL_SERVER])
    program, *arguments = json.loads(command)
    agents = "".join(
        f'[[agents]]\nname = "{name}"\nsocket = "{folder / name}.sock"\nattest = "warn"\n{limits}\n'
        for name, limits in (
            ("coder", 'budget = {usd = 5.0, per = "day"}'),
            ("reviewer", 'budget = {tokens = 400000, per = "month"}\nrate = {requests = 600}'),
            ("researcher", 'policy = "sealed"'),
        )
    )
    providers = "".join(
        f'[[providers]]\nname = "{name}"\ntype = "openai"\nbase_url = "{url}"\nmodels = {json.dumps(models)}\n'
        f"priority = {priority}\n"
        for name, priority, models in (
            (
                "openai",
                1,
                [*(f"gpt-5-{does}" for does in ("slow", "fast", "silent", "down", "halts")), *_real("gpt")],
            ),
            (
                "anthropic",
                2,
                [*(f"claude-opus-{does}" for does in ("slow", "fast", "halts")), *_real("claude")],
            ),
            ("local", 3, [*(f"qwen-{does}" for does in ("slow", "fast", "silent")), *_real("qwen")]),
        )
    )
    return f"""[server]
state_folder = "{folder / "state"}"
admin_socket = "{folder / "admin.sock"}"
{server}
[failover]
retries = 0
backoff = 0.01
breaker_failures = 1
[aliases]
best = ["gpt-5-down", "claude-opus-fast"]
default = ["gpt-5.2-codex", "claude-sonnet-4-6"]
[[prices]]
model = ["gpt-*", "claude-*"]
input = 3.0
output = 15.0
cached_input = 0.3
{providers}{agents}
[mcp]
enabled = true
[[mcp.servers]]
name = "files"
command = "{program}"
args = {json.dumps(arguments)}
env = {{WORDS = "{words}"}}
[[mcp.servers]]
name = "browser"
command = "{sys.executable}"
args = ["-c", "import sys; sys.exit('chrome: cannot open display :0')"]
{more or METADATA}
"""


@asynccontextmanager
async def scene(folder: Path, *, more: str = "", server: str = "", port: int = 0) -> AsyncGenerator[Scene]:
    async with provider(model_server) as up:
        _bodies.append(up)
        async with gateway(
            config(folder, up.url, more=more, server=server), folder=folder, port=port
        ) as running:
            made = Scene(running, folder)
            try:
                yield made
            finally:
                await made.end()
        _bodies.remove(up)
