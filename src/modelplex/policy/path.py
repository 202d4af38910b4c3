"""Where something stands in a body: a chain of keys from the inside out, and its two written forms.

Above it stand the checks; below it nothing. A key may be a client's own word, so that both forms
are bounded and in plain ASCII: they go into headers and log lines.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

Path = tuple[Any, str | int] | None
"""`(the path of what holds it, key or index)`; None is the body itself. A chain costs one small
tuple a step, and nothing is written before it is needed.
"""
KEY_LIMIT = 64
"""Characters of a key that are shown: more would be a message of the client's in our header."""
_PLAIN = "$@!*"


def steps(path: Path) -> tuple[str | int, ...]:
    """The keys from the outside in."""
    found: list[str | int] = []
    while path is not None:
        path, key = path
        found.append(key)
    return tuple(reversed(found))


def pointer(path: Path) -> str:
    """`/tools/3/type`: a JSON pointer (RFC 6901), percent-encoded as in a URL's fragment."""
    return "".join(f"/{_shown(key)}" for key in steps(path))


def dotted(path: Path) -> str:
    """`input[2].content[0].image_url`, as the APIs' own errors write it."""
    told = "".join(f"[{key}]" if isinstance(key, int) else f".{_shown(key)}" for key in steps(path))
    return told.removeprefix(".")


def _shown(key: str | int) -> str:
    if isinstance(key, int):
        return str(key)
    escaped = key[:KEY_LIMIT].replace("~", "~0").replace("/", "~1")
    return quote(escaped, safe=_PLAIN, errors="replace")
