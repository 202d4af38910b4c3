"""Whether a body is read alike by every parser: JSON in UTF-8, each key once, not too deep.

Above it stands the judge; below it paths and refusals. The cheap test for repeated keys is exact: written anew, a body holds as many quotation marks as before, unless a member was
read over another, or a mark was written by its number.
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec

from modelplex.policy._path import Path
from modelplex.policy._walk import Refused

MAX_DEPTH = 128
"""Levels of nesting: schemas and histories of real agents stay below 30, and parsers that bound it take some hundreds."""
QUOTE_BY_NUMBER = b"\\u0022"
"""A quotation mark in a text that is written without one."""
MANY = 64
"""Entries from which a list is asked first whether it holds but numbers: prompts may come as tokens."""
_HOLDERS: frozenset[type] = frozenset((dict, list))
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_compact = msgspec.json.format
NO_SPACES = -1


def read_whole(body: bytes) -> dict[str, Any]:
    """The whole body, decoded. Raises Refused (malformed, too-deep, duplicate-key, unknown-form)."""
    try:
        tree: object = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("malformed", None) from None
    except RecursionError:
        raise Refused("too-deep", None) from None
    if not isinstance(tree, dict):
        raise Refused("malformed", None)
    if _depth_beyond(tree):
        raise Refused("too-deep", None)
    if _lost_a_member(body, _encode(tree)):
        raise Refused("duplicate-key", _repeated(body))
    return cast("dict[str, Any]", tree)


def _lost_a_member(body: bytes, again: bytes) -> bool:
    """Whether `again`, what was read of the body and written anew, is short of a member. Most clients write as we do, but for spaces, and one comparison tells."""
    if body == again or _compact(body, indent=NO_SPACES) == again:
        return False
    if QUOTE_BY_NUMBER in body:
        return _strings(body) != _strings(again)
    return body.count(b'"') != again.count(b'"')


def _strings(text: bytes) -> int:
    """Quotation marks that begin or end a string."""
    text = text.replace(b"\\\\", b"")
    return text.count(b'"') - text.count(b'\\"')


def _depth_beyond(tree: Any) -> bool:
    """Level by level: a level is what holds something, and what it holds that holds something again."""
    level: list[Any] = [tree]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if type(value) is dict:
                inner += cast("dict[str, Any]", value).values()
            elif len(value) < MANY or not _HOLDERS.isdisjoint(map(type, value)):
                inner += value
        level = [value for value in inner if type(value) in _HOLDERS]
        if not level:
            return False
    return True


class _Pairs(list[tuple[str, Any]]):
    """An object as it is written."""


def _repeated(body: bytes) -> Path:
    """Where a key stands for the second time."""
    return _find(json.loads(body, object_pairs_hook=_pairs), None)


def _pairs(members: list[tuple[str, Any]]) -> _Pairs:
    """A function, not the class itself: between two calls of one, other threads get their turn."""
    return _Pairs(members)


def _find(value: object, path: Path) -> Path:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, inner in value:
            here = (path, key)
            if key in seen:
                return here
            seen.add(key)
            if (found := _find(inner, here)) is not None:
                return found
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            if (found := _find(inner, (path, index))) is not None:
                return found
    return None
