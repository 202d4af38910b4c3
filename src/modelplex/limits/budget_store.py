"""What agents spent, in a SQLite file that survives the process, written by a thread of its own.

At the start the file must be readable and writable (BudgetStoreError). A later write that fails (a
full disk) loses nothing: what is to be added stays in memory, is counted as waiting, and is written
with the next that succeeds.

Additions are written, not sums, so that gateways can share the file; each reads what others have
added. A budget is one, in however many processes.
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
from modelplex.limits.agent_limits import NOTHING, AgentUsage

FILE = "agents.sqlite"
FORM = 1
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
"""The version of the table. A file of a later one is not touched."""
GATHER_S = 0.5
"""How long additions are gathered before they are written: what a crash can lose."""
PAUSE_S = 5.0
"""Between two attempts at a file that cannot be written."""
LOOK_S = 1.0
"""Between two looks at what other gateways have added. It costs a read of shared memory where they
have not.
"""
LEAST_USD = 1e-9
"""A smaller difference is what adding floats in another order comes to."""
BUSY_S = 5.0
"""How long to wait for another process that holds the file."""
CLOSE_LIMIT_S = 10.0
"""How long a stop waits for the last write."""

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
    """The file cannot be used. The text is a sentence for the person who starts the gateway."""

    @property
    def sentence(self) -> str:
        return str(self)


class BudgetStore:
    """One open file. `complain` is called on the writer's thread, once for each time that writing
    begins to fail, and once when it goes on.
    """

    def __init__(self, folder: Path, *, complain: Callable[[str], None]) -> None:
        """Open the file, and make it where there is none. Blocks; raises LedgerError."""
        self.path = folder / FILE
        self.failures = 0
        """Writes that failed since the start."""
        self.kept: dict[str, dict[str, AgentUsage]] = {}
        """What the file said when it was opened: by agent and day."""
        self.learned: Callable[[str, str, AgentUsage], None] | None = None
        """Called on the writer's thread with what other gateways have added since: agent, day, and
        how much.
        """
        self._known: dict[tuple[str, str], AgentUsage] = {}
        self._version = 0
        self._complain = complain
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], AgentUsage] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        try:
            make_state_folder(folder)
            # Made readable to nobody else before anything is in it.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = self._opened()
        except (OSError, sqlite3.Error) as error:
            raise BudgetStoreError(
                f"what agents spent cannot be kept in {self.path}: {_reason(error)}."
            ) from None
        self._writer = threading.Thread(target=self._write_all, name="ledger", daemon=True)
        self._writer.start()

    def __repr__(self) -> str:
        return f"<Ledger {self.path} {self.waiting} waiting, {self.failures} failures>"

    @property
    def waiting(self) -> int:
        """Days of agents whose additions are not written yet."""
        return len(self._waiting)

    def add(self, agent: str, day: str, spent: AgentUsage) -> None:
        """Note what was spent. Does not block."""
        with self._lock:
            self._waiting[agent, day] = self._waiting.get((agent, day), NOTHING).plus(spent)
        self._wake.set()

    def close(self) -> bool:
        """Write what waits. Blocks; False where it could not be written."""
        self._closing.set()
        self._wake.set()
        self._writer.join(CLOSE_LIMIT_S)
        return not self._writer.is_alive() and not self._waiting

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            (form,) = database.execute("PRAGMA user_version").fetchone()
            if form > FORM:
                raise sqlite3.DatabaseError("a later version of Modelplex wrote it")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_SCHEMA)
            # A write even where there is nothing new: a file that takes none is told now.
            database.execute(f"PRAGMA user_version = {FORM}")
            self._version = _version(database)
            self._known = _all_spent(database)
            for (agent, day), spent in self._known.items():
                self.kept.setdefault(agent, {})[day] = spent
        except sqlite3.Error:
            database.close()
            raise
        return database

    # --- on the thread ---

    def _write_all(self) -> None:
        failing = False
        while True:
            if not self._wake.wait(LOOK_S):
                self._look()
                continue
            self._closing.wait(PAUSE_S if failing else GATHER_S)
            # In this order: what is added after it was taken finds the signal down, and raises it.
            self._wake.clear()
            error = self._write()
            if error is not None:
                self.failures += 1
                self._wake.set()
                if not failing:
                    self._complain(
                        f"what agents spent cannot be written to {self.path} ({_reason(error)}); it is counted in memory"
                    )
            elif failing:
                self._complain(f"what agents spent is written to {self.path} again")
            failing = error is not None
            if not failing:
                self._look()
            if self._closing.is_set() and (failing or not self._waiting):
                self._database.close()
                return

    def _write(self) -> Exception | None:
        with self._lock:
            taken, self._waiting = self._waiting, {}
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
            return error
        for (agent, day), spent in taken.items():
            self._known[agent, day] = self._known.get((agent, day), NOTHING).plus(spent)
        return None

    def _look(self) -> None:
        """Tell of what others have added. A file that cannot be read is told of when it is written
        to.
        """
        if self.learned is None:
            return
        try:
            version = _version(self._database)
            if version == self._version:
                return
            now = _all_spent(self._database)
        except (OSError, sqlite3.Error):
            return
        self._version = version
        before, self._known = self._known, now
        for (agent, day), spent in now.items():
            more = spent.plus(before.get((agent, day), NOTHING).negative())
            if more.requests or more.tokens or abs(more.usd) >= LEAST_USD:
                self.learned(agent, day, more)


def _version(database: sqlite3.Connection) -> int:
    """Another number once another connection has written
    (https://sqlite.org/pragma.html#pragma_data_version).
    """
    (version,) = database.execute("PRAGMA data_version").fetchone()
    return int(version)


def _all_spent(database: sqlite3.Connection) -> dict[tuple[str, str], AgentUsage]:
    rows = database.execute("SELECT agent, day, requests, tokens, usd FROM spent")
    return {(agent, day): _counted(agent, day, counts) for agent, day, *counts in rows}


def _counted(agent: object, day: object, counts: list[object]) -> AgentUsage:
    """SQLite keeps a text in a column of numbers, and whoever wrote it may have written less than
    nothing. Raises DatabaseError.
    """
    match counts:
        case [int(requests), int(tokens), float(usd)] if min(requests, tokens) >= 0 and 0 <= usd < math.inf:
            if isinstance(agent, str) and isinstance(day, str) and DAY.fullmatch(day):
                return AgentUsage(requests, tokens, usd)
        case _:
            pass
    raise sqlite3.DatabaseError(f"what it says of {agent!r} on {day!r} is no count")


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__).lower() if isinstance(error, OSError) else str(error)
