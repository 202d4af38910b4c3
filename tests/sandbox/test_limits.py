"""Limits of a run, by control groups, systemd and rlimits: what holds, and what a run says and
returns where one is reached.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from modelplex.sandbox import kernel, limits
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.limits import Enforced, Limits, enforced, find_group
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person

ALL = Limits(memory=2 << 30, cpus=1.5, pids=500, time=1800)
NO_GROUP = (None, ())


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """A group with the controllers of a user's systemd, and one of a shell in it."""
    for folder, enabled in ((tmp_path, "memory pids"), (tmp_path / "shell", "")):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.procs").touch()
        (folder / "cgroup.controllers").write_text("memory pids")
        (folder / "cgroup.subtree_control").write_text(enabled)
    (tmp_path / "own").write_text("9:name=systemd:/\n0::/shell\n")
    return tmp_path


def find(groups: Path, *needed: str) -> tuple[str | None, object]:
    number = os.open(groups, os.O_RDONLY)
    magic = kernel.file_system(number)
    os.close(number)
    return find_group(
        dict.fromkeys(needed, ""),
        roots=[str(groups / "missing"), str(groups)],
        own=str(groups / "own"),
        magic=magic,
    )


def test_the_nearest_group_with_a_controller_is_used(groups: Path) -> None:
    (groups / "shell" / "cgroup.controllers").write_text("")
    assert find(groups, "memory", "cpu", "pids") == (str(groups), ["memory", "pids"])
    assert find(groups, "cpu") == NO_GROUP


def test_there_is_no_group_without_cgroup_v2(groups: Path) -> None:
    assert find_group({"memory": ""}, roots=[str(groups)], own=str(groups / "own")) == NO_GROUP
    (groups / "own").write_text("4:memory:/shell\n")
    assert find(groups, "memory") == NO_GROUP


def test_a_group_has_the_limits_and_is_removed(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "find_group", lambda _: (str(groups), ["memory", "pids"]))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    killed = groups / "modelplex-run-999999999"
    killed.mkdir()
    made = groups / f"modelplex-run-{os.getpid()}"
    made.mkdir()  # the kernel makes its files
    (made / "cgroup.procs").touch()
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    with enforced(ALL, is_root=True) as found:
        assert found.line == (
            "memory 2G (cgroup), CPUs 1.5 (2 by affinity, which the program can change), processes 500 (cgroup), time 30m"
        )
        assert found.group == str(made)
        assert {file.name: file.read_text() for file in made.iterdir()} == {
            "memory.max": str(2 << 30),
            "memory.swap.max": "0",
            "pids.max": "500",
            "cgroup.procs": "",
        }
        assert found.rlimits == {}
        assert found.events() == []
        (made / "memory.events").write_text("low 0\nmax 12\noom 1\noom_kill 1\n")
        (made / "pids.events").write_text("max 3\n")
        assert found.events() == [
            "the memory limit was reached, and the kernel ended 1 process",
            "the limit of processes was reached, and 3 starts failed",
        ]
        for file in made.iterdir():
            file.unlink()
    assert not made.exists()
    assert not killed.exists()


def test_without_a_group_rlimits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "find_group", lambda _: NO_GROUP)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with enforced(ALL._replace(cpus=1), is_root=False) as found:
        assert found.rlimits == {"RLIMIT_DATA": 2 << 30, "RLIMIT_NPROC": 508}
        assert len(found.affinity) == 1
        assert found.line == (
            "memory 2G (each process, by rlimit), CPUs 1 (1 by affinity, which the program can change), processes 500 (by rlimit), time 30m"
        )
    with pytest.raises(CannotRun, match="--pids needs a control group"), enforced(ALL, is_root=True):
        pass
    with enforced(Limits(), is_root=True) as found:
        assert found == Enforced("", affinity=[])


def test_systemd_is_used_where_the_user_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "find_group", lambda _: NO_GROUP)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    program = tmp_path / "systemd-run"
    program.write_text(
        '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do [ "$1" = -p ] && shift; shift; done\nexec "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with enforced(ALL, is_root=False) as found:
        assert found.prefix[1:-3] == (
            "--user --scope --quiet --collect -p MemoryMax=2147483648 -p MemorySwapMax=0 -p CPUQuota=150% -p TasksMax=508"
        ).split(" ")
        assert found.line == (
            "memory 2G (systemd scope), CPUs 1.5 (systemd scope), processes 500 (systemd scope), time 30m"
        )
    program.write_text("#!/bin/sh\nexit 1\n")
    with enforced(ALL, is_root=False) as found:
        assert found.prefix == ()


# --- real runs


def test_the_time_limit_ends_the_program(me: Person) -> None:
    started = time.monotonic()
    done = me.run("--time", "2s", "--", "sleep", "600")
    assert done.returncode == 124
    assert "limits: time 2s\n" in done.stderr
    assert "the time limit of 2s was reached: the program is ended" in done.stderr
    assert 2 <= time.monotonic() - started < WAIT_S
    assert me.run("--time", "1h", "--", "sh", "-c", "exit 3").returncode == 3


def test_the_memory_limit_holds(me: Person) -> None:
    """By whatever is there: a control group ends the process, an rlimit refuses the memory."""
    code = "import sys\ntry: x = bytearray(600 << 20)\nexcept MemoryError: sys.exit(137)"
    assert me.run("--", sys.executable, "-c", code).returncode == 0
    done = me.run("--memory", "200M", "--", sys.executable, "-c", code)
    assert done.returncode == 137, done.stderr
    assert "limits: memory 200M (" in done.stderr


def test_the_limit_of_processes_holds(who: Person) -> None:
    code = (
        "import os, sys, time\n"
        "for n in range(200):\n"
        "    try:\n"
        "        if os.fork() == 0: time.sleep(60); os._exit(0)\n"
        "    except OSError: break\n"
        "print(n)"
    )
    done = who.run("--pids", "50", "--", sys.executable, "-c", code)
    if done.returncode == 1:
        assert (who.name, "--pids needs a control group for root" in done.stderr) == ("root", True)
        return
    assert 20 <= int(done.stdout) <= 60, done.stderr


def test_the_limit_of_cpus_holds(me: Person) -> None:
    done = me.run("--cpus", "1", "--", sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))")
    assert "limits: CPUs 1 (" in done.stderr
    assert done.stdout == "1\n" or "(cgroup)" in done.stderr or "(systemd scope)" in done.stderr
