"""The config file of a running gateway: when it changes, and what a reload makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from modelplex.config import Config, ConfigError, load
from modelplex.confinement.launcher_client import LauncherClient, LauncherGone
from modelplex.records.log import EventLog
from modelplex.server import from_config

WATCH_SECONDS = 1.0
"""Between two checks of the config file, one `stat` each: soon enough for whoever has edited it."""


class ConfigFile:
    """`path` is None where nothing is reloaded. `adapt` changes a config that was loaded.
    `launcher` loads it for a gateway that is confined.
    """

    def __init__(
        self,
        path: str | None,
        *,
        adapt: Callable[[Config], Config] = lambda config: config,
        launcher: LauncherClient | None = None,
    ) -> None:
        self.path = path
        self._adapt = adapt
        self._launcher = launcher
        self._seen = _file_version(path)

    def __repr__(self) -> str:
        return f"<ConfigFile {self.path}>"

    def has_changed(self) -> bool:
        """Whether it changed since the last call. Editors may remove it for a moment."""
        now = _file_version(self.path)
        if now is None or now == self._seen:
            return False
        self._seen = now
        return True

    def load(self, running: Config, *, events: EventLog) -> Config | None:
        """The config to use from now on, with the listeners of the running one. None if it is
        invalid or there is no file, which is logged.
        """
        if self.path is None:
            events.warning("reload refused", reason="there is no config file")
            return None
        try:
            if self._launcher is None:
                config = self._adapt(load(self.path, environ=os.environ))
            else:
                config = self._launcher.load()
        except LauncherGone as error:
            events.error("reload refused, the old config stays", faults=[error.strerror])
            return None
        except ConfigError as error:
            events.error("reload refused, the old config stays", faults=error.sentence.splitlines())
            return None
        if from_config.restart_settings(config) != from_config.restart_settings(running):
            events.warning(
                "some settings need a restart",
                settings="[server] listeners, workers and limits, [mcp] stdio_socket, [log], [record]",
            )
        kept = from_config.with_listeners_of(running.server, config.server)
        return msgspec.structs.replace(config, server=kept)


def _file_version(path: str | None) -> tuple[int, int, int] | None:
    """A value that changes with the file; None if there is none."""
    try:
        found = Path(path).stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)
