"""Messages of the gateway for one client, in order: bounded, and resumable if they have ids."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast
from weakref import WeakSet, WeakValueDictionary

import msgspec

from modelplex.mcp.clients.checks import id_of
from modelplex.mcp.constants import INTERNAL_ERROR, Json, McpReply

REPLAY_MESSAGES: Final = 256
REPLAY_BYTES: Final = 1024 * 1024
"""What is kept of a stream for a client that resumes it: a burst of progress, and no more than a
thousand sessions can afford.
"""
UNREAD_MESSAGES: Final = 8192
UNREAD_BYTES: Final = 16 * 1024 * 1024
"""Unread messages of a slow client: room for four of the largest results. Beyond, the oldest are
dropped, and the stream ends.
"""
UNREAD_OF_CALLER: Final = 48 * 1024 * 1024
"""Bytes in all streams of one caller, finished ones included, so that unread results do not fill
the memory. Beyond, an error replaces a response, and notifications are dropped.
"""
MIN_COUNTED: Final = 65_536
"""Bytes of a stream below which the caller's other streams are not counted."""


class CallerStreams:
    """The streams of one caller."""

    __slots__ = ("__weakref__", "streams")

    def __init__(self) -> None:
        self.streams: WeakSet[MessageStream] = WeakSet()

    def __repr__(self) -> str:
        return f"<CallerStreams {self.size} bytes in {len(self.streams)} streams>"

    @property
    def size(self) -> int:
        return sum(stream.size for stream in self.streams)


_CALLERS: Final[WeakValueDictionary[str, CallerStreams]] = WeakValueDictionary()
"""By owner. The memory is the process's, so this is too."""


class MessageStream:
    """Messages for one client in order, numbered from 1.

    key        names the stream in event ids
    owner      the caller whose streams are limited together; "" for a stream that holds little
    resumable  messages that were read are kept for a while
    json_only  the client reads one JSON response: notifications are dropped
    read_to    the last number written to a connected client
    responses  the number of responses among its messages
    ids_sent   the client has seen the ids, so it can resume
    finished   no more messages come
    on_notification  called after a notification was put
    """

    __slots__ = ("__weakref__", "_changed", "_items", "_of_caller", "_reader", "connected", "finished", "ids_sent", "json_only", "key", "last", "on_notification", "read_to", "responses", "resumable", "size")  # fmt: skip

    def __init__(
        self, key: str = "", *, owner: str = "", resumable: bool = False, json_only: bool = False
    ) -> None:
        self.key = key
        self.resumable = resumable
        self.json_only = json_only
        self._reader = 0
        self._items: deque[tuple[int, bytes]] = deque()
        self.size = 0
        self._changed = asyncio.Event()
        self.on_notification: Callable[[], None] | None = None
        self._of_caller: CallerStreams | None = None
        if owner:
            self._of_caller = _CALLERS.setdefault(owner, CallerStreams())
            self._of_caller.streams.add(self)
        self.last = 0
        self.read_to = 0
        self.finished = False
        self.connected = False
        self.ids_sent = False
        self.responses = 0

    def __repr__(self) -> str:
        state = "finished" if self.finished else "open"
        reader = ", read" if self.connected else ""
        return f"<MessageStream {self.key} {state}{reader} {self.read_to} of {self.last}>"

    def put(self, message: Json) -> None:
        if self.finished or (self.json_only and "method" in message):
            return
        data = msgspec.json.encode(message)
        if self._of_caller is not None and self.size + len(data) > MIN_COUNTED and self._overfull(len(data)):
            if "method" in message:
                return
            data = msgspec.json.encode(_without_room(message))
        self.last += 1
        self.responses += "method" not in message
        self._items.append((self.last, data))
        self.size += len(data)
        self._trim()
        self._changed.set()
        if self.on_notification is not None and "method" in message:
            self.on_notification()

    def _overfull(self, more: int) -> bool:
        return self._of_caller is not None and self._of_caller.size + more > UNREAD_OF_CALLER

    def finish(self) -> None:
        self.finished = True
        self._changed.set()

    def mark_read(self, number: int) -> None:
        """Messages up to this number were written to the client."""
        self.read_to = max(self.read_to, number)
        self._trim()

    def after(self, number: int) -> list[tuple[int, bytes]]:
        """The messages above this number."""
        return [item for item in self._items if item[0] > number]

    def has_all_after(self, number: int) -> bool:
        """Whether no message after this number is lost, and the number was issued."""
        first = self._items[0][0] if self._items else self.last + 1
        return first - 1 <= number <= self.last

    @property
    def start(self) -> int:
        """The number after which no message is lost."""
        return self._items[0][0] - 1 if self._items else self.last

    def attach(self) -> int:
        """Become the reader in place of another. Returns the reader's number for `wait_for_more`
        and `detach`.
        """
        self._reader += 1
        self.connected = True
        self._changed.set()
        return self._reader

    def detach(self, reader: int) -> None:
        if reader == self._reader:
            self.connected = False
            self._trim()

    async def wait_for_more(self, number: int, *, reader: int) -> bool:
        """Wait for a message above `number`, or the end. False if another reader has taken over."""
        while self.last <= number and not self.finished and reader == self._reader:
            self._changed.clear()
            await self._changed.wait()
        return reader == self._reader

    async def wait_for_form(self) -> None:
        """Wait until the form of the response is known: at the end, or at the first message that is
        no response.
        """
        while not self.finished and self.last == self.responses:
            self._changed.clear()
            await self._changed.wait()

    def _trim(self) -> None:
        items = self._items
        while items and self._excess(items[0][0]):
            self.size -= len(items.popleft()[1])

    def _excess(self, oldest: int) -> bool:
        unread = oldest > self.read_to
        if unread and (self.connected or not self.resumable):
            return len(self._items) > 1 and (len(self._items) > UNREAD_MESSAGES or self.size > UNREAD_BYTES)
        if not self.resumable:
            return True
        # The last message stays, whatever its size: it may be the response.
        return len(self._items) > 1 and (len(self._items) > REPLAY_MESSAGES or self.size > REPLAY_BYTES)


def _without_room(message: object) -> object:
    """The error that replaces a response, or those of a batch, for which there is no room."""
    if isinstance(message, list):
        return [_without_room(each) for each in cast("list[object]", message)]
    text = (
        f"More than {UNREAD_OF_CALLER} bytes for this client wait to be read; this answer is not among them."
    )
    return McpReply.failed(INTERNAL_ERROR, text, {"reason": "limit", "retryAfterMs": 1000}).message(
        id_of(cast("Json", message))
    )
