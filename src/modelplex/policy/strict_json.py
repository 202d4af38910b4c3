"""Strict JSON parsing: valid UTF-8, no duplicate keys, limited depth. Every parser reads such a
body alike.

Duplicate keys are found by counting: encoded again, JSON has as many quotation marks as before,
unless a member replaced another, or a mark was written as an escape. The test is exact. A large
body is parsed in pieces: one call for all of it would hold the interpreter lock for 20 ms, and the
event loop would wait for it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import msgspec

from modelplex.policy.large_list import LargeList
from modelplex.policy.path import Path
from modelplex.policy.walk import PolicyRefusal

MAX_DEPTH = 128
"""Levels of nesting. Schemas and histories of real agents stay below 30; parsers with a limit
accept some hundreds.
"""
DEEPEST_RULE = 28
"""Levels of a body around the deepest free JSON that a table knows, and more."""
ESCAPED_QUOTE = b"\\u0022"
"""A quotation mark in a string, escaped by its number."""
LONG_LIST = 64
"""From this length on, a list is first checked for containers: a prompt may be a list of tokens."""
_CONTAINERS: frozenset[type] = frozenset((dict, list))
PIECE_SIZE = 65_536
"""Bytes of JSON that are parsed in one call, which holds the interpreter lock for under half a
millisecond.
"""
UTF8_PIECE_SIZE = 4_096
"""Bytes that are decoded for one character that is not ASCII, and what is decoded takes four times
the memory.
"""
SEARCH_LIMIT = 1_048_576
"""Bytes of an object in which the duplicate key is located. For a larger one the refusal names the
object only.
"""
MAX_SPLIT_DEPTH = 9
"""Levels that are parsed in pieces. An image in a tool result is eight levels deep; each level is
another pass over the body.
"""
LARGE_LIST = 4 * 1024 * 1024
"""Bytes of a member from which its entries are not kept: decoded twice, for the checks here and for
the rules, they take a batch of memory. A list of more is a conversation with images, or hostile.
"""
_decode = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_compact = msgspec.json.format
NO_SPACES = -1


def read_strict(body: bytes) -> dict[str, Any]:
    """The decoded body; a long list in it may be a LargeList. Raises PolicyRefusal (malformed,
    too-deep, duplicate-key).
    """
    tree = read_value(body, None, nesting=0)
    if not isinstance(tree, dict):
        raise PolicyRefusal("malformed", None)
    return cast("dict[str, Any]", tree)


def read_value(text: bytes | msgspec.Raw, path: Path, *, nesting: int) -> object:
    """The decoded value at `path`, inside of `nesting` containers. Raises PolicyRefusal (malformed,
    too-deep, duplicate-key).
    """
    try:
        tree = _read(memoryview(text), path, nesting=nesting)
    except _DuplicateKey as duplicate:
        raise PolicyRefusal("duplicate-key", duplicate.find()) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise PolicyRefusal("malformed", None) from None
    except RecursionError:
        raise PolicyRefusal("too-deep", None) from None
    if type(tree) in _CONTAINERS and _is_too_deep(tree, MAX_DEPTH - nesting):
        raise PolicyRefusal("too-deep", None)
    return tree


def is_strict(text: msgspec.Raw) -> bool:
    """Whether `read_value` reads the value, as deep in a body as a table goes."""
    try:
        read_value(text, None, nesting=DEEPEST_RULE)
    except PolicyRefusal:
        return False
    return True


def is_utf8(body: bytes) -> bool:
    """Whether all text of the body is valid UTF-8. Only pieces that are not ASCII are decoded."""
    if body.isascii():
        return True
    start = 0
    try:
        while start < len(body):
            piece = body[start : start + UTF8_PIECE_SIZE]
            is_last = start + len(piece) == len(body)
            start += len(piece) if piece.isascii() else codecs.utf_8_decode(piece, "strict", is_last)[1]
    except UnicodeDecodeError:
        return False
    return True


class _DuplicateKey(Exception):
    """The JSON `text` at `path` has a duplicate key. `text` may be a part of a list, whose first
    entry has the index `first`.
    """

    def __init__(self, text: bytes, path: Path, first: int = 0) -> None:
        super().__init__()
        self.text = text
        self.path = path
        self.first = first

    def find(self) -> Path:
        """The path of the duplicate key, or of the object if it is too large to search."""
        if not self.text:
            return self.path
        return _find(json.loads(self.text, object_pairs_hook=_pairs), self.path, first=self.first)


def _read(text: memoryview, path: Path, *, nesting: int) -> object:
    """Decode the JSON at `path`; members and entries of a large value are decoded one by one.
    Raises _DuplicateKey, and what the decoder raises.
    """
    if len(text) > PIECE_SIZE:
        match bytes(text[:PIECE_SIZE]).lstrip()[:1]:
            case b'"':
                return _decode(text)  # a string has no keys
            case b"{" if nesting < MAX_SPLIT_DEPTH:
                return _read_members(text, path, nesting=nesting)
            case b"[" if nesting < MAX_SPLIT_DEPTH:
                return _read_entries(text, path, nesting=nesting)
            case _:
                pass
    return _read_piece(bytes(text), path)


def _read_piece(text: bytes, path: Path, *, first: int = 0) -> object:
    tree: object = _decode(text)
    if _has_duplicate(text, _encode(tree)):
        raise _DuplicateKey(text, path, first)
    return tree


def _read_members(text: memoryview, path: Path, *, nesting: int) -> object:
    fields = _decode_members(text)
    if any('"' in key for key in fields):  # it may be written as an escape
        return _read_piece(bytes(text), path)
    # All quotation marks, minus those in the values, are those of the keys.
    left = _quotes(text) - _quotes(memoryview(_encode(list(fields))))
    tree: dict[str, object] = {}
    for key, raw in fields.items():
        value = memoryview(raw)
        left -= _quotes(value)
        tree[key] = _read(value, (path, key), nesting=nesting + 1)
    if left:
        raise _DuplicateKey(bytes(text) if len(text) <= SEARCH_LIMIT else b"", path)
    return tree


def _read_entries(text: memoryview, path: Path, *, nesting: int) -> list[object] | LargeList:
    batches = partial(_batches, text, path, nesting=nesting)
    if nesting != 1 or len(text) <= LARGE_LIST:
        return [value for batch in batches() for value in batch]
    length = 0
    for batch in batches():
        if _is_too_deep(batch, MAX_DEPTH - nesting):
            raise PolicyRefusal("too-deep", None)
        length += len(batch)
    return LargeList(batches, length)


def _batches(text: memoryview, path: Path, *, nesting: int) -> Iterator[list[object]]:
    """The entries of a list: the small ones in batches, each large one alone."""
    batch: list[bytes] = []
    size = first = 0
    for raw in _decode_entries(text):
        if batch and size + len(raw) > PIECE_SIZE:
            yield _read_list(batch, path, first=first)
            first += len(batch)
            batch, size = [], 0
        if len(raw) > PIECE_SIZE:
            yield [_read(memoryview(raw), (path, first), nesting=nesting + 1)]
            first += 1
        else:
            batch.append(bytes(raw))
            size += len(raw)
    yield _read_list(batch, path, first=first)


def _read_list(entries: list[bytes], path: Path, *, first: int) -> list[object]:
    return cast("list[object]", _read_piece(b"[" + b",".join(entries) + b"]", path, first=first))


def _quotes(text: memoryview) -> int:
    return sum(
        bytes(text[start : start + PIECE_SIZE]).count(b'"') for start in range(0, len(text), PIECE_SIZE)
    )


def _has_duplicate(body: bytes, again: bytes) -> bool:
    """Whether `again`, the decoded body encoded again, lacks a member. Most clients format JSON as
    we do, except for spaces, so that one comparison suffices.
    """
    if body == again or _compact(body, indent=NO_SPACES) == again:
        return False
    if ESCAPED_QUOTE in body:
        return _strings(body) != _strings(again)
    return body.count(b'"') != again.count(b'"')


def _strings(text: bytes) -> int:
    """The number of quotation marks that begin or end a string."""
    text = text.replace(b"\\\\", b"")
    return text.count(b'"') - text.count(b'\\"')


def _is_too_deep(tree: Any, most: int) -> bool:
    """Whether more than `most` levels are nested. A level is all containers of one depth."""
    level: list[Any] = [tree]
    for _ in range(most):
        inner: list[Any] = []
        for value in level:
            if type(value) is dict:
                inner += cast("dict[str, Any]", value).values()
            elif len(value) < LONG_LIST or not _CONTAINERS.isdisjoint(map(type, value)):
                inner += value
        level = [value for value in inner if type(value) in _CONTAINERS]
        if not level:
            return False
    return True


class _Pairs(list[tuple[str, Any]]):
    """An object with its duplicate keys."""


def _pairs(members: list[tuple[str, Any]]) -> _Pairs:
    """A function instead of the class, so that other threads can run between two calls."""
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
