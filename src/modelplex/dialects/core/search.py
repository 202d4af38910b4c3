"""A fast search for marks in a body. A single byte is found fifty times faster than several: where
one of a mark's bytes is rare in a body, only the places that have it are compared.

Imports nothing of Modelplex.
"""

from __future__ import annotations

from functools import cache

SMALL = 8_192
"""Bytes that are searched in the plain way, which takes 4 microseconds."""
SAMPLES = 1_024
MOST_SAMPLES = 4_096
"""Bytes of a body that are looked at to find one that is rare: of a large body more, where a wrong
guess costs more.
"""
LARGE = 262_144
RARE = 1_000
"""A byte is rare where fewer than one in so many are it. To compare one place takes as long as to
search through 300 bytes in the plain way.
"""
CANDIDATES = 5
COMMON = b'"etaoinsrlhdcumpgfybw,.v_:/k0-x21jqz'
"""Bytes of text and code, the most frequent first."""


def holds_any(body: bytes, marks: tuple[bytes, ...]) -> bool:
    """Whether one of the marks is in the body."""
    if len(body) < SMALL:
        for mark in marks:  # noqa: SIM110 - a generator takes as long as the search
            # `in` makes an error of bytes that are no number first, and drops it.
            if body.find(mark) >= 0:
                return True
        return False
    sample = body[:: len(body) // (SAMPLES if len(body) < LARGE else MOST_SAMPLES)]
    return any(_holds(body, mark, sample) for mark in marks)


@cache
def _rarest_first(mark: bytes) -> tuple[tuple[bytes, int], ...]:
    """Some bytes of a mark and their offsets in it, the rarest in most bodies first."""
    offsets = sorted(range(len(mark)), key=lambda offset: -COMMON.find(mark[offset : offset + 1]))
    return tuple((mark[offset : offset + 1], offset) for offset in offsets[:CANDIDATES])


def _holds(body: bytes, mark: bytes, sample: bytes) -> bool:
    found = next((each for each in _rarest_first(mark) if sample.count(each[0]) * RARE <= len(sample)), None)
    if found is None:
        return mark in body
    rare, offset = found
    left = 1 + len(body) // RARE
    at = body.find(rare, offset)
    while at >= 0:
        if body.startswith(mark, at - offset):
            return True
        left -= 1
        if not left:  # the sample was misleading
            return body.find(mark, at - offset + 1) >= 0
        at = body.find(rare, at + 1)
    return False
