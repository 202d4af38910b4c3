"""The scripted provider of the soak: `python -m benchmarks.soak_upstream PORT`. The model
selects the behaviour.

good          responds with the nonce of the request, whole or streamed
fail-500      responds with 500
silent        never responds
endless-*     streams for as long as it is read, up to MOST_BYTES: tool arguments, tool calls, data
lines without content, blank lines
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

MOST_BYTES = 256 * 1024 * 1024
"""Of one endless stream: far more than a gateway should read."""
PIECE = 65_536
PIECES_OF_A_SECOND = 400
"""Of an endless stream, so that the provider's own CPU use stays bounded."""
NONCE = re.compile(rb"nonce-[0-9a-f]+")
MODEL = re.compile(rb'"model"\s*:\s*"([^"]*)"')
STREAM = re.compile(rb'"stream"\s*:\s*true')
WHOLE = b"HTTP/1.1 %d -\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chat(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "good",
            "choices": choices,
            "usage": USAGE,
        }
    ).encode()


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "good", "choices": choices}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def streamed(text: str) -> Iterator[bytes]:
    """A stream of the text in four pieces."""
    step = max(1, len(text) // 4)
    yield event({"role": "assistant", "content": ""})
    for at in range(0, len(text), step):
        yield event({"content": text[at : at + step]})
    yield event({}, "stop")
    usage: dict[str, Any] = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "good"}
    usage |= {"choices": [], "usage": USAGE}
    yield b"data: " + json.dumps(usage).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def call(index: int, **function: str) -> dict[str, Any]:
    named = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": index, **named, "function": function}]}


def endless(kind: str) -> Iterator[bytes]:
    """The pieces of an endless stream."""
    yield event({"role": "assistant", "content": ""})
    if kind == "arguments":
        yield event(call(0, name="f", arguments=""))
        piece = event(call(0, arguments="x" * 1000)) * (PIECE // 1200)
        while True:
            yield piece
    if kind == "calls":
        # "index" comes before the id that is made of it.
        one = event(call(7777777, name="f", arguments="{}")).replace(b"7777777", b"%d")
        index = 0
        while True:
            yield b"".join(one % (number, number) for number in range(index, index + 200))
            index += 200
    piece = {
        "data": event({}) * (PIECE // len(event({}))),
        "blank": b"\n" * PIECE,
        "comments": b":\n\n" * (PIECE // 3),
    }[kind]
    while True:
        yield piece


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, after = head.lower().partition(b"content-length:")
    return await reader.readexactly(int(after.partition(b"\r\n")[0])) if after else b""


async def pour(pieces: Iterator[bytes], writer: asyncio.StreamWriter, *, pause: float = 0.0) -> None:
    writer.write(STREAM_HEAD)
    sent = 0
    for piece in pieces:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        sent += len(piece)
        if sent > MOST_BYTES:
            break
        if pause:
            await asyncio.sleep(pause)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def answer(body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    found = MODEL.search(body[:4096]) or MODEL.search(body)
    model = found[1].decode() if found else ""
    kind, _, what = model.partition("-")
    if kind == "endless":
        await pour(endless(what), writer, pause=1 / PIECES_OF_A_SECOND)
    elif kind == "silent":
        await reader.read(1)  # until the client disconnects
    elif kind == "fail":
        said = b'{"error":{"message":"it failed","type":"server_error"}}'
        writer.write(WHOLE % (500, len(said), said))
    elif not body:
        said = b'{"object":"list","data":[]}'
        writer.write(WHOLE % (200, len(said), said))
    else:
        nonce = NONCE.search(body)
        text = f"You said {nonce[0].decode() if nonce else 'nothing'}, and that is well."
        if STREAM.search(body):
            await pour(streamed(text), writer)
        else:
            said = chat(text)
            writer.write(WHOLE % (200, len(said), said))
    await writer.drain()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while True:
            await answer(await read_request(reader), reader, writer)
    writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=2**26)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
