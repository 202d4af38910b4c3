"""The sink of spans: a bounded queue, and a thread that makes spans of Records and sends them.

`record` appends to the queue and returns. While the collector cannot be reached, the exporter tries
again for some seconds, Records wait, and what no longer fits is counted. OpenTelemetry's exporter
is loaded on the thread, with the first Record.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from modelplex.records.record import Record
from modelplex.records.sink import without_bodies
from modelplex.records.spans import Span, record_spans, run_span
from modelplex.records.store_sink import Reporter, RunInfo
from modelplex.records.tool_call import ToolRecord

QUEUE_LIMIT: Final = 10_000
"""Records that wait: ten seconds of a busy gateway, some 20 MB."""
BATCH_LIMIT: Final = 512
"""Records whose spans are sent together, as many as the batch processor of the SDK sends spans."""
GATHER_S: Final = 1.0
"""Seconds for which Records are gathered before they are sent: what a crash can lose."""
CLOSE_LIMIT_S: Final = 5.0
"""Seconds for which `close` waits for what is queued to be sent."""


class SpanExport(Protocol):
    """Sends spans, on the sink's thread. `send` blocks for some seconds at most and returns what
    went wrong, "" for nothing. `stop` ends it from another thread.
    """

    def send(self, spans: Sequence[Span]) -> str: ...
    def stop(self) -> None: ...


class OtelSink:
    """`open_export` makes the exporter, on the thread. `run` is the run of Records that name none.
    `mask` takes the config's secrets out of bytes; `now` returns Unix time.
    """

    def __init__(
        self,
        open_export: Callable[[], SpanExport],
        *,
        mask: Callable[[bytes], bytes],
        report: Reporter,
        run: RunInfo | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._open_export = open_export
        self._mask = mask
        self._report = report
        self._run = run
        self._now = now
        self._export: SpanExport | None = None
        self._queue: deque[Record | ToolRecord | Span] = deque()
        self._runs: dict[str, RunInfo] = {}
        self._dropped = self._failed = self._sent = 0
        self._failure = ""
        self._is_signalled = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="otel", daemon=True)

    def __repr__(self) -> str:
        return f"<OtelSink {len(self._queue)} waiting, {self._sent} spans sent, {self._dropped} dropped>"

    # --- on the event loop ---

    def start(self) -> None:
        self._thread.start()

    def record(self, record: Record | ToolRecord, /) -> None:
        if record.request_body is not None or record.response_body is not None:
            record = without_bodies(record)
        self._add(record)

    def open_run(self, run: RunInfo) -> None:
        """Its span is sent when it ends."""
        self._runs[run.id] = run

    def end_run(self, id: str) -> None:
        run = self._runs.pop(id, None)
        if run is not None:
            self._add(self._span_of(run))

    def counts(self) -> Mapping[str, int]:
        """For the metrics: spans that were sent, that a collector did not take, and calls that are
        no spans, since the queue was full.
        """
        return {"sent": self._sent, "failed": self._failed, "dropped": self._dropped}

    def close(self) -> bool:
        """Send what waits, for at most CLOSE_LIMIT_S. Blocks. False if that was too short."""
        if self._run is not None:
            self._add(self._span_of(self._run))
        self._closing.set()
        self._wake.set()
        if not self._thread.is_alive():
            return not self._queue
        self._thread.join(CLOSE_LIMIT_S)
        if self._thread.is_alive() and self._export is not None:
            self._export.stop()
        return not self._thread.is_alive() and not self._failure

    def _add(self, item: Record | ToolRecord | Span) -> None:
        if len(self._queue) >= QUEUE_LIMIT:
            self._dropped += 1
            return
        self._queue.append(item)
        if not self._is_signalled:
            self._is_signalled = True
            self._wake.set()

    def _span_of(self, run: RunInfo) -> Span:
        more = {"vcs.repository.url.full": run.repository or None, "vcs.ref.head.name": run.branch or None}
        return run_span(
            run.id, agent=run.agent, started=run.started, ended=self._now(), tags=run.tags, more=more
        )

    # --- on the sink's thread ---

    def _send_all(self) -> None:
        while not (self._closing.is_set() and not self._queue):
            self._wake.wait()
            self._closing.wait(GATHER_S)
            # In this order: a Record that is queued after the queue was seen empty sets the signal.
            self._wake.clear()
            self._is_signalled = False
            while self._queue:
                self._send_batch()
        if self._export is not None:
            self._export.stop()

    def _send_batch(self) -> None:
        spans: list[Span] = []
        items = [self._queue.popleft() for _ in range(min(BATCH_LIMIT, len(self._queue)))]
        try:
            for item in items:
                spans += self._spans(item)
            if self._export is None:
                self._export = self._open_export()
            failure = self._export.send(spans)
        except Exception as error:  # noqa: BLE001 - the thread's outermost loop: no batch may end the sink
            failure = f"{type(error).__name__}: {error}"
        if failure:
            self._failed += max(len(spans), len(items))
        else:
            self._sent += len(spans)
        self._tell(failure)

    def _spans(self, item: Record | ToolRecord | Span) -> list[Span]:
        if isinstance(item, Span):
            return [masked(item, self._mask)]
        run = item.run or (self._run.id if self._run is not None else "")
        return [masked(each, self._mask) for each in record_spans(item, run=run)]

    def _tell(self, failure: str) -> None:
        """Report when sending begins to fail, and when it works again."""
        if failure and not self._failure:
            self._report.warning("spans cannot be sent; they are counted", reason=failure)
        elif self._failure and not failure:
            self._report.info("spans are sent again", failed=self._failed, dropped=self._dropped)
        self._failure = failure


def masked(span: Span, mask: Callable[[bytes], bytes]) -> Span:
    """The span without the config's secrets, which a provider may repeat in its error."""
    from msgspec import json

    encoded = json.encode(span)
    hidden = mask(encoded)
    return span if hidden == encoded else json.decode(hidden, type=Span)
