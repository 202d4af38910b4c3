"""One output for the log lines of several processes: whoever writes holds a lock, so that no line
is cut by another one and a file is rotated once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator

from modelplex.records.log_output import LogOutput

RETRY_S = 0.005
"""Between two attempts of a process that waits for the lock, but not for ever."""


class OutputLock:
    """A lock that the kernel releases when its holder ends. Made before they are forked."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._fd = os.memfd_create("modelplex-log")
        else:
            import tempfile  # with shutil and three compressors, which Linux does not need

            with tempfile.TemporaryFile() as file:
                self._fd = os.dup(file.fileno())

    def __repr__(self) -> str:
        return f"<OutputLock fd {self._fd}>"

    @contextlib.contextmanager
    def held(self, *, within: float | None = None) -> Generator[None]:
        """Raises TimeoutError if another process holds it for longer than `within` seconds."""
        deadline = None if within is None else time.monotonic() + within
        while deadline is not None:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError):
                if time.monotonic() > deadline:
                    raise TimeoutError("another process is writing") from None
                time.sleep(RETRY_S)
        else:
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)


class LockedOutput:
    """An output that is written while the lock is held."""

    def __init__(self, output: LogOutput, lock: OutputLock) -> None:
        self._output = output
        self._lock = lock

    def __str__(self) -> str:
        return str(self._output)

    @property
    def written(self) -> int:
        return self._output.written

    def write(self, lines: list[bytes]) -> None:
        with self._lock.held():
            self._output.write(lines)

    def report_failure(self, error: Exception) -> None:
        self._output.report_failure(error)

    def close(self) -> None:
        self._output.close()
