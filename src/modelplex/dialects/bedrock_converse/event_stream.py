"""The framing of `application/vnd.amazon.eventstream`.

A message is a prelude (its length, the length of its headers, a CRC of both), headers, a payload
and a CRC of everything before it. Numbers are big-endian, the CRC is that of gzip
(https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html, read in part 2026-12-02;
types of headers and limits as in eventstream.py of botocore 1.44.8). Imports no dialect.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator
from struct import Struct

import msgspec

from modelplex.core.errors import UpstreamBroken

MAX_HEADERS = 128 * 1024
MAX_PAYLOAD = 24 * 1024 * 1024
"""Bytes of one message; the service sends no larger ones."""
_PRELUDE = Struct(">III")
_CRC = Struct(">I")
_SHORT = Struct(">H")
_FRAME = _PRELUDE.size + _CRC.size
_BYTES, _TEXT = 6, 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type: true, false, four integers, a time, a UUID."""


class StreamMessage(msgspec.Struct, frozen=True, gc=False):
    """One message: its headers that are text, and its payload."""

    headers: dict[str, str]
    payload: bytes


class EventStreamReader:
    """Reads messages from bytes that are cut anywhere."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def __repr__(self) -> str:
        return f"<EventStreamReader {len(self._held)} bytes held>"

    @property
    def has_rest(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[StreamMessage]:
        """The messages that are whole now. Raises UpstreamBroken where a length or a CRC is
        wrong.
        """
        self._held += data
        at = 0
        try:
            while (end := self._end_of_message(at)) is not None:
                message = bytes(memoryview(self._held)[at:end])
                at = end
                yield _message(message)
        finally:
            del self._held[:at]

    def _end_of_message(self, at: int) -> int | None:
        """Where the message that begins at `at` ends; None where it is not whole."""
        held = self._held
        if len(held) - at < _PRELUDE.size:
            return None
        total, headers, crc = _PRELUDE.unpack_from(held, at)
        if crc32(memoryview(held)[at : at + 8]) != crc:
            raise _broken("the checksum of a prelude is wrong")
        if headers > MAX_HEADERS or not 0 <= total - headers - _FRAME <= MAX_PAYLOAD:
            raise _broken("a message has an impossible length")
        return at + total if len(held) - at >= total else None


def _message(message: bytes) -> StreamMessage:
    """A message of the right length, whose prelude was checked."""
    body = memoryview(message)
    if crc32(body[: -_CRC.size]) != _CRC.unpack_from(message, len(message) - _CRC.size)[0]:
        raise _broken("the checksum of a message is wrong")
    _, length, _ = _PRELUDE.unpack_from(message)
    end = _PRELUDE.size + length
    return StreamMessage(_headers(message, end), bytes(body[end : -_CRC.size]))


def _headers(message: bytes, end: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = _PRELUDE.size
    try:
        while at < end:
            name_end = at + 1 + message[at]
            name, kind = message[at + 1 : name_end].decode(), message[name_end]
            at = name_end + 1
            if kind in {_BYTES, _TEXT}:
                (size,) = _SHORT.unpack_from(message, at)
                at += _SHORT.size
                if kind == _TEXT:
                    headers[name] = message[at : at + size].decode()
                at += size
            else:
                at += _SIZES[kind]
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise _broken("its headers cannot be read") from error
    if at != end:
        raise _broken("its headers have another length than they say")
    return headers


def _broken(why: str) -> UpstreamBroken:
    return UpstreamBroken(f"The provider's event stream is broken: {why}.")
