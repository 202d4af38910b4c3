"""The path of a value in a body, and its two written forms.

Both forms go into headers and log lines, and a key may be the client's text: they are ASCII, and
the length of a key is limited.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

Path = tuple[Any, str | int] | None
"""`(path of the container, key or index)`; None is the body itself. A step costs one small tuple,
and nothing is formatted before it is needed.
"""
KEY_LIMIT = 64
"""Characters of a key that are shown: a longer one could carry a message in our header."""
_UNQUOTED = "$@!*"


def steps(path: Path) -> tuple[str | int, ...]:
    """The keys from the body inward."""
    found: list[str | int] = []
    while path is not None:
        path, key = path
        found.append(key)
    return tuple(reversed(found))


def pointer(path: Path) -> str:
    """`/tools/3/type`: a JSON pointer (RFC 6901), percent-encoded as in a URL's fragment."""
    return "".join(f"/{_escaped(key)}" for key in steps(path))


def dotted(path: Path) -> str:
    """`input[2].content[0].image_url`, as errors of the APIs write it."""
    path_text = "".join(f"[{key}]" if isinstance(key, int) else f".{_escaped(key)}" for key in steps(path))
    return path_text.removeprefix(".")


def _escaped(key: str | int) -> str:
    if isinstance(key, int):
        return str(key)
    text = key[:KEY_LIMIT].replace("~", "~0").replace("/", "~1")
    return quote(text, safe=_UNQUOTED, errors="replace")
