"""Writes an agent's settings into its home. Runs inside the sandbox, before the program.

A program that ran here before has made what is in the folders that are kept. So no link is
followed, and nothing but a regular file is read.
"""

# Paths are walked by descriptors.
from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

MAX_KEPT: Final = 16 * 1024 * 1024
"""Bytes of a JSON file that is merged into. Agents keep their history in some."""
_NEW: Final = ".modelplex-new"


class HomeFile(NamedTuple):
    """`mode` is that of a PresetFile, or `link`: then `text` is the target."""

    path: str
    text: str
    mode: str


def write_home(home: str, files: Sequence[HomeFile]) -> None:
    """Raises OSError, whose filename is the path."""
    for file in files:
        *folders, name = file.path.split("/")
        try:
            folder = _open_folder(home, folders)
        except OSError as fault:
            raise OSError(fault.errno, fault.strerror, f"{home}/{file.path}") from None
        try:
            _write(folder, name, file)
        finally:
            os.close(folder)


def _open_folder(home: str, names: Sequence[str]) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    folder = os.open(home, flags)
    for name in names:
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            below = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def _write(folder: int, name: str, file: HomeFile) -> None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        found = 0
    text = file.text
    match file.mode:
        case "missing" if stat.S_ISREG(found):
            return
        case "merge" if stat.S_ISREG(found):
            text = merged(_read(folder, name), text)
        case "link" if found and not stat.S_ISLNK(found):
            return  # the agent's own
        case _:
            pass
    with suppress(FileNotFoundError):
        os.unlink(_NEW, dir_fd=folder)
    if file.mode == "link":
        os.symlink(text, _NEW, dir_fd=folder)
    else:
        number = os.open(_NEW, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder)
        with open(number, "w", encoding="utf-8") as opened:  # noqa: PTH123
            opened.write(text)
    os.rename(_NEW, name, src_dir_fd=folder, dst_dir_fd=folder)


def _read(folder: int, name: str) -> str:
    number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(number, "rb") as opened:  # noqa: PTH123
        return opened.read(MAX_KEPT + 1).decode("utf-8", "replace")


def merged(kept: str, ours: str) -> str:
    """Our members over the kept ones, table by table; ours alone where the kept text is no object,
    or too long.
    """
    try:
        old = json.loads(kept) if len(kept) <= MAX_KEPT else None
    except (ValueError, RecursionError):
        old = None
    new = json.loads(ours)
    return json.dumps(_merge(old, new) if isinstance(old, dict) else new, ensure_ascii=False, indent=2)


def _merge(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    kept, ours = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
    return {**kept, **{key: _merge(kept.get(key), value) for key, value in ours.items()}}
