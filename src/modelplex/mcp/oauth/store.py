"""Where sign-ins are kept: files of this user alone in the state folder.

A file is replaced whole. Who renews a token holds a lock meanwhile: many authorization servers
accept a refresh token once, and take a second use for a theft.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from modelplex.config.state_folder import make_state_folder
from modelplex.credentials.source import CredentialError
from modelplex.credentials.token_request import UNREADABLE
from modelplex.mcp.lockfile import replace_file
from modelplex.mcp.oauth.sign_in import FORMAT, SignIn

FOLDER: Final = "mcp-sign-ins"
"""Below the state folder."""
MAX_SIZE: Final = 1_048_576
"""Bytes of a file. Tokens are a few kilobytes."""
PRIVATE: Final = 0o600
LOOK_S: Final = 0.02
"""Seconds from one try to get a lock to the next."""


class SignInFiles:
    """Sign-ins by tool server, and by agent where each has its own. Methods block unless they are
    coroutines.
    """

    def __init__(self, state_folder: Path) -> None:
        self._state_folder = state_folder
        self.folder = state_folder / FOLDER

    def __repr__(self) -> str:
        return f"<SignInFiles {self.folder}>"

    def path(self, server: str, agent: str = "") -> Path:
        of_agent = f"@{quote(agent, safe='')}" if agent else ""
        return self.folder / f"{server}{of_agent}.json"

    def agents(self, server: str) -> list[str]:
        """The agents that have a sign-in of their own at this server."""
        names = (each.name.removesuffix(".json") for each in self.folder.glob(f"{server}@*.json"))
        return sorted(unquote(name.partition("@")[2]) for name in names)

    def read(self, server: str, agent: str = "") -> SignIn | None:
        """Raises CredentialError if there is a file that cannot be used."""
        path = self.path(server, agent)
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                facts = os.fstat(file.fileno())
                if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
                    raise CredentialError(f"{path} may be read or written by others: its mode must be 0600")
                content = file.read(MAX_SIZE)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CredentialError(f"{path} cannot be read: {os.strerror(error.errno or 0).lower()}") from None
        try:
            found = msgspec.json.decode(content, type=SignIn)
        except UNREADABLE:
            found = None
        if found is None or found.format != FORMAT:
            raise CredentialError(f"{path} is not a sign-in that this version reads: sign in again")
        return found

    def write(self, sign_in: SignIn, server: str, agent: str = "") -> None:
        """Raises CredentialError."""
        path = self.path(server, agent)
        try:
            self._make_folder()
            replace_file(path, msgspec.json.encode(sign_in), mode=PRIVATE)
        except OSError as error:
            raise CredentialError(
                f"{path} cannot be written: {os.strerror(error.errno or 0).lower()}"
            ) from None

    def delete(self, server: str, agent: str = "") -> bool:
        """Whether there was one. Raises CredentialError."""
        path = self.path(server, agent)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CredentialError(
                f"{path} cannot be removed: {os.strerror(error.errno or 0).lower()}"
            ) from None
        return True

    def _make_folder(self) -> None:
        make_state_folder(self._state_folder)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    @asynccontextmanager
    async def locked(self, server: str, agent: str = "") -> AsyncGenerator[None]:
        """Hold the lock of one sign-in, over all processes. The caller bounds the wait."""
        with self._lock_file(server, agent) as number:
            while not _locks(number):  # noqa: ASYNC110 - another process has it
                await asyncio.sleep(LOOK_S)
            yield

    @contextmanager
    def _lock_file(self, server: str, agent: str) -> Generator[int]:
        path = self.path(server, agent).with_suffix(".lock")
        try:
            self._make_folder()
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        except OSError as error:
            raise CredentialError(
                f"{path} cannot be opened: {os.strerror(error.errno or 0).lower()}"
            ) from None
        try:
            yield number
        finally:
            with suppress(OSError):
                os.close(number)


def _locks(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
