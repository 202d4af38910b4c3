"""Matches URIs against URI templates (RFC 6570), in time bounded by both lengths.

PURE. No regular expression is built from a server's template: with a URI of a caller's choice it
could take forever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

MAX_URI_LENGTH: Final = 8_192
"""Characters of a URI that is matched against templates."""
MAX_TEMPLATE_LENGTH: Final = 2_048
MAX_EXPRESSIONS: Final = 8
"""Expressions of one template: the time of a match grows with them and with the length
of the URI.
"""


class Expression(msgspec.Struct, frozen=True):
    """The text that an expression may expand to: `prefix`, then at least `least` characters outside
    `stop`; or nothing if `optional`.
    """

    stop: str
    least: int = 0
    prefix: str = ""
    optional: bool = False


UriTemplate = tuple[str | Expression, ...]
"""Literal texts and expressions, in their order."""

_OPERATORS: Final[Mapping[str, Expression]] = {
    "+": Expression("", least=1),
    "#": Expression("", prefix="#", optional=True),
    ".": Expression("/?#", prefix=".", optional=True),
    "/": Expression("?#", prefix="/", optional=True),
    ";": Expression("/?#", prefix=";", optional=True),
    "?": Expression("#", prefix="?", optional=True),
    "&": Expression("#", prefix="&", optional=True),
}
_SIMPLE: Final = Expression("/?#", least=1)
_EXPLODED: Final = Expression("?#", least=1)
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_PARENT: Final = re.compile(r"(?:^|[/\\])(?:\.|%2e){2}(?:[/\\?#]|$)", re.IGNORECASE)


def is_too_large(template: str) -> bool:
    return len(template) > MAX_TEMPLATE_LENGTH or template.count("{") > MAX_EXPRESSIONS


def parse_template(text: str) -> UriTemplate:
    """A comma inside an expression is not split: its text may hold every value."""
    parts: list[str | Expression] = []
    at = 0
    for found in _BRACES.finditer(text):
        if literal := text[at : found.start()]:
            parts.append(literal)
        default = _EXPLODED if found[1].endswith("*") else _SIMPLE
        parts.append(_OPERATORS.get(found[1][:1], default))
        at = found.end()
    if literal := text[at:]:
        parts.append(literal)
    return tuple(parts)


def literal_length(template: UriTemplate) -> int:
    """Characters of the literal texts: of two templates that match, the longer is the closer."""
    return sum(len(part) for part in template if isinstance(part, str))


def is_matchable(uri: str) -> bool:
    """Whether a URI may be matched at all. One with `..` leaves the place that its template
    names.
    """
    return len(uri) <= MAX_URI_LENGTH and uri.isprintable() and not _PARENT.search(uri)


def matches(template: UriTemplate, uri: str) -> bool:
    """Whether the URI is an expansion of the template. Follows all positions at once."""
    positions = [0]
    for part in template:
        if isinstance(part, str):
            positions = [at + len(part) for at in positions if uri.startswith(part, at)]
        else:
            positions = _ends(part, positions, uri)
        if not positions:
            return False
    return positions[-1] == len(uri)


def _ends(expression: Expression, positions: Sequence[int], uri: str) -> list[int]:
    """The positions after an expression that begins at one of `positions`, which ascend."""
    reached = bytearray(len(uri) + 1)
    covered = -1
    for at in positions:
        if expression.optional:
            reached[at] = 1
        if not uri.startswith(expression.prefix, at):
            continue
        first = at + len(expression.prefix)
        begin = first + expression.least
        if begin > len(uri) or any(char in expression.stop for char in uri[first:begin]):
            continue
        if begin <= covered:
            continue  # this position was reached before
        stops = (uri.find(char, begin) for char in expression.stop)
        covered = min((stop for stop in stops if stop >= 0), default=len(uri))
        reached[begin : covered + 1] = b"\1" * (covered + 1 - begin)
    return [position for position, hit in enumerate(reached) if hit]
