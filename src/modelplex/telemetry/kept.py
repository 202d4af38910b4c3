"""Keeps the telemetry of agents in a SQLite file, apart from the record: a flood of it cannot push
out the calls.

A bounded queue, and a thread that writes. Each owner has a share of what waits. On disk, the oldest
of whoever has the most are deleted first, so that nobody's are pushed out by another's.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

import msgspec

from modelplex.config.state_folder import make_state_folder
from modelplex.telemetry.signals import Encoding, Item, Sender, Signal

FILE: Final = "telemetry.sqlite"
"""In the state folder."""
QUEUED_BYTES: Final = 16_777_216
QUEUED_SHARE: Final = 4_194_304
"""Bytes that wait to be written: of all, and of one owner."""
GATHER_S: Final = 0.5
RETRY_S: Final = 5.0
RETAIN_BYTES: Final = 4_194_304
"""Bytes after which what is too old or too much is deleted."""
RETAIN_S: Final = 3_600.0
DELETE_ROWS: Final = 100
"""Rows of one step of the deletion."""
DELETE_STEPS: Final = 1_000
WRITE_ROWS: Final = 100
"""Rows of one transaction."""
CLOSE_LIMIT_S: Final = 5.0
BUSY_S: Final = 5.0
VERSION: Final = 1
_CREATE: Final = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    """
    CREATE TABLE IF NOT EXISTS telemetry (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, owner TEXT NOT NULL, agent TEXT NOT NULL, run TEXT NOT NULL,
        listener TEXT NOT NULL, signal TEXT NOT NULL, encoding TEXT NOT NULL, size INTEGER NOT NULL,
        content BLOB NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS telemetry_by_time ON telemetry (at)",
    "CREATE INDEX IF NOT EXISTS telemetry_by_owner ON telemetry (owner, id, size)",
    f"PRAGMA user_version = {VERSION}",
)
_INSERT: Final = (
    "INSERT INTO telemetry (at, owner, agent, run, listener, signal, encoding, size, content) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class KeptUnavailable(Exception):
    """The file cannot be used. `sentence` says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class KeptRules(msgspec.Struct, frozen=True):
    """`max_age` is seconds, `max_size` bytes of contents as they are stored."""

    max_age: float
    max_size: int


class KeptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Empty values select everything."""

    agent: str = ""
    run: str = ""
    signal: str = ""
    since: float | None = None


class KeptTelemetry:
    """`report(failure)` is called on the thread when writing begins to fail, and with "" when it
    works again. `now` returns Unix time.
    """

    def __init__(
        self,
        path: Path,
        rules: KeptRules,
        *,
        report: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._rules = rules
        self._report = report
        self._now = now
        self._queue: deque[Item] = deque()
        self._lock = threading.Lock()
        self._waiting: dict[str, int] = {}
        self._kept = self._lost = 0
        self._failure = ""
        self._unretained = 0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="telemetry", daemon=True)

    def __repr__(self) -> str:
        return f"<KeptTelemetry {self._path} {len(self._queue)} waiting>"

    # --- on the event loop ---

    def start(self) -> None:
        self._thread.start()

    def configure(self, rules: KeptRules) -> None:
        self._rules = rules

    def add(self, item: Item, /) -> bool:
        owner, size = item.sender.owner, len(item.body)
        with self._lock:
            mine = self._waiting.get(owner, 0)
            if mine + size > QUEUED_SHARE or sum(self._waiting.values()) + size > QUEUED_BYTES:
                self._lost += 1
                return False
            self._waiting[owner] = mine + size
        self._queue.append(item)
        self._wake.set()
        return True

    def counts(self) -> Mapping[str, int]:
        """Requests that were written, and those for which there was no room."""
        return {"kept": self._kept, "lost": self._lost}

    def close(self) -> bool:
        """Write what waits, for at most CLOSE_LIMIT_S. Blocks."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_LIMIT_S)
        return not self._thread.is_alive() and not self._queue

    # --- on the thread ---

    def _write_all(self) -> None:
        database: sqlite3.Connection | None = None
        while not (self._closing.is_set() and (self._failure or not self._queue)):
            woken = self._wake.wait(RETAIN_S)
            self._closing.wait(RETRY_S if self._failure else GATHER_S)
            self._wake.clear()
            try:
                if database is None and self._queue:
                    database = open_for_writing(self._path)
                while database is not None and self._queue:
                    self._write_batch(database)
                if database is not None and (not woken or self._unretained > RETAIN_BYTES):
                    self._unretained = 0
                    retain(database, self._rules, now=self._now())
            except (sqlite3.Error, KeptUnavailable) as error:
                self._tell(str(error))
                self._wake.set()
            else:
                self._tell("")
        if database is not None:
            database.close()

    def _write_batch(self, database: sqlite3.Connection) -> None:
        batch = [self._queue[place] for place in range(min(WRITE_ROWS, len(self._queue)))]
        rows = [_row(each) for each in batch]
        with database:
            database.executemany(_INSERT, rows)
        for each in batch:
            self._queue.popleft()
            with self._lock:
                left = self._waiting.get(each.sender.owner, 0) - len(each.body)
                if left > 0:
                    self._waiting[each.sender.owner] = left
                else:
                    self._waiting.pop(each.sender.owner, None)
        self._kept += len(batch)
        self._unretained += sum(row[-2] for row in rows)

    def _tell(self, failure: str) -> None:
        if bool(failure) != bool(self._failure):
            self._report(failure)
        self._failure = failure


def _row(item: Item) -> tuple[Any, ...]:
    content = zlib.compress(item.body, 1)
    sender = item.sender
    return (
        *(item.at, sender.owner, sender.agent, sender.run, sender.listener),
        *(item.signal, item.encoding, len(content), content),
    )


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The file of this user alone. Raises KeptUnavailable."""
    try:
        make_state_folder(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        database = _connect(path, "rw")
        for statement in _CREATE:
            database.execute(statement)
        database.commit()
    except (OSError, sqlite3.Error) as error:
        raise KeptUnavailable(f"{path} cannot be written: {error}.") from None
    return database


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_S, check_same_thread=False)


def retain(database: sqlite3.Connection, rules: KeptRules, *, now: float) -> None:
    """Delete what is too old, then the oldest of whoever has the most until the rest fits."""
    with database:
        database.execute("DELETE FROM telemetry WHERE at < ?", (now - rules.max_age,))
    sizes: Mapping[str, int] = dict(
        database.execute("SELECT owner, SUM(size) FROM telemetry GROUP BY owner").fetchall()
    )
    left = dict(sizes)
    for _ in range(DELETE_STEPS):
        if not left or sum(left.values()) <= rules.max_size:
            break
        owner = max(left, key=lambda each: left[each])
        oldest = database.execute(
            "SELECT id, size FROM telemetry WHERE owner = ? ORDER BY id LIMIT ?", (owner, DELETE_ROWS)
        ).fetchall()
        if not oldest:
            del left[owner]
            continue
        too_much, last = sum(left.values()) - rules.max_size, 0
        for number, size in oldest:
            left[owner] -= size
            too_much -= size
            last = number
            if too_much <= 0:
                break
        with database:
            database.execute("DELETE FROM telemetry WHERE owner = ? AND id <= ?", (owner, last))
    database.execute("PRAGMA incremental_vacuum")


def read_kept(path: Path, where: KeptFilter) -> Iterator[Item]:
    """The oldest first. Blocks. Raises KeptUnavailable."""
    conditions, values = ["1 = 1"], list[Any]()
    for name in ("agent", "run", "signal"):
        if wanted := getattr(where, name):
            conditions.append(f"{name} = ?")
            values.append(wanted)
    if where.since is not None:
        conditions.append("at >= ?")
        values.append(where.since)
    try:
        database = _connect(path, "ro")
    except sqlite3.Error as error:
        raise KeptUnavailable(f"{path} cannot be read: {error}.") from None
    try:
        rows = database.execute(
            "SELECT at, owner, agent, run, listener, signal, encoding, content FROM telemetry "  # noqa: S608 - our own names
            f"WHERE {' AND '.join(conditions)} ORDER BY id",
            values,
        )
        for at, owner, agent, run, listener, signal, encoding, content in rows:
            sender = Sender(owner, listener, agent, run)
            body = zlib.decompress(content)
            yield Item(at, sender, cast("Signal", signal), cast("Encoding", encoding), body)
    except sqlite3.Error as error:
        raise KeptUnavailable(f"{path} cannot be read: {error}.") from None
    finally:
        database.close()
