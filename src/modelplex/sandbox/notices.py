"""What the gateway says while the program runs: shown on the host's terminal, unless the program
has it for itself; then at the end.
"""

from __future__ import annotations

import sys
import termios
from collections.abc import Callable
from typing import Final

from modelplex.commands.text import line
from modelplex.sandbox.plan import print_error
from modelplex.server.run_messages import RunNotice

MOST: Final = 5
"""Lines at the end."""


def is_taken(descriptor: int) -> bool:
    """Whether a full-screen program has this terminal: it reads single keys then (termios(3))."""
    try:
        local: int = termios.tcgetattr(descriptor)[3]
    except (termios.error, OSError, ValueError):
        return False
    return not local & termios.ICANON


class Notices:
    """`show` prints a line. `is_held` says whether it must not now."""

    def __init__(
        self,
        *,
        show: Callable[[str], None] = print_error,
        is_held: Callable[[], bool] = lambda: is_taken(sys.stderr.fileno()),
    ) -> None:
        self._show = show
        self._is_held = is_held
        self._held: dict[RunNotice, int] = {}

    def __repr__(self) -> str:
        return f"<Notices {len(self._held)} held>"

    def take(self, notices: list[RunNotice]) -> None:
        for notice in notices:
            if self._is_held():
                self._held[notice] = self._held.get(notice, 0) + 1
            else:
                self._show(_text(notice))

    def show_held(self) -> None:
        """The last ones of those that were not shown."""
        held, self._held = self._held, {}
        for notice, count in list(held.items())[-MOST:]:
            self._show(_text(notice) + (f" ({count} times)" if count > 1 else ""))
        if len(held) > MOST:
            self._show(f"and {len(held) - MOST} more before these")


def _text(notice: RunNotice) -> str:
    return line(f"{notice.what}: {notice.why}")
