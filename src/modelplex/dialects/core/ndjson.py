"""Lines of JSON, framed: bytes cut anywhere go in, whole lines come out; and written so that no
client cuts them elsewhere.

Above it stand the dialects that stream NDJSON (Ollama); below it nothing. It does not know what a
line says, and does not read it.
"""

from __future__ import annotations

MAX_LINE = 8 * 1024 * 1024
"""Bytes of one line. A line is one token, or one whole tool call, whose arguments may be a file's
text; what is longer than the largest file that an agent writes in one call is no answer but a
fault, and would only fill our memory.
"""
IDLE_CAP = 1_048_576
"""Bytes of blank lines in a row, beyond which a stream is taken for a stalled one."""
_ENDS_FOR_SOME = tuple((each.encode(), b"\\u%04x" % ord(each)) for each in "\u0085\u2028\u2029")
"""What Unicode calls the end of a line, and JSON does not. Clients that split text at it (Python's
splitlines) would cut a line in two.
"""


def line(data: bytes) -> bytes:
    """A JSON value as a line that every client finds the end of."""
    if not data.isascii():
        for end, escaped in _ENDS_FOR_SOME:
            data = data.replace(end, escaped)
    return data + b"\n"


class NdjsonReader:
    """Give it bytes as they come; it gives whole lines without their ends (LF or CRLF), and no
    blank ones.

    A line above `limit`, or IDLE_CAP bytes of blank ones, sets `overflowed`: the lines before it
    were given, it and all that follows are dropped. How the bytes were cut makes no difference to
    what comes out.
    """

    def __init__(self, *, limit: int = MAX_LINE) -> None:
        self.overflowed = False
        self._limit = limit
        self._held = bytearray()
        """The beginning of a line, in one piece: it may come a byte at a time."""
        self._idle = 0

    def __repr__(self) -> str:
        return f"<Lines {'overflowed' if self.overflowed else f'{len(self._held)} B held'}>"

    def feed(self, data: bytes) -> list[bytes]:
        if self.overflowed:
            return []
        *whole, rest = data.split(b"\n")
        lines: list[bytes] = []
        for piece in whole:
            if not self._hold(piece):
                return lines
            lines += self._take()
        self._hold(rest)
        return lines

    def end(self) -> list[bytes]:
        """The last line, where no newline followed it."""
        return [] if self.overflowed else self._take()

    def _hold(self, piece: bytes) -> bool:
        if len(self._held) + len(piece) > self._limit or self._idle > IDLE_CAP:
            self.overflowed = True
            self._held = bytearray()
            return False
        self._held += piece
        return True

    def _take(self) -> list[bytes]:
        line = bytes(self._held).removesuffix(b"\r")
        self._held = bytearray()
        if line.strip():
            self._idle = 0
            return [line]
        self._idle += len(line) + 1
        return []
