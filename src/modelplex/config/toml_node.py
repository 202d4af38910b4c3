"""A value of a parsed TOML document with its position, and the faults found so far.

Knows no key by name. A fault quotes a string as the file has it, before `${NAME}` is expanded, and
nothing that may be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Literal, TypeAlias, cast

import msgspec

from modelplex.config.problems import ConfigFault
from modelplex.config.toml_positions import Path, dotted, line_of

MAX_QUOTED: Final = 60
"""Characters of a wrong value that a fault quotes."""
MAX_LISTED: Final = 25
"""Known words that a suggestion lists."""


class _Faulty(Enum):
    FAULTY = "faulty"


FAULTY: Final = _Faulty.FAULTY
"""Stands for a value whose fault is recorded already."""

Faulty: TypeAlias = Literal[_Faulty.FAULTY]


class TomlDocument(msgspec.Struct):
    """A file being read. `environ` expands `${NAME}`; `homes` names the table that each known key
    belongs in.
    """

    file: str
    lines: Mapping[Path, int]
    environ: Mapping[str, str]
    homes: Mapping[str, str]
    faults: list[ConfigFault] = []


class TomlNode(msgspec.Struct, frozen=True):
    """A value and its place in the document."""

    value: object
    path: Path
    document: TomlDocument

    @property
    def line(self) -> int | None:
        return line_of(self.path, self.document.lines)

    def reject(self, expected: str, *, found: str | None = None, hint: str | None = None) -> Faulty:
        """Record a fault. `found` describes the value; None shows nothing of it."""
        key = dotted(self.path)
        self.document.faults.append(
            ConfigFault(self.document.file, self.line, key, expected=expected, found=found, hint=hint)
        )
        return FAULTY

    def child(self, step: str | int, value: object = None) -> TomlNode:
        return TomlNode(value, (*self.path, step), self.document)

    def get(self, key: str) -> TomlNode:
        """The member of that name; its value is None where there is none, or this is no table."""
        return self.child(key, self.raw_table().get(key))

    def members(self) -> dict[str, TomlNode] | Faulty:
        if not isinstance(self.value, dict):
            return self.reject("a table", found=type_name(self.value))
        return {key: self.child(key, value) for key, value in self.raw_table().items()}

    def elements(self) -> list[TomlNode]:
        """The elements of a list; none where this is no list."""
        is_list = isinstance(self.value, list)
        values = cast("list[object]", self.value) if is_list else []
        return [self.child(index, value) for index, value in enumerate(values)]

    def raw_table(self) -> dict[str, object]:
        """The members without positions; empty where this is no table."""
        is_table = isinstance(self.value, dict)
        return cast("dict[str, object]", self.value) if is_table else {}

    def raw_string(self, key: str) -> str:
        """A string member as it stands in the file, "" where there is none."""
        member = self.raw_table().get(key)
        return member if isinstance(member, str) else ""


def quote(value: object) -> str:
    """A wrong value as a fault shows it."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return '"' + (value if len(value) <= MAX_QUOTED else f"{value[:MAX_QUOTED]}...") + '"'
        case _:
            return type_name(value)


def type_name(value: object) -> str:
    """The kind of a wrong value that may be secret."""
    match value:
        case None:
            return "null"
        case "":
            return "an empty string"
        case str():
            return "a string"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was meant, if one is near."""
    from difflib import get_close_matches  # a valid config needs none

    return next(iter(get_close_matches(word.lower(), known, n=1)), None)


def suggestion(word: str, known: Sequence[str]) -> str | None:
    """A "did you mean", or the known words where none is near and they are few."""
    if (near := nearest(word, known)) is not None:
        return f'did you mean "{near}"?'
    return f"known here: {', '.join(known)}" if known and len(known) <= MAX_LISTED else None
