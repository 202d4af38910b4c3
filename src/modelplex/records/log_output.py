"""Where log lines are written: a stream, or a file that rotates.

An output runs on the log's writer thread. It may block, up to STALL_LIMIT_S without progress.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import time
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Protocol

ROTATION_PAUSE_S = 60.0
"""Pause after a failed rotation (a folder without write permission) before the next try."""
FILE_MODE = 0o600
"""A log shows who requested what, and with `[log] bodies` all of it."""
STALL_LIMIT_S = 5.0
"""How long a non-blocking pipe or terminal may accept no byte before its lines count as lost."""


class LogOutput(Protocol):
    """`write` raises OSError or ValueError; `written` is then how many of the lines were written
    whole.
    """

    @property
    def written(self) -> int: ...

    def write(self, lines: list[bytes]) -> None: ...

    def report_failure(self, error: Exception) -> None:
        """Report once that lines cannot be written, if stderr is not the log itself."""

    def close(self) -> None: ...


class _DescriptorWriter:
    """Writes whole lines to a file descriptor, and knows after a failure where it stopped."""

    def __init__(self) -> None:
        self._torn = False
        self.written = 0

    def write(self, fd: int, lines: list[bytes]) -> None:
        """Write all lines in as few system calls as possible. A line that an earlier failure cut is
        ended first.
        """
        data = b"".join(lines)
        start = int(self._torn)
        if self._torn:
            data = b"\n" + data
        view = memoryview(data)
        done = self.written = 0
        try:
            while done < len(data):
                try:
                    done += os.write(fd, view[done:])
                except BlockingIOError:
                    if not select.select([], [fd], [], STALL_LIMIT_S)[1]:
                        raise TimeoutError(f"nothing was read for {STALL_LIMIT_S:g} s") from None
        except OSError:
            ends = accumulate(map(len, lines), initial=start)
            self.written = max(0, sum(end <= done for end in ends) - 1)
            self._torn = data[done - 1 : done] != b"\n" if done else self._torn
            raise
        self._torn = False


class StreamOutput:
    """A stream, by its descriptor where it has one."""

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream
        self._writer = _DescriptorWriter()
        self._fd: int | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._fd = stream.fileno()

    def __str__(self) -> str:
        return "stream" if self._fd is None else f"fd {self._fd}"

    @property
    def written(self) -> int:
        return self._writer.written

    def write(self, lines: list[bytes]) -> None:
        if self._fd is not None:
            self._writer.write(self._fd, lines)
            return
        self._stream.write(b"".join(lines).decode("utf-8", "replace"))
        self._stream.flush()

    def report_failure(self, error: Exception) -> None:
        del error

    def close(self) -> None:
        """A stream belongs to its owner."""


class FileOutput:
    """A file that becomes FILE.1 above `max_size` bytes (0: never); `keep` rotated files stay.

    The constructor raises OSError if the file cannot be opened; the log counts and reports later
    failures.
    """

    def __init__(self, path: Path, *, max_size: int, keep: int) -> None:
        self._path = path
        self._max_size = max_size
        self._keep = keep
        self._writer = _DescriptorWriter()
        self._fd = self._open()
        self._rotate_after = 0.0
        self._reported = False

    def __str__(self) -> str:
        return str(self._path)

    @property
    def written(self) -> int:
        return self._writer.written

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def write(self, lines: list[bytes]) -> None:
        self._writer.written = 0
        self._reopen_if_replaced()
        status = os.fstat(self._fd)
        is_full = status.st_size and status.st_size + sum(map(len, lines)) > self._max_size
        if self._max_size and is_full and stat.S_ISREG(status.st_mode):
            self._rotate()
        self._writer.write(self._fd, lines)
        self._reported = False

    def _reopen_if_replaced(self) -> None:
        """Open the file again if it was moved or deleted (logrotate does so); keep the old one if
        that fails.
        """
        try:
            there = self._path.stat()
            here = os.fstat(self._fd)
            if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                return
        except OSError:
            pass
        with contextlib.suppress(OSError):
            self._reopen()

    def _reopen(self) -> None:
        fd = self._open()
        os.close(self._fd)
        self._fd = fd

    def _rotate(self) -> None:
        """FILE becomes FILE.1, FILE.1 becomes FILE.2, and so on; the last one is deleted. If that
        fails, FILE keeps growing.
        """
        if time.monotonic() < self._rotate_after:
            return
        try:
            if self._keep == 0:
                os.ftruncate(self._fd, 0)
                return
            for number in range(self._keep - 1, 0, -1):
                if (older := self._numbered(number)).exists():
                    older.replace(self._numbered(number + 1))
            self._path.replace(self._numbered(1))
            self._reopen()
        except OSError as error:
            self._rotate_after = time.monotonic() + ROTATION_PAUSE_S
            _print_error(f"the log file {self._path} cannot be rotated ({error.strerror}); it keeps growing")

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def report_failure(self, error: Exception) -> None:
        if not self._reported:
            self._reported = True
            reason = error.strerror if isinstance(error, OSError) else str(error)
            _print_error(
                f"the log file {self._path} cannot be written ({reason}); lines are lost, calls continue"
            )

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)


def stderr_or_null() -> IO[Any]:
    """Stderr, or the null device in a process that was started with stderr closed."""
    return sys.stderr or Path(os.devnull).open("w")


def is_terminal(stream: IO[Any]) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _print_error(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"modelplex: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the log itself is what failed
