"""Gives the free memory of the heap back to the system after large bodies (malloc_trim(3)).

The texts of a parsed body are blocks of the heap: up to four bytes a character. When they are
freed, glibc gives back the end of the heap only, and one small block that is still used near the
end keeps all of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable

DELAY_S = 5.0
"""From the end of a request to the trim. Under load there is one trim in this time: each takes 0.3
ms for each megabyte that it gives back, and no other thread can use the heap meanwhile.
"""


class HeapTrim:
    """`trim` runs in a thread, so that the event loop waits only where it needs memory itself.
    While `is_working`, it is repeated: the work on a body may outlast its request.
    """

    def __init__(self, trim: Callable[[], object], *, is_working: Callable[[], bool]) -> None:
        self._trim = trim
        self._is_working = is_working
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<HeapTrim {'due' if self._timer is not None else 'idle'}>"

    def soon(self) -> None:
        """Trim after DELAY_S."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._start)

    def _start(self) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, self._trim)
        if self._is_working():
            self.soon()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def trim_heap() -> bool:
    """Whether memory was given back; False if the C library cannot."""
    if sys.platform != "linux":
        return False
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl has none, and needs none
        return False
    given_back: int = malloc_trim(ctypes.c_size_t(0))
    return given_back == 1
