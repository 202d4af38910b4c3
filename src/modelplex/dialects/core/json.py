"""JSON as OpenAI's dialects meet it in the wild.

Above it stand the OpenAI dialects; below it nothing. A strict decoder comes first everywhere; this
file is what is tried when it refuses: servers send halves of a surrogate pair, NaN in log
probabilities, and numbers where a string is due.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON that is due. ValidationError, for a wrong
shape, is one of them.
"""

Decoded = TypeVar("Decoded")

encode = msgspec.json.Encoder().encode
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def mend(data: bytes) -> bytes | None:
    """The same JSON in a form that msgspec reads, or None where it is none: lone surrogates become
    U+FFFD, NaN and Infinity null.
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
    """The decoded value, mended where that is needed; None where it is not JSON or has another
    shape.
    """
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
    """Whether a member was there and is not null."""
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
