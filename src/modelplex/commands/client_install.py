"""`modelplex client`: `unix:` base URLs in a Python environment and in Node, without an import.

Into the environment's site-packages go the files of the package modelplex-client, and the `.pth`
file that loads its first one at every start of Python. They are copies, so that the environment
works without this one.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "modelplex_client"
PTH: Final = f"{NAME}.pth"
HERE: Final = Path(__file__).resolve().parent.parent
FILES: Final = {
    "__init__.py": HERE / "client_hook.py",
    "client.py": HERE / "client.py",
    "client.mjs": HERE / "client.mjs",
    "py.typed": HERE / "py.typed",
}
"""What the package has, as clients/python has it."""
OLDEST: Final = (3, 9)
WAIT_S: Final = 30.0
"""For an interpreter to start."""
SAFE: Final = re.compile(r"[\w@%+=:,./-]+")
"""Paths that need no quotes in NODE_OPTIONS."""

_ASK: Final = """\
import json, os, sys, sysconfig
managed = os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))
print(json.dumps({"site": sysconfig.get_path("purelib"), "version": sys.version_info[:2],
                  "managed": managed and sys.prefix == sys.base_prefix}))
"""


class InstallFault(Exception):
    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Environment(msgspec.Struct, frozen=True):
    """A Python environment. `managed`: its files belong to the system's package manager."""

    site: str
    version: tuple[int, int]
    managed: bool

    @property
    def folder(self) -> Path:
        return Path(self.site, NAME)

    @property
    def pth(self) -> Path:
        return Path(self.site, PTH)

    @property
    def has_package(self) -> bool:
        """Whether an installer put the package there."""
        return any(Path(self.site).glob(f"{NAME}-*.dist-info"))


def run(arguments: argparse.Namespace) -> int:
    """Raises InstallFault."""
    if arguments.client == "node":
        sys.stdout.write(_node(arguments.write))
        return 0
    python = arguments.python or active_python(os.environ)
    act = install if arguments.client == "install" else uninstall
    sys.stdout.write(f"{act(python)}\n")
    return 0


def active_python(environ: Mapping[str, str]) -> str:
    """The interpreter of the active environment, else python3. Raises InstallFault."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        file = Path(environ.get(name, ""), "bin", "python")
        if environ.get(name) and file.exists():
            return str(file)
    found = shutil.which("python3", path=environ.get("PATH"))
    if found is None:
        raise InstallFault("there is no python3 here: name an interpreter with --python")
    return found


def inspect(python: str) -> Environment:
    """Raises InstallFault."""
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the user names
            [python, "-I", "-c", _ASK],
            capture_output=True,
            timeout=WAIT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return msgspec.json.decode(done.stdout, type=Environment)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        raise InstallFault(f"{python} is no Python that starts ({error})") from None


def install(python: str) -> str:
    """Returns a sentence about what was done. Raises InstallFault."""
    found = inspect(python)
    if found.version < OLDEST:
        raise InstallFault(
            f"{python} is Python {_dotted(found.version)}: {_dotted(OLDEST)} or newer is needed"
        )
    if found.has_package:
        return f"{found.site} has the package modelplex-client already"
    if found.managed:
        raise InstallFault(
            f"{found.site} belongs to the system's packages: activate a virtual environment, or name its interpreter with --python"
        )
    try:
        found.folder.mkdir(parents=True, exist_ok=True)
        for name, source in FILES.items():
            (found.folder / name).write_bytes(source.read_bytes())
        found.pth.write_text(f"import {NAME}\n")
    except OSError as error:
        raise InstallFault(f"{error.filename}: {error.strerror}") from None
    if not _is_loaded(python):
        uninstall(python)
        raise InstallFault(f"{python} reads no .pth file in {found.site}: nothing was changed")
    return f"programs of {python} may use unix: base URLs now: {found.pth}"


def uninstall(python: str) -> str:
    """Returns a sentence about what was done. Raises InstallFault."""
    found = inspect(python)
    if found.has_package:
        raise InstallFault(
            f"{found.site} has it as a package: {shlex.quote(python)} -m pip uninstall modelplex-client"
        )
    if not found.pth.exists() and not found.folder.exists():
        return f"{found.site} has no unix: base URLs"
    try:
        found.pth.unlink(missing_ok=True)
        for name in FILES:
            (found.folder / name).unlink(missing_ok=True)
        shutil.rmtree(found.folder / "__pycache__", ignore_errors=True)
        with suppress(FileNotFoundError):
            found.folder.rmdir()
    except OSError as error:
        raise InstallFault(f"{error.filename}: {error.strerror}") from None
    return f"programs of {python} have no unix: base URLs any more"


def _is_loaded(python: str) -> bool:
    ask = f"import sys; sys.exit({NAME!r} not in sys.modules)"
    try:
        return subprocess.run([python, "-I", "-c", ask], timeout=WAIT_S, check=False).returncode == 0  # noqa: S603 - the same
    except subprocess.TimeoutExpired:
        return False


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def node_line(file: Path, *, fish: bool = False) -> str:
    """The line of a shell that lets Node import `file` in every program."""
    option = f"--import={file if SAFE.fullmatch(str(file)) else file.as_uri()}"
    if fish:
        return f'set -gx NODE_OPTIONS "$NODE_OPTIONS {option}"\n'
    return f'export NODE_OPTIONS="${{NODE_OPTIONS:+$NODE_OPTIONS }}{option}"\n'


def _node(write: str | None) -> str:
    if write is None:
        return node_line(FILES["client.mjs"])
    path = Path(write).expanduser()
    line = node_line(FILES["client.mjs"], fish=path.suffix == ".fish")
    try:
        before = path.read_text() if path.exists() else ""
        if line in before:
            return f"{path} has the line already\n"
        gap = "" if before.endswith("\n") or not before else "\n"
        path.write_text(f"{before}{gap}{line}")
    except OSError as error:
        raise InstallFault(f"{path}: {error.strerror}") from None
    return f"appended to {path}: {line}"
