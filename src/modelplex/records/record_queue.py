"""What waits for the record store: appended to on the event loop, taken on the store's thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from modelplex.records.admin_act import AdminAct
from modelplex.records.record import Record
from modelplex.records.run_facts import RunFacts
from modelplex.records.tool_call import ToolRecord

if TYPE_CHECKING:
    from modelplex.records.store.packed import Pack

Stored = Record | ToolRecord | RunFacts | AdminAct
FEW: Final = (RunFacts, AdminAct)
"""They are no calls, few, and have no bodies."""
PUT_OFF_LIMIT: Final = 500
"""Records that are put off in one transaction, and made rows of in one: some tens of milliseconds.
"""
BATCH_BYTES: Final = 16_777_216
"""Bytes of bodies in one transaction, whose parts are in memory until its end."""


class RecordQueue:
    """In the order in which the Records came. A pack is in the place of its first one."""

    def __init__(self) -> None:
        self._entries: deque[tuple[Stored | Pack, int]] = deque()
        """With the bytes of their bodies."""
        self._packing: Pack | None = None
        """The last entry, if Records are added to it."""
        self._lock = threading.Lock()
        """Held while one is added, and when the thread takes the pack: for microseconds."""
        self._records_in = self._records_out = 0
        self._bodies_in = self._bodies_out = 0

    def __repr__(self) -> str:
        return f"<RecordQueue {self.records} records, {self.bodies} bytes of bodies>"

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def records(self) -> int:
        return self._records_in - self._records_out

    @property
    def bodies(self) -> int:
        """Bytes."""
        return self._bodies_in - self._bodies_out

    # --- on the event loop ---

    def append(self, record: Stored, size: int) -> None:
        """`size` is that of its bodies."""
        self._packing = None
        self._entries.append((record, size))
        self._records_in += 1
        self._bodies_in += size

    def pack(self, record: Record | ToolRecord, new_pack: Callable[[], Pack | None]) -> bool:
        """Add the Record to the last pack, or to a new one. False where it cannot be packed."""
        with self._lock:
            pack = self._packing
            if pack is None or pack.count >= PUT_OFF_LIMIT or pack.bytes >= BATCH_BYTES:
                pack = self._packing = new_pack()
                if pack is None:
                    return False
                self._entries.append((pack, 0))
            before = pack.bytes
            if not pack.add(record):
                return False
            self._records_in += 1
            self._bodies_in += pack.bytes - before
        return True

    def end_pack(self) -> None:
        """What comes next is in another one."""
        self._packing = None

    # --- on the thread ---

    def first_pack(self) -> Pack | None:
        """The first entry, if it is a pack; from now on nothing is added to it."""
        from modelplex.records.store.packed import Pack

        first = self._entries[0][0]
        if not isinstance(first, Pack):
            return None
        with self._lock:
            if self._packing is first:
                self._packing = None
        return first

    def first_records(self, limit: int) -> tuple[Sequence[Stored], int]:
        """The first entries that are no packs, and the bytes of their bodies."""
        from modelplex.records.store.packed import Pack

        batch: list[Stored] = []
        size = 0
        # By index: an iterator of the queue fails where the event loop appends meanwhile.
        for place in range(min(limit, len(self._entries))):
            record, bytes_ = self._entries[place]
            if isinstance(record, Pack):
                break
            batch.append(record)
            size += bytes_
            if size >= BATCH_BYTES:
                break
        return batch, size

    def remove(self, entries: int, *, records: int, size: int) -> None:
        """The first ones, which are written."""
        for _ in range(entries):
            self._entries.popleft()
        self._records_out += records
        self._bodies_out += size
