"""The keys of a running gateway are closed to another process of its user (I4)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import WAIT_S, environment, until

NOBODY = 65534
"""Root may read everything, so both sides are somebody else."""

THIEF = """
import ctypes, os, sys
pid = int(sys.argv[1])
for name in ("environ", "mem", "maps"):
    try:
        open(f"/proc/{pid}/{name}", "rb").close()
        print(name, "read")
    except PermissionError:
        print(name, "refused")
PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)
print("ptrace", "refused" if libc.ptrace(PTRACE_SEIZE, pid, None, None) == -1 and ctypes.get_errno() == 1 else "attached")
"""
"""It tries what an agent of the same user would, and prints what became of it."""


def as_nobody(*command: str) -> list[str]:
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]


def python_for_nobody() -> bool:
    found = subprocess.run(
        as_nobody(sys.executable, "-c", "import modelplex"), capture_output=True, check=False, timeout=WAIT_S
    )
    return found.returncode == 0


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it"),
    pytest.mark.skipif(
        os.geteuid() == 0 and shutil.which("setpriv") is None, reason="setpriv is not installed"
    ),
    pytest.mark.skipif(
        os.geteuid() == 0 and shutil.which("setpriv") is not None and not python_for_nobody(),
        reason="root reads everything, and nobody else can start this Python",
    ),
]


def tried(pid: int) -> list[str]:
    found = subprocess.run(
        as_nobody(sys.executable, "-c", THIEF, str(pid)),
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_S,
    )
    return found.stdout.splitlines()


async def test_a_process_of_the_same_user_cannot_read_the_gateways_keys_nor_attach_to_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    tmp_path.chmod(0o755)
    folder.chmod(0o777)
    socket = folder / "m.sock"
    (folder / "config.toml").write_text(f'[server]\nsocket = "{socket}"\n[[providers]]\ntype = "demo"\n')
    for parent in folder.parents:  # pytest's own folders are closed to others
        if parent.stat().st_uid == os.geteuid() and parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(parent.stat().st_mode | 0o055)
    log = tmp_path / "said"
    with log.open("wb") as said, subprocess.Popen(  # noqa: ASYNC220 - it starts in milliseconds
        as_nobody(sys.executable, "-m", "modelplex", "--verbose"),
        cwd=folder, env=environment({"OPENAI_API_KEY": "sk-secret"}), stdout=subprocess.DEVNULL, stderr=said,
    ) as served:  # fmt: skip
        try:
            await until(lambda: served.poll() is not None or socket.exists(), what="the start")
            assert served.poll() is None, log.read_text()
            assert tried(served.pid) == ["environ refused", "mem refused", "maps refused", "ptrace refused"]
        finally:
            served.kill()


def test_a_process_that_did_not_close_itself_is_open(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    ptrace_is_free = Path("/proc/sys/kernel/yama/ptrace_scope")
    with subprocess.Popen(
        as_nobody(sys.executable, "-c", "print(1, flush=True); input()"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline()
            outcome = tried(other.pid)
            assert "environ read" in outcome
            if not ptrace_is_free.exists() or ptrace_is_free.read_text().strip() == "0":
                assert "ptrace attached" in outcome
        finally:
            other.kill()


def test_a_program_that_a_closed_process_starts_is_open_again() -> None:
    code = (
        "import subprocess; from modelplex.server.process_setup import become_undumpable; assert become_undumpable();"
        "import ctypes; assert ctypes.CDLL(None).prctl(3) == 0;"
        "subprocess.run(['cat', '/proc/self/environ'], check=True, stdout=subprocess.DEVNULL)"
    )
    subprocess.run(as_nobody(sys.executable, "-c", code), check=True, timeout=WAIT_S)
