"""Another process of the same user cannot read the gateway's keys (I4), freed memory goes back to
the system, and the limit of open files is raised.
"""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelplex.server.connection_registry import MAX_OVER_LIMIT
from modelplex.server.process_setup import (
    SPARE_DESCRIPTORS,
    connections_within,
    needed_descriptors,
    raise_descriptors,
)
from tests.processes import WAIT_S, environment, until

NOBODY = 65534
"""Root may read everything, so both processes run as another user."""

ATTACKER = """
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
"""Tries what an agent of the same user could, and prints the outcomes."""


def as_nobody(*command: str) -> list[str]:
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]


def python_for_nobody() -> bool:
    found = subprocess.run(
        as_nobody(sys.executable, "-c", "import modelplex"), capture_output=True, check=False, timeout=WAIT_S
    )
    return found.returncode == 0


def why_not() -> str:
    """Why the attack cannot be tried on this machine; "" if it can."""
    if sys.platform != "linux":
        return "only Linux has it"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "setpriv is not installed"
    if os.geteuid() == 0 and not python_for_nobody():
        return "root reads everything, and nobody else can start this Python"
    return ""


needs_attack = pytest.mark.skipif(bool(why_not()), reason=why_not())


def attack(pid: int) -> list[str]:
    found = subprocess.run(
        as_nobody(sys.executable, "-c", ATTACKER, str(pid)),
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_S,
    )
    return found.stdout.splitlines()


@needs_attack
async def test_a_process_of_the_same_user_can_neither_read_the_gateways_keys_nor_attach_to_it(
    shared_folder: Path, tmp_path: Path
) -> None:
    shared_folder.chmod(0o777)
    socket = shared_folder / "m.sock"
    config = f'[server]\nsocket = "{socket}"\n[[providers]]\ntype = "demo"\n'
    (shared_folder / "config.toml").write_text(config)
    log = tmp_path / "output"
    with log.open("wb") as output, subprocess.Popen(  # noqa: ASYNC220 - it starts in milliseconds
        as_nobody(sys.executable, "-m", "modelplex", "--verbose"),
        cwd=shared_folder, env=environment({"OPENAI_API_KEY": "sk-secret"}), stdout=subprocess.DEVNULL, stderr=output,
    ) as served:  # fmt: skip
        try:
            await until(lambda: served.poll() is not None or socket.exists(), what="the start")
            assert served.poll() is None, log.read_text()
            assert attack(served.pid) == ["environ refused", "mem refused", "maps refused", "ptrace refused"]
        finally:
            served.kill()


@needs_attack
def test_without_the_setting_a_process_can_be_read() -> None:
    """So the test above can fail."""
    ptrace_is_free = Path("/proc/sys/kernel/yama/ptrace_scope")
    with subprocess.Popen(
        as_nobody(sys.executable, "-c", "print(1, flush=True); input()"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline()
            outcome = attack(other.pid)
            assert "environ read" in outcome
            if not ptrace_is_free.exists() or ptrace_is_free.read_text().strip() == "0":
                assert "ptrace attached" in outcome
        finally:
            other.kill()


@needs_attack
def test_a_program_that_an_undumpable_process_starts_is_dumpable() -> None:
    code = (
        "import subprocess; from modelplex.server.process_setup import become_undumpable; assert become_undumpable();"
        "import ctypes; assert ctypes.CDLL(None).prctl(3) == 0;"
        "subprocess.run(['cat', '/proc/self/environ'], check=True, stdout=subprocess.DEVNULL)"
    )
    subprocess.run(as_nobody(sys.executable, "-c", code), check=True, timeout=WAIT_S)


# --- memory

PROGRAM = """
import os, sys, threading
from modelplex.server.process_setup import return_large_blocks

MIB = 2**20

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if not return_large_blocks():
    print("none")
    sys.exit()
one = b"x" * (30 * MIB)  # by itself the library maps nothing smaller from here on
del one
before = resident()
large, small = [], []
def take():
    for _ in range(20):
        large.append(b"x" * (2 * MIB))
        small.append(b"x" * 50_000)
threads = [threading.Thread(target=take) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
taken = resident() - before
large.clear()
print(taken // MIB, (resident() - before) // MIB)
"""


def test_freed_large_blocks_go_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, timeout=60)
    if done.stdout == b"none\n":
        pytest.skip("this C library has no mallopt")
    taken, kept = map(int, done.stdout.split())
    assert taken >= 80
    assert kept < 10


# --- open files


@pytest.mark.parametrize("connections", [1, 2, 700, 2048])
def test_as_many_connections_fit_as_descriptors_were_computed_for(connections: int) -> None:
    assert connections_within(needed_descriptors(connections)) == connections
    assert connections_within(needed_descriptors(connections) + 1) == connections


def test_at_least_one_connection_is_allowed() -> None:
    assert connections_within(0) == 1
    assert connections_within(MAX_OVER_LIMIT + SPARE_DESCRIPTORS) == 1


@pytest.mark.parametrize(
    ("soft", "hard", "needed", "result", "set_to"),
    [
        (256, 4096, 1000, 1000, 1000),
        (256, 600, 1000, 600, 600),
        (256, resource.RLIM_INFINITY, 1000, 1000, 1000),
        (2000, 4096, 1000, 1000, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 1000, 1000, None),
        (600, 600, 1000, 600, None),
    ],
)
def test_the_limit_is_raised_as_far_as_allowed_and_never_lowered(
    soft: int, hard: int, needed: int, result: int, set_to: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[tuple[int, int]] = []

    def getrlimit(_: int) -> tuple[int, int]:
        return soft, hard

    def setrlimit(_: int, limits: tuple[int, int]) -> None:
        changes.append(limits)

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    assert raise_descriptors(needed) == result
    assert changes == ([] if set_to is None else [(set_to, hard)])
