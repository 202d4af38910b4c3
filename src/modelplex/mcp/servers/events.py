"""Log events of one tool server: its states, and what its processes write.

Lines are rate limited, and secrets and control characters are masked. The last lines of stderr are
kept for failure messages. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.mcp.server_output import SHOWN, LastLines, LogAllowance
from modelplex.mcp.servers.lifecycle import State
from modelplex.mcp.servers.server_process import MAX_ERROR_LINE
from modelplex.records.log import Secrets

Level = Literal["debug", "info", "warning", "error"]
EventKind = Literal["state", "stderr", "stdout", "list", "warning"]
OutputKind = Literal["stderr", "stdout"]

MAX_HELD_LINES: Final = 100
"""Lines of a process that are held back until its protocol era is known."""
LOGGED_LAST_LINES: Final = 3
"""Last lines of stderr in the log line of a failure."""


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of one server, for the log. `text` holds no secret of the server's config.

    kind    "state" (`text` is the new state), "stderr" and "stdout" (a line that the process
            wrote), "list" (a catalog was loaded), "warning"
    """

    server: str
    kind: EventKind
    text: str
    level: Level = "info"
    scope: str = ""


class ProcessOutput(msgspec.Struct, eq=False):
    """Output of one process. `held` has the lines until the era is known; None logs each line at
    once. `level` overrides the log level.
    """

    held: list[tuple[OutputKind, bytes]] | None = None
    level: Level | None = None


class ServerEvents:
    """Emits the events of one server to `on_event`."""

    def __init__(
        self, config: McpServer, *, on_event: Callable[[ServerEvent], None], clock: Callable[[], float]
    ) -> None:
        self._name = config.name
        self._on_event = on_event
        self._clock = clock
        self._allowance = LogAllowance()
        self._last_lines: dict[str, LastLines] = {}
        self._held_outputs: dict[str, ProcessOutput] = {}
        self._secrets = Secrets(_secret_values(config))

    def __repr__(self) -> str:
        return f"<ServerEvents of {self._name}, {self._allowance!r}>"

    def emit(self, kind: EventKind, text: str, *, scope: str, level: Level) -> None:
        self._on_event(
            ServerEvent(server=self._name, kind=kind, text=self._plain(text), level=level, scope=scope)
        )

    def warn(self, text: str, *, scope: str) -> None:
        self.emit("warning", text, scope=scope, level="warning")

    def failed(self, scope: str, text: str) -> None:
        """Log that a process could not start or was lost, with its last lines."""
        lines = " / ".join(self.last_lines(scope)[-LOGGED_LAST_LINES:])
        self.warn(f"{text} Its last output: {lines}" if lines else text, scope=scope)

    def last_lines(self, scope: str) -> tuple[str, ...]:
        lines = self._last_lines.get(scope)
        return lines.lines if lines is not None else ()

    def forget(self, scope: str) -> None:
        self._last_lines.pop(scope, None)

    def state_changed(self, scope: str, state: State, *, before: State, probed_legacy: bool) -> None:
        """Log a new state. After a start, log the lines held back during it: at debug level if the
        probe made a legacy server write them.
        """
        if state != "starting" and (output := self._held_outputs.pop(scope, None)) is not None:
            self._release(output, scope=scope, level="debug" if probed_legacy else None)
        if before == "ready":
            self._log_omitted(scope=scope, over=True)
        level: Level = "warning" if state in {"backoff", "crash_loop"} else "debug"
        self.emit("state", state, scope=scope, level=level)

    def start_output(self, scope: str, *, hold: bool) -> ProcessOutput:
        """Begin the output of a process. `hold` keeps its lines back until the era is known: the
        probe makes some legacy servers write errors that do not matter.
        """
        if (before := self._held_outputs.pop(scope, None)) is not None:
            self._release(before, scope=scope, level="debug")
            before.level = "debug"
        output = ProcessOutput()
        self._last_lines[scope] = LastLines()
        if hold:
            output.held = []
            self._held_outputs[scope] = output
        return output

    def add_line(self, kind: OutputKind, line: bytes, *, scope: str, output: ProcessOutput) -> None:
        if kind == "stderr" and (lines := self._last_lines.get(scope)) is not None:
            lines.add(self._plain(line[:MAX_ERROR_LINE].strip().decode("utf-8", "replace")))
        if output.held is None:
            self._write(kind, line, scope=scope, level=output.level)
        elif len(output.held) < MAX_HELD_LINES:
            output.held.append((kind, line))

    def _release(self, output: ProcessOutput, *, scope: str, level: Level | None) -> None:
        held, output.held = output.held or [], None
        for kind, line in held:
            self._write(kind, line, scope=scope, level=level)

    def _write(self, kind: OutputKind, line: bytes, *, scope: str, level: Level | None = None) -> None:
        """Log one line, within the rate limit and without control characters."""
        text = self._plain(line.strip().decode("utf-8", "replace"))[:SHOWN]
        if text and self._allowance.allows(len(text), self._clock()):
            self._log_omitted(scope=scope)
            usual: Level = "info" if kind == "stderr" else "warning"
            self._on_event(
                ServerEvent(server=self._name, kind=kind, text=text, level=level or usual, scope=scope)
            )

    def _log_omitted(self, *, scope: str, over: bool = False) -> None:
        if count := self._allowance.left_out(self._clock(), over=over):
            self.warn(f"{count} more lines of its output were omitted", scope=scope)

    def _plain(self, text: str) -> str:
        """Mask the secrets of the config and replace characters that are not printable."""
        shown = self._secrets.mask(text.encode("utf-8", "replace")).decode("utf-8", "replace")
        return (
            shown if shown.isprintable() else "".join(each if each.isprintable() else " " for each in shown)
        )


def _secret_values(config: McpServer) -> Iterator[str]:
    """Values that are masked in log lines. An argument that is an option, a path or a package is no
    secret.
    """
    for secret in (*config.env.values(), *config.headers.values()):
        yield secret.reveal()
    if config.url is not None:
        yield config.url.reveal()
    for secret in config.args:
        arg = secret.reveal()
        if arg.startswith("-"):
            yield arg.partition("=")[2]
        elif not arg.startswith(("/", ".", "~", "@")):
            yield arg
