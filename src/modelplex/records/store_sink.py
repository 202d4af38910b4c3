"""The sink of the record store: a bounded queue, and a thread that writes what is in it.

`record` appends to the queue and returns. While the database cannot be written, Records wait in the
queue; what no longer fits is counted, and reported once writing works again. A process that is
killed loses the Records of the last GATHER_S. The rest of the store is loaded on the thread, with
the first Record.

While there are many calls, they are put off: written as they are, and made rows of once there are
fewer, or as soon as somebody wants to read them. Then `record` encodes them into packs itself:
their bodies are in the processor's caches, and a thread that works on each Record takes the
interpreter from the event loop as often. docs/decisions/0040-put-off.md has the reasons.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from modelplex.records import record_queue
from modelplex.records.admin_act import AdminAct
from modelplex.records.record import Record
from modelplex.records.record_queue import FEW, RecordQueue, Stored
from modelplex.records.sink import without_bodies

if TYPE_CHECKING:
    from modelplex.records.store.backlog import Backlog
    from modelplex.records.store.database import Database
    from modelplex.records.store.packed import Pack
    from modelplex.records.store.retention import Retention
    from modelplex.records.store.writer import RecordWriter

QUEUE_LIMIT: Final = 10_000
"""Records that wait: ten seconds of a busy gateway, some 20 MB without bodies."""
QUEUED_BODIES_LIMIT: Final = 33_554_432
"""Bytes of bodies that wait. Above it Records are queued without their bodies."""
QUEUED_WITHOUT_CONTENT: Final = 4_194_304
"""The same where bodies are not stored, but only read for the conversation to which a call belongs.
A larger body than any conversation has would stay in memory for that.
"""
URGENT_BYTES: Final = 4_194_304
"""Bytes of bodies that are written at once, so that they do not stay in memory for GATHER_S."""
GATHER_S: Final = 0.5
"""Seconds for which Records are gathered before they are written: what a crash can lose."""
BUSY_GATHER_S: Final = 0.05
"""The same while they are put off: what is written soon is still in the caches of the processor."""
BATCH_LIMIT: Final = 2_000
"""Records in one transaction: an index page that many of them change is written once."""
BUSY_RATE: Final = 200.0
"""Records a second from which on they are put off. Writing fewer as rows takes some hundredths of a
processor.
"""
BUSY_LEAST: Final = 16
"""Records that are put off together: a few large ones come in a short time too."""
RATE_S: Final = 0.25
"""Seconds over which the rate is measured: the end of a shorter time says nothing of it."""
PACKED_BYTES: Final = 1_048_576
"""Bytes of a call's bodies up to which it is packed on the event loop: they are compared and
copied.
"""
READ_BYTES: Final = 65_536
"""The same where bodies are not stored, but read for the conversation."""
SETTLE_S: Final = 0.02
"""Seconds between two of them, in which the event loop has the interpreter to itself."""
RETRY_S: Final = 5.0
"""Seconds between two attempts to write a database that cannot be written."""
RETAIN_STEPS: Final = 10
"""Steps of the retention after a batch: they must delete more than batches add."""
CLOSE_LIMIT_S: Final = 5.0
"""Seconds for which `close` waits for the last batch."""


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run of `modelplex run`: its program, and where it was started."""

    id: str
    started: float
    agent: str = ""
    command: str = ""
    folder: str = ""
    repository: str = ""
    branch: str = ""
    tags: dict[str, str] = {}


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How Records are stored.

    content       whether bodies are stored
    conversation  the members of a dialect's body that hold the conversation: the list of messages
                  first, then those of the system prompt
    tags          of each agent
    mask          takes the config's secrets out of bytes
    run           the run of every call
    sign          signs the chain of the run, and returns the public key and the signature; None
                  for no chain
    runs          the runs of calls that name one, by id
    host          of this gateway
    """

    content: bool = False
    conversation: Callable[[str], Sequence[str]] = lambda _: ()
    tags: Mapping[str, Mapping[str, str]] = {}
    mask: Callable[[bytes], bytes] = bytes
    run: RunInfo | None = None
    sign: Callable[[bytes], tuple[bytes, bytes]] | None = None
    runs: Mapping[str, RunInfo] = {}
    host: str = ""


class RetentionRules(msgspec.Struct, frozen=True):
    """`max_age` is seconds, `max_size` bytes."""

    max_age: float = 30 * 86_400.0
    max_size: int = 1_073_741_824


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """place      where the records are; "" before the database was opened
    waiting    Records in the queue
    written    Records since the start, also those that are put off
    put_off    Records of which rows are made later
    dropped    Records that were lost: by a full queue, or because the database refused them
    without_bodies  Records that were queued without their bodies
    failure    why the database cannot be written now; "" if it can
    """

    place: str
    waiting: int
    written: int
    put_off: int
    dropped: int
    without_bodies: int
    failure: str


class Reporter(Protocol):
    """Reports to whoever watches the gateway, on the sink's thread."""

    def warning(self, event: str, **fields: object) -> object: ...
    def info(self, event: str, **fields: object) -> object: ...


class StoreSink:
    """Writes Records to the database that `open_store` opens: on the sink's thread, with the first
    Record, and again until it succeeds. `now` returns Unix time.
    """

    def __init__(
        self,
        open_store: Callable[[], Database],
        options: StoreOptions,
        *,
        rules: RetentionRules | None = None,
        report: Reporter,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._open_store = open_store
        self._options = options
        self._rules = rules or RetentionRules()
        self._retention: Retention | None = None
        self._report = report
        self._now = now
        self._queue = RecordQueue()
        self._dropped = self._without_bodies = self._written = self._reported = 0
        self._failure = ""
        self._place = ""
        self._writer: RecordWriter | None = None
        self._backlog: Backlog | None = None
        self._rate = _Rate()
        self._database: Database | None = None
        self._is_signalled = False
        self._ended: list[tuple[str, threading.Event]] = []
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def __repr__(self) -> str:
        return (
            f"<StoreSink {self._place or 'not open'} {self._queue.records} waiting, {self._dropped} dropped>"
        )

    # --- on the event loop ---

    def open(self) -> None:
        """Open the database now. Blocks. Raises StoreError."""
        self._opened()

    def start(self) -> None:
        self._thread.start()

    def record(self, record: Stored, /) -> None:
        # What admins did is not lost for the calls of agents; there is little of it.
        queue = self._queue
        if queue.records >= QUEUE_LIMIT and not isinstance(record, AdminAct):
            self._dropped += 1
            return
        size = _body_size(record)
        limit = QUEUED_BODIES_LIMIT if self._options.content else QUEUED_WITHOUT_CONTENT
        if queue.bodies + size > limit:
            self._without_bodies += self._options.content
            record, size = record if isinstance(record, FEW) else without_bodies(record), 0
        if not (self._rate.is_high and self._pack(record, size)):
            queue.append(record, size)
        if queue.bodies > URGENT_BYTES:
            self._hurry.set()
        if not self._is_signalled:
            self._is_signalled = True
            self._wake.set()

    def _pack(self, record: Stored, size: int) -> bool:
        if isinstance(record, FEW) or self._backlog is None:
            return False
        if size > (PACKED_BYTES if self._options.content else READ_BYTES):
            return False
        return self._queue.pack(record, self._new_pack)

    def _new_pack(self) -> Pack | None:
        assert self._backlog is not None
        return self._backlog.new_pack(self._options)

    def configure(self, options: StoreOptions, rules: RetentionRules) -> None:
        """For Records from now on."""
        self._queue.end_pack()
        self._options = options
        self._rules = rules

    def status(self) -> StoreStatus:
        writer = self._writer
        return StoreStatus(
            place=self._place,
            waiting=self._queue.records,
            written=self._written,
            put_off=self._backlog.calls if self._backlog is not None else 0,
            dropped=self._dropped + (writer.refused if writer is not None else 0),
            without_bodies=self._without_bodies,
            failure=self._failure,
        )

    def end_run(self, run: str) -> bool:
        """Write what waits, and that the run has ended, for at most CLOSE_LIMIT_S. Blocks. False if
        it could not be written.
        """
        written = threading.Event()
        self._ended.append((run, written))
        self._hurry.set()
        self._wake.set()
        return self._thread.is_alive() and written.wait(CLOSE_LIMIT_S)

    def close(self) -> bool:
        """Write what waits, for at most CLOSE_LIMIT_S. Blocks. False if it could not be written."""
        self._closing.set()
        self._hurry.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_LIMIT_S)
        return not self._thread.is_alive() and not self._queue

    # --- on the sink's thread ---

    def _run(self) -> None:
        while not (self._closing.is_set() and (self._failure or not self._queue)):
            if not self._wake.wait(self._pause()):
                self._rate.restart()
                self._try(self._settle if self._is_behind else self._retain)
                continue
            if self._failure:
                self._closing.wait(RETRY_S)
            else:
                self._gather()
            # In this order: a Record that is queued after the queue was seen empty sets the signal.
            self._wake.clear()
            self._is_signalled = False
            # Those that are added from now on wait for the next turn, with what is recorded until
            # then.
            ended, self._ended = self._ended, []
            while self._queue and self._try(self._write_batch):
                pass
            self._end_runs(ended)
            if self._queue:
                self._wake.set()
            elif not self._failure and not self._closing.is_set():
                self._try(self._retain)
        end = time.monotonic() + CLOSE_LIMIT_S / 2
        while self._is_behind and time.monotonic() < end and self._try(self._settle):
            pass  # of what remains whoever reads makes rows
        self._try(self._end_run)
        if self._database is not None:
            self._database.close()

    @property
    def _is_behind(self) -> bool:
        return self._backlog is not None and self._backlog.calls > 0

    def _pause(self) -> float | None:
        """Seconds to wait for a Record."""
        if self._is_behind and not self._failure:
            return GATHER_S if self._rate.is_high else SETTLE_S
        return self._retention.pause(self._now()) if self._retention is not None else None

    def _gather(self) -> None:
        """Wait for more Records, and make rows of what was put off where that disturbs nobody, or
        somebody waits for it.
        """
        start = time.monotonic()
        self._rate.begin(start, self._written)
        # What was in a hurry may have been written since. In this order: another may be meanwhile.
        self._hurry.clear()
        if self._ended or self._closing.is_set() or self._queue.bodies > URGENT_BYTES:
            self._hurry.set()
        while self._settles_now() and self._try(self._settle):
            if self._hurry.wait(SETTLE_S) or time.monotonic() >= start + GATHER_S:
                break
        else:
            gather = BUSY_GATHER_S if self._rate.is_high else GATHER_S
            if gather > RATE_S and not self._hurry.wait(RATE_S):
                # From now on, the event loop packs them.
                self._rate.measure(time.monotonic(), self._written + self._queue.records)
            self._hurry.wait(max(0.0, start + gather - time.monotonic()))
        self._rate.measure(time.monotonic(), self._written + self._queue.records)

    def _settles_now(self) -> bool:
        backlog = self._backlog
        return (
            backlog is not None
            and self._is_behind
            and (not self._rate.is_high or backlog.is_full or backlog.is_asked())
        )

    def _try(self, work: Callable[[], object]) -> bool:
        """Reports when the database begins to fail, and when it works again."""
        from modelplex.records.store.database import StoreError

        try:
            work()
        except StoreError as error:
            if not self._failure:
                self._report.warning(
                    "the record store cannot be written; calls are counted", reason=error.sentence
                )
            self._failure = error.sentence
            return False
        status = self.status()
        lost = status.dropped + status.without_bodies
        if self._failure or lost > self._reported:
            self._report.info(
                "the record store is written",
                place=self._place,
                dropped=status.dropped,
                without_bodies=status.without_bodies,
            )
            self._failure, self._reported = "", lost
        return True

    def _opened(self) -> RecordWriter:
        from modelplex.records.store.backlog import Backlog
        from modelplex.records.store.retention import Retention
        from modelplex.records.store.writer import RecordWriter

        if self._writer is None:
            self._database = database = self._open_store()
            self._place = database.place
            writer = RecordWriter(database, self._options)
            self._backlog = Backlog(database, writer, name=secrets.token_hex(8))
            self._writer, self._retention = writer, Retention(self._rules)
        self._writer.options = self._options
        return self._writer

    def _end_run(self) -> None:
        if self._writer is not None:
            self._writer.end_run(self._now())

    def _end_runs(self, ended: list[tuple[str, threading.Event]]) -> None:
        """Those that cannot be written now wait with the Records."""
        if not ended:
            return
        if self._queue or not self._try(partial(self._write_ends, [run for run, _ in ended])):
            self._ended = [*ended, *self._ended]
            return
        for _, written in ended:
            written.set()

    def _write_ends(self, ids: list[str]) -> None:
        self._settle_all()
        if self._writer is not None:
            self._writer.end_runs(ids, at=self._now())

    def _write_batch(self) -> None:
        """The first Records of the queue. They stay in it until they are written."""
        writer, now = self._opened(), self._now()
        pack = self._queue.first_pack()
        if pack is not None:
            self._write_pack(pack, now)
            return
        is_put_off = self._rate.is_high or self._is_behind
        batch, size = self._queue.first_records(record_queue.PUT_OFF_LIMIT if is_put_off else BATCH_LIMIT)
        if not is_put_off or not self._put_off(batch, now):
            self._settle_all()
            writer.write(batch, now=now)
        self._written += len(batch)
        self._queue.remove(len(batch), records=len(batch), size=size)

    def _write_pack(self, pack: Pack, now: float) -> None:
        assert self._backlog is not None
        if pack.count:
            while self._backlog.is_full:
                self._settle()
            unpacked = self._backlog.put_off_pack(pack, now=now)
            if unpacked is not None:
                self._settle_all()
                records, turns = zip(*unpacked.records, strict=True)
                self._opened().write(records, now=now, turns=turns)
        self._written += pack.count
        self._queue.remove(1, records=pack.count, size=pack.bytes)

    def _settle_all(self) -> None:
        """Before rows are written: those of a conversation are made in its order."""
        while self._is_behind:
            self._settle()

    def _settle(self) -> None:
        if self._backlog is not None:
            self._opened()  # with the newest options
            self._backlog.settle(now=self._now())

    def _put_off(self, batch: Sequence[Stored], now: float) -> bool:
        assert self._backlog is not None
        while self._backlog.is_full:
            self._settle()
        return self._backlog.put_off(batch, now=now)

    def _retain(self) -> None:
        if self._database is not None and self._retention is not None:
            self._retention.rules = self._rules
            for _ in range(RETAIN_STEPS):
                self._retention.step(self._database, now=self._now())


class _Rate:
    """How fast Records come: over RATE_S or more, since many may come in a moment, and few in the
    one after it.
    """

    def __init__(self) -> None:
        self.is_high = False
        """They come so fast that they are put off."""
        self._since: float | None = None
        self._counted = 0

    def restart(self) -> None:
        """None came."""
        self.is_high, self._since = False, None

    def begin(self, now: float, count: int) -> None:
        """Some came, after `count` that were written before."""
        if self._since is None or now - self._since > 2 * GATHER_S:
            self._since, self._counted = now, count

    def measure(self, now: float, count: int) -> None:
        """`count` have come in all."""
        if self._since is None or (seconds := now - self._since) < min(RATE_S, GATHER_S):
            return
        came = count - self._counted
        self.is_high = came >= BUSY_LEAST and came >= BUSY_RATE * seconds
        self._since, self._counted = now, count


def _body_size(record: Stored) -> int:
    if isinstance(record, FEW):
        return 0
    size = len(record.request_body or b"") + len(record.response_body or b"")
    if isinstance(record, Record):
        size += len(record.tokens or b"")
        for attempt in record.attempts:
            if attempt.sent is not None:
                size += len(attempt.sent)
    return size
