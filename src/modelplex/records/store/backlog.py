"""Records that are put off: written as one blob while calls are many, and made rows of later.

A row of `calls` takes the processor ten times as long as its share of such a blob. Both are written
to the disk, so that a process that is killed loses neither; a batch is deleted after its rows are
there, and no row is made twice. Whoever reads asks for the rows first (ReadDatabase): the gateway
that put them off makes them at once, and where that one has ended the reader does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any, Final

import msgspec

from modelplex.records.admin_act import AdminAct
from modelplex.records.record import Record
from modelplex.records.record_queue import Stored
from modelplex.records.run_facts import RunFacts
from modelplex.records.store.database import Database, Row, StoreError, StoreUnavailable
from modelplex.records.store.known_bodies import KnownBodies
from modelplex.records.store.packed import Pack, Turns, Unpacked, pack, unpack
from modelplex.records.store.writer import RecordWriter
from modelplex.records.store_sink import StoreOptions

MAX_CALLS: Final = 200_000
"""Calls of one gateway that are put off: half a minute of all that a process can serve."""
MAX_BYTES: Final = 268_435_456
"""Bytes of them."""
ANSWER_S: Final = 3.0
"""Seconds without progress after which the gateway that put a batch off has ended."""
POLL_S: Final = 0.02
CHECK_S: Final = 0.5
"""Seconds between two looks for what is put off."""

_PUT_OFF: Final = (
    "INSERT INTO put_off (writer, number, at, calls, records) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (writer, number) DO NOTHING"
)
_DONE: Final = (
    "DELETE FROM put_off WHERE writer = ? AND number = ?",
    "DELETE FROM asked WHERE writer = ? AND number = ?",
)
_ASK: Final = "INSERT INTO asked (writer, number) VALUES (?, ?) ON CONFLICT (writer, number) DO NOTHING"

Batch = tuple[str, int]
"""Its writer and its number."""


class Backlog:
    """What one gateway has put off. `name` is its own among all that write the database."""

    def __init__(self, database: Database, writer: RecordWriter, *, name: str) -> None:
        self._database = database
        self._writer = writer
        self._name = name
        self._batches: deque[tuple[int, int, int]] = deque()
        self._number = 0
        self._known = KnownBodies()
        """Of packs on the event loop; the writer has those of its own thread."""
        self.calls = 0
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Backlog {self.calls} calls in {len(self._batches)} batches>"

    @property
    def is_full(self) -> bool:
        return self.calls >= MAX_CALLS or self._bytes >= MAX_BYTES

    def new_pack(self, options: StoreOptions) -> Pack | None:
        """For Records that are put off as they come, on the event loop. None where they must be
        written at once: one run's chain is made as it is written.
        """
        if options.sign is not None:
            return None
        turns = None if options.content else self._turns_of(options)
        return Pack(tags=options.tags, host=options.host, turns=turns)

    def _turns_of(self, options: StoreOptions) -> Callable[[Record], Turns]:
        members: dict[str, Sequence[str]] = {}

        def turns(record: Record) -> Turns:
            dialect = record.dialect
            if dialect not in members:
                members[dialect] = options.conversation(dialect)
            _, split = self._known.split(
                record.request_body or b"",
                conversation=members[dialect],
                seed=record.agent.encode(),
                mask=options.mask,
            )
            return Turns(split.turns, split.context)

        return turns

    def put_off(self, given: Sequence[Stored], *, now: float) -> bool:
        """False for what must be written now, among which are RunFacts and AdminActs: they are
        few.
        """
        options = self._writer.options
        records = [record for record in given if not isinstance(record, RunFacts | AdminAct)]
        if options.sign is not None or len(records) < len(given):
            return False
        turns = None if options.content else self._writer.turns_of
        made = pack(records, tags=options.tags, host=options.host, turns=turns)
        return made is not None and self.put_off_pack(made, now=now) is None

    def put_off_pack(self, given: Pack, *, now: float) -> Unpacked | None:
        """Returns what must be written now: the secrets that are taken out of bodies are noted in
        the rows.
        """
        packed, mask = given.packed(), self._writer.options.mask
        if any(mask(each) != each for each in (packed.blob, packed.seams)):
            return unpack(packed.blob)
        runs = self._writer.name_runs(given.runs)
        # Each attempt has a number of its own. One that failed may have been written all the same;
        # the next one has more records, and a row is made of each once.
        number, self._number = self._number, self._number + 1
        row = (self._name, number, now, given.count, packed.blob)
        self._database.write([*runs, (_PUT_OFF, [row])])
        self._batches.append((number, given.count, len(packed.blob)))
        self.calls += given.count
        self._bytes += len(packed.blob)
        return None

    def is_asked(self) -> bool:
        """Whether somebody waits for the rows."""
        try:
            return bool(self._database.query("SELECT 1 FROM asked WHERE writer = ? LIMIT 1", (self._name,)))
        except StoreUnavailable:
            return False  # the next batch says so

    def settle(self, *, now: float) -> None:
        """Make rows of the oldest batch. Raises StoreUnavailable, and then it stays."""
        if not self._batches:
            return
        number, calls, size = self._batches[0]
        _make_rows(self._database, self._writer, (self._name, number), now=now)
        self._batches.popleft()
        self.calls -= calls
        self._bytes -= size


class ReadDatabase:
    """A database that is only read, with rows of all that was put off before CHECK_S. `open_store`
    opens the same one for writing; `conversation` is that of StoreOptions.
    """

    def __init__(
        self,
        database: Database,
        *,
        open_store: Callable[[], Database],
        conversation: Callable[[str], Sequence[str]],
    ) -> None:
        self._database = database
        self._open_store = open_store
        self._conversation = conversation
        self._checked: float | None = None
        self.place = database.place
        self.write, self.size, self.vacuum = database.write, database.size, database.vacuum
        self.close = database.close

    def __repr__(self) -> str:
        return f"<ReadDatabase {self._database!r}>"

    def query(self, sql: str, values: Sequence[Any] = (), /) -> list[Row]:
        now = time.monotonic()
        if self._checked is None or now >= self._checked + CHECK_S:
            self._catch_up()
            self._checked = time.monotonic()
        return self._database.query(sql, values)

    def _catch_up(self) -> None:
        """Wait until rows are made of what is put off now, and make them where the gateway that put
        it off has ended. A user who may only read sees what is in rows.
        """
        left = _waiting(self._database)
        if not left:
            return
        with suppress(StoreError), closing(self._open_store()) as store:
            store.write([(_ASK, sorted(left))])
            answered = time.monotonic()
            while left and time.monotonic() < answered + ANSWER_S:
                time.sleep(POLL_S)
                before, left = left, left & _waiting(store)
                if len(left) < len(before):
                    answered = time.monotonic()
            options = StoreOptions(content=True, conversation=self._conversation)
            for batch in sorted(left):
                _make_rows(store, RecordWriter(store, options), batch, now=time.time())


def _waiting(database: Database) -> set[Batch]:
    """The batches of all gateways."""
    return {(writer, int(number)) for writer, number in database.query("SELECT writer, number FROM put_off")}


def _make_rows(database: Database, writer: RecordWriter, batch: Batch, *, now: float) -> None:
    """Where another one was faster, there is nothing to do."""
    found = database.query("SELECT calls, records FROM put_off WHERE writer = ? AND number = ?", batch)
    for calls, blob in found:
        try:
            unpacked = unpack(bytes(blob))
        except msgspec.DecodeError:  # another version wrote it, or somebody changed it
            writer.refused += int(calls)
            continue
        writer.options = msgspec.structs.replace(writer.options, tags=unpacked.tags, host=unpacked.host)
        turns = [turns for _, turns in unpacked.records]
        writer.write([record for record, _ in unpacked.records], now=now, turns=turns)
    # After the rows, in a file of its own: whoever finds both makes no row twice.
    database.write([(sql, [batch]) for sql in _DONE])
