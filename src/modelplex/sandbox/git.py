"""The git repository of a working folder: what lies outside the folder and belongs to it, and the
user's name and address.

The folder may hold what an earlier program of a sandbox wrote, a `.git` file too. So a folder that
such a file names is shared only if that folder names the working tree in turn.
"""

# Paths are text, as in folders.py.
# ruff: noqa: PTH112, PTH113, PTH114, PTH118, PTH119, PTH120
from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from modelplex.sandbox.folders import is_working_folder

MAX_LINE: Final = 4096 + len("gitdir: ")
"""PATH_MAX."""
MAX_FILE: Final = 64 * 1024
"""Bytes of a config or a file of patterns; real ones have some hundred."""
CONFIG_LIMIT_S: Final = 5.0
"""`git config` takes some milliseconds, unless a home folder is on a slow network."""
PASSED: Final = frozenset(
    "user.name user.email author.name author.email committer.name committer.email"
    " core.autocrlf core.eol core.safecrlf core.quotepath init.defaultbranch merge.conflictstyle"
    " merge.ff pull.ff pull.rebase push.default rebase.autosquash rebase.autostash safe.directory".split()
)
"""The user's settings that pass: who commits, and how. No credentials, helpers, URLs or programs,
and no key for signatures, which is not inside.
"""


def find_repository(folder: str, *, homes: Sequence[str]) -> tuple[str, ...]:
    """The folders outside a real path that it is a part of. None for a repository that is or
    contains a home folder.
    """
    top = _top_level(folder, homes=homes)
    if top is None:
        return ()
    git = f"{top}/.git"
    tops = (top,) if top != folder else ()
    common = None if os.path.isdir(git) else _common_folder(git, top)
    if common is None or not is_working_folder(common, homes=homes):
        return tops
    return (*tops, common)


def _top_level(folder: str, *, homes: Sequence[str]) -> str | None:
    """The nearest folder with a `.git` of this user's, or of the folder's owner."""
    owners = {os.geteuid(), os.lstat(folder).st_uid}
    top = folder
    while is_working_folder(top, homes=homes):
        git = f"{top}/.git"
        if os.path.lexists(git):
            is_own = not os.path.islink(git) and os.lstat(git).st_uid in owners
            return top if is_own else None
        top = os.path.dirname(top)
    return None


def _common_folder(git: str, top: str) -> str | None:
    """The folder of the repository that a `.git` file belongs to: of a linked worktree, or of a
    submodule.
    """
    named = _line(git).removeprefix("gitdir:").strip()
    own = os.path.realpath(os.path.join(top, named))
    common = os.path.dirname(os.path.dirname(own))
    if os.path.basename(os.path.dirname(own)) == "worktrees":
        back = os.path.join(own, _line(f"{own}/gitdir"))
    else:
        common = own
        back = os.path.join(own, _worktree_setting(f"{own}/config"), ".git")
    is_repository = os.path.isfile(f"{common}/HEAD") and all(
        os.path.isdir(f"{common}/{name}") for name in ("objects", "refs")
    )
    points_back = os.path.basename(back) == ".git" and os.path.realpath(os.path.dirname(back)) == top
    return common if named and is_repository and points_back else None


def _read(file: str, limit: int) -> str:
    """The start of a regular file, "" where there is none: a named pipe would never end."""
    try:
        number = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(number, "rb") as opened:
        is_file = stat.S_ISREG(os.fstat(number).st_mode)
        return opened.read(limit).decode(errors="surrogateescape") if is_file else ""


def _line(file: str) -> str:
    return _read(file, MAX_LINE).partition("\n")[0]


def _worktree_setting(config: str) -> str:
    """core.worktree, which git writes plainly into the config of a submodule; "/" where it is
    missing.
    """
    rows = [row.partition("=") for row in _read(config, MAX_FILE).splitlines()]
    return next((value.strip().strip('"') for name, _, value in rows if name.strip() == "worktree"), "/")


# --- the user ---


def settings_files(program: str, *, home: str, folder: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Files of the home, by path, with the settings that pass and the patterns of ignored files.
    `program` is the host's git, `folder` where conditional settings are decided.
    """
    rows = _user_settings(program, folder=folder, environ=environ)
    files: dict[str, str] = {}
    if passed := [row for row in rows if row[0] in PASSED]:
        files[f"{home}/.gitconfig"] = "".join(
            f"[{name.partition('.')[0]}]\n\t{name.partition('.')[2]} = {_quoted(value)}\n"
            for name, value in passed
        )
    base = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    ignored = dict(rows).get("core.excludesfile", f"{base}/git/ignore").replace("~", home, 1)
    if text := _read(ignored, MAX_FILE):
        files[f"{home}/.config/git/ignore"] = text.encode(errors="replace").decode()
    return files


def _user_settings(program: str, *, folder: str, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Of the user's own file with what it includes; not of the repository, which is inside."""
    words = [program, "config", "--global", "--includes", "--null", "--list"]
    try:
        done = subprocess.run(  # noqa: S603 - the host's git
            words, cwd=folder, env=dict(environ), capture_output=True, timeout=CONFIG_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = done.stdout.decode(errors="replace").split("\0")
    found = [row.partition("\n") for row in rows if row]
    # A key without a value is true.
    return [(name, value if has_value else "true") for name, has_value, value in found]


def _quoted(value: str) -> str:
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{text}"'
