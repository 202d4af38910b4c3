"""The `WWW-Authenticate` of a refused request.

PURE. Source: RFC 9110 11.6.1, RFC 6750 3 (`error`, `scope`), RFC 9728 5.1 (`resource_metadata`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

INSUFFICIENT: Final = "insufficient_scope"
MAX_SCOPES: Final = 64
"""Scopes of one challenge; real ones name a few."""
_SCHEME: Final = re.compile(r"(?:^|[,\s])bearer(?=\s|,|$)", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    r'(?<![a-z_])([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.IGNORECASE
)
"""A name is tried from its first letter alone: from each letter, a long word costs its square."""
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")
"""A scope token (RFC 6749 3.3)."""


class Challenge(msgspec.Struct, frozen=True):
    """Of the scheme Bearer. `scope` is separated by spaces, and `metadata` the address of the
    resource's metadata; "" where absent.
    """

    status: int
    error: str = ""
    scope: str = ""
    metadata: str = ""

    @property
    def wants_more(self) -> bool:
        """Whether the token was valid and its scope too small."""
        return self.status == 403 and self.error == INSUFFICIENT


def read_challenge(status: int, values: Iterable[bytes]) -> Challenge | None:
    """The challenge in the values of `WWW-Authenticate`; None if none is of the scheme Bearer."""
    for value in values:
        text = value.decode("latin-1")
        scheme = _SCHEME.search(text)
        if scheme is None:
            continue
        found: dict[str, str] = {}
        for name, quoted, plain in _PARAMETER.findall(text[scheme.end() :]):
            found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain)
        return Challenge(
            status,
            error=found.get("error", ""),
            scope=union(found.get("scope", "")),
            metadata=found.get("resource_metadata", ""),
        )
    return None


def union(*scopes: str) -> str:
    """All these scopes, each once, in order; words that are no scope are left out."""
    words = (word for scope in scopes for word in scope.split() if _SCOPE.fullmatch(word))
    return " ".join(list(dict.fromkeys(words))[:MAX_SCOPES])
