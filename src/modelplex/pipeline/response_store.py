"""Stores responses, so that a client can continue one by its id instead of sending the whole
conversation again: in a SQLite file, or in memory.

Nothing is stored unless the config permits it. Only its owner can find a response, and the store
is bounded in number, size and age. A response is its bytes and the items that led to it; no dialect
is named. No call blocks the event loop: a thread of its own has the database.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

MAX_ANSWERS = 10_000
"""A busy day of one team; beyond it the oldest are deleted."""
MAX_BYTES = 512 * 1024 * 1024
"""Of all responses. Each has its whole conversation, so a conversation of 50 turns takes about 50
times its text.
"""
MAX_BYTES_EACH = 32 * 1024 * 1024
"""A conversation with inline images. A larger one is not stored: it would evict hundreds of others.
"""
MAX_AGE_S = 7 * 24 * 3600.0
"""A week: clients continue a response within a session. OpenAI stores them for 30 days."""
RECENT_ANSWERS = 500
"""Responses in which an item is searched by its id: a conversation refers to its last turns."""
BUSY_S = 5.0
"""Seconds to wait for another process that locks the file."""

MEMORY = ":memory:"

Result = TypeVar("Result")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    id TEXT NOT NULL, owner TEXT NOT NULL, kept REAL NOT NULL, bytes INTEGER NOT NULL,
    body BLOB NOT NULL, input BLOB NOT NULL, output BLOB NOT NULL, PRIMARY KEY (owner, id)
);
DROP INDEX IF EXISTS answers_by_age;
CREATE INDEX IF NOT EXISTS answers_by_age_and_size ON answers (kept, bytes);
"""
"""The index has all that an eviction reads."""


class StoreLimits(msgspec.Struct, frozen=True):
    """Bounds of the store. `age` is seconds."""

    answers: int = MAX_ANSWERS
    bytes: int = MAX_BYTES
    bytes_each: int = MAX_BYTES_EACH
    age: float = MAX_AGE_S


class StoredResponse(msgspec.Struct, frozen=True):
    """One stored response. `body` is the response object as the client got it; `input` are all
    items that led to it, `output` its own.
    """

    id: str
    body: bytes
    input: tuple[msgspec.Raw, ...]
    output: tuple[msgspec.Raw, ...]

    @property
    def items(self) -> tuple[msgspec.Raw, ...]:
        """The conversation so far, which precedes the next request's own items."""
        return (*self.input, *self.output)


class _Named(msgspec.Struct):
    id: str | None = None


_decode = msgspec.json.Decoder(tuple[msgspec.Raw, ...]).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_encode = msgspec.json.Encoder().encode


class ResponseStoreError(Exception):
    """The file cannot be used. The text is for the person who starts the gateway."""

    @property
    def sentence(self) -> str:
        return str(self)


class ResponseStore:
    """The store. `path` is a file, or ":memory:"; `clock` returns Unix seconds. Call `open` at the
    start, which checks the file, and `close` at the end.
    """

    def __init__(
        self,
        path: str | Path = MEMORY,
        *,
        limits: StoreLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = str(path)
        self._limits = limits or StoreLimits()
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answers")
        self._database: sqlite3.Connection | None = None
        self._bytes = 0
        self._count = 0
        self._version = -1

    def __repr__(self) -> str:
        return f"<ResponseStore {self._path} {self._count} of {self._limits.answers}, {self._bytes} bytes>"

    async def open(self) -> None:
        """Raises ResponseStoreError."""
        try:
            await self._run(self._opened)
        except (sqlite3.Error, OSError) as error:
            raise ResponseStoreError(
                f"[server] keep_responses: {self._path} cannot be used to keep answers: {error}."
            ) from None

    async def keep(
        self,
        id: str,
        *,
        input: Sequence[msgspec.Raw],
        output: Sequence[msgspec.Raw],
        body: bytes,
        owner: str = "",
    ) -> bool:
        """Store a response. False where it is too large, or the disk is full."""
        input_json, output_json = _encode(list(input)), _encode(list(output))
        size = len(input_json) + len(output_json) + len(body)
        if size > self._limits.bytes_each:
            return False
        try:
            await self._run(
                lambda: self._keep((id, owner, self._clock(), size, body, input_json, output_json))
            )
        except (sqlite3.Error, OSError):
            return False
        return True

    async def find(self, id: str, *, owner: str = "") -> StoredResponse | None:
        """The response with this id, if this owner stored it and it is not too old."""
        return await self._run(lambda: self._find(id, owner))

    async def find_item(self, id: str, *, owner: str = "") -> msgspec.Raw | None:
        """The item with this id in one of the responses that this owner stored last."""
        return await self._run(lambda: self._find_item(id, owner))

    async def delete(self, id: str, *, owner: str = "") -> bool:
        """False where there was none."""
        return await self._run(lambda: self._delete(id, owner))

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- on the thread ---

    def _opened(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        if self._path != MEMORY:
            Path(self._path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # It has conversations: no other user may read it, from its creation on.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA secure_delete = ON")
            database.executescript(_SCHEMA)
            self._count_all(database)
        except sqlite3.Error:
            database.close()
            raise
        self._database = database
        return database

    def _count_all(self, database: sqlite3.Connection) -> None:
        """Count anew, if another process has written to the file: the limits are those of all. With
        10,000 responses that takes a millisecond.
        """
        (version,) = database.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._count, self._bytes = database.execute(
                "SELECT count(*), coalesce(sum(bytes), 0) FROM answers"
            ).fetchone()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _keep(self, row: tuple[str, str, float, int, bytes, bytes, bytes]) -> None:
        database = self._opened()
        id_, owner, _, size, *_ = row
        self._delete(id_, owner)
        database.execute(
            "INSERT INTO answers (id, owner, kept, bytes, body, input, output) VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self._count += 1
        self._bytes += size
        self._count_all(database)
        self._evict(database)

    def _evict(self, database: sqlite3.Connection) -> None:
        """Delete what is too old, then the oldest until the rest is within bounds."""
        limits = self._limits
        oldest = database.execute("SELECT rowid, kept, bytes FROM answers ORDER BY kept, rowid")
        gone: list[tuple[int]] = []
        for row, kept, size in oldest:
            is_old = kept < self._clock() - limits.age
            if not is_old and self._count <= limits.answers and self._bytes <= limits.bytes:
                break
            gone.append((row,))
            self._count -= 1
            self._bytes -= size
        oldest.close()
        if gone:
            database.executemany("DELETE FROM answers WHERE rowid = ?", gone)

    def _find(self, id: str, owner: str) -> StoredResponse | None:
        row = (
            self._opened()
            .execute("SELECT kept, body, input, output FROM answers WHERE owner = ? AND id = ?", (owner, id))
            .fetchone()
        )
        if row is None or row[0] < self._clock() - self._limits.age:
            return None
        return StoredResponse(id, row[1], _decode(row[2]), _decode(row[3]))

    def _find_item(self, id: str, owner: str) -> msgspec.Raw | None:
        rows = self._opened().execute(
            "SELECT kept, output FROM answers WHERE owner = ? ORDER BY kept DESC, rowid DESC LIMIT ?",
            (owner, RECENT_ANSWERS),
        )
        for kept, output in rows:
            if kept < self._clock() - self._limits.age:
                return None
            if id.encode() in output:
                for item in _decode(output):
                    if _decode_named(item).id == id:
                        return item
        return None

    def _delete(self, id: str, owner: str) -> bool:
        gone = self._opened().execute(
            "DELETE FROM answers WHERE owner = ? AND id = ? RETURNING bytes", (owner, id)
        )
        sizes = [size for (size,) in gone.fetchall()]
        self._count -= len(sizes)
        self._bytes -= sum(sizes)
        return bool(sizes)
