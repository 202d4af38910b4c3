"""Observers of streams that pass unchanged from a provider to a client of the same dialect.

`StreamObserver` holds what every dialect reports of a stream. `SseObserver` adds the framing of
server-sent events: it splits chunks into whole events, holds back incomplete ones and enforces the
limits; a dialect's observer reads the data of single events. This is the hottest code of the
gateway: the bytes of an event are forwarded as they came and are decoded once.

Imports nothing of a single dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.events import Usage
from modelplex.dialects.core.broken_responses import NOT_JSON
from modelplex.dialects.core.json import decode_mended, mend
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.sse import IDLE_CAP, LINE_CAP, SseReader, stalled, too_long
from modelplex.dialects.dialect import ObservedResponse

_blank_line = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


class StreamObserver:
    """State of one stream: a PassthroughObserver (dialects/dialect.py) without the framing."""

    __slots__ = (
        "_carry",
        "_characters",
        "_counted_at",
        "_finish",
        "_idle",
        "_model",
        "_opaque_states",
        "error_forwarded",
        "failed",
        "has_output",
        "quota",
    )

    # Declared here for type checkers, which do not find slots in subclasses.
    _carry: bytearray
    _characters: int
    _counted_at: int
    _idle: int

    def __init__(self) -> None:
        self.has_output = False
        self.failed: ModelplexError | None = None
        self.error_forwarded = False
        self.quota = Quota()
        self._carry = bytearray()
        """The beginning of an event or line whose end has not arrived."""
        self._idle = 0
        """Bytes in a row that contain no data."""
        self._model: str | None = None
        self._finish: str | None = None
        self._characters = 0
        """Of text, reasoning and arguments."""
        self._counted_at = 0
        """`_characters` at the last usage report."""
        self._opaque_states: dict[int | str, str] = {}
        """Opaque state by what identifies it in the dialect, in the order of the stream."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} finish={self._finish!r} failed={self.failed!r}>"

    @property
    def observed(self) -> ObservedResponse:
        return ObservedResponse(
            self._model,
            self._finish,
            self._usage(),
            self.failed,
            tuple(self._opaque_states.values()),
            self._characters,
            self._counted_at,
        )

    def _usage(self) -> Usage | None:
        """The last usage that the provider reported. Implemented by each dialect."""
        raise NotImplementedError

    def _judge_end(self) -> None:
        """At EOF, calls `_fail` where the end mark is missing. Implemented by each dialect."""
        raise NotImplementedError

    def _fail(self, error: ModelplexError, *, forwarded: bool = False) -> bool:
        """Ends the stream with an error. Returns `forwarded`: whether the client gets the event."""
        self.failed = error
        self.error_forwarded = forwarded
        return forwarded


class SseObserver(StreamObserver):
    """Observer of server-sent events. A dialect implements `_read_event`."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        if self.failed is not None:
            return b""
        if data.endswith(b"\n\n") and not self._carry and b"\r" not in data:
            # Most chunks: one whole event with one data line.
            if data.startswith(b"data: {"):
                if data.find(b"\n") == len(data) - 2:
                    self._idle = 0
                    return data if self._read_event(data[6:-2], b"") else b""
            elif data.startswith(b"event: "):
                at = data.find(b"\n") + 1
                if data.startswith(b"data: {", at) and data.find(b"\n", at) == len(data) - 2:
                    self._idle = 0
                    return data if self._read_event(data[at + 6 : -2], data[7 : at - 1]) else b""
        return self._feed_any(data)

    def end(self) -> bytes:
        if self.failed is not None:
            return b""
        rest = bytes(self._carry)
        self._carry.clear()
        if rest.strip():
            rest += b"\n\n"  # only whole events are forwarded, and the last blank line is missing
            rest = self._forward(rest, [rest])
        if self.failed is None:
            self._judge_end()
        return rest

    def _read_event(self, data: bytes, name: bytes) -> bool:
        """Reads the data of one event; `name` is its `event` field, b"" where it has none. Returns
        whether the event may be forwarded. Implemented by each dialect.
        """
        raise NotImplementedError

    def _read_mended(self, data: bytes, name: bytes, *, decode: Callable[[bytes], object]) -> bool:
        """Reads data that `decode` refused: no JSON, JSON that strict parsers refuse, or JSON of an
        unknown shape.
        """
        mended = mend(data)
        if mended is None:
            return self._fail(UpstreamBroken(NOT_JSON))
        if decode_mended(mended, decode) is not None:
            return self._read_event(mended, name)
        return self._read_unknown(mended)

    def _read_unknown(self, data: bytes) -> bool:
        """Reads JSON of an unknown shape: it is forwarded, and may be output."""
        del data
        self.has_output = True
        return True

    def _feed_any(self, data: bytes) -> bytes:
        """`feed` for chunks of any shape."""
        if self._carry:
            self._carry += data
            if len(self._carry) > LINE_CAP:
                self._fail(too_long())
                return b""
            # Three bytes back: a blank line may be cut between any two of its four bytes.
            if not _blank_line.search(self._carry, max(0, len(self._carry) - len(data) - 3)):
                return b""
            data = bytes(self._carry)
            self._carry.clear()
        if b"\r" in data:
            blocks: list[bytes] = []
            start = 0
            for found in _blank_line.finditer(data):
                blocks.append(data[start : found.end()])
                start = found.end()
            self._carry += data[start:]
            return self._forward(data[:start], blocks)
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            self._carry += data
            return b""
        if end != len(data):
            self._carry += data[end:]
            data = data[:end]
        return self._forward(data, [block + b"\n\n" for block in data[:-2].split(b"\n\n")])

    def _forward(self, whole: bytes, blocks: list[bytes]) -> bytes:
        """The blocks that may be forwarded; `whole`, which is all of them, where all may."""
        forwarded: list[bytes] = []
        plain = b"\r" not in whole
        for block in blocks:
            # Whole events with one data line, of which the first line may be the event's name.
            if plain and block.startswith(b"data: {") and block.find(b"\n") == len(block) - 2:
                self._idle = 0
                allowed = self._read_event(block[6:-2], b"")
            elif (
                plain
                and block.startswith(b"event: ")
                and block.startswith(b"data: {", at := block.find(b"\n") + 1)
                and block.find(b"\n", at) == len(block) - 2
            ):
                self._idle = 0
                allowed = self._read_event(block[at + 6 : -2], block[7 : at - 1])
            else:
                allowed = self._read_block(block)
            if allowed:
                forwarded.append(block)
            if self.failed is not None:
                break
        return whole if len(forwarded) == len(blocks) else b"".join(forwarded)

    def _read_block(self, block: bytes) -> bool:
        """Reads an event of any lines. Returns whether it may be forwarded."""
        if (
            block.startswith(b"data: {")
            and block.endswith(b"\r\n\r\n")
            and block.find(b"\n") == len(block) - 3
            and block.find(b"\r") == len(block) - 4
        ):
            self._idle = 0
            return self._read_event(block[6:-4], b"")
        events = SseReader().feed(block) if b"data" in block else []
        self._idle = 0 if any(event.data for event in events) else self._idle + len(block)
        if self._idle > IDLE_CAP:
            return self._fail(stalled())
        return all(self._read_event(event.data, event.event.encode()) for event in events)
