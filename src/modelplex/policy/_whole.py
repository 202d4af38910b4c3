"""Whether a body is read alike by every parser: JSON in UTF-8, each key once, not too deep.

Above it stands the judge; below it paths and refusals. The cheap test for repeated keys is exact: without its escapes, a body holds two quotation marks a string, and what was
read of it holds as many, unless a member was read over another.
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec

from modelplex.policy._path import Path
from modelplex.policy._walk import Refused

MAX_DEPTH = 128
"""Levels of nesting: schemas and histories of real agents stay below 30, and parsers that bound it take some hundreds."""
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_whole(body: bytes) -> dict[str, Any]:
    """The whole body, decoded. Raises Refused (malformed, too-deep, duplicate-key, unknown-form)."""
    try:
        tree = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("malformed", None) from None
    except RecursionError:
        raise Refused("too-deep", None) from None
    if not isinstance(tree, dict):
        raise Refused("malformed", None)
    if _depth_beyond(tree):
        raise Refused("too-deep", None)
    if _strings(body) != _strings(_encode(tree)):
        raise Refused("duplicate-key", _repeated(body))
    return cast("dict[str, Any]", tree)


def _strings(text: bytes) -> int:
    """Quotation marks that begin or end a string."""
    if b"\\\\" in text:
        text = text.replace(b"\\\\", b"")
    return text.count(b'"') - text.count(b'\\"')


def _depth_beyond(tree: object) -> bool:
    level: list[Any] = [tree]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


class _Pairs(list[tuple[str, Any]]):
    """An object as it is written."""


def _repeated(body: bytes) -> Path:
    """Where a key stands for the second time."""
    return _find(json.loads(body, object_pairs_hook=_Pairs), None)


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
