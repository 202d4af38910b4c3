"""Faults of a config, each with its place. A fault never holds a secret."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class ConfigFault(msgspec.Struct, frozen=True):
    """`line` counts from 1 and is None where there is none (a missing file). `key` is a path such
    as `providers[0].api_key`, "" for the whole file. `found` is None where nothing was found, or
    nothing of it may be shown; `hint` says what to do next.
    """

    file: str
    line: int | None
    key: str
    expected: str
    found: str | None = None
    hint: str | None = None

    @property
    def message(self) -> str:
        return f"expected {self.expected}" + (f", found {self.found}" if self.found is not None else "")

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(filter(None, (place, self.key, self.message))) + (
            f"; {self.hint}" if self.hint else ""
        )


class ConfigError(Exception):
    """The config cannot be used. `faults` are all of them, by line; `sentence` is for the user."""

    def __init__(self, faults: Sequence[ConfigFault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line or 0))
        super().__init__("\n".join(map(str, self.faults)))

    @property
    def sentence(self) -> str:
        if len(self.faults) == 1:
            return str(self.faults[0])
        lines = [f"the config has {len(self.faults)} faults", *(f"  {fault}" for fault in self.faults)]
        return "\n".join(lines)
