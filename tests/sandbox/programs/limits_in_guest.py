"""Limits by control groups in a machine of their own: started by the test of the same subject as
its first program, with cgroup v2 mounted. Prints a line of JSON for each user.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from modelplex.sandbox.limits import Enforced, Limits, enforced

ROOT = Path("/sys/fs/cgroup")
LIMITS = Limits(memory=64 << 20, cpus=0.2, pids=20)


def status_of(held: Enforced, work: Callable[[], int]) -> int:
    """Of a process in the group."""
    if (pid := os.fork()) == 0:
        os.write(held.procs, b"0")
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def allocate() -> int:
    return len(bytearray(200 << 20)) & 0


def start() -> int:
    """How many processes could be made."""
    for number in range(100):
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            return number
    return 100


def spin() -> int:
    until = time.monotonic() + 1
    while time.monotonic() < until:
        pass
    return 0


def facts() -> dict[str, object]:
    with enforced(LIMITS, is_root=os.geteuid() == 0) as held:
        assert held.group is not None
        group = Path(held.group)
        found: dict[str, object] = {
            "line": held.line,
            "parent": str(group.parent),
            "allocating": status_of(held, allocate),
            "spinning": status_of(held, spin),
            "started": status_of(held, start),
            "events": held.events(),
        }
        rows = dict(row.split() for row in (group / "cpu.stat").read_text().splitlines())
        found["throttled"] = int(rows["nr_throttled"]) > 0
        (group / "cgroup.kill").write_text("1")
    found["left"] = group.exists()
    return found


def main() -> None:
    print("LIMITS " + json.dumps(facts()), flush=True)
    # What systemd gives a user: a group with its controllers, and a shell in one below.
    user, shell = ROOT / "user", ROOT / "user" / "shell"
    shell.mkdir(parents=True)
    for path in (
        user,
        *(user / name for name in ("cgroup.procs", "cgroup.subtree_control")),
        shell,
        shell / "cgroup.procs",
    ):
        os.chown(path, 1000, 1000)
    (shell / "cgroup.procs").write_text("0")
    os.setgroups([])
    os.setgid(1000)
    os.setuid(1000)
    print("LIMITS " + json.dumps(facts()), flush=True)


main()
