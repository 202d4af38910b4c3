"""Tool names that every dialect accepts.

Above it stand the dialects' writers; below it nothing. An alias depends on the name alone, so that
the same tool has the same alias in every request (docs/reference/translation.md#r42): providers
cache by prefix, and earlier turns hold the name too.
"""

from __future__ import annotations

import hashlib
import re

LONGEST = 64
"""Characters of a tool's name; the limit of OpenAI and Anthropic alike."""

_DIGEST = 10
"""Hex digits that tell two cut names apart: 40 bits, and a request has at most a few hundred tools.
"""

_accepted = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_refused = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)


def alias(name: str) -> str:
    """The name itself where it is accepted, else what can be kept of it and a digest of
    the whole.
    """
    if _accepted.fullmatch(name):
        return name
    digest = hashlib.blake2s(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return _refused.sub("_", name)[: LONGEST - _DIGEST - 1] + "_" + digest


def qualified(namespace: str, name: str) -> str:
    """A tool's name where there are no namespaces: "files" and "read" are "files__read", and so are
    "files__" and "read".
    """
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"
