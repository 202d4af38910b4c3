"""Files and folders that exist for the time of a run, so that something can be mounted on them.

Several runs may share one: each holds a lock on it, and the last one removes it. A killed run
leaves it, and the next run of the folder removes it: it is recognised by its time of change, which
is lost when somebody writes to it.
"""

# A link must not be followed.
# ruff: noqa: PTH102, PTH106, PTH108
from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from modelplex.sandbox.errors import CannotRun

MARK_S: Final = 981_173_106
"""The time of change of a placeholder: 3 February 2001, 04:05:06."""


@contextmanager
def placeholders(missing: Mapping[str, str | None]) -> Generator[None]:
    """Make the missing ones, and keep those of other runs: the text of each file, None for a
    folder. What exists otherwise stays as it is. Raises CannotRun.
    """
    held: dict[str, int] = {}
    try:
        for path, text in missing.items():
            try:
                held[path] = _hold(path, text)
            except OSError as fault:
                raise CannotRun(
                    f"{path} cannot be made, so that it is protected: {fault.strerror} (--no-protect leaves it out)."
                ) from None
        yield
    finally:
        # Contents before their folder.
        for path in sorted(held, key=len, reverse=True):
            _release(path, held[path])


def _hold(path: str, text: str | None) -> int:
    while True:
        with suppress(FileExistsError):
            _make(path, text)
        with suppress(FileNotFoundError):  # removed by the run that made it
            return _locked(path)


def _make(path: str, text: str | None) -> None:
    if text is None:
        os.mkdir(path)
        os.utime(path, (MARK_S, MARK_S))
        return
    number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    try:
        os.write(number, text.encode())
        os.utime(number, (MARK_S, MARK_S))
    finally:
        os.close(number)


def _locked(path: str) -> int:
    """Raises FileNotFoundError where it is removed meanwhile."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(number), os.lstat(path)):
            raise FileNotFoundError(path)
    except OSError:
        os.close(number)
        raise
    return number


def _is_placeholder(path: str) -> bool:
    try:
        return int(os.lstat(path).st_mtime) == MARK_S
    except OSError:
        return False


def _release(path: str, number: int) -> None:
    with suppress(OSError):
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_placeholder(path) and os.path.samestat(os.fstat(number), os.lstat(path)):
            if stat.S_ISDIR(os.fstat(number).st_mode):
                os.rmdir(path)
            else:
                os.unlink(path)
    os.close(number)
