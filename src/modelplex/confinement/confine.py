"""Gives up what a gateway does not need, in two steps: `confine` before its first thread, and
`Confinement.seal` once it serves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from modelplex.config import Config
from modelplex.config.state_folder import make_state_folder, state_folder
from modelplex.confinement import call_filter, system_calls
from modelplex.confinement.landlock import PORTS_SINCE, SCOPES_SINCE, Rights, beyond, restrict
from modelplex.confinement.launcher_client import LauncherClient, LauncherProcesses
from modelplex.confinement.launcher_process import fork
from modelplex.confinement.rights import needs_unix_sockets, rights_of
from modelplex.confinement.started_files import writable

if TYPE_CHECKING:
    from modelplex.confinement.launcher import Launcher
    from modelplex.credentials.key_command import RunCommand
    from modelplex.mcp.servers.process_host import ProcessHost

SQLITE_FOLDER: Final = "SQLITE_TMPDIR"
"""The variable with the folder of SQLite's temporary files, which /tmp would be."""


CAPABILITIES: Final = sum(1 << number for number in (0, 1, 2, 3, 4, 10))
"""What root keeps: CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID and NET_BIND_SERVICE
(capabilities(7)). With CAP_PERFMON, for one, it could read the environment of other processes.
"""


class ConfinementError(Exception):
    """This system cannot confine the gateway, and the config requires it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What holds on this kernel.

    privileges   no program gets more rights (no_new_privs)
    calls        the filter of system calls
    landlock     the ABI of the rules for files; 0 is none
    ports        TCP ports are those of the config
    signals      no other process can be signalled
    missing      why something does not hold
    """

    privileges: bool = False
    calls: bool = False
    landlock: int = 0
    ports: bool = False
    signals: bool = False
    missing: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.missing


class Confinement:
    """Of a running gateway. `launcher` does what it may not do itself; None where it is not
    confined.
    """

    def __init__(
        self,
        held: Held,
        launcher: LauncherClient | None = None,
        *,
        rights: Rights | None = None,
        unix: bool = False,
    ) -> None:
        self.held = held
        self._rights = rights
        self.launcher = launcher
        self._keeps_unix = unix
        self.is_sealed = False

    def __repr__(self) -> str:
        return f"<Confinement {self.held}>"

    @property
    def run_command(self) -> RunCommand | None:
        """What runs the commands of credentials; None where this process does."""
        if self.launcher is None:
            return None
        from modelplex.confinement.key_commands import LauncherCommands

        return LauncherCommands(self.launcher)

    def new_host(self, mark: str) -> ProcessHost:
        """What starts tool servers."""
        if self.launcher is not None:
            return LauncherProcesses(self.launcher, mark)
        from modelplex.mcp.servers.process_host import LocalProcesses

        return LocalProcesses(mark)

    def lacking(self, config: Config, *, environ: Mapping[str, str]) -> list[str]:
        """What another config needs that the process has given up, as text."""
        if self._rights is None or not (self.held.landlock or self.held.ports):
            return []
        return beyond(self._rights, rights_of(config, environ=environ))

    def status(self) -> dict[str, object]:
        """For the log and `/_internal/status`."""
        held = self.held
        return {
            "whole": held.is_whole,
            "no_new_privileges": held.privileges,
            "system_calls": held.calls,
            "files": f"Landlock ABI {held.landlock}" if held.landlock else "all",
            "ports": held.ports,
            "signals": held.signals,
            **({"missing": list(held.missing)} if held.missing else {}),
        }

    def seal(self) -> None:
        """Once it serves: no more listeners. Raises OSError."""
        of = call_filter.machine()
        if self.held.calls and of is not None:
            system_calls.filter_calls(call_filter.once_serving(of, unix=self._keeps_unix))
            self.is_sealed = True


UNCONFINED: Final = Confinement(Held(missing=('[server] confine is "off"',)))


def confine(
    config: Config,
    *,
    environ: Mapping[str, str],
    new_launcher: Callable[[], Launcher],
) -> Confinement:
    """Confine this thread, and those that it starts later. Raises ConfinementError where
    `[server] confine = "require"` and something cannot be had, and OSError.
    """
    wanted = config.server.confine
    if wanted == "off":
        return UNCONFINED
    with suppress(RuntimeError, OSError):  # who needs the folder reports that it cannot be made
        folder = state_folder(config.server.state_folder, environ=environ)
        make_state_folder(folder)
        os.environ.setdefault(SQLITE_FOLDER, str(folder))
    rights = rights_of(config, environ=environ)
    missing = _missing(rights, config, environ)
    if wanted == "require" and missing:
        raise ConfinementError(f'[server] confine is "require", and {"; ".join(missing)}.')
    of, version = call_filter.machine(), _landlock_version()
    if of is None or (version == 0 and not _has_seccomp()):
        return Confinement(Held(missing=missing))
    client = LauncherClient(fork(new_launcher))
    system_calls.forbid_new_privileges()
    system_calls.keep_capabilities(CAPABILITIES)
    restrict(rights, version=version)
    calls = _has_seccomp()
    if calls:
        system_calls.filter_calls(call_filter.at_start(of))
    held = Held(
        privileges=True,
        calls=calls,
        landlock=0 if rights.shared else version,
        ports=version >= PORTS_SINCE,
        signals=version >= SCOPES_SINCE,
        missing=missing,
    )
    return Confinement(held, client, rights=rights, unix=needs_unix_sockets(config))


def word_of(config: Config) -> str:
    """For the log: whether a gateway of this config is confined."""
    if config.server.confine == "off":
        return "off"
    missing = _missing(rights_of(config, environ=os.environ), config, os.environ)
    return f"partly: {'; '.join(missing)}" if missing else "whole"


def _missing(rights: Rights, config: Config, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Why a gateway cannot be confined wholly, on this system and with this config."""
    if sys.platform != "linux":
        return ("only Linux has what it needs",)
    found: list[str] = []
    if call_filter.machine() is None:
        return (f"the system calls of this machine ({os.uname().machine}) are not known",)
    if not _has_seccomp():
        found.append("the kernel has no filters of system calls (seccomp)")
    version = _landlock_version()
    if version == 0:
        found.append("the kernel has no Landlock, so that files are open to it")
    elif version < PORTS_SINCE:
        found.append("the kernel's Landlock has no rules for TCP ports (Linux 6.7)")
    elif version < SCOPES_SINCE:
        found.append("the kernel's Landlock has no rules for signals (Linux 6.12)")
    if version and rights.shared:
        folders = ", ".join(sorted(rights.shared))
        found.append(f"it writes to {folders}, which holds much else, so that files are open to it")
    found += [
        f"it writes to {each}, so that it can change what is started"
        for each in writable(rights.write, config, environ=environ)
    ]
    return tuple(found)


def _landlock_version() -> int:
    return system_calls.landlock_version() if sys.platform == "linux" else 0


def _has_seccomp() -> bool:
    return sys.platform == "linux" and system_calls.can_filter()
