r"""Halves of a surrogate pair, which clients leave behind that cut a text inside of a character: `\ud83d` without what follows it is no character.

Above it stand the readers of bodies; below it nothing. RFC 8259, section 8.2, leaves to each parser what it makes of them: JavaScript and Python keep them, strict parsers and most providers refuse the
whole body. A tool's output stays in the conversation, so that one such half would close it for good. Each becomes U+FFFD, in as many bytes.
"""

from __future__ import annotations

import re

REPLACEMENT = rb"\uFfFd"
"""U+FFFD, written as nobody else writes it: where it stands, a body was mended."""
_ESCAPE = 6
"""Bytes of `\\uXXXX`."""
_beginning = re.compile(rb"\\u[dD]")
_HIGH, _LOW = b"89abAB", b"cdefCDEF"
_HEX = b"0123456789abcdefABCDEF"


def mended(body: bytes) -> bytes:
    """The JSON with each lone half replaced; the very same object where there is none. Linear in the body's length."""
    pieces: list[bytes] = []
    done = 0
    at = _next(body, 0)
    while at >= 0:
        kind = _half(body, at)
        if _is_escaped(body, at, since=done) or kind == "":
            at = _next(body, at + 2)
        elif kind == "high" and _half(body, at + _ESCAPE) == "low":
            at = _next(body, at + 2 * _ESCAPE)
        else:
            pieces += (body[done:at], REPLACEMENT)
            done = at + _ESCAPE
            at = _next(body, done)
    return b"".join((*pieces, body[done:])) if pieces else body


def mended_text(text: str) -> str:
    """The same of JSON in a text."""
    return mended(text.encode("utf-8", "replace")).decode() if "\\ud" in text.lower() else text


def _next(body: bytes, start: int) -> int:
    found = _beginning.search(body, start)
    return -1 if found is None else found.start()


def _half(body: bytes, at: int) -> str:
    """Which half the escape at this place is; "" for any other bytes."""
    if _beginning.match(body, at) is None or len(body) < at + _ESCAPE:
        return ""
    kind, *digits = body[at + 3 : at + _ESCAPE]
    if any(digit not in _HEX for digit in digits):
        return ""
    return "high" if kind in _HIGH else "low" if kind in _LOW else ""


def _is_escaped(body: bytes, at: int, *, since: int) -> bool:
    """Whether the backslash at this place is itself escaped: an odd number of them stands before it."""
    before = at
    while before > since and body[before - 1] == 0x5C:
        before -= 1
    return (at - before) % 2 == 1
