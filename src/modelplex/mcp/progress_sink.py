"""Notifications of a server during one call, for the client that made the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from modelplex.dialects.core.json import as_object
from modelplex.mcp import era_translation, results
from modelplex.mcp.constants import Json, McpClient

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Levels of log messages, the lowest first (RFC 5424)."""
MAX_LOGS: Final = 10
"""Log messages that are passed on per second and call."""
MESSAGE: Final = "notifications/message"
PROGRESS: Final = "notifications/progress"


class ProgressSink:
    """Passes progress and log messages of one call to its client, converted to the client's
    protocol era. `level` is the lowest level of log messages that the client wants, None for none.

    `related` gives the members of a `_meta` that name a task. `plain` makes invisible characters
    visible.
    """

    __slots__ = ("_client", "_clock", "_globs", "_logs", "_plain", "_related", "_second", "level")

    def __init__(
        self,
        client: McpClient,
        *,
        level: str | None,
        globs: tuple[str, ...],
        clock: Callable[[], float],
        related: Callable[[object], Json],
        plain: bool = False,
    ) -> None:
        self._client = client
        self._globs = globs
        self._clock = clock
        self._related = related
        self._plain = plain
        self._second = 0.0
        self._logs = 0
        self.level = level

    def __call__(self, message: Json) -> None:
        method = message.get("method")
        if method == PROGRESS or (method == MESSAGE and self._wanted(message)):
            shown = era_translation.notification_for_client(message, globs=self._globs, related=self._related)
            if self._plain and isinstance(params := shown.get("params"), dict):
                shown = {**shown, "params": results.escape_message(cast("Json", params))}
            self._client.send(shown)

    def _wanted(self, message: Json) -> bool:
        if self.level is None:
            return False
        level = (as_object(message.get("params")) or {}).get("level")
        if level in LEVELS and LEVELS.index(cast("str", level)) < LEVELS.index(self.level):
            return False
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._logs = now, 0
        self._logs += 1
        return self._logs <= MAX_LOGS
