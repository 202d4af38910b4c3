"""The home folder of an agent that a preset starts: what is kept of it between runs, and what is
written and shown there.

The home itself is empty and in memory, as in every sandbox. Each kept folder is one of the state
folder, mounted there: a mount point never lies in a folder that a program could have changed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from modelplex.config.state_folder import make_state_folder, state_folder
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.folders import RUN, Mount
from modelplex.sandbox.home_files import HomeFile
from modelplex.sandbox.preset import Preset, fill

INSTRUCTIONS: Final = f"{RUN}/instructions"
HASH_LETTERS: Final = 12
"""Of a project's path: two of ten thousand are alike with a chance of one to five million."""


class AgentHome(NamedTuple):
    folder: str
    """On the host."""
    mounts: list[Mount]
    files: list[HomeFile]
    environ: dict[str, str]


def working_tree(folder: str) -> str | None:
    """The root of the Git working tree that this folder is in."""
    path = Path(folder)
    return next((str(each) for each in (path, *path.parents) if (each / ".git").exists()), None)


def project_of(folder: str) -> str:
    """The root of the working tree that this folder is in, else the folder."""
    return working_tree(folder) or folder


def home_folder(name: str, project: str, *, environ: Mapping[str, str]) -> Path:
    """Where the home of this preset in this project is kept. Raises CannotRun."""
    digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:HASH_LETTERS]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(project).name).strip(".-")[:40]
    try:
        state = state_folder(None, environ=environ)
    except RuntimeError:
        raise CannotRun(
            "there is no home folder to keep the agent's in: set HOME or XDG_STATE_HOME."
        ) from None
    return state / "homes" / name / f"{readable or 'project'}-{digest}"


def prepare_home(
    name: str,
    preset: Preset,
    values: Mapping[str, str],
    *,
    environ: Mapping[str, str],
    has_instructions: bool,
) -> AgentHome:
    """Make the folders that are kept. `values` are those of the preset's placeholders. Raises
    CannotRun.
    """
    folder = home_folder(name, project_of(values["folder"]), environ=environ)
    home = values["home"]
    steps: list[Mount] = []
    try:
        make_state_folder(folder)
        for path in preset.keep:
            kept = folder / quote(path, safe="")
            kept.mkdir(mode=0o700, exist_ok=True)
            steps.append(Mount("rw", f"{home}/{path}", str(kept)))
    except OSError as fault:
        raise CannotRun(f"the agent's home cannot be kept in {folder}: {fault.strerror}.") from None
    files = [HomeFile(each.path, fill(each.text, values, escape=True), each.mode) for each in preset.files]
    for path in preset.instructions:
        inside = f"{INSTRUCTIONS}/{quote(path, safe='')}"
        real = os.path.realpath(Path(home, path))
        # Without the option the link of an earlier run leads nowhere.
        if has_instructions and os.path.lexists(real):
            steps.append(Mount("ro", inside, real))
            files.append(HomeFile(path, inside, "link"))
    variables = {key: fill(value, values) for key, value in preset.environment.items()}
    return AgentHome(str(folder), steps, files, variables)
