"""Whether a body is read alike by every parser: JSON in UTF-8, each key once, not too deep.

Above it stands the judge; below it paths and refusals. The cheap test for repeated keys is exact:
written anew, JSON holds as many quotation marks as before, unless a member was read over another,
or a mark was written by its number. A large body is read and tested piece by piece: one call for
all of it would keep the interpreter's lock for 20 ms, and the event loop waits for it.
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec

from modelplex.policy.path import Path
from modelplex.policy.walk import PolicyRefusal

MAX_DEPTH = 128
"""Levels of nesting: schemas and histories of real agents stay below 30, and parsers that bound it
take some hundreds.
"""
QUOTE_BY_NUMBER = b"\\u0022"
"""A quotation mark in a text that is written without one."""
MANY = 64
"""Entries from which a list is asked first whether it holds but numbers: prompts may come as
tokens.
"""
_HOLDERS: frozenset[type] = frozenset((dict, list))
PIECE = 65_536
"""Bytes of JSON that are read in one call: under half a millisecond, in which no other thread gets
its turn.
"""
SEARCHED = 1_048_576
"""Bytes of an object in which the key that stands twice is looked for. Of a larger one it is told
that it has one.
"""
MAX_PIECEWISE = 9
"""Levels that are taken apart: a picture in the result of a tool stands eight levels deep. Each
level is another pass over the body.
"""
_decode = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_compact = msgspec.json.format
NO_SPACES = -1


def read_strict(body: bytes) -> dict[str, Any]:
    """The whole body, decoded. Raises Refused (malformed, too-deep, duplicate-key,
    unknown-form).
    """
    try:
        tree = _read(memoryview(body), None, nesting=0)
    except _MemberLost as lost:
        raise PolicyRefusal("duplicate-key", lost.find()) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise PolicyRefusal("malformed", None) from None
    except RecursionError:
        raise PolicyRefusal("too-deep", None) from None
    if not isinstance(tree, dict):
        raise PolicyRefusal("malformed", None)
    if _depth_beyond(tree):
        raise PolicyRefusal("too-deep", None)
    return cast("dict[str, Any]", tree)


class _MemberLost(Exception):
    """A key stands twice in an object of this JSON, which is at `path`; of a list it holds the
    entries from `first` on.
    """

    def __init__(self, text: bytes, path: Path, first: int = 0) -> None:
        super().__init__()
        self.text = text
        self.path = path
        self.first = first

    def find(self) -> Path:
        """Where a key stands for the second time; of a large object that it has one."""
        if not self.text:
            return self.path
        return _find(json.loads(self.text, object_pairs_hook=_pairs), self.path, first=self.first)


def _read(text: memoryview, path: Path, *, nesting: int) -> object:
    """The JSON at `path` decoded, the members and entries of what is large each on their own.
    Raises _MemberLost, and what the decoder raises.
    """
    if len(text) > PIECE:
        match bytes(text[:PIECE]).lstrip()[:1]:
            case b'"':
                return _decode(text)  # holds no key
            case b"{" if nesting < MAX_PIECEWISE:
                return _read_members(text, path, nesting=nesting)
            case b"[" if nesting < MAX_PIECEWISE:
                return _read_entries(text, path, nesting=nesting)
            case _:
                pass
    return _read_piece(bytes(text), path)


def _read_piece(text: bytes, path: Path, *, first: int = 0) -> object:
    tree: object = _decode(text)
    if _lost_a_member(text, _encode(tree)):
        raise _MemberLost(text, path, first)
    return tree


def _read_members(text: memoryview, path: Path, *, nesting: int) -> object:
    fields = _decode_members(text)
    if any('"' in key for key in fields):  # by its number perhaps
        return _read_piece(bytes(text), path)
    # All quotation marks, less those in the values, are those of the keys.
    left = _marks(text) - _marks(memoryview(_encode(list(fields))))
    tree: dict[str, object] = {}
    for key, raw in fields.items():
        value = memoryview(raw)
        left -= _marks(value)
        tree[key] = _read(value, (path, key), nesting=nesting + 1)
    if left:
        raise _MemberLost(bytes(text) if len(text) <= SEARCHED else b"", path)
    return tree


def _read_entries(text: memoryview, path: Path, *, nesting: int) -> list[object]:
    """Small entries some at a time, as one list."""
    read: list[object] = []
    some: list[bytes] = []
    size = 0
    for raw in _decode_entries(text):
        if some and size + len(raw) > PIECE:
            read += _read_list(some, path, first=len(read))
            some, size = [], 0
        if len(raw) > PIECE:
            read.append(_read(memoryview(raw), (path, len(read)), nesting=nesting + 1))
        else:
            some.append(bytes(raw))
            size += len(raw)
    return read + _read_list(some, path, first=len(read))


def _read_list(entries: list[bytes], path: Path, *, first: int) -> list[object]:
    return cast("list[object]", _read_piece(b"[" + b",".join(entries) + b"]", path, first=first))


def _marks(text: memoryview) -> int:
    """Quotation marks."""
    return sum(bytes(text[start : start + PIECE]).count(b'"') for start in range(0, len(text), PIECE))


def _lost_a_member(body: bytes, again: bytes) -> bool:
    """Whether `again`, what was read of the body and written anew, is short of a member. Most
    clients write as we do, but for spaces, and one comparison tells.
    """
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
    """Level by level: a level is what holds something, and what it holds that holds something
    again.
    """
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


def _pairs(members: list[tuple[str, Any]]) -> _Pairs:
    """A function, not the class itself: between two calls of one, other threads get their turn."""
    return _Pairs(members)


def _find(value: object, path: Path, *, first: int = 0) -> Path:
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
        for index, inner in enumerate(cast("list[object]", value), first):
            if (found := _find(inner, (path, index))) is not None:
                return found
    return None
