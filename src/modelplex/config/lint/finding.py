"""ConfigFinding, and LintContext: what a check reads, and makes findings with."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, cast

import msgspec

from modelplex.config import Config, ConfigFault
from modelplex.config.toml_positions import Path as Place
from modelplex.config.toml_positions import dotted, line_of, places

Severity = Literal["error", "warning"]


class ConfigFinding(msgspec.Struct, frozen=True, kw_only=True):
    """An error will fail, or has no effect; a warning may be intended. Holds no secret.

    code   stable across versions
    file, line   None where there is none; lines count from 1
    key    the path of the setting, such as `providers[0].api_key`; the name of an option of the
           command line; "" for the whole file
    """

    severity: Severity
    code: str
    file: str | None
    line: int | None
    key: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = f"{self.message}; {self.remedy}" if self.remedy else self.message
        return ": ".join(filter(None, (place, self.severity, self.key, text))) + f" [{self.code}]"


def findings_of(faults: Sequence[ConfigFault]) -> list[ConfigFinding]:
    """The faults of a config that cannot be loaded, as findings."""
    return [
        ConfigFinding(
            severity="error",
            code="invalid-config",
            file=fault.file,
            line=fault.line,
            key=fault.key,
            message=fault.message,
            remedy=fault.hint or "",
        )
        for fault in faults
    ]


class LintContext:
    """A config with the text of its file, which is read again for the strings as written, before
    `${NAME}` is expanded. `overridden` are options of the command line that replace settings.
    """

    def __init__(self, config: Config, *, environ: Mapping[str, str], overridden: Sequence[str] = ()) -> None:
        self.config = config
        self.environ = environ
        self._overridden = overridden
        self._tree: object = {}
        self._lines: Mapping[Place, int] = {}
        if config.path is not None:
            try:
                text = Path(config.path).read_bytes().decode("utf-8-sig")
                self._tree, self._lines = tomllib.loads(text), places(text)
            except (OSError, ValueError):
                pass  # it has changed since it was loaded

    def raw(self, *place: str | int) -> object:
        """The value at a place of the file, or None."""
        value = self._tree
        for step in place:
            try:
                value = cast("dict[str | int, object]", value)[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def strings(self, *place: str | int) -> Iterator[tuple[Place, str]]:
        """The string at a place, or each string of the list or table there."""
        value = self.raw(*place)
        if isinstance(value, str):
            yield place, value
        elif isinstance(value, dict):
            for key in cast("dict[str, object]", value):
                yield from self.strings(*place, key)
        elif isinstance(value, list):
            for index in range(len(cast("list[object]", value))):
                yield from self.strings(*place, index)

    def element(self, index: int, *place: str | int) -> Place:
        """The place of an element where the file has a list, else that of the single value."""
        return (*place, index) if isinstance(self.raw(*place), list) else place

    def error(
        self, code: str, place: Place, message: str, remedy: str, *, option: str | None = None
    ) -> ConfigFinding:
        """`option` is the one that may have replaced the setting at `place`."""
        return self._finding("error", code, place, message, remedy, option=option)

    def warning(
        self, code: str, place: Place, message: str, remedy: str, *, option: str | None = None
    ) -> ConfigFinding:
        return self._finding("warning", code, place, message, remedy, option=option)

    def _finding(
        self, severity: Severity, code: str, place: Place, message: str, remedy: str, *, option: str | None
    ) -> ConfigFinding:
        is_option = option is not None and option in self._overridden
        return ConfigFinding(
            severity=severity,
            code=code,
            file=None if is_option else self.config.path,
            line=None if is_option else line_of(place, self._lines),
            key=option if is_option and option else dotted(place),
            message=message,
            remedy=remedy,
        )


Check: TypeAlias = Callable[[LintContext], Iterator[ConfigFinding]]
