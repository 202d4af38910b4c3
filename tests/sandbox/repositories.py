"""Repositories that tests make with git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.processes import WAIT_S

IDENTITY = {
    **{f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "-c", "safe.directory=*", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **IDENTITY},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    return done.stdout


def repository(folder: Path) -> Path:
    """One with a commit and a worktree beside it, `FOLDER-w`; and a submodule `sub`."""
    folder.mkdir(exist_ok=True)
    module = folder.parent / f"{folder.name}-module"
    module.mkdir()
    for each in (module, folder):
        git(each, "init", "-q", "-b", "main")
        git(each, "commit", "-q", "--allow-empty", "-m", "first")
    git(folder, "submodule", "--quiet", "add", str(module), "sub")
    git(folder, "commit", "-q", "-m", "submodule")
    git(folder, "worktree", "add", "-q", "-b", "w", str(folder.parent / f"{folder.name}-w"))
    return folder
