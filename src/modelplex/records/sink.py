"""Where Records go: the `Sink` protocol, and the queue for a sink that may block.

The process holds a list of sinks and gives each Record to all of them, on the event loop.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Protocol, overload

import msgspec

from modelplex.records.record import Record
from modelplex.records.tool_call import ToolRecord

QUEUE_LIMIT = 10_000
"""Records queued for a blocking sink: ten seconds of a busy gateway."""
CLOSE_LIMIT_S = 2.0
"""How long `close` waits for a sink, so that one that hangs does not delay the shutdown."""


class Sink(Protocol):
    """Receives each Record after its request ended. `record` runs on the event loop: it returns at
    once and does not raise. A sink that does I/O needs a bounded queue and counts what it drops;
    `QueuedSink` wraps any sink in one.
    """

    def record(self, record: Record | ToolRecord, /) -> None: ...


@overload
def without_bodies(record: Record) -> Record: ...
@overload
def without_bodies(record: ToolRecord) -> ToolRecord: ...
def without_bodies(record: Record | ToolRecord) -> Record | ToolRecord:
    """For whoever keeps many Records."""
    if isinstance(record, ToolRecord):
        return msgspec.structs.replace(record, request_body=None, response_body=None)
    attempts = record.attempts
    for number, each in enumerate(attempts):
        if each.sent:  # AS_RECEIVED says nothing of it
            without = msgspec.structs.replace(each, sent=None)
            attempts = (*attempts[:number], without, *attempts[number + 1 :])
    return msgspec.structs.replace(
        record, attempts=attempts, request_body=None, response_body=None, tokens=None
    )


class QueuedSink:
    """Calls a blocking sink in its own thread. Above `limit` queued Records new ones are dropped;
    `dropped` counts them, `failed` those on which the sink raised.
    """

    def __init__(self, sink: Sink, *, limit: int = QUEUE_LIMIT) -> None:
        self._sink = sink
        self._queue: queue.Queue[Record | ToolRecord | None] = queue.Queue(limit)
        self.dropped = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<QueuedSink {self._sink!r} {self._queue.qsize()} waiting, {self.dropped} dropped>"

    def record(self, record: Record | ToolRecord, /) -> None:
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def close(self) -> bool:
        """Wait for the queued Records, for at most CLOSE_LIMIT_S. Returns False if that was too
        short.
        """
        end = time.monotonic() + CLOSE_LIMIT_S
        try:
            self._queue.put(None, timeout=CLOSE_LIMIT_S)
        except queue.Full:
            return False
        self._thread.join(max(0.0, end - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            try:
                self._sink.record(record)
            except Exception:  # noqa: BLE001 - the thread's outermost loop: one bad Record must not end the sink
                self.failed += 1
