"""A worker's connection to the supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from modelplex.server.workers.messages import MAX_FRAME, BadFrame, Frames, Message, frame


class SupervisorLink(asyncio.Protocol):
    """`receive` gets each message. `lost` is called when the supervisor has ended."""

    def __init__(self, *, receive: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<SupervisorLink {self._transport!r}>"

    async def open(self, channel: socket.socket) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=channel)

    async def close(self) -> None:
        """End the connection without calling `lost`."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.abort()
            await self._closed.wait()

    def send(self, message: Message) -> None:
        """A message is dropped where the supervisor does not read: whoever waits for it has a
        timeout.
        """
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() < MAX_FRAME:
            transport.write(frame(message))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._frames.feed(data)
        except BadFrame:
            if self._transport is not None:
                self._transport.abort()
            return
        for message in messages:
            self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._closed.set()
        if not self._is_closing:
            self._lost()
