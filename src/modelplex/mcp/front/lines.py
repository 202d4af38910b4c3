"""MCP's stdio framing on a socket: one JSON-RPC message a line, one connection one client.

Above it stands the listener of that socket, which says who calls; below it the conversation and the hub. The era of a connection is that of the first request
that is answered, for its whole life. It ends with the client's half: what runs then gets a moment to be answered, so that a script may write and hang up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, cast

from modelplex.caller import Caller
from modelplex.config.settings import McpConfig
from modelplex.mcp.front.bounded import read
from modelplex.mcp.front.checks import (
    Refusal,
    era_of,
    id_of,
    kind_of,
    malformed,
    modern_fault,
    no_era,
)
from modelplex.mcp.front.session import Conversation, Stream, Tools, already_running, start_all
from modelplex.mcp.words import INVALID_REQUEST, Json

BATCHING: Final = "2025-03-26"
"""The one revision that has batches."""
LAST_ANSWERS_SECONDS: Final = 1.0
"""For what runs when the client stops writing. One that is gone altogether looks the same until it is written to."""
LAST_WORDS_SECONDS: Final = 2.0
"""For a client to take what was written before the connection is closed."""


class Lines:
    """Serves connections. `server` is the one that they are bound to, None for all of them."""

    def __init__(
        self, hub: Tools, config: McpConfig, *, ids: Callable[[], str], server: str | None = None
    ) -> None:
        self.hub = hub
        self.config = config
        self.server = server
        self._ids = ids
        self._open: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Lines {len(self._open)} connections>"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller) -> None:
        """One connection, until it ends. The reader's own limit is [mcp] max_message."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        stream = Stream(owner=caller.owner)
        talk = Conversation(self.hub, caller, server=self.server, session=self._ids(), stream=stream)
        writing = asyncio.create_task(_write(stream, writer))
        try:
            if len(self._open) > self.config.max_sessions:
                stream.put(_too_many(self.config.max_sessions).body())
            else:
                await self._listen(talk, reader, writing)
                await talk.settle(LAST_ANSWERS_SECONDS)
        except asyncio.CancelledError:
            pass  # the gateway stops, and this is the connection's own task
        finally:
            self._open.discard(task)
            self._ending.add(task)
            await self._end(talk, writing, writer)
            self._ending.discard(task)

    async def _end(
        self, talk: Conversation, writing: asyncio.Task[None], writer: asyncio.StreamWriter
    ) -> None:
        await talk.end()
        await asyncio.wait((writing,), timeout=LAST_WORDS_SECONDS)
        writing.cancel()
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), LAST_WORDS_SECONDS)
        if not writer.transport.is_closing() or writer.transport.get_write_buffer_size():
            writer.transport.abort()

    async def close(self) -> None:
        """End every connection."""
        for task in tuple(self._open):
            task.cancel()
        while tasks := self._open | self._ending:
            await asyncio.wait(tasks)

    async def _listen(
        self, talk: Conversation, reader: asyncio.StreamReader, writing: asyncio.Task[None]
    ) -> None:
        fixed = False
        while not writing.done():
            line = await self._line(talk, reader)
            if line is None:
                return
            if not line.strip():
                continue
            value = read(line, max_depth=self.config.max_depth)
            if isinstance(value, Refusal):
                talk.stream.put(value.body())
            elif kind_of(value) == "batch":
                self._batch(talk, value)
            elif kind_of(value) != "request":
                self._told(talk, value)
            elif (fault := self._fault(talk, value, fixed=fixed)) is not None:
                talk.stream.put(fault.body())
            else:
                fixed = True
                if not talk.start(value, talk.stream):
                    talk.stream.put(already_running(value))

    async def _line(self, talk: Conversation, reader: asyncio.StreamReader) -> bytes | None:
        try:
            return await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as rest:
            return rest.partial or None
        except asyncio.LimitOverrunError:
            told = f"Invalid request: a line is longer than the {self.config.max_message} bytes of [mcp] max_message. The connection ends."
            talk.stream.put(Refusal(413, INVALID_REQUEST, told).body())
            return None
        except OSError:
            return None

    def _told(self, talk: Conversation, value: Any) -> None:
        if kind_of(value) == "none":
            talk.stream.put(malformed(value).body())
        else:
            talk.heard(value)

    def _fault(self, talk: Conversation, message: Json, *, fixed: bool) -> Refusal | None:
        """What is wrong with a request on this connection. The first without a fault says which era it is."""
        era = talk.era if fixed else era_of(message)
        if era is None:
            return no_era(id_of(message))
        fault = modern_fault(None, message) if era == "modern" else None
        if fault is None:
            talk.era = era
        return fault

    def _batch(self, talk: Conversation, value: list[Any]) -> None:
        if not talk.open or talk.version != BATCHING or not value or len(value) > self.config.max_in_flight:
            talk.stream.put(malformed(value).body())
            return
        answers = Gathered(talk.stream)
        start_all(talk, value, answers, done=answers.finish)


class Gathered(Stream):
    """The stream of a batch: its answers go out together, anything else at once."""

    __slots__ = ("_answers", "_out")

    def __init__(self, out: Stream) -> None:
        super().__init__()
        self._out = out
        self._answers: list[Json] = []

    def put(self, message: Json) -> None:
        if "method" in message:
            self._out.put(message)
        else:
            self._answers.append(message)

    def finish(self) -> None:
        self._out.put(cast("Json", self._answers))
        super().finish()


async def _write(stream: Stream, writer: asyncio.StreamWriter) -> None:
    """Write lines until the stream ends or nobody reads. A client that is too slow loses its connection, since a gap could not be seen."""
    written = 0
    reader = stream.take()
    with contextlib.suppress(OSError):
        while await stream.more(written, reader=reader):
            items = stream.after(written)
            if not items:
                return
            if items[0][0] != written + 1:
                writer.transport.abort()
                return
            writer.write(b"".join(data + b"\n" for _, data in items))
            await writer.drain()
            written = items[-1][0]
            stream.read(written)


def _too_many(limit: int) -> Refusal:
    return Refusal(
        503, INVALID_REQUEST, f"There are {limit} connections already, which is [mcp] max_sessions."
    )
