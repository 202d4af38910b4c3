"""Newline-delimited JSON: splits bytes into lines, and writes lines that every client splits alike.

Imports nothing of Modelplex and decodes no line.
"""

from __future__ import annotations

MAX_LINE = 8 * 1024 * 1024
"""Bytes of one line. A line is one token or one whole tool call, whose arguments may be a file's
text. A longer line than the largest file that an agent writes in one call is a fault.
"""
IDLE_CAP = 1_048_576
"""Bytes of blank lines in a row; a stream with more is stalled."""
BOM = b"\xef\xbb\xbf"
"""A byte order mark in UTF-8."""
_ENDS_FOR_SOME = tuple((each.encode(), b"\\u%04x" % ord(each)) for each in "\u0085\u2028\u2029")
"""Line ends of Unicode that are none in NDJSON. Clients that split text at them (Python's
splitlines) would cut a line in two.
"""


def line(data: bytes) -> bytes:
    """A JSON value as one line, without bytes at which a client may split it."""
    if not data.isascii():
        for end, escaped in _ENDS_FOR_SOME:
            data = data.replace(end, escaped)
    return data + b"\n"


class NdjsonReader:
    """Splits bytes into lines without their ends (LF or CRLF); blank lines are skipped. The lines
    are the same however the bytes are cut.

    A line above `limit`, or IDLE_CAP bytes of blank lines, sets `overflowed`: the lines before it
    are returned, it and all that follow are dropped.
    """

    def __init__(self, *, limit: int = MAX_LINE) -> None:
        self.overflowed = False
        self._limit = limit
        self._held = bytearray()
        """The beginning of a line whose end has not arrived."""
        self._idle = 0
        self._is_at_start = True

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
        if self._is_at_start:
            self._is_at_start = False
            line = line.removeprefix(BOM)
        if line.strip():
            self._idle = 0
            return [line]
        self._idle += len(line) + 1
        return []
