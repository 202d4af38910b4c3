"""Server-sent events of MCP servers, with the ids that a client resumes a stream by.

PURE. The framing is that of dialects/core/sse.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.core.sse import SseReader


class Event(NamedTuple):
    """`name` is "message" where the event has none; `data` may be empty (an event that only brings
    an id).
    """

    name: str
    data: bytes


class EventTooLong(Exception):
    """An event is longer than the limit."""


class EventReader:
    """Returns the same events however the bytes are cut. `limit` bounds an event in bytes."""

    def __init__(self, *, limit: int) -> None:
        # A stream that a server holds open for its own messages may be silent for days.
        self._reader = SseReader(limit=limit, line_cost=1, idle_limit=math.inf)

    def __repr__(self) -> str:
        return f"<EventReader last_id={self.last_id!r} {self._reader!r}>"

    @property
    def last_id(self) -> str:
        """The last event id, "" before any."""
        return self._reader.last_id

    @property
    def retry(self) -> float | None:
        """Seconds that the server asks to wait before a new connection."""
        return self._reader.retry

    def feed(self, data: bytes) -> list[Event]:
        """The events that end in these bytes.

        Raises:
            EventTooLong
        """
        try:
            events = self._reader.feed(data)
        except UpstreamBroken:
            raise EventTooLong from None
        return [Event(event.event or "message", event.data) for event in events]
