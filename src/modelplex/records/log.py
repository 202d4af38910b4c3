"""The log: one line for each Record, and the gateway's own events, on stderr or in a file.

It never blocks its callers and raises nothing to them: logging appends to a bounded queue, and a
thread writes in batches. A line of JSON is rendered where the call ends, in some 5 us: a thread
that renders while the event loop is busy takes the interpreter lock from it line by line, which
costs both of them more than the line (docs/why/performance.md). Text for people and bodies are
rendered on the thread.

Lost lines are counted by reason: "full" (the queue was full) and "unwritten" (the disk was full, or
the reader of a pipe was gone). A line reports how many were lost as soon as lines can be written
again. docs/reference/log.md lists the keys of a line.

Events of the gateway are lines too: `log.events.warning("a circuit breaker opened",
provider="openai")`. There are no global loggers or settings.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, Protocol
from urllib.parse import quote

import msgspec

from modelplex.records import log_fields, log_text
from modelplex.records.log_lock import LockedOutput, OutputLock
from modelplex.records.log_output import FileOutput, LogOutput, StreamOutput, is_terminal, stderr_or_null
from modelplex.records.record import Record
from modelplex.records.tool_call import ToolRecord

QUEUE_LIMIT = 10_000
"""Lines that wait for the writer: ten seconds of a busy gateway, some 20 MB."""

QUEUED_BODIES_LIMIT = 67_108_864
"""Bytes of bodies in the queue: with `[log] bodies` a few Records can be large."""

BATCH_LIMIT = 200
"""Lines that are rendered before they are written: one system call for many lines, and about 200 KB
of memory.
"""

GATHER_S = 0.1
"""How long the writer waits for more lines once there is one. Each wake-up takes the interpreter
lock from the event loop.
"""

CLOSE_LIMIT_S = 2.0
"""How long `close` waits for the writer: a pipe that nobody reads must not delay the shutdown."""

SHORTEST_SECRET = 8
"""Shorter values are placeholders such as "none" or "ollama", which are also ordinary words."""

HIDDEN = b"********"

Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "human", "json"]

_RANKS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class EventLog(Protocol):
    """Logs events of the gateway. `fields` become keys of the line."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...


class Secrets:
    """Masks secrets in log lines: the last defence, for a key that a provider repeats in its error.
    Finds each value as written, escaped in JSON, and percent-encoded.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms: set[bytes] = set()
        for value in values:
            if len(value) >= SHORTEST_SECRET:
                forms |= {value.encode("utf-8", "replace"), quote(value, safe="").encode()}
                forms.add(msgspec.json.encode(value.encode("utf-8", "replace").decode())[1:-1])
        # Longest first, so that a key that begins with another one is masked whole.
        self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def __repr__(self) -> str:
        return f"<Secrets {len(self._forms)} forms>"

    def mask(self, text: bytes) -> bytes:
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text

    def mask_all(self, lines: list[bytes]) -> list[bytes]:
        """Searches all lines at once, since there is rarely a secret in them."""
        whole = b"".join(lines)
        return [self.mask(text) for text in lines] if any(form in whole for form in self._forms) else lines


class _Event(msgspec.Struct, frozen=True):
    """An event in the queue. `at` is Unix seconds."""

    at: float
    fields: Mapping[str, object]


class Log:
    """Starts its writer thread at once. All methods but `close` may be called on the event loop.

    file           None for `stream`, which is stderr by default
    log_format     "auto" is "human" if stderr is a terminal, else "json"
    level          the lowest level that is written
    max_size       bytes at which `file` becomes FILE.1; 0 for never
    keep           how many rotated files stay
    max_body       bytes of a body that a line shows
    secrets        masked in every line; may be replaced at any time
    """

    def __init__(
        self,
        *,
        file: str | os.PathLike[str] | None = None,
        stream: IO[Any] | None = None,
        log_format: LogFormat = "auto",
        level: Level = "info",
        max_size: int = 52_428_800,
        keep: int = 5,
        max_body: int = 65_536,
        secrets: Secrets | None = None,
    ) -> None:
        out = stream if stream is not None else stderr_or_null()
        terminal = file is None and is_terminal(out)
        self.level: Level = level
        self.bodies = True
        """Whether bodies are logged where a Record has them."""
        self.secrets = secrets or Secrets()
        self.dropped = 0
        """Lines lost because the queue was full."""
        self._colour = terminal and "NO_COLOR" not in os.environ
        self.is_text = log_format == "human" or (log_format == "auto" and terminal)
        """Whether lines are text for people."""
        self._days = log_text.DayMark()
        self._max_body = max_body
        self._output: LogOutput = (
            FileOutput(Path(file), max_size=max_size, keep=keep) if file is not None else StreamOutput(out)
        )
        self._queue: deque[bytes | Record | ToolRecord | _Event] = deque()
        """Lines, and what the thread makes lines of."""
        self._bodies_in = 0
        self._bodies_out = 0
        self._reported_lost = 0
        self._unwritten = 0
        self._signalled = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Has an entry while `_signalled`. Unlike an Event it takes one call of C to wake."""
        self._closing = threading.Event()
        self.events: EventLog = _Events(self, {})
        self._writer = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._writer.start()

    def share_output(self, lock: OutputLock, **fields: object) -> None:
        """Other processes write to the same output: write while holding the lock. `fields` are
        added to every event. To be called before the first one.
        """
        self._output = LockedOutput(self._output, lock)
        self.events = _Events(self, fields)

    def __repr__(self) -> str:
        state = "closed" if not self._writer.is_alive() else "closing" if self._closing.is_set() else "open"
        lost = self.lost()
        return f"<Log {self._output} {state}, {len(self._queue)} waiting, {lost['full']} dropped, {lost['unwritten']} unwritten>"

    # --- on the event loop ------------------------------------------------------------------------

    def record(self, record: Record | ToolRecord, /) -> None:
        """Queue the line of a call that ended."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.dropped += 1
            return
        waiting: bytes | Record | ToolRecord = record
        if self.bodies and (record.request_body is not None or record.response_body is not None):
            size = _body_size(record)
            if self._bodies_in - self._bodies_out + size > QUEUED_BODIES_LIMIT:
                self.dropped += 1
                return
            self._bodies_in += size
        elif not self.is_text:
            waiting = self._render(record, max_body=None)
            if not waiting:
                return
        elif record.request_body is not None or record.response_body is not None:
            # Another sink has asked for them; here they would only take memory.
            waiting = msgspec.structs.replace(record, request_body=None, response_body=None)
        self._queue.append(waiting)
        if not self._signalled:
            self._signalled = True
            self._wake.put(None)

    def handler(self) -> logging.Handler:
        """A handler for libraries that use `logging` (asyncio)."""
        return _LibraryHandler(self)

    def mask(self, text: bytes) -> bytes:
        """The text without secrets. May be called on any thread."""
        return self.secrets.mask(text)

    def lost(self) -> Mapping[str, int]:
        """Lines that were not written, by reason, for `Metrics`."""
        return {"full": self.dropped, "unwritten": self._unwritten}

    def close(self) -> bool:
        """Write what is queued, for at most CLOSE_LIMIT_S. Returns False if that was too short.
        Later lines are not written.
        """
        self._closing.set()
        self._wake.put(None)
        self._writer.join(CLOSE_LIMIT_S)
        return not self._writer.is_alive()

    def event(self, fields: Mapping[str, object]) -> None:
        """Queue a line with these fields. `events` and `handler` end here."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.dropped += 1
            return
        self._queue.append(_Event(time.time(), fields))
        if not self._signalled:
            self._signalled = True
            self._wake.put(None)

    def is_enabled(self, level: str) -> bool:
        return _RANKS[level] >= _RANKS[self.level]

    # --- on the writer's thread -------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            self._wake.get()
            with suppress(queue.Empty):  # unless it is closed meanwhile
                self._wake.get(timeout=GATHER_S)
            # Before the queue is read: a line that is queued after it was seen empty signals again.
            self._signalled = False
            written = True
            while self._queue:
                written = self._write_some()
            if written and self._unreported():
                self._write_some()
            if self._closing.is_set() and not self._queue:
                self._output.close()
                return

    def _write_some(self) -> bool:
        """Write one batch, after a line with the number of lines that were lost before it. Returns
        False if the output failed.
        """
        unreported = self._unreported()
        lines = [self._render_queued(_lost_event(unreported, self.lost()))] if unreported else []
        extra = len(lines)
        while self._queue and len(lines) < BATCH_LIMIT:
            waiting = self._queue.popleft()
            line = waiting if isinstance(waiting, bytes) else self._render_queued(waiting)
            if line:
                lines.append(line)
        if not lines:
            return True
        try:
            self._output.write(self.secrets.mask_all(lines))
        except (OSError, ValueError) as error:
            self._unwritten += max(0, len(lines) - max(extra, self._output.written))
            if unreported and self._output.written:
                self._reported_lost += unreported
            self._output.report_failure(error)
            return False
        self._reported_lost += unreported
        return True

    def _unreported(self) -> int:
        return self.dropped + self._unwritten - self._reported_lost

    def _render_queued(self, queued: Record | ToolRecord | _Event) -> bytes:
        if isinstance(queued, _Event):
            return self._render(queued)
        if queued.request_body is not None or queued.response_body is not None:
            self._bodies_out += _body_size(queued)
        return self._render(queued, max_body=self._max_body)

    # --- on either of them ------------------------------------------------------------------------

    def _render(self, call: Record | ToolRecord | _Event, *, max_body: int | None = None) -> bytes:
        """Empty if its level is not written."""
        try:
            if isinstance(call, _Event):
                if self.is_text:
                    line = log_text.event_line(call.fields, at=call.at, colour=self._colour)
                    return self._days.text(call.at) + line
                return log_fields.json_event(call.fields, at=call.at)
            if not self.is_enabled(log_fields.level_of(call)):
                return b""
            mask = self.secrets.mask
            if self.is_text:
                line = log_text.call_line(call, colour=self._colour, max_body=self._max_body, mask=mask)
                return self._days.text(log_text.ended(call)) + line
            return log_fields.json_call(call, max_body=max_body, mask=mask)
        except Exception as error:  # noqa: BLE001 - one bad line must not end the log, or the call
            return log_fields.json_event(
                {"level": "error", "event": f"a log line could not be written: {error!r}"}, at=time.time()
            )


def _lost_event(lines: int, lost: Mapping[str, int]) -> _Event:
    """`lines` were lost since the last such event; `lost` counts since the start, by reason."""
    return _Event(
        time.time(), {"level": "error", "event": "log lines were lost", "lines": lines, "since_start": lost}
    )


def _body_size(record: Record | ToolRecord) -> int:
    return len(record.request_body or b"") + len(record.response_body or b"")


class _Events:
    """Queues the events whose level is written, each with the common fields."""

    def __init__(self, log: Log, common: Mapping[str, object]) -> None:
        self._log = log
        self._common = common

    def debug(self, event: str, **fields: Any) -> None:
        self._queue("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._queue("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._queue("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._queue("error", event, fields)

    def _queue(self, level: Level, event: str, fields: dict[str, object]) -> None:
        if self._log.is_enabled(level):
            self._log.event({"level": level, "event": event, **fields, **self._common})


class _LibraryHandler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        level = level if level in _RANKS else "info"
        if not self._log.is_enabled(level):
            return
        fields: dict[str, object] = {"level": level, "event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        self._log.event(fields)
