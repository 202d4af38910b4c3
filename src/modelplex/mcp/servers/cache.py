"""Stores what was learnt of a server on disk: its catalog, so that listing starts nothing, and its
protocol era, so that it is probed once.

A file's name is the fingerprint of how the server is started: another command is another server.
Files may be lost at any time and hold no secrets: arguments and values of variables enter the
fingerprint as a digest.
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
"""Below the state folder."""
FORMAT: Final = 1
"""The version of the files' format. Other versions are not read."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a file that is read: far above any catalog."""

MOST_FILES: Final = 512
"""Files that are kept, newest first: twice as many as anybody has servers."""


class EraVerdict(msgspec.Struct, frozen=True):
    """The protocol era and revision of a server. `sse` is HTTP+SSE. `guesses` counts how often in a
    row it was taken for a legacy server because it missed the probe's deadline.
    """

    era: Era
    version: str
    sse: bool = False
    guesses: int = 0


class CatalogCache(Protocol):
    """Never raises: what cannot be read or written counts as missing."""

    async def load(self, fingerprint: str) -> tuple[Catalog | None, EraVerdict | None]: ...
    async def store(self, fingerprint: str, catalog: Catalog | None, verdict: EraVerdict | None) -> None:
        """Store both. None removes what was stored."""
        ...

    async def is_late(self, fingerprint: str) -> bool: ...
    async def set_late(self, fingerprint: str, late: bool) -> None:  # noqa: FBT001 - a value that is kept
        """Store whether the server's lists take long."""
        ...


class _Kept(msgspec.Struct, frozen=True):
    format: int
    catalog: Catalog | None
    verdict: EraVerdict | None


class WriteOnlyCache:
    """Writes to another cache and reads nothing from it, for commands that ask servers anew."""

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
    """Files below `folder`, readable by their owner only and replaced whole. Makes the folder at
    the first write.
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
        """Delete the oldest files: each changed command leaves one behind."""
        files = [
            (each.stat().st_mtime_ns, each.path)
            for each in os.scandir(self._folder)
            if not each.name.startswith(".")
        ]
        for _, path in sorted(files)[:-MOST_FILES]:
            Path(path).unlink(missing_ok=True)


def fingerprint(server: McpServer, *, environ: Mapping[str, str]) -> str:
    """SHA-256 of how the server is started or reached, with the command's file, so that a newer
    version differs.

    Blocks for one `stat`. Values of variables and headers are left out: a new token is not a new
    server.
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
