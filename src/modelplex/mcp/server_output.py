"""How much of what a server writes of its own accord reaches the log, and its last lines, which
mostly say why it ended.

PURE. Above it stand the server's handle and the hub; below it nothing. Time is an argument.
"""

from __future__ import annotations

from collections import deque
from typing import Final

LINES: Final = 100
"""Lines that are told at once."""
LINES_A_SECOND: Final = 2.0
"""And so many more in each second after that."""
BYTES: Final = 65_536
BYTES_A_SECOND: Final = 1_024.0
"""The same in bytes: 90 MB a day is what one server can add to the log."""
OVERHEAD: Final = 150
"""Bytes of a line in the log beside its text."""
COUNT_PAUSE: Final = 10.0
"""Seconds between two lines that say how many were left out."""
SHOWN: Final = 1_000
"""Characters of a line that are told."""

LAST_LINES: Final = 10
LAST_LENGTH: Final = 300
"""Characters of each of the last lines."""


class LogAllowance:
    """What may still be told. Fills up with time."""

    def __init__(self) -> None:
        self._lines = float(LINES)
        self._bytes = float(BYTES)
        self._at: float | None = None
        self._left_out = 0
        self._counted_at = 0.0

    def __repr__(self) -> str:
        return f"<Allowance of {self._lines:.0f} lines, {self._bytes:.0f} bytes, {self._left_out} left out>"

    def allows(self, size: int, now: float) -> bool:
        """Whether a line of `size` bytes may be told at `now`, in seconds. One that may not is
        counted.
        """
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._lines = min(float(LINES), self._lines + passed * LINES_A_SECOND)
        self._bytes = min(float(BYTES), self._bytes + passed * BYTES_A_SECOND)
        if self._lines < 1 or self._bytes < size + OVERHEAD:
            self._left_out += 1
            return False
        self._lines -= 1
        self._bytes -= size + OVERHEAD
        return True

    def left_out(self, now: float, *, over: bool = False) -> int:
        """How many lines were left out since this was last told; 0 also where that was a moment
        ago, unless the server's process is `over`.
        """
        if not self._left_out or (now - self._counted_at < COUNT_PAUSE and not over):
            return 0
        count, self._left_out = self._left_out, 0
        self._counted_at = now
        return count


class LastLines:
    """The last lines of one process's stderr."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LAST_LINES)

    def __repr__(self) -> str:
        return f"<LastWords of {len(self._lines)} lines>"

    def add(self, line: str) -> None:
        if line:
            self._lines.append(line if len(line) <= LAST_LENGTH else line[: LAST_LENGTH - 4] + " ...")

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)
