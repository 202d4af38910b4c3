"""Rate limit of a server's own log lines, and its last lines, which often say why it ended.

PURE. Time is an argument.
"""

from __future__ import annotations

from collections import deque
from typing import Final

LINES: Final = 100
"""Lines that may be logged at once."""
LINES_A_SECOND: Final = 2.0
"""Further lines per second."""
BYTES: Final = 65_536
BYTES_A_SECOND: Final = 1_024.0
"""The same in bytes: 90 MB a day is the most one server can add to the log."""
OVERHEAD: Final = 150
"""Bytes of a log line beside its text."""
COUNT_PAUSE: Final = 10.0
"""Seconds between two lines that count what was left out."""
SHOWN: Final = 1_000
"""Characters of a line that are logged."""

LAST_LINES: Final = 10
LAST_LENGTH: Final = 300
"""Characters of each of the last lines."""


class LogAllowance:
    """A token bucket for log lines."""

    def __init__(self) -> None:
        self._lines = float(LINES)
        self._bytes = float(BYTES)
        self._at: float | None = None
        self._left_out = 0
        self._counted_at = 0.0

    def __repr__(self) -> str:
        return (
            f"<LogAllowance of {self._lines:.0f} lines, {self._bytes:.0f} bytes, {self._left_out} left out>"
        )

    def allows(self, size: int, now: float) -> bool:
        """Whether a line of `size` bytes may be logged at `now`, in seconds. Counts a line that may
        not.
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
        """The number of lines left out since the last count; 0 if that was a moment ago, unless the
        process is `over`.
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
        return f"<LastLines of {len(self._lines)} lines>"

    def add(self, line: str) -> None:
        if line:
            self._lines.append(line if len(line) <= LAST_LENGTH else line[: LAST_LENGTH - 4] + " ...")

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)
