"""The log: one line for each Record, and the gateway's own events, on stderr or in a file.

It never blocks or fails its callers: logging appends to a bounded queue, and a thread of its own
renders and writes in batches.

Lines that cannot be kept are counted, and a line reports how many were lost as soon as lines can be
written again: "full" where the queue was, "unwritten" where the disk was full or the reader of a
pipe was gone. docs/reference/log.md lists the keys of a line.

The gateway's events go through structlog (`log.events.warning("a circuit breaker opened",
provider="openai")`), with a logger of our own and no global settings. Records do not: they need
neither its context nor its processors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Literal, Protocol
from urllib.parse import quote

import msgspec
import structlog

from modelplex.records import log_fields
from modelplex.records.record import Record
from modelplex.records.tool_call import ToolRecord

QUEUE_LIMIT = 10_000
"""Lines that wait for the writer: ten seconds of a busy gateway, some 20 MB."""

QUEUED_BODIES_LIMIT = 67_108_864
"""Bytes of bodies that wait, since with `[log] bodies` a few Records can be large."""

BATCH_LIMIT = 200
"""Lines that are rendered before they are written: one system call for many, and no more than some
200 KB in hand.
"""

GATHER_S = 0.02
"""How long the writer waits for more lines once there is one. Waking for each would take the
interpreter from the event loop each time.
"""

CLOSE_LIMIT_S = 2.0
"""How long `close` waits for the writer: a pipe whose reader sleeps must not keep the gateway from
ending.
"""

ROTATION_PAUSE_S = 60.0
"""After a rotation that failed (a folder without write permission), before it is tried again."""

FILE_MODE = 0o600
"""A log tells who asked what, and with `[log] bodies` all of it."""

SHORTEST_SECRET = 8
"""Shorter values are no keys but words such as "none" or "ollama", and hiding those would blot the
log.
"""

HIDDEN = b"********"

Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "human", "json"]

_RANKS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class EventLog(Protocol):
    """How the gateway tells of itself; structlog's logger is one. The words after the event are its
    fields.
    """

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class Secrets:
    """What no line may hold: the last defence, for a key that a provider repeats in its error.
    Looks for each value as it is, in JSON and in a URL.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms: set[bytes] = set()
        for value in values:
            if len(value) >= SHORTEST_SECRET:
                forms |= {value.encode("utf-8", "replace"), quote(value, safe="").encode()}
                forms.add(msgspec.json.encode(value.encode("utf-8", "replace").decode())[1:-1])
        # The longest first, so that no key is hidden in part by another that it begins with.
        self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def __repr__(self) -> str:
        return f"<Secrets {len(self._forms)} forms>"

    def mask(self, text: bytes) -> bytes:
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text

    def mask_all(self, lines: list[bytes]) -> list[bytes]:
        """One search through all of them, since there is nearly never anything to hide."""
        whole = b"".join(lines)
        return [self.mask(text) for text in lines] if any(form in whole for form in self._forms) else lines


class _Event(msgspec.Struct, frozen=True):
    """One event of the gateway's own, on its way to the writer. `at` is Unix seconds."""

    at: float
    fields: Mapping[str, object]


class Log:
    """Starts its writer at once. Everything but `close` may be called on the event loop.

    file           None for stderr, or `stream` in its place
    form           "auto" is "human" where stderr is a terminal, else "json"
    level          the least level that is written; a call's is "info", "warning" (the caller's
                   fault) or "error"
    max_size       bytes at which `file` becomes FILE.1; 0 for never
    keep           how many rotated files stay
    max_body       bytes of a body that a line shows
    secrets        what is hidden in every line; may be set anew at any time
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
        out = stream if stream is not None else _stderr()
        terminal = file is None and _is_terminal(out)
        self.level: Level = level
        self.secrets = secrets or Secrets()
        self.dropped = 0
        """Lines lost since the queue was full."""
        self._colour = terminal and "NO_COLOR" not in os.environ
        self._human = log_format == "human" or (log_format == "auto" and terminal)
        self._max_body = max_body
        self._sink: _Sink = (
            _File(Path(file), max_size=max_size, keep=keep) if file is not None else _Stream(out)
        )
        self._queue: deque[Record | ToolRecord | _Event] = deque()
        self._bodies_in = 0
        self._bodies_out = 0
        self._reported_lost = 0
        self._unwritten = 0
        self._signalled = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.events: EventLog = structlog.wrap_logger(
            _ToQueue(self),
            processors=[self._filter, structlog.processors.format_exc_info],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        )
        self._writer = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._writer.start()

    def __repr__(self) -> str:
        state = "closed" if not self._writer.is_alive() else "closing" if self._closing.is_set() else "open"
        lost = self.lost()
        return f"<Log {self._sink} {state}, {len(self._queue)} waiting, {lost['full']} dropped, {lost['unwritten']} unwritten>"

    # --- telling: on the event loop ---------------------------------------------------------------

    def record(self, record: Record | ToolRecord, /) -> None:
        """The line of a call that is over, of a model or of a tool. About 0.3 us."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.dropped += 1
            return
        if record.request_body is not None or record.response_body is not None:
            size = _body_size(record)
            if self._bodies_in - self._bodies_out + size > QUEUED_BODIES_LIMIT:
                self.dropped += 1
                return
            self._bodies_in += size
        self._queue.append(record)
        if not self._signalled:
            self._signalled = True
            self._wake.set()

    def handler(self) -> logging.Handler:
        """For what libraries tell through `logging` (uvicorn, asyncio): it comes out here, in the
        same form.
        """
        return _FromLibraries(self)

    def lost(self) -> Mapping[str, int]:
        """Lines that were not written so far, by reason: what `Metrics` asks for."""
        return {"full": self.dropped, "unwritten": self._unwritten}

    def close(self) -> bool:
        """Writes what waits, for at most CLOSE_LIMIT_S; False where that was too short. What is
        logged later is not written.
        """
        self._closing.set()
        self._wake.set()
        self._writer.join(CLOSE_LIMIT_S)
        return not self._writer.is_alive()

    def event(self, fields: Mapping[str, object]) -> None:
        """A line with these fields, of which "level" and "event" come first. `events` and `handler`
        end here.
        """
        if len(self._queue) >= QUEUE_LIMIT:
            self.dropped += 1
            return
        self._queue.append(_Event(time.time(), fields))
        if not self._signalled:
            self._signalled = True
            self._wake.set()

    def _filter(self, _: Any, level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if not self.is_enabled(level):
            raise structlog.DropEvent
        fields["level"] = level
        return fields

    def is_enabled(self, level: str) -> bool:
        return _RANKS[level] >= _RANKS[self.level]

    # --- writing: on the writer's thread ----------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(GATHER_S)
            # In this order: a line that comes after the queue was found empty finds the signal
            # down, and raises it.
            self._wake.clear()
            self._signalled = False
            written = True
            while self._queue:
                written = self._write_some()
            if written and self._unreported():
                self._write_some()
            if self._closing.is_set() and not self._queue:
                self._sink.close()
                return

    def _write_some(self) -> bool:
        """One batch, and first how many lines were lost before it. False where the sink took no
        more.
        """
        unreported = self._unreported()
        lines = [self._render(_lost_event(unreported, self.lost()))] if unreported else []
        extra = len(lines)
        while self._queue and len(lines) < BATCH_LIMIT:
            if text := self._render(self._queue.popleft()):
                lines.append(text)
        if not lines:
            return True
        try:
            self._sink.write(self.secrets.mask_all(lines))
        except (OSError, ValueError) as error:
            self._unwritten += max(0, len(lines) - max(extra, self._sink.taken))
            if unreported and self._sink.taken:
                self._reported_lost += unreported
            self._sink.complain(error)
            return False
        self._reported_lost += unreported
        return True

    def _unreported(self) -> int:
        return self.dropped + self._unwritten - self._reported_lost

    def _render(self, record: Record | ToolRecord | _Event) -> bytes:
        try:
            if isinstance(record, _Event):
                if self._human:
                    return log_fields.human_event(record.fields, at=record.at, colour=self._colour)
                return log_fields.json_event(record.fields, at=record.at)
            if record.request_body is not None or record.response_body is not None:
                self._bodies_out += _body_size(record)
            if isinstance(record, ToolRecord):
                return self._render_tool(record)
            if not self.is_enabled(log_fields.level_of(record)):
                return b""
            if self._human:
                return log_fields.human_call(
                    record, colour=self._colour, max_body=self._max_body, mask=self.secrets.mask
                )
            return log_fields.json_call(record, max_body=self._max_body, mask=self.secrets.mask)
        except Exception as error:  # noqa: BLE001 - the thread's outermost loop: one bad line must not end the log
            return log_fields.json_event(
                {"level": "error", "event": f"a log line could not be written: {error!r}"}, at=time.time()
            )

    def _render_tool(self, record: ToolRecord) -> bytes:
        if not self.is_enabled(log_fields.level_of_tool(record)):
            return b""
        if self._human:
            return log_fields.human_tool(
                record, colour=self._colour, max_body=self._max_body, mask=self.secrets.mask
            )
        return log_fields.json_tool(record, max_body=self._max_body, mask=self.secrets.mask)


def _lost_event(lines: int, lost: Mapping[str, int]) -> _Event:
    """`lines` since the last such event; by reason since the start."""
    return _Event(
        time.time(), {"level": "error", "event": "log lines were lost", "lines": lines, "since_start": lost}
    )


def _body_size(record: Record | ToolRecord) -> int:
    return len(record.request_body or b"") + len(record.response_body or b"")


class _ToQueue:
    """What structlog's logger calls in the end."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def emit(self, **fields: object) -> None:
        self._log.event(fields)

    debug = info = warning = error = critical = emit


class _FromLibraries(logging.Handler):
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


# --- where lines go -------------------------------------------------------------------------------


class _Sink:
    """`write` raises OSError or ValueError; `taken` is then how many of the lines were written
    whole.
    """

    taken: int = 0

    def write(self, lines: list[bytes]) -> None:
        raise NotImplementedError

    def complain(self, error: Exception) -> None:
        """Says once that lines cannot be written, where there is a place to say it."""

    def close(self) -> None: ...


STALL_LIMIT_S = 5.0
"""How long a pipe or terminal that is set not to block may take no byte, before its lines count as
lost.
"""


class _Descriptor:
    """Writes whole lines, and knows after a failure where it stopped."""

    def __init__(self) -> None:
        self.torn = False
        self.taken = 0

    def write(self, fd: int, lines: list[bytes]) -> int:
        """All lines, in as few system calls as it takes; returns the bytes. A line that a failure
        cut is ended first.
        """
        data = b"".join(lines)
        if self.torn:
            data = b"\n" + data
        view = memoryview(data)
        start = int(self.torn)
        done = 0
        try:
            while done < len(data):
                try:
                    done += os.write(fd, view[done:])
                except BlockingIOError:
                    if not select.select([], [fd], [], STALL_LIMIT_S)[1]:
                        raise TimeoutError(f"nothing was read for {STALL_LIMIT_S:g} s") from None
        except OSError:
            ends = accumulate(map(len, lines), initial=start)
            self.taken = max(0, sum(end <= done for end in ends) - 1)
            self.torn = data[done - 1 : done] != b"\n" if done else self.torn
            raise
        self.torn = False
        return len(data)


class _Stream(_Sink):
    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream
        self._descriptor = _Descriptor()
        self._fd: int | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._fd = stream.fileno()

    def __str__(self) -> str:
        return "stream" if self._fd is None else f"fd {self._fd}"

    def write(self, lines: list[bytes]) -> None:
        if self._fd is None:
            self.taken = 0
            self._stream.write(b"".join(lines).decode("utf-8", "replace"))
            self._stream.flush()
            return
        try:
            self._descriptor.write(self._fd, lines)
        finally:
            self.taken = self._descriptor.taken


class _File(_Sink):
    """Raises OSError where the file cannot be opened at the start; later failures are counted and
    reported.
    """

    def __init__(self, path: Path, *, max_size: int, keep: int) -> None:
        self._path = path
        self._max_size = max_size
        self._keep = keep
        self._descriptor = _Descriptor()
        self._fd = self._open()
        self._rotate_after = 0.0
        self._complained = False

    def __str__(self) -> str:
        return str(self._path)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def write(self, lines: list[bytes]) -> None:
        self.taken = 0
        self._follow()
        status = os.fstat(self._fd)
        size = sum(map(len, lines))
        if (
            self._max_size
            and stat.S_ISREG(status.st_mode)
            and status.st_size
            and status.st_size + size > self._max_size
        ):
            self._rotate()
        try:
            self._descriptor.write(self._fd, lines)
        finally:
            self.taken = self._descriptor.taken
        self._complained = False

    def _follow(self) -> None:
        """Opens the file again, where somebody moved or deleted it (logrotate does); keeps the old
        one where that fails.
        """
        try:
            there = self._path.stat()
            here = os.fstat(self._fd)
            if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                return
        except OSError:
            pass
        with contextlib.suppress(OSError):
            self._reopen()

    def _reopen(self) -> None:
        fresh = self._open()
        os.close(self._fd)
        self._fd = fresh

    def _rotate(self) -> None:
        """FILE becomes FILE.1, FILE.1 becomes FILE.2, and so on; the last one goes. Where that
        fails, FILE grows on.
        """
        if time.monotonic() < self._rotate_after:
            return
        try:
            if self._keep == 0:
                os.ftruncate(self._fd, 0)
                return
            for number in range(self._keep - 1, 0, -1):
                if (older := self._numbered(number)).exists():
                    older.replace(self._numbered(number + 1))
            self._path.replace(self._numbered(1))
            self._reopen()
        except OSError as error:
            self._rotate_after = time.monotonic() + ROTATION_PAUSE_S
            _say(f"the log file {self._path} cannot be rotated ({error.strerror}); it grows on")

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            reason = error.strerror if isinstance(error, OSError) else str(error)
            _say(f"the log file {self._path} cannot be written ({reason}); lines are lost, calls go on")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"modelplex: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - the log itself is what failed


def _stderr() -> IO[Any]:
    """Stderr, or nowhere: a process that was started with it closed has none."""
    return sys.stderr or Path(os.devnull).open("w")


def _is_terminal(stream: IO[Any]) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False
