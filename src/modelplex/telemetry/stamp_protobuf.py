"""Sets the gateway's attributes on each resource of an OTLP request in protobuf. Pure.

The three signals have the same numbers where it matters, so that a walk over the wire format is
enough, and needs no schema and no library. Only fields of the specification are written, with the
shortest tags. Several `resource` fields of one entry are one message to a reader, so they are
written as one. What scopes hold passes unread.
Source: https://protobuf.dev/programming-guides/encoding/ (read on 2026-12-01).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from modelplex.telemetry.signals import RESERVED, SERVICE, SERVICE_KEY, BadTelemetry

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
"""Wire types. The others are of groups, which OTLP does not have."""
MAX_VARINT: Final = 10
"""Bytes of 64 bits in pieces of seven."""

Field = tuple[int, int, bytes]
"""Number, wire type, and the content: without its length, or the bytes of the number."""


def stamp(body: bytes, attributes: Mapping[str, str]) -> bytes:
    """Raises BadTelemetry."""
    ours = b"".join(
        _message(1, _message(1, key.encode()) + _message(2, _message(1, value.encode())))
        for key, value in attributes.items()
    )
    return b"".join(
        _message(1, _entry(content, ours))
        for number, kind, content in _fields(body)
        if (number, kind) == (1, BYTES)
    )


def _entry(body: bytes, ours: bytes) -> bytes:
    """Resource, scopes and schema URL."""
    resource: list[bytes] = []
    rest: list[bytes] = []
    for number, kind, content in _fields(body):
        if kind != BYTES:
            continue
        if number == 1:
            resource += _resource(content)
        elif number in {2, 3}:
            rest.append(_message(number, content))
    return _message(1, b"".join(resource) + ours) + b"".join(rest)


def _resource(body: bytes) -> Iterator[bytes]:
    """Its fields, without reserved attributes."""
    for number, kind, content in _fields(body):
        if (number, kind) == (1, BYTES):
            if not _is_reserved(content):
                yield _message(1, content)
        elif (number, kind) == (2, VARINT):
            yield b"\x10" + content
        elif (number, kind) == (3, BYTES):
            yield _message(3, content)


def _is_reserved(attribute: bytes) -> bool:
    """A reader takes the last of several keys, and joins several values."""
    key, value = b"", b""
    for number, kind, content in _fields(attribute):
        if (number, kind) == (1, BYTES):
            key = content
        elif (number, kind) == (2, BYTES):
            value += content
    if key != SERVICE_KEY.encode():
        return key.startswith(RESERVED.encode())
    texts = [content for number, kind, content in _fields(value) if (number, kind) == (1, BYTES)]
    return texts[-1:] == [SERVICE.encode()]


def _fields(body: bytes) -> Iterator[Field]:
    place, end = 0, len(body)
    while place < end:
        tag, place = _varint(body, place)
        number, kind = tag >> 3, tag & 7
        start = place
        if kind == VARINT:
            _, place = _varint(body, place)
        elif kind == FIXED64:
            place += 8
        elif kind == FIXED32:
            place += 4
        elif kind == BYTES:
            length, start = _varint(body, place)
            place = start + length
        else:
            raise BadTelemetry("the body is no OTLP in protobuf: it has a group")
        if number == 0 or place > end:
            raise BadTelemetry("the body is no OTLP in protobuf: a field is not whole")
        yield number, kind, body[start:place]


def _varint(body: bytes, place: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = 0
    for shift, byte in enumerate(body[place : place + MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + shift + 1
    raise BadTelemetry("the body is no OTLP in protobuf: a number is not whole")


def _message(number: int, content: bytes) -> bytes:
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | BYTES]) + bytes(length) + content
