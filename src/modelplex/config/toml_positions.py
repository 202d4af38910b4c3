"""The line of each key of a TOML document, which tomllib does not report.

Scans only text that tomllib has accepted, so it does not check what it skips. Source:
https://toml.io/en/v1.0.0
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

Path = tuple[str | int, ...]
"""The place of a value in the parsed document: `("providers", 0, "models", 2)`."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_INLINE_BLANK: Final = re.compile(r"[ \t]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
# The long forms first: `""` also opens `\"""`. A long string may end in two quotes of its own.
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'", re.DOTALL
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]*")


def places(text: str) -> dict[Path, int]:
    """The line, from 1, of each table, key and array element of a valid TOML document."""
    scan = _Scan(text)
    scan.document()
    return scan.lines


def line_of(path: Path, lines: Mapping[Path, int]) -> int | None:
    """The line of `path`, else of the nearest table around it; None in an empty document."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return None


def dotted(path: Path) -> str:
    """The path as users write it: `providers[0].headers."x.y"`."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            key = step if _BARE_KEY.fullmatch(step) else '"' + step.replace('"', '\\"') + '"'
            shown += f".{key}" if shown else key
    return shown


def _child(path: Path, step: str | int) -> Path:
    return (*path, step)


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._last: dict[Path, int] = {}
        """The index of the last table of each array of tables."""

    def document(self) -> None:
        table: Path = ()
        self._take(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._take(_BLANK)

    def _header(self) -> Path:
        start = self.at
        of_array = self.text.startswith("[[", self.at)
        self.at += 2 if of_array else 1
        table: Path = ()
        keys = self._keys()
        for number, key in enumerate(keys):
            table = _child(table, key)
            if of_array and number == len(keys) - 1:
                self._last[table] = self._last.get(table, -1) + 1
            self._note(table, at=start)
            if table in self._last:
                table = _child(table, self._last[table])
                self._note(table, at=start)
        self.at += 2 if of_array else 1
        return table

    def _pair(self, table: Path) -> None:
        start = self.at
        path = table
        for key in self._keys():
            path = _child(path, key)
            self._note(path, at=start)
        self.at += 1  # the sign =
        self._take(_INLINE_BLANK)
        self._value(path)

    def _keys(self) -> list[str]:
        """`a."b.c".d`, and the blanks after it."""
        keys: list[str] = []
        while True:
            self._take(_INLINE_BLANK)
            if self.text[self.at] in "\"'":
                # tomllib unescapes it as any other string.
                keys.append(str(tomllib.loads(f"key = {self._take(_STRING)}")["key"]))
            else:
                keys.append(self._take(_BARE_KEY))
            self._take(_INLINE_BLANK)
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _value(self, path: Path) -> None:
        match self.text[self.at]:
            case '"' | "'":
                self._take(_STRING)
            case "[":
                self._elements(path, end="]")
            case "{":
                self._elements(path, end="}")
            case _:
                self._take(_SCALAR)

    def _elements(self, path: Path, *, end: str) -> None:
        self.at += 1
        index = 0
        while True:
            self._take(_BLANK)
            if self.text[self.at] == end:
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
            elif end == "}":
                self._pair(path)
            else:
                element = _child(path, index)
                self._note(element, at=self.at)
                self._value(element)
                index += 1

    def _note(self, path: Path, *, at: int) -> None:
        self.lines.setdefault(path, bisect_right(self._starts, at))

    def _take(self, token: re.Pattern[str]) -> str:
        found = token.match(self.text, self.at)
        if found is None:
            raise AssertionError(f"not the TOML that was accepted, at character {self.at}")
        self.at = found.end()
        return found.group()
