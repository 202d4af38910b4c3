"""Lenient reading of JSON, and small conversions of decoded values.

A strict decoder is tried first everywhere. This module reads what it refuses and servers send: lone
surrogates, NaN in log probabilities, numbers where a string is due. Imports nothing of Modelplex.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for invalid JSON and, as ValidationError, for a wrong shape."""

ABSENT = msgspec.Raw(b"")
"""A member that is absent. (msgspec reads `Raw | None` as null alone.)"""

Decoded = TypeVar("Decoded")

encode = msgspec.json.Encoder().encode
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def mend(data: bytes) -> bytes | None:
    """The same JSON in a form that msgspec reads: lone surrogates become U+FFFD, NaN and Infinity
    null. None for what is not JSON.
    """
    try:
        value = json.loads(data.decode("utf-8", "replace"), parse_constant=_no_number)
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _no_number(_constant: str) -> None:
    return None


def decode_mended(data: bytes, decode: Callable[[bytes], Decoded]) -> Decoded | None:
    """The decoded value, mended where needed; None for invalid JSON or another shape."""
    try:
        return decode(data)
    except MALFORMED:
        mended = mend(data)
    if mended is None:
        return None
    try:
        return decode(mended)
    except MALFORMED:
        return None


def parses(text: str) -> bool:
    """Whether the text is one whole JSON value."""
    try:
        _skip(text.encode("utf-8", "replace"))
    except MALFORMED:
        return mend(text.encode("utf-8", "surrogatepass")) is not None
    return True


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a member is present and not null."""
    return bytes(raw) not in {b"", b"null"}


def as_text(value: Any) -> str | None:
    """A string, or a number as one; None for everything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def as_object(value: object) -> dict[str, Any] | None:
    """A JSON object, or None for everything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object]:
    """A JSON array, or an empty one for everything else."""
    return cast("list[object]", value) if isinstance(value, list) else []
