"""Cuts results that are too large, and makes invisible characters visible.

PURE.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, cast

import msgspec

from modelplex.dialects.core.json import as_list
from modelplex.mcp.constants import Json

TEXT_MEMBERS: Final = (
    "content",
    "structuredContent",
    "contents",
    "messages",
    "result",
    "error",
    "statusMessage",
    "message",
    "data",
)
"""Members of results, errors and notifications that hold text of a server."""

_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]|\r(?!\n)"
)
"""Control characters except tab and line ends, direction marks, and letters that are not shown.
Joiners stay: emoji and some scripts need them.
"""

_encode = msgspec.json.Encoder().encode


def escape(value: object) -> object:
    r"""The same with every such character in a text written as its number: `\x1b`. Keys stay as
    they are.
    """
    if isinstance(value, str):
        return value if value.isprintable() else _INVISIBLE.sub(_escaped, value)
    if isinstance(value, list):
        return [escape(each) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        return {key: escape(each) for key, each in cast("Json", value).items()}
    return value


def escape_message(message: Json) -> Json:
    """A result, an error or a notification's params with invisible characters of the server's text
    escaped.
    """
    return {key: escape(value) if key in TEXT_MEMBERS else value for key, value in message.items()}


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0][0])
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )


def truncate(result: Json, *, limit: int, size: int) -> Json | None:
    """As much of a tool's content as fits into `limit` bytes, and a last text that says so; `size`
    is the full size. None if not even that fits.

    A structured result cannot be cut: if it does not fit, it is left out, and the result is an
    error, since clients may rely on it.
    """
    sentence = f"Cut here: the whole result has {size} bytes, and at most {limit} are passed on."
    notice: Json = {"type": "text", "text": sentence}
    kept = {**result, "content": [notice]}
    if "structuredContent" in kept and len(_encode(kept)) > limit:
        del kept["structuredContent"]
        kept["isError"] = True
    room = limit - len(_encode(kept))
    if room < 0:
        return None
    content: list[object] = []
    for block in as_list(result.get("content")):
        needs = len(_encode(block)) + 1
        if needs > room:
            content += _start_of_block(block, room=room)
            break
        content.append(block)
        room -= needs
    return {**kept, "content": [*content, notice]}


def _start_of_block(block: object, *, room: int) -> list[object]:
    """The beginning of a text; nothing of other content."""
    if not isinstance(block, dict):
        return []
    whole = cast("Json", block)
    text: object = whole.get("text")
    if not isinstance(text, str):
        return []
    beginning = _longest_start(text, room=room, size=lambda part: len(_encode({**whole, "text": part})) + 1)
    return [{**whole, "text": beginning}] if beginning else []


def _longest_start(text: str, *, room: int, size: Callable[[str], int]) -> str:
    """The longest beginning that takes at most about `room` bytes as JSON."""
    fits, too_many = 0, min(len(text), max(0, room)) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if size(text[:middle]) <= room:
            fits = middle
        else:
            too_many = middle
    return text[:fits]


def size(result: object) -> tuple[int, bytes]:
    """The size of a result as JSON in bytes, and those bytes. (0, b"") for what JSON cannot encode,
    such as a lone surrogate.
    """
    try:
        body = _encode(result)
    except (UnicodeEncodeError, RecursionError):
        return 0, b""
    return len(body), body
