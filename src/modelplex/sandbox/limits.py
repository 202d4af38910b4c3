"""Limits of a run: memory, CPUs, processes and time, and what enforces them.

    cgroup     a control group of the run, in one of this process's own or above it that this user
               may write to (cgroup v2). Only the program and its children are in it
    scope      systemd-run --user --scope, where such a group exists for its children only
    process    rlimits and CPU affinity: memory holds for each process, CPUs until the program
               changes them, processes not for root

Times are run.py's.
"""

# Files of the kernel are text.
from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from modelplex.sandbox import kernel
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.values import SECONDS, SIZES

OWN_TASKS: Final = 8
"""Processes and threads of the sandbox itself, which an rlimit or a scope counts too."""
PERIOD_US: Final = 100_000
CGROUP2_MAGIC: Final = 0x6367_7270
ROOTS: Final = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
PREFIX: Final = "modelplex-run-"
REMOVE_S: Final = 2.0
"""Until the group's last process is gone."""
SYSTEMD_S: Final = 5.0
"""Until the user's systemd answers."""
TIME_STATUS: Final = 124
"""Of a program that --time ended; timeout(1) has the same."""
GRACE_S: Final = 10.0
"""Between SIGTERM and SIGKILL at the end of --time."""


class Limits(NamedTuple):
    """Bytes, CPUs, processes with threads, seconds."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    time: float | None = None

    @property
    def controllers(self) -> dict[str, dict[str, str]]:
        """The controllers of cgroup v2 that they need, with the values of their files."""
        found: dict[str, dict[str, str]] = {}
        if self.memory is not None:
            found["memory"] = {"memory.max": str(self.memory), "memory.swap.max": "0"}
        if self.cpus is not None:
            found["cpu"] = {"cpu.max": f"{int(self.cpus * PERIOD_US)} {PERIOD_US}"}
        if self.pids is not None:
            found["pids"] = {"pids.max": str(self.pids)}
        return found


class Enforced(NamedTuple):
    """How the limits hold. `group` is the control group's folder; `procs` an open file by which the
    program enters it, or -1; `rlimits` are by their names in `resource`; `affinity` are CPUs;
    `prefix` starts the sandbox.
    """

    line: str
    group: str | None = None
    procs: int = -1
    rlimits: Mapping[str, int] = {}
    affinity: Sequence[int] = ()
    prefix: Sequence[str] = ()

    def events(self) -> list[str]:
        """What the group's limits did, in sentences."""
        if self.group is None:
            return []
        found: list[str] = []
        if killed := _counter(f"{self.group}/memory.events", "oom_kill"):
            found.append(f"the memory limit was reached, and the kernel ended {_count(killed, 'process')}")
        if refused := _counter(f"{self.group}/pids.events", "max"):
            found.append(f"the limit of processes was reached, and {_count(refused, 'start')} failed")
        return found


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 'es' if word.endswith('s') else 's'}"


def _counter(path: str, name: str) -> int:
    with suppress(OSError):
        for row in Path(path).read_text(encoding="ascii").splitlines():
            key, _, value = row.partition(" ")
            if key == name:
                return int(value)
    return 0


@contextmanager
def enforced(limits: Limits, *, is_root: bool) -> Generator[Enforced]:
    """For the time of a run. Raises CannotRun where --pids cannot hold."""
    needed = limits.controllers
    parent, held = find_group(needed) if needed else (None, ())
    if parent is not None:
        with _group(parent, {name: needed[name] for name in held}) as group:
            procs = os.open(f"{group}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                rest = _by_process(limits, held, is_root=is_root)
                line = describe(limits, {**dict.fromkeys(held, "cgroup"), **rest.ways})
                yield Enforced(line, group, procs, rest.rlimits, rest.affinity)
            finally:
                os.close(procs)
    elif needed and not is_root and (prefix := _scope(limits)):
        line = describe(limits, dict.fromkeys(needed, "systemd scope"))
        yield Enforced(line, prefix=prefix)
    else:
        rest = _by_process(limits, (), is_root=is_root)
        yield Enforced(describe(limits, rest.ways), rlimits=rest.rlimits, affinity=rest.affinity)


def describe(limits: Limits, ways: Mapping[str, str]) -> str:
    """For example "memory 2G (cgroup), time 30m"; "" without limits."""
    parts: list[str] = []
    if limits.memory is not None:
        parts.append(f"memory {_size_text(limits.memory)} ({ways['memory']})")
    if limits.cpus is not None:
        parts.append(f"CPUs {limits.cpus:g} ({ways['cpu']})")
    if limits.pids is not None:
        parts.append(f"processes {limits.pids} ({ways['pids']})")
    if limits.time is not None:
        parts.append(f"time {duration_text(limits.time)}")
    return ", ".join(parts)


def _size_text(value: int) -> str:
    unit = next(name for name in "TGMK" if value >= SIZES[name])
    return f"{value / SIZES[unit]:g}{unit}"


def duration_text(seconds: float) -> str:
    unit = next((name for name in "dhm" if seconds >= SECONDS[name] and seconds % SECONDS[name] == 0), "s")
    return f"{seconds / SECONDS[unit]:g}{unit}"


# --- cgroup v2


def find_group(
    needed: Mapping[str, object],
    *,
    roots: Sequence[str] = ROOTS,
    own: str = "/proc/self/cgroup",
    magic: int = CGROUP2_MAGIC,
) -> tuple[str | None, Sequence[str]]:
    """The folder in which a group with some of these controllers can be made, and those."""
    root = next((path for path in roots if _is_file_system(path, magic)), None)
    with suppress(OSError, StopIteration):
        rows = Path(own).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        name = next(row for row in rows if row.startswith("0::")).removeprefix("0::")
        folder = Path(f"{root or '/nonexistent'}{name}")
        # From the own group upwards: a process moves by the rights on the group above both.
        for each in (folder, *folder.parents):
            if root is None or not str(each).startswith(root):
                break
            if os.access(each, os.W_OK) and os.access(each / "cgroup.procs", os.W_OK):
                _enable(each, needed)
                enabled = (each / "cgroup.subtree_control").read_text().split()
                if held := [controller for controller in needed if controller in enabled]:
                    return str(each), held
    return None, ()


def _is_file_system(path: str, magic: int) -> bool:
    try:
        number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return kernel.file_system(number) == magic
    finally:
        os.close(number)


def _enable(folder: Path, needed: Mapping[str, object]) -> None:
    """Fails where the group has processes of its own, as that of a shell has."""
    available = (folder / "cgroup.controllers").read_text().split()
    enabled = (folder / "cgroup.subtree_control").read_text().split()
    for name in needed:
        if name in available and name not in enabled:
            with suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{name}")


@contextmanager
def _group(parent: str, files: Mapping[str, Mapping[str, str]]) -> Generator[str]:
    """A new group with these values in its files. Removes groups of killed runs."""
    for old in Path(parent).glob(f"{PREFIX}*"):
        if not Path("/proc", old.name.removeprefix(PREFIX)).exists():
            _remove(old, 0)
    group = Path(parent, f"{PREFIX}{os.getpid()}")
    try:
        group.mkdir()
        for values in files.values():
            for name, value in values.items():
                with suppress(FileNotFoundError):  # memory.swap.max, without swap
                    (group / name).write_text(value)
    except OSError as fault:
        _remove(group, 0)
        raise CannotRun(f"the limits cannot be set in {parent}: {fault.strerror}.") from None
    try:
        yield str(group)
    finally:
        _remove(group, REMOVE_S)


def _remove(group: Path, wait_s: float) -> None:
    """Its last processes may be ending."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline or not group.exists():
                return
            time.sleep(0.01)
        else:
            return


# --- systemd


def _scope(limits: Limits) -> list[str]:
    """The command before the sandbox's, or nothing where the user has no systemd."""
    program = shutil.which("systemd-run")
    if program is None or not os.environ.get("XDG_RUNTIME_DIR"):
        return []
    command = [program, "--user", "--scope", "--quiet", "--collect"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=SYSTEMD_S)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    if limits.memory is not None:
        command += ["-p", f"MemoryMax={limits.memory}", "-p", "MemorySwapMax=0"]
    if limits.cpus is not None:
        command += ["-p", f"CPUQuota={limits.cpus * 100:g}%"]
    if limits.pids is not None:
        command += ["-p", f"TasksMax={limits.pids + OWN_TASKS}"]
    # The sandbox starts with an empty environment.
    return [*command, "--", shutil.which("env") or "/usr/bin/env", "-i"]


# --- rlimits


class _ByProcess(NamedTuple):
    ways: dict[str, str]
    rlimits: dict[str, int]
    affinity: list[int]


def _by_process(limits: Limits, held: Sequence[str], *, is_root: bool) -> _ByProcess:
    """What holds the limits that no group does."""
    ways: dict[str, str] = {}
    rlimits: dict[str, int] = {}
    affinity: list[int] = []
    if limits.memory is not None and "memory" not in held:
        # Not the address space, of which V8, Go and Java reserve a lot that they never use.
        rlimits["RLIMIT_DATA"] = limits.memory
        ways["memory"] = "each process, by rlimit"
    if limits.pids is not None and "pids" not in held:
        if is_root:
            raise CannotRun(
                "--pids needs a control group for root (cgroup v2 with the controller pids), and there is none here: start as another user, or leave it out."
            )
        rlimits["RLIMIT_NPROC"] = limits.pids + OWN_TASKS
        ways["pids"] = "by rlimit"
    if limits.cpus is not None and "cpu" not in held:
        usable = sorted(os.sched_getaffinity(0))
        affinity = random.sample(usable, min(len(usable), max(1, math.ceil(limits.cpus))))
        ways["cpu"] = f"{len(affinity)} by affinity, which the program can change"
    return _ByProcess(ways, rlimits, affinity)
