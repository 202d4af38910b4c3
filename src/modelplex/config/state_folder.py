"""The folder in which a gateway keeps what survives it. It knows what nobody keeps there.

Source of the usual place: https://specifications.freedesktop.org/basedir-spec/latest
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OWN_FOLDER = "modelplex"


def state_folder(configured: str | None, *, environ: Mapping[str, str]) -> Path:
    """Where it is: `[server] state_folder`, else below $XDG_STATE_HOME, else below ~/.local/state.
    It is not made here.

    Raises:
        RuntimeError: the user has no home.
    """
    if configured is not None:
        return Path(configured)
    # The specification says of a path that is not absolute that it is to be ignored.
    home = Path(environ.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / OWN_FOLDER


def make_state_folder(folder: Path) -> None:
    """Make it, for nobody else to look into. One that is there stays as it is. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
