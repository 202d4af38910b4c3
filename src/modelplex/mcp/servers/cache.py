"""Stores a server's catalog on disk, so that listing starts no process, and its protocol era, so
that it is probed once.

A file's name is the fingerprint of how the server is started: another command is another server.
Files may be deleted at any time and hold no secrets: the fingerprint is a digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.mcp.constants import Catalog, Era
from modelplex.mcp.servers.process_table import resolved

CACHE_FOLDER: Final = "mcp"
"""Below the state folder."""
FORMAT: Final = 2
"""The version of the file format. Other versions are not read."""
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""Bytes that are read of a file: far above any catalog."""

MAX_FILES: Final = 512
"""Files that are kept, newest first: more than there are servers."""


class ServerEra(msgspec.Struct, frozen=True):
    """The protocol era and revision of a server. `sse` is HTTP+SSE. `missed_probes` counts how many
    times in a row it counted as legacy because it missed the probe's deadline.
    """

    era: Era
    version: str
    sse: bool = False
    missed_probes: int = 0


class _File(msgspec.Struct, frozen=True):
    format: int
    catalog: Catalog | None
    era: ServerEra | None


class DiskCache:
    """Files below `folder`, which the first write creates; only the owner may read them. Raises no
    OSError: a file that cannot be read or written counts as missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._decoder = msgspec.json.Decoder(_File)

    def __repr__(self) -> str:
        return f"<DiskCache {self._folder}>"

    async def load(self, fingerprint: str) -> tuple[Catalog | None, ServerEra | None]:
        return await asyncio.to_thread(self._read, fingerprint)

    async def store(self, fingerprint: str, catalog: Catalog | None, era: ServerEra | None) -> None:
        """Store both. None removes the stored one."""
        await asyncio.to_thread(self._write, fingerprint, _File(FORMAT, catalog, era))

    async def is_late(self, fingerprint: str) -> bool:
        return await asyncio.to_thread((self._folder / f"{fingerprint}.late").exists)

    async def set_late(self, fingerprint: str, *, late: bool) -> None:
        """Store whether the server's lists take long to load."""
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

    def _read(self, fingerprint: str) -> tuple[Catalog | None, ServerEra | None]:
        try:
            with self._path(fingerprint).open("rb") as file:
                content = self._decoder.decode(file.read(MAX_FILE_BYTES))
        except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None, None
        return (content.catalog, content.era) if content.format == FORMAT else (None, None)

    def _write(self, fingerprint: str, content: _File) -> None:
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".new")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(msgspec.json.encode(content))
                Path(name).replace(self._path(fingerprint))
            except OSError:
                Path(name).unlink(missing_ok=True)
            self._delete_oldest()

    def _delete_oldest(self) -> None:
        """Delete the oldest files: each changed command leaves one."""
        files = [
            (each.stat().st_mtime_ns, each.path)
            for each in os.scandir(self._folder)
            if not each.name.startswith(".")
        ]
        for _, path in sorted(files)[:-MAX_FILES]:
            Path(path).unlink(missing_ok=True)


class WriteOnlyCache(DiskCache):
    """Reads nothing, for commands that load all lists again."""

    async def load(self, fingerprint: str) -> tuple[Catalog | None, ServerEra | None]:
        del fingerprint
        return None, None

    async def is_late(self, fingerprint: str) -> bool:
        del fingerprint
        return False


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
