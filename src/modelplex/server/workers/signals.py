"""Signals as items of a queue that a selector waits for."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterable
from types import FrameType


class SignalQueue:
    """While it is open, the signals do nothing but wake whoever selects on `socket`. `woken_by` are
    signals that only wake.
    """

    def __init__(self, numbers: Iterable[signal.Signals], *, woken_by: Iterable[signal.Signals] = ()) -> None:
        self._numbers = tuple(numbers)
        self._woken_by = tuple(woken_by)
        self._taken: list[int] = []
        self.socket, self._writing = socket.socketpair()
        for end in (self.socket, self._writing):
            end.setblocking(False)

    def __repr__(self) -> str:
        return f"<SignalQueue {self._taken}>"

    def open(self) -> None:
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, self._add)
        for number in self._woken_by:
            signal.signal(number, ignore)

    def take(self) -> list[int]:
        """The signals since the last call."""
        with contextlib.suppress(BlockingIOError):
            self.socket.recv(4096)
        taken, self._taken = self._taken, []
        return taken

    def close(self) -> None:
        """The signals have their default effect again."""
        signal.set_wakeup_fd(-1)
        for number in (*self._numbers, *self._woken_by):
            signal.signal(number, signal.SIG_DFL)
        self.forget()

    def forget(self) -> None:
        """In a forked process: close what the other one uses."""
        self.socket.close()
        self._writing.close()

    def _add(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._taken.append(number)


def ignore(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which programs that are started would inherit."""
    del number, frame
