"""The log of the supervisor. It has no thread, since a process with threads must not fork, and it
does not block: the supervisor must go on when nobody reads the log.
"""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelplex.config import Config
from modelplex.records import log_fields, log_text
from modelplex.records.log import Secrets
from modelplex.records.log_lock import OutputLock
from modelplex.records.log_output import FileOutput, LogOutput, StreamOutput, is_terminal, stderr_or_null
from modelplex.server import from_config

LOCK_SECONDS = 0.1
"""For a worker to finish its lines, a few milliseconds unless nobody reads them."""
MAX_LINE = 4096
"""Bytes that a pipe takes at once if it takes any (PIPE_BUF in pipe(7)). A longer line is cut."""
RANKS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class SupervisorLog:
    """Events, in the form and at the place of the workers' log. Lines that cannot be written at
    once are lost, and counted in the next one.
    """

    def __init__(self, config: Config, *, verbose: bool, lock: OutputLock) -> None:
        stream, log = stderr_or_null(), config.log
        self._output: LogOutput
        self._fd: int | None = None
        if log.file is not None:
            self._output = FileOutput(Path(log.file), max_size=log.max_size, keep=log.keep)
        else:
            self._output = StreamOutput(stream)
            self._fd = stream.fileno()
        terminal = log.file is None and is_terminal(stream)
        self._human = log.format == "human" or (log.format == "auto" and terminal)
        self._days = log_text.DayMark()
        self._lock = lock
        self._lost = 0
        self._verbose = verbose
        self.configure(config)

    def __repr__(self) -> str:
        return f"<SupervisorLog {self._output}, {self._lost} lost>"

    def configure(self, config: Config) -> None:
        self._level = "debug" if self._verbose else config.server.log_level
        self._secrets = Secrets(from_config.secrets_of(config))

    def debug(self, event: str, **fields: Any) -> None:
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        if RANKS[level] < RANKS[self._level]:
            return
        lost = {"lines_lost": self._lost} if self._lost else {}
        row = {"level": level, "event": event, **fields, **lost}
        if self._human:
            at = time.time()
            line = self._days.text(at) + log_text.event_line(row, at=at, colour=False)
        else:
            line = log_fields.json_event(row, at=time.time())
        line = self._secrets.mask(line)
        try:
            with self._lock.held(within=LOCK_SECONDS):
                if self._fd is not None:
                    if not select.select([], [self._fd], [], 0)[1]:
                        raise TimeoutError("nobody reads the log")
                    line = line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + b"\n"
                self._output.write([line])
        except (OSError, ValueError):
            self._lost += 1
        else:
            self._lost = 0
