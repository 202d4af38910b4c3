"""What is wrong with a config: every fault at once, each with its place.

It stands below the readers and knows no setting. A fault never holds a secret: whoever makes one
says "a string" where the value might be one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class ConfigFault(msgspec.Struct, frozen=True):
    """One fault. `line` counts from 1 and is None where there is no line (a missing file). `key` is
    a path such as `providers[0].api_key`, "" for the whole.

    `found` is None where nothing was there to be found; `hint` says what to do next, as "did you
    mean" does.
    """

    file: str
    line: int | None
    key: str
    expected: str
    found: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        what = f"expected {self.expected}" + (f", found {self.found}" if self.found is not None else "")
        return ": ".join(filter(None, (place, self.key, what))) + (f"; {self.hint}" if self.hint else "")


class ConfigError(Exception):
    """The config is not used, not even in part. `faults` are all of them, by line; `sentence` is
    for the person at the terminal.
    """

    def __init__(self, faults: Sequence[ConfigFault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line or 0))
        super().__init__("\n".join(map(str, self.faults)))

    @property
    def sentence(self) -> str:
        if len(self.faults) == 1:
            return str(self.faults[0])
        return "\n".join(
            [f"the config has {len(self.faults)} faults", *(f"  {fault}" for fault in self.faults)]
        )
