"""Server-sent events of MCP servers, with the ids by which a stream is resumed.

PURE. dialects/core/sse.py has the framing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.core.sse import SseReader


class Event(NamedTuple):
    """`name` is "message" by default. `data` is empty if the event only has an id."""

    name: str
    data: bytes


class EventTooLong(Exception):
    """An event is longer than the limit."""


class EventReader:
    """`limit`: bytes of an event."""

    def __init__(self, *, limit: int) -> None:
        # A stream of a server's own messages may be silent for days.
        self._reader = SseReader(limit=limit, line_cost=1, idle_limit=math.inf)

    def __repr__(self) -> str:
        return f"<EventReader last_id={self.last_id!r} {self._reader!r}>"

    @property
    def last_id(self) -> str:
        """The id of the last event; "" if there was none."""
        return self._reader.last_id

    @property
    def retry(self) -> float | None:
        """Seconds to wait before a new connection, as the server requests."""
        return self._reader.retry

    def feed(self, data: bytes) -> list[Event]:
        """The events that end in these bytes. Raises EventTooLong."""
        try:
            events = self._reader.feed(data)
        except UpstreamBroken:
            raise EventTooLong from None
        return [Event(event.event or "message", event.data) for event in events]
