"""Deletes records that are too old, and the oldest while the store is too large.

In steps of a few hundred rows, each a transaction of its own, so that a batch of new Records waits
some milliseconds at most. A part or node goes when it was not used since the oldest call that
stays: `seen` is exact to FRESH_S.
"""

from __future__ import annotations

from typing import Final

from modelplex.records.store.database import Database
from modelplex.records.store.rows import ACT
from modelplex.records.store.writer import FRESH_S
from modelplex.records.store_sink import RetentionRules

STEP_ROWS: Final = 200
"""Rows of a table that one step deletes."""
STEP_S: Final = 0.05
"""Seconds between two steps while there is something to delete."""
CHECK_S: Final = 60.0
"""Seconds between two looks at age and size."""
SPARE: Final = 0.9
"""A store that was too large is brought to this share of its limit."""
CUT: Final = 0.02
"""Share of the stored time that is given up at once while the store is too large."""

KEPT: Final = f"kind = '{ACT}' AND outcome <> 'refused' AND started >= ?"
"""What admins did outlasts a store that is too large: agents could fill it until that is gone. What
was refused does not: whoever reaches a listener can make it.
"""
_OLDEST: Final = (
    f"SELECT started FROM calls WHERE kind <> '{ACT}' OR outcome = 'refused' ORDER BY started LIMIT 1"  # noqa: S608 - our own names
)
_TABLES: Final = (
    ("calls", "started", "id", 0.0),
    ("nodes", "seen", "hash", FRESH_S),
    ("parts", "seen", "hash", FRESH_S),
)
"""Table, its time, its key, and by how many seconds its time may be too early."""


_BODIES: Final = ("DELETE FROM bodies WHERE call = ?", "DELETE FROM sent WHERE call = ?")


class Retention:
    """What is deleted next. Steps run on the sink's thread, while no Record waits."""

    def __init__(self, rules: RetentionRules) -> None:
        self.rules = rules
        self._cutoff = self._oldest = 0.0
        self._is_shrinking = False
        self._next = 0.0
        self._is_busy = False

    def __repr__(self) -> str:
        return f"<Retention before {self._cutoff:.0f}{' busy' if self._is_busy else ''}>"

    def pause(self, now: float) -> float:
        """Seconds until the next step."""
        return STEP_S if self._is_busy else max(STEP_S, min(CHECK_S, self._next - now))

    def step(self, database: Database, *, now: float) -> None:
        """Delete some rows, or return some pages to the system. Raises StoreUnavailable."""
        if not self._is_busy:
            if now < self._next:
                return
            self._oldest = now - self.rules.max_age
            self._cutoff = max(self._cutoff, self._oldest)
            self._next = now + CHECK_S
            self._is_busy = True
        if self._delete(database) or database.vacuum():
            return
        self._is_busy = self._shrink(database, now)

    def _delete(self, database: Database) -> bool:
        for table, time, key, slack in _TABLES:
            before = self._cutoff - slack
            some = f"SELECT {key} FROM {table} WHERE {time} < ? ORDER BY {time} LIMIT {STEP_ROWS}"  # noqa: S608 - our own names
            if table == "calls":
                some = some.replace(" ORDER", f" AND NOT ({KEPT}) ORDER")
            values = (before, self._oldest) if table == "calls" else (before,)
            if found := database.query(some, values):
                more = _BODIES if table == "calls" else ()
                database.write(
                    [(f"DELETE FROM {table} WHERE {key} = ?", found), *((sql, found) for sql in more)]  # noqa: S608 - our own names
                )
                return True
        if database.query("SELECT 1 FROM put_off WHERE at < ? LIMIT 1", (self._cutoff,)):
            database.write([("DELETE FROM put_off WHERE at < ?", [(self._cutoff,)])])
            return True
        old = "SELECT id FROM runs WHERE started < ? AND NOT EXISTS (SELECT 1 FROM calls WHERE run = runs.id)"
        if found := database.query(f"{old} ORDER BY started LIMIT {STEP_ROWS}", (self._cutoff,)):
            database.write(
                [
                    ("DELETE FROM run_tags WHERE run = ?", found),
                    ("DELETE FROM chain WHERE run = ?", found),
                    ("DELETE FROM seals WHERE run = ?", found),
                    ("DELETE FROM runs WHERE id = ?", found),
                ]
            )
            return True
        return False

    def _shrink(self, database: Database, now: float) -> bool:
        """Move the cutoff where the store is too large. False if it is small enough."""
        size = database.size()
        limit = self.rules.max_size * (SPARE if self._is_shrinking else 1.0)
        found = database.query(_OLDEST)
        self._is_shrinking = size > limit and bool(found)
        for (oldest,) in found if self._is_shrinking else []:
            self._cutoff = max(self._cutoff, oldest + (now - oldest) * CUT)
        return self._is_shrinking
