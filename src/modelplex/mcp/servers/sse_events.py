"""Server-sent events with their ids: what a stream needs that is gone on with after a break.

PURE. Above it stand the channels over HTTP; below it nothing. Framing is that of the WHATWG's
"Server-sent events", section 9.2.
"""

from __future__ import annotations

from typing import NamedTuple

LONGEST_ID = 1_024
"""Bytes of an event's id that is remembered: it goes into a header. A longer one is passed over."""


class Event(NamedTuple):
    """`name` is "message" where the event has none; `data` may be empty (an event that only brings
    an id).
    """

    name: str
    data: bytes


class EventTooLong(Exception):
    """An event is longer than the limit."""


class EventReader:
    """Gives the same events however the bytes are cut. `limit` bounds an event in bytes.

    `last_id` is the id seen last, "" before any; `retry` the seconds that the server asks to wait
    before a new connection.
    """

    def __init__(self, *, limit: int) -> None:
        self.last_id = ""
        self.retry: float | None = None
        self._limit = limit
        self._carry = bytearray()
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._touched = False
        self._after_cr = False

    def __repr__(self) -> str:
        return f"<EventReader last_id={self.last_id!r} carry={len(self._carry)}>"

    def feed(self, data: bytes) -> list[Event]:
        """The events that end in these bytes.

        Raises:
            TooLong
        """
        if not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, ended, rest = data.partition(b"\n")
        self._carry += first
        if self._size + len(self._carry) > self._limit:
            raise EventTooLong
        if not ended:
            return []
        lines = [bytes(self._carry), *rest.split(b"\n")]
        self._carry = bytearray(lines.pop())
        events: list[Event] = []
        for line in lines:
            if not line:
                if self._touched:
                    events.append(Event(self._name or "message", b"\n".join(self._data)))
                self._name, self._data, self._size, self._touched = "", [], 0, False
            else:
                self._field(line)
        return events

    def _field(self, line: bytes) -> None:
        field, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value) + 1  # a line without anything takes room too
            if self._size > self._limit:
                raise EventTooLong
            self._data.append(value)
            self._touched = True
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value and len(value) <= LONGEST_ID:
            self.last_id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit() and len(value) < 9:
            self.retry = int(value) / 1000
