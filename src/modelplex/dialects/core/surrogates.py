r"""Replaces lone surrogates in JSON: `\ud83d` without its second half is no character.

Clients leave them behind when they cut a text inside a character. RFC 8259, section 8.2, leaves
them to the parser: JavaScript and Python keep them, strict parsers and most providers refuse the
whole body. A tool's output stays in the conversation, so that one lone surrogate would block it for
good. Each becomes U+FFFD, in as many bytes. Imports nothing of Modelplex.
"""

from __future__ import annotations

import re

REPLACEMENT = rb"\uFfFd"
"""U+FFFD in a spelling that only this module writes: it marks a mended body."""
_ESCAPE = 6
"""Bytes of `\\uXXXX`."""
_beginning = re.compile(rb"\\u[dD]")
_HEX = rb"[0-9a-fA-F]{2}"
_HIGH, _LOW = rb"\\u[dD][89abAB]" + _HEX, rb"\\u[dD][c-fC-F]" + _HEX
SEARCHED_AT_ONCE = 524_288
"""Bytes of one search: an eighth of a millisecond, in which no other thread runs."""
AT_ONCE = 20_000
"""Escapes that one match skips at most. A match keeps the interpreter's lock; between two matches
other threads run.
"""
_whole = re.compile(rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F]%b)|%b%b){0,%d}+" % (_HEX, _HIGH, _LOW, AT_ONCE))
_halves = re.compile(rb"(?:%b|%b(?!%b)){0,%d}+" % (_LOW, _HIGH, _LOW, AT_ONCE))


def mended(body: bytes) -> bytes:
    """The JSON with each lone surrogate replaced; the same object where there is none. Linear in
    the body's length.
    """
    if len(body) <= SEARCHED_AT_ONCE and (b"\\" not in body or b"\\u" not in body):
        return body  # nearly every event of a stream; one byte is found 50 times faster than two
    if not _may_have_halves(body):
        return body
    out = bytearray(body)  # a replacement has as many bytes as what it replaces
    at, found = 0, False
    while (begin := _end(_whole, body, at)) > at or begin < len(body):
        at = _end(_halves, body, begin)
        if at > begin:
            out[begin:at] = REPLACEMENT * ((at - begin) // _ESCAPE)
            found = True
        elif begin == _end(_whole, body, begin):
            break  # a backslash at the very end
    return bytes(out) if found else body


def _may_have_halves(body: bytes) -> bool:
    """Whether there is an escape of a surrogate, lone or in a pair."""
    return any(
        _beginning.search(body, start, start + SEARCHED_AT_ONCE + _ESCAPE) is not None
        for start in range(0, len(body), SEARCHED_AT_ONCE)
    )


def mended_text(text: str) -> str:
    """`mended` for JSON in a str."""
    return mended(text.encode("utf-8", "replace")).decode() if "\\ud" in text or "\\uD" in text else text


def _end(expression: re.Pattern[bytes], body: bytes, start: int) -> int:
    found = expression.match(body, start)
    return start if found is None else found.end()
