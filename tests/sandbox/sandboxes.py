"""`modelplex run` as a test starts it: by root, by nobody, or by whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import NOWHERE

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(__file__).resolve().parent / "programs"
NOBODY = 65534
RUN_LIMIT_S = 50.0
"""A bound on a program inside: some import two SDKs and call a real model, beside other tests."""
PEOPLE = ("root", "nobody") if os.geteuid() == 0 else ("user",)
SECRET = "sk-of-the-host-0123456789"
"""At the start of a run in a folder without a repository."""
REACHED = (sys.base_prefix, sys.prefix, str(ROOT))


@dataclass(frozen=True)
class Person:
    """The user that starts it, with a folder and a home."""

    name: str
    folder: Path
    home: Path

    @property
    def words(self) -> list[str]:
        """The prefix of a command that runs as this user."""
        if self.name != "nobody":
            return []
        return [sys.executable, "-I", str(PROGRAMS / "as_nobody.py"), *REACHED, "--"]

    @property
    def environ(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        return {"PATH": path, **NOWHERE, "HOME": str(self.home), "MY_API_KEY": SECRET, "LANG": "C.UTF-8"}

    def command(self, *arguments: str) -> list[str]:
        return [*self.words, sys.executable, "-P", "-m", "modelplex", *arguments]

    def run(
        self,
        *arguments: str,
        environ: Mapping[str, str] = {},
        stdin: str = "",
        pass_fds: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """`modelplex run` with these arguments."""
        done = subprocess.run(
            self.command("run", *arguments),
            cwd=self.folder,
            env={**self.environ, **environ},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
            pass_fds=pass_fds,
        )
        allowed(done.stderr)
        return done

    def python(self, code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A Python program inside."""
        return self.run(*arguments, "--", sys.executable, "-c", code, environ=more)

    def give(self, path: Path) -> Path:
        if self.name == "nobody":
            os.chown(path, NOBODY, NOBODY)
        return path


def allowed(stderr: str) -> None:
    """Skips where this kernel, or the container around it, allows no sandbox."""
    if "the kernel does not allow a sandbox here" in stderr:
        pytest.skip(stderr.strip())


@contextmanager
def person(name: str) -> Generator[Person]:
    made = Path(tempfile.mkdtemp(prefix="mpx-", dir="/tmp"))  # a short path; mkdtemp makes it private
    made.chmod(0o755)
    try:
        found = Person(name, made / "work", made / "home")
        for folder in (found.folder, found.home):
            folder.mkdir()
            found.give(folder)
        yield found
    finally:
        shutil.rmtree(made, onerror=_unless_gone)


def _unless_gone(_call: object, _path: str, fault: tuple[object, BaseException, object]) -> None:
    """The last process of a run may be removing a file at the same time."""
    if not isinstance(fault[1], FileNotFoundError):
        raise fault[1]


by_either_builder = pytest.mark.parametrize(
    "builder",
    [
        pytest.param([], id="own"),
        pytest.param(
            ["--bwrap"],
            id="bwrap",
            marks=pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
        ),
    ],
)

LIST_MODELS = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:11435/v1/models').read().decode())"
)
"""A program that prints the models of the gateway."""
