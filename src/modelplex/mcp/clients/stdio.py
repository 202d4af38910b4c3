"""MCP's stdio framing on a socket: one JSON-RPC message per line, one client per connection.

The first request that is answered fixes the protocol era of a connection. When the client stops
writing, running requests get a moment to finish, so that a script may write and hang up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from modelplex.config.mcp_settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError
from modelplex.mcp.clients.checks import (
    ProtocolRefusal,
    era_of,
    id_of,
    kind_of,
    malformed,
    modern_fault,
    no_era,
    read,
)
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.clients.session import ClientConversation, ToolBackend, already_running, start_all
from modelplex.mcp.constants import INTERNAL_ERROR, INVALID_REQUEST, Json
from modelplex.pipeline.offload import Offload

LAST_ANSWERS_SECONDS: Final = 1.0
"""For running requests after the client stops writing. A client that is gone looks the same until
it is written to.
"""
LAST_WRITE_SECONDS: Final = 2.0
"""For a client to read what was written before the connection closes."""

PIECE: Final = 65_536
"""Bytes per read: the memory of a connection that is not reserved."""


class LineMemory(Protocol):
    """The memory reserved for one line."""

    def reach(self, size: int) -> None: ...
    def release(self) -> None: ...


class LineTooLong(Exception):
    """A line is longer than the limit."""


class StdioLineReader:
    """Lines of at most `limit` bytes. Each comes with its reserved memory, which the reader
    releases.
    """

    def __init__(
        self, reader: asyncio.StreamReader, *, limit: int, reserve: Callable[[], LineMemory]
    ) -> None:
        self._reader = reader
        self._limit = limit
        self._reserve = reserve
        self._rest = bytearray()

    async def next(self) -> tuple[bytes, LineMemory] | None:
        """The next line, also the last one without a line end; None at the end. Raises LineTooLong,
        OSError, and AgentLimited or Busy if there is no memory for it.
        """
        memory = self._reserve()
        try:
            line = await self._line(memory)
        except BaseException:
            memory.release()
            raise
        if line is None:
            memory.release()
            return None
        return line, memory

    async def _line(self, memory: LineMemory) -> bytes | None:
        rest, searched = self._rest, 0
        while (end := rest.find(b"\n", searched)) < 0:
            searched = len(rest)
            if searched > self._limit:
                raise LineTooLong
            memory.reach(searched)
            piece = await self._reader.read(PIECE)
            if not piece:
                last = bytes(rest)
                rest.clear()
                return last or None
            rest += piece
        if end > self._limit:
            raise LineTooLong
        line = bytes(rest[:end])
        del rest[: end + 1]
        memory.reach(len(line))
        return line


class StdioConnections:
    """Serves connections to one server, or to all if `server` is None."""

    def __init__(
        self,
        gateway: ToolBackend,
        config: McpConfig,
        *,
        ids: Callable[[], str],
        server: str | None = None,
        offload: Offload | None = None,
    ) -> None:
        self.gateway = gateway
        self.config = config
        self.server = server
        self._ids = ids
        self._offload = offload if offload is not None else Offload()
        self._open: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<StdioConnections {len(self._open)} connections>"

    async def serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        caller: Caller,
        *,
        reserve: Callable[[], LineMemory],
    ) -> None:
        """Serve one connection until it ends. `reserve` starts the memory reservation of a line."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        stream = MessageStream(owner=caller.owner)
        conversation = ClientConversation(
            self.gateway, caller, server=self.server, session=self._ids(), stream=stream
        )
        writing = asyncio.create_task(_write(stream, writer))
        try:
            if len(self._open) > self.config.max_sessions:
                stream.put(_too_many(self.config.max_sessions).body())
            else:
                lines = StdioLineReader(reader, limit=self.config.max_message, reserve=reserve)
                await self._listen(conversation, lines, writing)
                await conversation.wait_for_requests(LAST_ANSWERS_SECONDS)
        except asyncio.CancelledError:
            pass  # the gateway stops, and this is the connection's own task
        finally:
            self._open.discard(task)
            self._ending.add(task)
            await self._end(conversation, writing, writer)
            self._ending.discard(task)

    async def _end(
        self, conversation: ClientConversation, writing: asyncio.Task[None], writer: asyncio.StreamWriter
    ) -> None:
        await conversation.end()
        await asyncio.wait((writing,), timeout=LAST_WRITE_SECONDS)
        writing.cancel()
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), LAST_WRITE_SECONDS)
        if not writer.transport.is_closing() or writer.transport.get_write_buffer_size():
            writer.transport.abort()

    async def close(self) -> None:
        """End every connection."""
        for task in tuple(self._open):
            task.cancel()
        while tasks := self._open | self._ending:
            await asyncio.wait(tasks)

    async def _listen(
        self, conversation: ClientConversation, lines: StdioLineReader, writing: asyncio.Task[None]
    ) -> None:
        fixed = False
        while not writing.done():
            found = await self._line(conversation, lines)
            if found is None:
                return
            line, memory = found
            started = False
            try:
                value = await self._parse(line, owner=conversation.caller.owner)
                if isinstance(value, ProtocolRefusal):
                    conversation.stream.put(value.body())
                elif value is None:
                    pass
                elif kind_of(value) == "batch":
                    started = self._batch(conversation, value, done=memory.release)
                elif kind_of(value) == "none":
                    conversation.stream.put(malformed(value).body())
                elif kind_of(value) != "request":
                    conversation.receive(value)
                elif (fault := self._fault(conversation, value, fixed=fixed)) is not None:
                    conversation.stream.put(fault.body())
                else:
                    fixed = True
                    started = conversation.start(value, conversation.stream, done=memory.release)
                    if not started:
                        conversation.stream.put(already_running(value))
            finally:
                if not started:
                    memory.release()

    async def _parse(self, line: bytes, *, owner: str) -> Any:
        """The JSON of a line, or a ProtocolRefusal; None for an empty line. Large lines are parsed
        in a thread; the next line is read after that, so that messages keep their order.
        """
        if not line.strip():
            return None
        return await self._offload.run(
            partial(read, line, max_depth=self.config.max_depth), body=line, owner=owner
        )

    async def _line(
        self, conversation: ClientConversation, lines: StdioLineReader
    ) -> tuple[bytes, LineMemory] | None:
        try:
            return await lines.next()
        except LineTooLong:
            text = f"Invalid request: a line is longer than the {self.config.max_message} bytes of [mcp] max_message. The connection ends."
            conversation.stream.put(ProtocolRefusal(413, INVALID_REQUEST, text).body())
        except ModelplexError as error:
            text = f"{error.message} The connection ends."
            conversation.stream.put(
                ProtocolRefusal(error.status, INTERNAL_ERROR, text, {"reason": "limit"}).body()
            )
        except OSError:
            pass
        return None

    def _fault(
        self, conversation: ClientConversation, message: Json, *, fixed: bool
    ) -> ProtocolRefusal | None:
        """What is wrong with a request on this connection. The first valid one fixes the era."""
        era = conversation.era if fixed else era_of(message)
        if era is None:
            return no_era(id_of(message))
        fault = modern_fault(None, message) if era == "modern" else None
        if fault is None:
            conversation.era = era
        return fault

    def _batch(self, conversation: ClientConversation, value: list[Any], *, done: Callable[[], None]) -> bool:
        """Start a batch. True if it has requests; `done` is called after the last of them."""
        if not conversation.takes_batch(value, limit=self.config.max_in_flight):
            conversation.stream.put(malformed(value).body())
            return False
        responses = BatchStream(conversation.stream)

        def on_finished() -> None:
            responses.finish()
            done()

        return start_all(conversation, value, responses, done=on_finished) > 0


class BatchStream(MessageStream):
    """The stream of a batch: collects responses, passes other messages on."""

    __slots__ = ("_out", "_responses")

    def __init__(self, out: MessageStream) -> None:
        super().__init__()
        self._out = out
        self._responses: list[Json] = []

    def put(self, message: Json) -> None:
        if "method" in message:
            self._out.put(message)
        else:
            self._responses.append(message)

    def finish(self) -> None:
        self._out.put(cast("Json", self._responses))
        super().finish()


async def _write(stream: MessageStream, writer: asyncio.StreamWriter) -> None:
    """Write lines until the stream ends or the client stops reading. A client that is too slow is
    disconnected, since it could not see a gap.
    """
    written = 0
    reader = stream.attach()
    with contextlib.suppress(OSError):
        while await stream.wait_for_more(written, reader=reader):
            items = stream.after(written)
            if not items:
                return
            if items[0][0] != written + 1:
                writer.transport.abort()
                return
            writer.write(b"".join(data + b"\n" for _, data in items))
            await writer.drain()
            written = items[-1][0]
            stream.mark_read(written)


def _too_many(limit: int) -> ProtocolRefusal:
    return ProtocolRefusal(
        503, INVALID_REQUEST, f"There are {limit} connections already, which is [mcp] max_sessions."
    )
