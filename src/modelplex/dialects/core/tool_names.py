"""Aliases of tool names that providers do not accept.

An alias depends on the name alone, so that a tool has the same alias in every request
(docs/reference/translation.md#r42): providers cache by prefix, and earlier turns hold the name too.
Imports no dialect.
"""

from __future__ import annotations

import hashlib
import re

from modelplex.core.request import Change, FreeformTool, Tool
from modelplex.dialects.core.ledger import tool_path

LONGEST = 64
"""Characters of a tool's name; the limit of OpenAI and Anthropic."""

_DIGEST = 10
"""Hex digits that distinguish two cut names: 40 bits, for a few hundred tools of a request."""

_accepted = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_refused = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)


def alias(name: str) -> str:
    """The name where it is accepted, else what can be kept of it and a digest of the whole."""
    if _accepted.fullmatch(name):
        return name
    return _refused.sub("_", name)[: LONGEST - _DIGEST - 1] + "_" + digest(name)


def digest(name: str) -> str:
    """What distinguishes a cut name from others."""
    return hashlib.blake2s(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]


class ToolAliases:
    """The tool names of one request. `aliases` maps a name as sent to the client's name; each that
    differs is added to `changes` once.

    `native`: the client speaks the provider's dialect, so that its names stay. `letter_first`: a
    name must not begin with a digit or a dash.
    """

    def __init__(self, changes: list[Change], *, native: bool, letter_first: bool = False) -> None:
        self.aliases: dict[str, str] = {}
        self._changes = changes
        self._native = native
        self._letter_first = letter_first

    def __repr__(self) -> str:
        return f"<ToolAliases {len(self.aliases)} aliases>"

    def of(self, tool: Tool | FreeformTool) -> str:
        """The name of a tool as it is sent."""
        name = tool.name
        if self._native or (not self._letter_first and _accepted.fullmatch(name)):
            return name
        return self.sent(name, path=tool_path(tool, "name"))

    def sent(self, name: str, *, path: str) -> str:
        """The name as it is sent: the same in definitions, choice, history and on every turn."""
        if self._native:
            return name
        sent = alias(name)
        if self._letter_first and not (sent[0].isalpha() or sent[0] == "_"):
            sent = f"_{sent}"[:LONGEST]
        if sent != name and sent not in self.aliases:
            self.aliases[sent] = name
            reason = f"tool names are at most {LONGEST} letters, digits, _ and -: {sent}"
            self._changes.append(Change("rename", path, reason))
        return sent


def qualified(namespace: str, name: str) -> str:
    """A tool's name where there are no namespaces: "files" and "read" are "files__read", and so are
    "files__" and "read".
    """
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"
