"""Limits of a request body: JSON values, messages, tools and parameters.

The size of a body in bytes is limited elsewhere and does not limit the cost of reading it: an empty
object is two bytes of JSON, a hundred bytes of memory and a step of every walk. The limits are far
above what agents send and are checked without decoding. Imports no dialect.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import BadRequest

MAX_VALUES = 500_000
"""JSON values of a body: objects, lists, texts, numbers. A conversation of 10,000 tool turns has
about 250,000, the tools of an agent 100 each. Each may cost 100 bytes when it is decoded, so that
this many are 50 MB.
"""
MAX_MESSAGES = 50_000
"""Entries of `messages`, `input` or `contents`. Long sessions have some thousands; a model's window
of a million tokens would leave 20 to each of these.
"""
MAX_TOOLS = 5_000
"""Entries of `tools`. Agents with many tool servers offer some hundreds, and providers take 128 to
512.
"""
MAX_PARAMETERS = 1_000
"""Members of a body's top level. The largest form has about 60, and each unknown one is reported by
its name.
"""
CHAT_LISTS: Mapping[str, int] = {"messages": MAX_MESSAGES, "tools": MAX_TOOLS, "functions": MAX_TOOLS}
"""Lists of chat completions, and of every dialect that names no others. `input` of embeddings holds
token ids, which are many and cheap.
"""
SMALLEST_VALUE = 2
"""Bytes of a value and of what sets it apart from the next: a body shorter than this for each is
within the bound, whatever it holds.
"""
SHORTEST_MEMBER = 5
"""Bytes of a member of the top level: `"":0,`."""
SHORT = MAX_PARAMETERS * SHORTEST_MEMBER
"""Bytes of a body that is within every bound, whatever it holds."""
SLICE = 65_536
"""Bytes that are taken apart at a time. Between two slices other threads get their turn."""
COUNTED_AT_ONCE = 524_288
"""Bytes in which one byte is looked for at a time: an eighth of a millisecond, in which no other
thread gets its turn.
"""
SAMPLES = 1_024
"""Bytes that are looked at to learn whether one byte is rare."""
RARE = 300
"""A byte is rare where at most one in so many are it."""

_MARKS = (b",", b"[", b"{")
"""Each stands before a value."""
_OUTSIDE = b'",[{'
_OTHERS = bytes(byte for byte in range(256) if byte not in _OUTSIDE)
_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode


def check_values(body: bytes, *, most: int = MAX_VALUES) -> None:
    """Raises BadRequest for a body with more values. A body that is not JSON passes."""
    if len(body) <= most * SMALLEST_VALUE:
        return
    if _may_exceed(body, most) and (found := count_values(body, enough=most)) > most:
        raise BadRequest(
            f"The body has at least {found} JSON values (objects, lists, texts and numbers), and at most {most} are read."
        )


def may_have_more_values(body: bytes, most: int) -> bool:
    """Whether the body may have more values than this. Commas and brackets inside of texts are
    counted too, so that it is sure only where it is False.

    `replace` goes from one such byte to the next, in few steps where they are rare, and stops at
    `most` of them; `count` and `translate` take a step for each byte of the body.
    """
    left = most
    for mark in _MARKS:
        left -= len(body) - len(body.replace(mark, b"", left))
        if left <= 0:
            return True
    return False


def _may_exceed(body: bytes, most: int) -> bool:
    """The same for a body of any size, in slices, and only of so much of it as is needed."""
    left, start = most - 1, 0
    while left >= 0:
        rest = len(body) - start
        if rest <= 0 or 2 * rest < 3 * left:  # no JSON has more than two marks in three bytes: `[],`
            return False
        end = start + COUNTED_AT_ONCE
        left -= sum(_count(body, mark, start, end) for mark in _MARKS)
        start = end
    return True


def _count(body: bytes, byte: bytes, start: int, end: int) -> int:
    """How often the byte is in a part of the body. Where it is rare, finding each is faster than
    comparing all bytes.
    """
    sample = body[start : end : (min(end, len(body)) - start) // SAMPLES or 1]
    if sample.count(byte) * RARE > len(sample):
        return body.count(byte, start, end)
    found, at = 0, body.find(byte, start, end)
    while at >= 0 and found < (end - start) // RARE:
        found += 1
        at = body.find(byte, at + 1, end)
    return found if at < 0 else found + body.count(byte, at, end)


def count_values(body: bytes, *, enough: int) -> int:
    """How many values the JSON in `body` has; an empty object or list counts as two. It stops where
    more than `enough` are found.
    """
    found, start, in_text = 1, 0, False
    while start < len(body) and found <= enough:
        end = _whole_escape(body, start, start + SLICE)
        piece = body[start:end]
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        runs = piece.translate(None, _OTHERS).split(b'"')  # in turn outside and inside of a text
        found += sum(map(len, runs[in_text::2]))
        in_text ^= len(runs) % 2 == 0
        start = end
    return found


def _whole_escape(body: bytes, start: int, end: int) -> int:
    """`end`, or one more where it would cut an escape in two. No escape is cut at `start`, so that
    no more than the slice is looked at.
    """
    piece = body[start:end]
    backslashes = len(piece) - len(piece.rstrip(b"\\"))
    return end + backslashes % 2


def check_lists(fields: Mapping[str, msgspec.Raw], body: bytes, *, limits: Mapping[str, int]) -> None:
    """Raises BadRequest for a top level with too many members, and for a list with more entries
    than `limits` has for its name. `fields` are the members of the body.
    """
    if len(fields) > MAX_PARAMETERS:
        raise BadRequest(
            f"The body has {len(fields)} members at its top level, and at most {MAX_PARAMETERS} are read."
        )
    commas = -1
    for name, limit in limits.items():
        raw = fields.get(name)
        if raw is None or len(raw) <= limit * SMALLEST_VALUE:
            continue
        if commas < 0:
            commas = _count_all(body, b",")
        if commas < limit or bytes(raw).count(b",") < limit:
            continue
        try:
            found = len(_decode_entries(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if found > limit:
            raise BadRequest(f"'{name}' has {found} entries, and at most {limit} are taken.", param=name)


def _count_all(body: bytes, byte: bytes) -> int:
    return sum(
        _count(body, byte, start, start + COUNTED_AT_ONCE) for start in range(0, len(body), COUNTED_AT_ONCE)
    )
