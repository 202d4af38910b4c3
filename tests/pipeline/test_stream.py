"""A provider that sends faster than its stream can be read leaves the loop to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelplex.core.errors import ModelplexError
from modelplex.pipeline import stream
from modelplex.pipeline.response_output import ResponseHead
from modelplex.pipeline.stream import PIECE, ResponseStream, StreamCallbacks


class Answer:
    """A response whose chunks have all arrived."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)

    async def chunk(self) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""

    async def deliver(self, take: Callable[[bytes], bool]) -> bool:
        """Nothing arrives."""
        del take
        return False

    def nudge(self) -> None:
        """Nobody waits."""


class Exchange:
    """Passes everything on, and keeps what it was fed."""

    def __init__(self) -> None:
        self.fed: list[bytes] = []
        self.media_type = "text/event-stream"
        self.failed = None
        self.has_output = True
        self.complete = True
        self.error_was_forwarded = False

    def feed(self, data: bytes) -> bytes:
        self.fed.append(data)
        return data

    def end(self) -> bytes:
        return b""


class Output:
    """The client's side."""

    def __init__(self) -> None:
        self.started = self.finished = False
        self.stop_error: ModelplexError | None = None
        self.written: list[bytes] = []

    async def start(self, headers: object) -> None:
        del headers
        self.started = True

    async def write(self, data: bytes) -> None:
        self.written.append(data)

    async def finish(self) -> None:
        self.finished = True


async def moved(*chunks: bytes, monkeypatch: pytest.MonkeyPatch, slow: bool) -> tuple[Exchange, Output, int]:
    """What became of the chunks, and how often another task had its turn meanwhile."""
    clock = count()
    monkeypatch.setattr(stream, "REST_S", 0.0)
    monkeypatch.setattr(stream, "perf_counter", lambda: float(next(clock)) if slow else 0.0)
    exchange, output, turns = Exchange(), Output(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    run = ResponseStream(
        cast("Any", Answer(*chunks)),
        cast("Any", exchange),
        cast("Any", output),
        upstream=cast("Any", SimpleNamespace(name="up", hide=bytes)),
        request_id="r",
        ping_interval=60.0,
        callbacks=StreamCallbacks(
            head=lambda: ResponseHead(dialect="openai_chat", request_id="r"), on_output=lambda: None
        ),
    )
    assert await run.run() is None
    beside.cancel()
    assert output.finished
    return exchange, output, turns


async def test_others_have_a_turn_after_each_slow_piece_of_a_large_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytes(range(256)) * (10 * PIECE // 256)
    exchange, output, turns = await moved(data, monkeypatch=monkeypatch, slow=True)
    assert b"".join(output.written) == data
    assert exchange.fed == [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    assert turns >= 10


async def test_what_is_read_fast_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"x" * (10 * PIECE)
    _, output, turns = await moved(data, b"y", monkeypatch=monkeypatch, slow=False)
    assert b"".join(output.written) == data + b"y"
    assert turns == 0


async def test_a_small_chunk_is_read_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, _, turns = await moved(b"x" * PIECE, b"y", monkeypatch=monkeypatch, slow=True)
    assert exchange.fed == [b"x" * PIECE, b"y"]
    assert turns == 0
