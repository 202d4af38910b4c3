"""A key that a command prints: a password manager, a helper of an identity provider.

The output is the key itself, as Claude Code's apiKeyHelper prints it, or an ExecCredential of
kubectl (client.authentication.k8s.io), whose `status` has `token` and `expirationTimestamp`.

Sources: https://code.claude.com/docs/en/settings (apiKeyHelper),
https://kubernetes.io/docs/reference/config-api/client-authentication.v1/ (read 2026-12-01).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from time import time
from typing import Protocol

import msgspec

from modelplex.credentials.key_file import MAX_SIZE, as_key
from modelplex.credentials.source import CredentialError, Expiring

HOLDS_S = 300.0
"""Seconds for which a key without a time of its own is used, as with apiKeyHelper."""
SHOWN = 200
"""Characters of what a failed command says."""


class _Status(msgspec.Struct, frozen=True):
    token: str = ""
    expiry: str | None = msgspec.field(default=None, name="expirationTimestamp")


class _ExecCredential(msgspec.Struct, frozen=True):
    kind: str = ""
    status: _Status = _Status()


class RunCommand(Protocol):
    """See run_command."""

    async def __call__(self, command: Sequence[str], *, failed: Callable[[str], None]) -> bytes: ...


class KeyCommand:
    """Runs `command`, without a shell, as the gateway's user. `ttl` is the seconds for which a key
    without a time of its own holds. `failed` gets what a command that failed wrote to stderr, for
    the log of the host.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        ttl: float = HOLDS_S,
        failed: Callable[[str], None] = lambda _: None,
        run: RunCommand | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._run = run_command if run is None else run
        self._command = command
        self._ttl = ttl
        self._failed = failed
        self._clock = clock

    def __repr__(self) -> str:
        return f"<KeyCommand {self.program}>"

    @property
    def program(self) -> str:
        """The name of the program. Its arguments may hold a secret."""
        return Path(self._command[0]).name

    async def fetch(self) -> Expiring[str]:
        output = await self._run(self._command, failed=self._failed)
        place = f"the output of the key command {self.program}"
        if output.lstrip().startswith(b"{"):
            return self._exec_credential(output, place)
        return Expiring(as_key(output, place), self._clock() + self._ttl)

    def _exec_credential(self, output: bytes, place: str) -> Expiring[str]:
        try:
            found = msgspec.json.decode(output, type=_ExecCredential)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise CredentialError(f"{place} is no JSON of an ExecCredential") from None
        if found.kind != "ExecCredential":
            raise CredentialError(f'{place} is JSON, but its "kind" is not "ExecCredential"')
        key = as_key(found.status.token.encode(), f"status.token in {place}")
        if found.status.expiry is None:
            return Expiring(key, self._clock() + self._ttl)
        try:
            expires = datetime.fromisoformat(found.status.expiry)
        except ValueError:
            raise CredentialError(f"status.expirationTimestamp in {place} is no date") from None
        return Expiring(key, expires.timestamp())


async def run_command(command: Sequence[str], *, failed: Callable[[str], None]) -> bytes:
    """What the command prints. Raises CredentialError, which does not show what it printed. A fetch
    that is cancelled kills it.
    """
    program = Path(command[0]).name
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise not_started(program, error) from None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        output, said = await asyncio.gather(
            bounded(process.stdout, MAX_SIZE + 1), bounded(process.stderr, MAX_SIZE)
        )
        status = await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, 9)
            await process.wait()
    return printed(program, status, output, said, failed=failed)


def not_started(program: str, error: OSError) -> CredentialError:
    reason = os.strerror(error.errno or 0)
    return CredentialError(f"the key command {program} cannot be started: {reason}")


def printed(program: str, status: int, output: bytes, said: bytes, *, failed: Callable[[str], None]) -> bytes:
    """What a command that has ended has printed. Raises CredentialError if it failed."""
    if status != 0:
        failed(said.decode("utf-8", "replace").strip()[-SHOWN:])
        raise CredentialError(f"the key command {program} ended with the status {status}")
    return output


async def bounded(stream: asyncio.StreamReader, limit: int) -> bytes:
    """The first `limit` bytes; the rest is read and dropped, so that the command can end."""
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk[: max(0, limit - len(kept))]
    return bytes(kept)
