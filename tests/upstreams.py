"""Scripted providers: real sockets, and faults that no real provider would show on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Seen:
    """One request as it arrived."""

    target: str
    headers: dict[str, str]
    body: bytes
    head: bytes = b""
    """The request line and every header line: `headers` has one of each name."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Scripted:
    """A provider that does, for each request in turn, what the next script says; the last script
    serves all that follow.
    """

    scripts: list[Act]
    seen: list[Seen] = field(default_factory=list[Seen])
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, *rows = head.decode("latin-1").split("\r\n")
                headers = {n.lower(): v.strip() for n, _, v in (row.partition(":") for row in rows if row)}
                length = int(headers.get("content-length", "0"))
                self.seen.append(Seen(line.split(" ")[1], headers, await reader.readexactly(length), head))
                script = self.scripts[min(len(self.seen), len(self.scripts)) - 1]
                await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        except asyncio.CancelledError:
            pass
        finally:
            self.tasks.discard(task)
            writer.close()


@asynccontextmanager
async def provider(*scripts: Act) -> AsyncGenerator[Scripted, None]:
    scripted = Scripted(list(scripts))
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    scripted.url = f"http://{host}:{port}/v1"
    try:
        yield scripted
    finally:
        server.close()
        tasks = tuple(scripted.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer(
    body: bytes | dict[str, Any], *, status: int = 200, label: str = "application/json", **headers: str
) -> Act:
    """A whole response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rows = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {label}\r\ncontent-length: {len(data)}\r\n{rows}\r\n"
        writer.write(head.encode() + data)
        await writer.drain()

    return act


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def stream(*pieces: bytes, end: bool = True, then: Act | None = None, head: bytes = STREAM_HEAD) -> Act:
    """A chunked stream of these pieces; without `end` the connection is closed in its midst."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if then is not None:
            await then(reader, writer)
        if end:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        else:
            raise ConnectionResetError

    return act


def raw(data: bytes) -> Act:
    """These bytes, and the end of the connection."""

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        raise ConnectionResetError

    return act


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """No answer, and a reset."""
    writer.transport.abort()
    raise ConnectionResetError


async def stall(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Nothing, until the other side goes."""
    await reader.read()
    raise ConnectionResetError


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """One event of an OpenAI chat stream."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "up-model",
        "choices": choices,
    }
    return b"data: " + json.dumps(body | more).encode() + b"\n\n"


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
DONE = b"data: [DONE]\n\n"


def chat_stream(*texts: str, usage: bool = True) -> Sequence[bytes]:
    """The events of a whole OpenAI chat stream."""
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, finish="stop"),
        *([chunk(usage=USAGE)] if usage else []),
        DONE,
    ]


def chat_answer(text: str = "Hello", **message: Any) -> dict[str, Any]:
    """A whole OpenAI chat answer."""
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "up-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None} | message,
                "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
                "logprobs": None,
            }
        ],
        "usage": USAGE,
    }
