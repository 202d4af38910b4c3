"""Server-sent events: the one reader, and the writers of single events.

Framing is that of the WHATWG's "Server-sent events", section 9.2: lines end with LF, CR or CRLF, a
blank line ends an event. Imports no dialect and decodes no data.
"""

from __future__ import annotations

from typing import NamedTuple

from modelplex.core.errors import UpstreamBroken

LINE_CAP = 32 * 1024 * 1024
"""Bytes of one line, and of one event's data. A generated image is one line of several MiB."""
LINE_COST = 64
"""Bytes that a line counts beside its text: empty `data:` lines are held as well."""
IDLE_CAP = 1_048_576
"""Bytes in a row without data: blank lines, comments, unknown fields. A keep-alive is some 20 bytes
a second; a stream of nothing else is stalled.
"""
MAX_ID = 1_024
"""Bytes of an event's id, which goes into a header of the next request. A longer one is ignored."""

_FIELDS = frozenset({b"data", b"event", b"id", b"retry"})
"""Names of fields. They are lower case, and servers that write "Data:" mean the same."""
BOM = b"\xef\xbb\xbf"
"""A byte order mark in UTF-8, with which some servers begin a response."""


class SseEvent(NamedTuple):
    """`event` is "" where the event has no name; `data` is UTF-8, its lines joined by LF."""

    event: str
    data: bytes


class SseReader:
    """Returns the same events however the bytes are cut, between CR and LF or inside a character
    too. Comments, unknown fields and events without a `data` field are skipped.

    `limit` bounds a line and an event's data (LINE_CAP unless given), `idle_limit` the bytes in a
    row without data (IDLE_CAP unless given); `line_cost` is what each data line counts beside its
    text. `last_id` is the last `id`, "" before any; `retry` is in seconds.

    Raises:
        UpstreamBroken: beyond a limit.
    """

    def __init__(
        self, *, limit: int | None = None, line_cost: int = LINE_COST, idle_limit: float | None = None
    ) -> None:
        self.last_id = ""
        self.retry: float | None = None
        self._limit = LINE_CAP if limit is None else limit
        self._line_cost = line_cost
        self._idle_limit = IDLE_CAP if idle_limit is None else idle_limit
        self._carry = bytearray()
        self._lines: list[bytes] = []
        self._size = 0
        self._idle = 0
        self._name = b""
        self._after_cr = False
        self._at_start = True

    def __repr__(self) -> str:
        return f"<SseReader carry={len(self._carry)} lines={len(self._lines)} event={self._name!r}>"

    def feed(self, data: bytes) -> list[SseEvent]:
        if not (self._carry or self._lines or self._name or self._after_cr):
            whole = data.replace(b"\r\n", b"\n") if data.endswith(b"\r\n\r\n") else data
            if whole.startswith((b"data: ", b"event: ")) and whole.endswith(b"\n\n") and b"\r" not in whole:
                return self._read_whole(whole)
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, ended, rest = data.partition(b"\n")
        self._carry += first
        self._check(len(self._carry))
        if not ended:
            return []
        *lines, rest = rest.split(b"\n")
        lines.insert(0, bytes(self._carry))
        self._carry = bytearray(rest)
        return self._read_lines(lines)

    def end(self) -> list[SseEvent]:
        """At EOF: the event whose last blank line is missing."""
        lines = [bytes(self._carry), b""] if self._carry else [b""]
        self._carry.clear()
        return self._read_lines(lines)

    def _read_whole(self, data: bytes) -> list[SseEvent]:
        """The common case: whole events of one `data` line, of which the first may be named."""
        self._at_start = False
        self._idle = 0
        events: list[SseEvent] = []
        for block in data[:-2].split(b"\n\n"):
            name, line = b"", block
            if block.startswith(b"event: "):
                name, _, line = block.partition(b"\n")
            if line.startswith(b"data: ") and b"\n" not in line and len(block) <= self._limit:
                events.append(SseEvent(name[7:].decode("utf-8", "replace"), line[6:]))
            else:
                events += self._read_lines([*block.split(b"\n"), b""])
        return events

    def _read_lines(self, lines: list[bytes]) -> list[SseEvent]:
        events: list[SseEvent] = []
        for line in lines:
            if self._at_start:
                self._at_start = False
                line = line.removeprefix(BOM)  # noqa: PLW2901 -- only the stream's first line can carry it
            self._check(len(line))
            if line:
                self._read_field(line)
                continue
            if self._lines:
                data = b"\n".join(self._lines)
                events.append(SseEvent(self._name.decode("utf-8", "replace"), data))
                self._idle = 0 if data else self._idle
                self._lines = []
                self._size = 0
            self._idle += 1
            self._name = b""
        if self._idle > self._idle_limit:
            raise stalled()
        return events

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value) + self._line_cost
            self._check(self._size)
            self._lines.append(value)
            return
        if name not in _FIELDS and (known := name.lower()) in _FIELDS:
            self._read_field(known + b":" + value)
            return
        if name == b"event":
            self._name = value
        elif name == b"id" and b"\0" not in value and len(value) <= MAX_ID:
            self.last_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 9:
            self.retry = int(value) / 1000
        self._idle += len(line) + 1

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise too_long()


def too_long() -> UpstreamBroken:
    """The error of a line or event above LINE_CAP."""
    return UpstreamBroken(f"The provider's stream has an event of more than {LINE_CAP} bytes.")


def stalled() -> UpstreamBroken:
    """The error of a stream without data."""
    return UpstreamBroken(f"The provider's stream holds more than {IDLE_CAP} bytes in a row without data.")


def event(data: bytes, *, name: bytes | None = None) -> bytes:
    """One whole event. `name` is its `event` field."""
    head = b"" if name is None else b"event: " + name + b"\n"
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return head + b"data: " + data + b"\n\n"


def comment(text: bytes) -> bytes:
    """A comment, which clients ignore; it keeps the connection alive."""
    return b": " + text + b"\n\n"
