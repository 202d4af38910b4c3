"""The admin sockets of the gateways that `modelplex run` starts.

They are named after the run, or after the process of the first run that shares the gateway. They
are in the default state folder, which is hidden from every program in a sandbox, also where
the config names another one: whoever stops a call finds them without the run's config.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from modelplex.config.state_folder import make_state_folder, state_folder

FOLDER: Final = "runs"
"""Below the state folder."""
SUFFIX: Final = ".socket"
MAX_PATH: Final = 107
"""Bytes of a Unix socket's path (sun_path of unix(7), with its NUL)."""


def new_run_socket(name: str, *, environ: Mapping[str, str]) -> str | None:
    """The path of the socket of a run. Makes its folder, and removes sockets of runs that were
    killed. None where there can be none: without a home, on a full disk, or where the path would be
    too long.
    """
    with suppress(RuntimeError, OSError):
        folder = state_folder(None, environ=environ)
        make_state_folder(folder)
        make_state_folder(folder / FOLDER)
        _remove_dead(folder / FOLDER)
        path = str(folder.absolute() / FOLDER / f"{name}{SUFFIX}")
        return path if len(path.encode()) <= MAX_PATH else None
    return None


def run_sockets(environ: Mapping[str, str]) -> list[str]:
    """Those that are there. A run that was killed may have left one without a listener."""
    with suppress(RuntimeError, OSError):
        folder = state_folder(None, environ=environ).absolute() / FOLDER
        return sorted(str(each) for each in folder.iterdir() if each.suffix == SUFFIX)
    return []


def run_of_socket(path: str) -> str:
    """The name after which the socket is named."""
    return Path(path).name.removesuffix(SUFFIX)


def is_listening(path: str) -> bool:
    """Whether a process listens on this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _remove_dead(folder: Path) -> None:
    """Remove sockets without a listener. The lock file beside each (server/socket_file.py) is held
    meanwhile, as by a gateway that is starting, whose socket stays.
    """
    for lock in [each for each in folder.iterdir() if each.name.endswith(f"{SUFFIX}.lock")]:
        with suppress(OSError):
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path = lock.with_suffix("")
                if not is_listening(str(path)):
                    path.unlink(missing_ok=True)
                    lock.unlink()
            finally:
                os.close(handle)
