"""What was learnt of a server, kept on the disk: its catalogue, so that listing starts nothing, and
which era it speaks, so that it is probed once.

Above it stands the handle; below it the disk. A file is found by the fingerprint of how the server
is started, never by its name: another command is another server. Everything here may be lost at any
time. Nothing secret is written: arguments and values of variables enter the fingerprint only as a
digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from modelplex.config.settings import McpServer
from modelplex.mcp.constants import Catalog, Era
from modelplex.mcp.servers.processes import resolved

CACHE_FOLDER: Final = "mcp"
"""Below the state folder: the catalogues that make listing start nothing."""
FORMAT: Final = 1
"""Of the files. Another number is not read."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a file that is read: far above any catalogue, far below what hurts."""

MOST_FILES: Final = 512
"""Files that are kept, the newest ones: twice as many servers as anybody has."""


class EraVerdict(msgspec.Struct, frozen=True):
    """Which era a server speaks, and which revision. `sse` is the older form over HTTP. `guesses`:
    how many times in a row it is only taken for an older one, since it did not answer the probe in
    time.
    """

    era: Era
    version: str
    sse: bool = False
    guesses: int = 0


class CatalogCache(Protocol):
    """Never raises: what cannot be read or written is as if it were not there."""

    async def load(self, fingerprint: str) -> tuple[Catalog | None, EraVerdict | None]: ...
    async def store(self, fingerprint: str, catalog: Catalog | None, verdict: EraVerdict | None) -> None:
        """Keep both. None keeps nothing of it, also not what was there."""
        ...

    async def is_late(self, fingerprint: str) -> bool: ...
    async def set_late(self, fingerprint: str, late: bool) -> None:  # noqa: FBT001 - a value that is kept
        """Keep whether the server took long to tell its lists."""
        ...


class _Kept(msgspec.Struct, frozen=True):
    format: int
    catalog: Catalog | None
    verdict: EraVerdict | None


class WriteOnlyCache:
    """Writes to another cache and knows nothing of what it holds: for a command that asks servers
    anew.
    """

    def __init__(self, kept: CatalogCache) -> None:
        self._kept = kept

    async def load(self, fingerprint: str) -> tuple[Catalog | None, EraVerdict | None]:
        del fingerprint
        return None, None

    async def store(self, fingerprint: str, catalog: Catalog | None, verdict: EraVerdict | None) -> None:
        await self._kept.store(fingerprint, catalog, verdict)

    async def is_late(self, fingerprint: str) -> bool:
        del fingerprint
        return False

    async def set_late(self, fingerprint: str, late: bool) -> None:  # noqa: FBT001
        await self._kept.set_late(fingerprint, late)


class DiskCache:
    """Files below `folder`, which only its owner may read; each is replaced whole. `folder` is made
    when the first one is written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._decoder = msgspec.json.Decoder(_Kept)

    def __repr__(self) -> str:
        return f"<DiskCache {self._folder}>"

    async def load(self, fingerprint: str) -> tuple[Catalog | None, EraVerdict | None]:
        return await asyncio.to_thread(self._read, fingerprint)

    async def store(self, fingerprint: str, catalog: Catalog | None, verdict: EraVerdict | None) -> None:
        await asyncio.to_thread(self._write, fingerprint, _Kept(FORMAT, catalog, verdict))

    async def is_late(self, fingerprint: str) -> bool:
        return await asyncio.to_thread((self._folder / f"{fingerprint}.late").exists)

    async def set_late(self, fingerprint: str, late: bool) -> None:  # noqa: FBT001
        await asyncio.to_thread(self._mark, self._folder / f"{fingerprint}.late", late=late)

    def _mark(self, path: Path, *, late: bool) -> None:
        with contextlib.suppress(OSError):
            if late:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
            else:
                path.unlink(missing_ok=True)

    def _path(self, fingerprint: str) -> Path:
        return self._folder / f"{fingerprint}.json"

    def _read(self, fingerprint: str) -> tuple[Catalog | None, EraVerdict | None]:
        try:
            with self._path(fingerprint).open("rb") as file:
                kept = self._decoder.decode(file.read(LARGEST))
        except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None, None
        return (kept.catalog, kept.verdict) if kept.format == FORMAT else (None, None)

    def _write(self, fingerprint: str, kept: _Kept) -> None:
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".new")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(msgspec.json.encode(kept))
                Path(name).replace(self._path(fingerprint))
            except OSError:
                Path(name).unlink(missing_ok=True)
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        """Keep the folder small: each changed command leaves a file behind."""
        files = [
            (each.stat().st_mtime_ns, each.path)
            for each in os.scandir(self._folder)
            if not each.name.startswith(".")
        ]
        for _, path in sorted(files)[:-MOST_FILES]:
            Path(path).unlink(missing_ok=True)


def fingerprint(server: McpServer, *, environ: Mapping[str, str]) -> str:
    """SHA-256 over how the server is started or reached; a changed file of the command (a newer
    version) is another fingerprint.

    Blocks for one `stat`. The values of variables and headers are left out: a new token is not a
    new server.
    """
    parts: list[object] = [
        FORMAT, server.command, [arg.reveal() for arg in server.args], sorted(server.env), server.cwd,
        None if server.url is None else server.url.reveal(), sorted(server.headers), server.network,
    ]  # fmt: skip
    if server.command is not None:
        with contextlib.suppress(OSError):
            found = Path(resolved(server.command, environ=environ) or server.command).stat()
            parts += [found.st_size, found.st_mtime_ns]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
