"""Server-sent events: bytes to events and back, and nothing of what the events say.

Above it stand the dialects that stream this way; below it only the error tree. It knows no JSON and
no dialect. Framing is that of the WHATWG's "Server-sent events", section 9.2: lines end with LF, CR
or CRLF, a blank line ends an event.
"""

from __future__ import annotations

from typing import NamedTuple

from modelplex.core.errors import UpstreamBroken

LINE_CAP = 32 * 1024 * 1024
"""Bytes of one line, and of one event's data. A generated image is sent as one line of several MiB;
more than this is no answer.
"""
LINE_COST = 64
"""Bytes that a line costs beside its text: empty `data:` lines are held as well."""
IDLE_CAP = 1_048_576
"""Bytes in a row without data: blank lines, comments, fields that say nothing. A keep-alive is some
20 bytes a second; a stream of nothing else is a stalled one.
"""

_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """`event` is "" where the event has no name; `data` is UTF-8, its lines joined by LF."""

    event: str
    data: bytes


class SseReader:
    """Gives the same events however the bytes are cut, between CR and LF or inside a character too.

    Comments, `id`, `retry`, unknown fields and events without data are passed over.

    Raises:
        UpstreamBroken: a line, or an event's data, is longer than LINE_CAP; or more than IDLE_CAP
            bytes hold no data.
    """

    def __init__(self) -> None:
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
        if (
            self._is_between_events
            and data.startswith(b"data: ")
            and data.endswith(b"\n\n")
            and b"\r" not in data
        ):
            return self._read_whole(data)
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
        """At EOF: the event whose last blank line is missing, if there is one."""
        lines = [bytes(self._carry), b""] if self._carry else [b""]
        self._carry.clear()
        return self._read_lines(lines)

    @property
    def _is_between_events(self) -> bool:
        return not (self._carry or self._lines or self._name or self._after_cr)

    def _read_whole(self, data: bytes) -> list[SseEvent]:
        """The common case: whole events of one `data` line each."""
        self._at_start = False
        self._idle = 0
        events: list[SseEvent] = []
        for block in data[:-2].split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                self._check(len(block))
                events.append(SseEvent("", block[6:]))
            else:
                events += self._read_lines([*block.split(b"\n"), b""])
        return events

    def _read_lines(self, lines: list[bytes]) -> list[SseEvent]:
        events: list[SseEvent] = []
        for line in lines:
            if self._at_start:
                self._at_start = False
                line = line.removeprefix(_BOM)  # noqa: PLW2901 -- only the stream's first line can carry it
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
        if self._idle > IDLE_CAP:
            raise stalled()
        return events

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value) + LINE_COST
            self._check(self._size)
            self._lines.append(value)
            return
        if name == b"event":
            self._name = value
        self._idle += len(line) + 1

    def _check(self, size: int) -> None:
        if size > LINE_CAP:
            raise too_long()


def too_long() -> UpstreamBroken:
    """The error of a line or event above LINE_CAP."""
    return UpstreamBroken(f"The provider's stream has an event of more than {LINE_CAP} bytes.")


def stalled() -> UpstreamBroken:
    """What a stream is that says nothing."""
    return UpstreamBroken(f"The provider's stream holds more than {IDLE_CAP} bytes in a row without data.")


def event(data: bytes, *, name: bytes | None = None) -> bytes:
    """One whole event, to be written in one write. `name` is its `event` field."""
    head = b"" if name is None else b"event: " + name + b"\n"
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return head + b"data: " + data + b"\n\n"


def comment(text: bytes) -> bytes:
    """An event that no client reads as one; it keeps the connection from looking dead."""
    return b": " + text + b"\n\n"
