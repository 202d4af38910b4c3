"""What agents spent, in a SQLite file that outlives the process. A thread of its own writes it.

At the start the file must be readable and writable (BudgetStoreError). If a later write fails, as
on a full disk, nothing is lost: the additions stay in memory and are written with the next write
that succeeds.

Additions are written, not sums, so that gateways can share the file and a budget: each reads what
the others have added.
"""

from __future__ import annotations

import math
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from modelplex.config.state_folder import make_state_folder
from modelplex.limits.agent_usage import NOTHING, AgentUsage

FILE = "agents.sqlite"
SCHEMA_VERSION = 1
"""A file of a later version is not opened."""
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
GATHER_S = 0.5
"""Seconds for which additions are gathered before they are written: what a crash can lose."""
RETRY_S = 5.0
"""Seconds between two attempts to write a file that cannot be written."""
POLL_S = 1.0
"""Seconds between two checks for additions of other gateways. Without any, a check reads shared
memory.
"""
LEAST_USD = 1e-9
"""A smaller difference is a rounding error of adding floats in another order."""
BUSY_S = 5.0
"""Seconds to wait for another process that has locked the file."""
CLOSE_LIMIT_S = 10.0
"""Seconds for which `close` waits for the last write."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (
    agent TEXT NOT NULL, day TEXT NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL,
    PRIMARY KEY (agent, day)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO spent (agent, day, requests, tokens, usd) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (agent, day) DO UPDATE SET requests = requests + excluded.requests, tokens = tokens + excluded.tokens, usd = usd + excluded.usd
"""


class BudgetStoreError(Exception):
    """The file cannot be used. The text is a sentence for whoever starts the gateway."""

    @property
    def sentence(self) -> str:
        return str(self)


class BudgetStore:
    """One open file. `report_error` is called on the writer's thread when writing starts to fail,
    and when it works again.
    """

    def __init__(self, folder: Path, *, report_error: Callable[[str], None]) -> None:
        """Open the file, or create it. Blocks. Raises BudgetStoreError."""
        self.path = folder / FILE
        self.failures = 0
        """Failed writes since the start."""
        self.stored: dict[str, dict[str, AgentUsage]] = {}
        """The content of the file when it was opened, by agent and day."""
        self.on_foreign: Callable[[str, str, AgentUsage], None] | None = None
        """Called on the writer's thread with the additions of other gateways: agent, day, amount.
        """
        self._last_read: dict[tuple[str, str], AgentUsage] = {}
        """The content that was read last, with this process's own additions since."""
        self._version = 0
        self._report_error = report_error
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], AgentUsage] = {}
        self._writing: dict[tuple[str, str], AgentUsage] = {}
        """Taken of those, until they are committed."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        try:
            make_state_folder(folder)
            # Created with its mode, before it has any content.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = self._open()
        except (OSError, sqlite3.Error) as error:
            raise BudgetStoreError(
                f"what agents spent cannot be kept in {self.path}: {_reason(error)}."
            ) from None
        self._writer = threading.Thread(target=self._run, name="budget-store", daemon=True)
        self._writer.start()

    def __repr__(self) -> str:
        return f"<BudgetStore {self.path} {self.waiting} waiting, {self.failures} failures>"

    @property
    def waiting(self) -> int:
        """Days of agents whose additions are not written yet."""
        with self._lock:
            return len(self._waiting.keys() | self._writing.keys())

    def add(self, agent: str, day: str, spent: AgentUsage) -> None:
        """Add what was spent. Does not block."""
        with self._lock:
            self._waiting[agent, day] = self._waiting.get((agent, day), NOTHING).plus(spent)
        self._wake.set()

    def close(self) -> bool:
        """Write what waits. Blocks. False if it could not be written."""
        self._closing.set()
        self._wake.set()
        self._writer.join(CLOSE_LIMIT_S)
        return not self._writer.is_alive() and not self._waiting

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise sqlite3.DatabaseError("a later version of Modelplex wrote it")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_SCHEMA)
            # Always a write: a file that cannot be written is reported now.
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._version = _version(database)
            self._last_read = _all_spent(database)
            for (agent, day), spent in self._last_read.items():
                self.stored.setdefault(agent, {})[day] = spent
        except sqlite3.Error:
            database.close()
            raise
        return database

    # On the writer's thread.

    def _run(self) -> None:
        failing = False
        while True:
            if not self._wake.wait(POLL_S):
                self._poll()
                continue
            self._closing.wait(RETRY_S if failing else GATHER_S)
            # Clear before taking: an addition after that sets the event again.
            self._wake.clear()
            error = self._write()
            if error is not None:
                self.failures += 1
                self._wake.set()
                if not failing:
                    self._report_error(
                        f"what agents spent cannot be written to {self.path} ({_reason(error)}); it is counted in memory"
                    )
            elif failing:
                self._report_error(f"what agents spent is written to {self.path} again")
            failing = error is not None
            if not failing:
                self._poll()
            if self._closing.is_set() and (failing or not self._waiting):
                self._database.close()
                return

    def _write(self) -> Exception | None:
        with self._lock:
            taken, self._waiting = self._waiting, {}
            self._writing = taken
        rows = [(agent, day, s.requests, s.tokens, s.usd) for (agent, day), s in taken.items()]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(_ADD, rows)
            self._database.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            if self._database.in_transaction:
                self._database.rollback()
            with self._lock:
                for key, spent in taken.items():
                    self._waiting[key] = spent.plus(self._waiting.get(key, NOTHING))
                self._writing = {}
            return error
        self._writing = {}
        for (agent, day), spent in taken.items():
            self._last_read[agent, day] = self._last_read.get((agent, day), NOTHING).plus(spent)
        return None

    def _poll(self) -> None:
        """Report the additions of other gateways. A file that cannot be read is reported by the
        next write.
        """
        if self.on_foreign is None:
            return
        try:
            version = _version(self._database)
            if version == self._version:
                return
            now = _all_spent(self._database)
        except (OSError, sqlite3.Error):
            return
        self._version = version
        before, self._last_read = self._last_read, now
        for (agent, day), spent in now.items():
            more = spent.plus(before.get((agent, day), NOTHING).negative())
            if more.requests or more.tokens or abs(more.usd) >= LEAST_USD:
                self.on_foreign(agent, day, more)


def _version(database: sqlite3.Connection) -> int:
    """Changes when another connection writes (https://sqlite.org/pragma.html#pragma_data_version)."""
    (version,) = database.execute("PRAGMA data_version").fetchone()
    return int(version)


def _all_spent(database: sqlite3.Connection) -> dict[tuple[str, str], AgentUsage]:
    rows = database.execute("SELECT agent, day, requests, tokens, usd FROM spent")
    return {(agent, day): _counted(agent, day, counts) for agent, day, *counts in rows}


def _counted(agent: object, day: object, counts: list[object]) -> AgentUsage:
    """Raises DatabaseError for text in a column of numbers, which SQLite allows, and for negative
    numbers.
    """
    match counts:
        case [int(requests), int(tokens), float(usd)] if min(requests, tokens) >= 0 and 0 <= usd < math.inf:
            if isinstance(agent, str) and isinstance(day, str) and DAY.fullmatch(day):
                return AgentUsage(requests, tokens, usd)
        case _:
            pass
    raise sqlite3.DatabaseError(f"the row of {agent!r} on {day!r} is invalid")


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__).lower() if isinstance(error, OSError) else str(error)
