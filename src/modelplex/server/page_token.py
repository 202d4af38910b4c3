"""The token of the operator's page: kept in the state folder, so that a restart keeps the link and
the browser's cookie. It knows no HTTP.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

TOKEN_FILE = "page-token"  # noqa: S105 - a file's name
"""Below the state folder, for its user alone. Who removes it gets a new token at the next start."""
TOKEN_BYTES = 24
LONGEST = 256


def load_token(folder: Path | None) -> str:
    """The token of this user's gateways, made if there is none. Without a folder, or where the file
    cannot be read, written or trusted, a new one that is not kept.
    """
    fresh = secrets.token_urlsafe(TOKEN_BYTES)
    if folder is None:
        return fresh
    path = folder / TOKEN_FILE
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            _create(path, fresh)
        return _read(path) or fresh
    return fresh


def _create(path: Path, token: str) -> None:
    """Raises FileExistsError: another gateway may start at the same time. A whole file appears, or
    none.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
        os.link(draft, path)
    finally:
        draft.unlink()


def _read(path: Path) -> str | None:
    """None for a file that others may read, or that is not this user's."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            return None
        token = file.read(LONGEST).decode("ascii", "replace").strip()
    return token if len(token) >= TOKEN_BYTES else None
