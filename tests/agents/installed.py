"""The agents that `make agents` installs, each run in an empty network namespace with the
bridge.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.peers import ROOT, node

BRIDGE = ROOT / "src" / "modelplex" / "sandbox" / "bridge.py"
PROGRAMS = Path(__file__).parent / "programs"
HOME = ROOT / ".cache" / "agents"
MODULES = HOME / "node" / "node_modules"
OF_PYTHON_312 = frozenset({"openhands", "vibe"})
"""The Makefile's AGENT_VENVS_312."""
BASE = "http://127.0.0.1:11435"
TIMEOUT_S = 50.0
"""Of one agent's task; the slowest takes some 10 s on two busy cores."""


@dataclass
class Done:
    status: int
    out: str
    errors: str


@cache
def namespace() -> tuple[str, ...]:
    """The prefix of a command that runs it in an empty network namespace, which the kernel may
    allow root only.
    """
    for prefix in (("unshare", "-n"), ("unshare", "-rn")):
        if (
            shutil.which("unshare")
            and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
        ):
            return prefix
    pytest.skip("this machine allows no network namespace")


def platform(package: str, *path: str) -> str:
    """A program of a package with one build for each platform. npm installs the right one, and its
    install script, which would link it, is not run.
    """
    found = sorted(MODULES.glob(f"{package}-linux-*/{'/'.join(path)}"), key=lambda each: len(str(each)))
    return str(found[0])


def script(package: str, name: str) -> list[str]:
    """A program in JavaScript, with its interpreter."""
    return [
        str(node()),
        str((MODULES / ".bin" / name).resolve()) if not package else str(MODULES / package / name),
    ]


def python(venv: str) -> str:
    found = HOME / venv / "bin" / "python"
    if venv in OF_PYTHON_312 and not found.exists():
        pytest.skip(f"{venv} needs Python 3.12, which this machine does not have")
    return str(found)


async def run(
    command: Sequence[str],
    *,
    socket: str,
    home: Path,
    cwd: Path,
    environ: Mapping[str, str],
    bridged: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> Done:
    """Run an agent with this environment only, and no network but the gateway's socket; with the
    bridge also the gateway's loopback port.
    """
    bridge = (sys.executable, str(BRIDGE), "--socket", socket, "--") if bridged else ()
    bare = {
        "PATH": f"{node().parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *namespace(),
        *bridge,
        *command,
        cwd=cwd,
        env={**bare, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        pytest.fail(f"{command[0]} did not end within {timeout_s} s")
    finally:
        # Its children too: an agent may leave a daemon.
        if process.returncode is None or _alive(process.pid):
            os.killpg(process.pid, 9)
            await process.wait()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(errors="replace"), errors.decode(errors="replace"))


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
