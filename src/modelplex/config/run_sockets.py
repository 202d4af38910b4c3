"""The admin sockets of the gateways that `modelplex run` starts.

They are in the default state folder, which is hidden from every program in a sandbox, also where
the config names another one: whoever stops a call finds them without the run's config.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from modelplex.config.state_folder import make_state_folder, state_folder

FOLDER: Final = "runs"
"""Below the state folder."""
SUFFIX: Final = ".socket"
MAX_PATH: Final = 107
"""Bytes of a Unix socket's path (sun_path of unix(7), with its NUL)."""


def new_run_socket(name: str, *, environ: Mapping[str, str]) -> str | None:
    """The path of the socket of a run. Makes its folder. None where there can be none: without a
    home, on a full disk, or where the path would be too long.
    """
    with suppress(RuntimeError, OSError):
        folder = state_folder(None, environ=environ)
        make_state_folder(folder)
        make_state_folder(folder / FOLDER)
        path = str(folder.absolute() / FOLDER / f"{name}{SUFFIX}")
        return path if len(path.encode()) <= MAX_PATH else None
    return None


def run_sockets(environ: Mapping[str, str]) -> list[str]:
    """Those that are there. A run that was killed may have left one without a listener."""
    with suppress(RuntimeError, OSError):
        folder = state_folder(None, environ=environ).absolute() / FOLDER
        return sorted(str(each) for each in folder.iterdir() if each.suffix == SUFFIX)
    return []
