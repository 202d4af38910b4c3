"""Reads the lock files of a project's folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from modelplex.packages.lock_files import (
    BrokenLock,
    LockFile,
    read_package_lock,
    read_poetry_lock,
    read_pylock,
    read_requirements,
    read_uv_lock,
)
from modelplex.packages.names import Ecosystem
from modelplex.packages.pnpm_lock import read_pnpm_lock

MAX_LOCK: Final = 67_108_864
"""Bytes of a lock file; that of 10,000 packages has some 10 MB."""
MAX_LOCKS: Final = 100
"""Files. More is no project, but a folder of them."""
READERS: Final[Mapping[str, tuple[Ecosystem, Callable[[str], LockFile]]]] = {
    "requirements*.txt": ("pypi", read_requirements),
    "uv.lock": ("pypi", read_uv_lock),
    "poetry.lock": ("pypi", read_poetry_lock),
    "pylock.toml": ("pypi", read_pylock),
    "pylock.*.toml": ("pypi", read_pylock),
    "package-lock.json": ("npm", read_package_lock),
    "npm-shrinkwrap.json": ("npm", read_package_lock),
    "pnpm-lock.yaml": ("npm", read_pnpm_lock),
}


def lock_names(folder: Path, ecosystems: frozenset[Ecosystem]) -> list[str]:
    """The names of the lock files in a folder."""
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError:
        return []
    patterns = [pattern for pattern, (kind, _) in READERS.items() if kind in ecosystems]
    return [name for name in names if any(fnmatch(name, each) for each in patterns)][:MAX_LOCKS]


def read_locks(folder: Path, ecosystems: frozenset[Ecosystem]) -> dict[str, LockFile]:
    """By their names. Links are not followed: they lead out of the project. Raises BrokenLock,
    whose text names the file.
    """
    found: dict[str, LockFile] = {}
    for name in lock_names(folder, ecosystems):
        text = _read(folder / name)
        read = next(read for pattern, (_, read) in READERS.items() if fnmatch(name, pattern))
        try:
            if text is not None:
                found[name] = read(text)
        except BrokenLock as error:
            raise BrokenLock(f"{name} cannot be read: {error}") from None
    return found


def _read(path: Path) -> str | None:
    """None for what is no ordinary file."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        return None
    with os.fdopen(number, "rb") as file:
        content = file.read(MAX_LOCK + 1)
    if len(content) > MAX_LOCK:
        raise BrokenLock(f"{path.name} has more than {MAX_LOCK} bytes")
    return content.decode("utf-8", "replace")
