"""When a worker that has ended is started again. Pure."""

from __future__ import annotations

STABLE_SECONDS = 10.0
"""A worker that ends sooner counts as a crash in a row."""
FIRST_DELAY = 0.5
MAX_DELAY = 30.0
"""A crash loop costs a start every half minute, and callers wait no longer once it is over."""


class Restarts:
    """Of one worker. The first restart is at once; the delay doubles with each crash in a row."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def __repr__(self) -> str:
        return f"<Restarts {self.in_a_row} in a row>"

    def ended(self, *, lived: float) -> float:
        """It has ended after so many seconds. Returns the seconds until it is started again."""
        self.in_a_row = 0 if lived >= STABLE_SECONDS else self.in_a_row + 1
        if self.in_a_row <= 1:
            return 0.0
        return min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self.in_a_row - 2, 16))
