"""Finds suspicious text in the definitions of tools, prompts and instructions.

PURE. A model reads a description as if its user had written it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final, Literal, cast

import msgspec

from modelplex.mcp.constants import Json

Suspicion = Literal["invisible", "escape", "phrase", "other_tool"]

MAX_SCANNED: Final = 262_144
"""Characters of one definition that are scanned: as many as a schema may have."""

SPECIFIC: Final = 6
"""Characters of the shortest name of another server's tool that is searched for."""

_ESCAPE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_INVISIBLE: Final = frozenset("\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0\u2800")
"""Letters and marks that show nothing, besides the format characters (Cf), whose tags (U+E0000) can
spell hidden text.
"""
_PHRASE: Final = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b[^.\n]{0,40}\b(?:instructions?|prompts?|rules|guidelines)\b"
    r"|\b(?:do not|don't|never|without)\b[^.\n]{0,20}\b(?:tell|inform|mention|reveal|show|notify|telling|informing|mentioning)\b"
    r"[^.\n]{0,30}\b(?:users?|humans?|operators?|anyone)\b"
    r"|</?(?:important|system|instructions?|secret|hidden|admin)>"
    r"|\b(?:system prompt|developer message)\b"
    r"|\b(?:before|prior to)\b[^.\n]{0,20}\busing\b[^.\n]{0,30}\b(?:this|any|other)\b[^.\n]{0,20}\btools?\b[^.\n]{0,40}\b(?:read|send|call|pass)\b"
    r"|(?:~|/home/\w+|/root)/\.(?:ssh|aws|gnupg|netrc|env)\b|\bid_rsa\b",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")


class ApprovalFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Something to look at before approving. `where` is the member, such as
    `inputSchema.properties.path.description`; `what` is safe to print.
    """

    kind: Suspicion
    where: str
    what: str

    @property
    def sentence(self) -> str:
        description = {
            "invisible": "invisible characters",
            "escape": "control characters",
            "phrase": "words that instruct the model",
            "other_tool": "the name of another server's tool",
        }[self.kind]
        return f"{self.where} has {description}: {self.what}"


def is_specific(name: str) -> bool:
    """Whether a tool's name is no common word, such as `search`."""
    return len(name) >= SPECIFIC and not name.isalpha()


def scan(definition: object, others: frozenset[str]) -> Iterator[ApprovalFinding]:
    """Suspicious strings of a definition, names of arguments included. `others` are the names of
    other servers' tools, as far as they are specific.
    """
    left = MAX_SCANNED
    for path, text in _strings(definition):
        piece = text[:left]
        left -= len(piece)
        yield from _findings(path, piece, others)
        if left <= 0:
            return


_Path = tuple["_Path", str | int] | None
"""The path to a string, last step first; written out only for a finding."""


def _where(path: _Path) -> str:
    steps: list[str | int] = []
    while path is not None:
        path, step = path
        steps.append(step)
    where = ""
    for step in reversed(steps):
        if isinstance(step, int):
            where += f"[{step}]"
        else:
            where += f".{printable(step)}" if where else printable(step)
    return where or "a key"


def _strings(definition: object) -> Iterator[tuple[_Path, str]]:
    """Every string with its place, keys too; without recursion, since a schema may be as deep as a
    message.
    """
    waiting: list[tuple[_Path, object]] = [(None, definition)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            members = cast("Json", value)
            for key in members:
                if not key.isidentifier():
                    yield path, key
            waiting.extend(((path, key), members[key]) for key in reversed(members))
        elif isinstance(value, list):
            elements = cast("list[object]", value)
            waiting.extend(((path, index), elements[index]) for index in reversed(range(len(elements))))


def _findings(path: _Path, text: str, others: frozenset[str]) -> Iterator[ApprovalFinding]:
    def finding(kind: Suspicion, pieces: Iterable[str]) -> ApprovalFinding:
        return ApprovalFinding(kind=kind, where=_where(path), what=", ".join(pieces))

    invisible = [] if text.isascii() else sorted(filter(_is_invisible, set(text)))
    if invisible:
        yield finding("invisible", (f"U+{ord(char):04X}" for char in invisible[:8]))
    if controls := sorted(set(_ESCAPE.findall(text))):
        yield finding("escape", (f"U+{ord(char):04X}" for char in controls[:8]))
    # Invisible characters must not hide a word.
    visible = "".join(char for char in text if char not in invisible) if invisible else text
    if phrase := _PHRASE.search(visible):
        yield finding("phrase", [f'"{printable(phrase[0])}"'])
    if others and (named := sorted(others & {word.strip(".-") for word in _WORD.findall(visible)})):
        yield finding("other_tool", (printable(name) for name in named[:8]))


def _is_invisible(char: str) -> bool:
    # U+200D joins emoji and U+200C separates letters in some scripts. Both are reported, since no
    # description of a tool needs them. U+FE0F, which turns a sign into an emoji, is common.
    if char.isascii():
        return False
    if char in _INVISIBLE or unicodedata.category(char) in ("Cf", "Cs", "Co"):
        return True
    return "\ufe00" <= char <= "\ufe0e" or "\U000e0100" <= char <= "\U000e01ef"


def printable(text: str, *, limit: int = 80) -> str:
    """Foreign text for one short line on a terminal; invisible and control characters
    are escaped.
    """
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[:limit])
