"""The folder of files that outlive a gateway: counters, catalogs, locks.

Source of the default: https://specifications.freedesktop.org/basedir-spec/latest
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OWN_FOLDER = "modelplex"


def state_folder(configured: str | None, *, environ: Mapping[str, str]) -> Path:
    """`[server] state_folder`, else a folder in $XDG_STATE_HOME, else in ~/.local/state. Does not
    create it. Raises RuntimeError where the user has no home.
    """
    if configured is not None:
        return Path(configured)
    # The specification: a relative path is invalid and ignored.
    home = Path(environ.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / OWN_FOLDER


def make_state_folder(folder: Path) -> None:
    """Create the folder for this user alone; an existing one keeps its mode. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
