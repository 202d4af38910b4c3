"""Where the agents live that `make agents` installs, and how one is run: alone in an empty network
namespace, with a door to the gateway.
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

BRIDGE = Path(__file__).parent / "bridge.py"
PROGRAMS = Path(__file__).parent / "programs"
HOME = ROOT / ".cache" / "agents"
MODULES = HOME / "node" / "node_modules"
BASE = "http://127.0.0.1:11435"
PATIENCE_S = 50.0
"""A bound on one agent's task; the slowest takes some 10 s on two busy cores."""


@dataclass
class Done:
    status: int
    out: str
    errors: str


@cache
def namespace() -> tuple[str, ...]:
    """The command that gives what follows it a network of its own with nothing in it: for root, or
    for anybody where the kernel lets them.
    """
    for way in (("unshare", "-n"), ("unshare", "-rn")):
        if (
            shutil.which("unshare")
            and subprocess.run([*way, "true"], check=False, capture_output=True).returncode == 0
        ):
            return way
    pytest.skip("this machine lets nobody make a network namespace")


def platform(package: str, *path: str) -> str:
    """A program of a package that carries one build for each platform: npm installs the one that
    fits, and its install script, which would link it, is not run.
    """
    found = sorted(MODULES.glob(f"{package}-linux-*/{'/'.join(path)}"), key=lambda each: len(str(each)))
    return str(found[0])


def script(package: str, name: str) -> list[str]:
    """A program in JavaScript, with our node."""
    return [
        str(node()),
        str((MODULES / ".bin" / name).resolve()) if not package else str(MODULES / package / name),
    ]


def python(venv: str) -> str:
    return str(HOME / venv / "bin" / "python")


async def run(
    command: Sequence[str],
    *,
    socket: str,
    home: Path,
    cwd: Path,
    environ: Mapping[str, str],
    bridged: bool = True,
) -> Done:
    """The agent's command, to its end. It sees no environment but this one, and no network but the
    gateway; without the bridge, not even a loopback.
    """
    bridge = (sys.executable, str(BRIDGE), socket, "--") if bridged else ()
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
        out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    except TimeoutError:
        pytest.fail(f"{command[0]} did not end within {PATIENCE_S} s")
    finally:
        # Its children too: an agent may leave a daemon behind.
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
