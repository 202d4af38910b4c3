"""A key in a file, as Docker, Kubernetes and systemd's LoadCredential hand them out. It is read
again while it is used, so that a new key needs no restart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from time import time

from modelplex.credentials.source import CredentialError, Expiring

HOLDS_S = 2.0
"""Seconds until the file is read again, if the key is in use then."""
MAX_SIZE = 65_536
"""Bytes. The longest keys are tokens of a few kilobytes."""


class KeyFile:
    """The key is the file's content without white space around it."""

    def __init__(self, path: str, *, clock: Callable[[], float] = time) -> None:
        self.path = path
        self._clock = clock

    def __repr__(self) -> str:
        return f"<KeyFile {self.path}>"

    async def fetch(self) -> Expiring[str]:
        key = await asyncio.to_thread(read_key, self.path)
        return Expiring(key, self._clock() + HOLDS_S)


def read_key(path: str) -> str:
    """Raises CredentialError, also for a value that no header can hold."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise CredentialError(f"the key file {path}: {os.strerror(error.errno or 0)}") from None
    return as_key(content, f"the key file {path}")


def as_key(content: bytes, place: str) -> str:
    """The key in what `place` holds. Raises CredentialError naming the place."""
    if len(content) > MAX_SIZE:
        raise CredentialError(f"{place} holds more than {MAX_SIZE} bytes")
    key = content.decode("latin-1").strip()
    if not key:
        raise CredentialError(f"{place} is empty")
    if not (key.isascii() and key.isprintable()):
        raise CredentialError(f"{place} holds a line break or a character that is not visible ASCII")
    return key
