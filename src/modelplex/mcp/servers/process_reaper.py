"""Waits until the gateway has ended, and then kills every process that a tool server left.

Started as `python -I -S process_reaper.py MARK`. Reads stdin: the lines "+PID" and "-PID" name
sessions that began and ended; end of file means that the gateway has ended. Imports only small
modules of the standard library, since it runs as long as the gateway.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing would double the memory of this process
if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = "MODELPLEX_TREE"
"""The environment variable that marks the processes of a tool server, in any group or session. Its
children inherit it.
"""
ROUNDS = 100
"""Times that it looks for processes that are left: a tree that forks while it is killed needs
several.
"""
PAUSE = 0.02
"""Seconds between two rounds."""


def find(mark: str, sessions: frozenset[int]) -> dict[int, str]:
    """Processes that have the mark, are in one of the sessions or groups, or descend from such:
    pid to start time. Linux only; empty elsewhere.
    """
    seen: dict[int, tuple[int, int, int, str]] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208
    except OSError:
        return {}
    for name in names:
        if name.isdigit():
            stat = _stat(name)
            if stat is not None:
                seen[int(name)] = stat
    own = os.getpid()
    wanted = f"{VARIABLE}={mark}".encode()
    found = {
        pid: began
        for pid, (_, group, session, began) in seen.items()
        if pid != own and (group in sessions or session in sessions or _has_mark(pid, wanted))
    }
    grown = True
    while grown:
        more = {pid: s[3] for pid, s in seen.items() if pid not in found and pid != own and s[0] in found}
        found.update(more)
        grown = bool(more)
    return found


def alive(found: dict[int, str]) -> dict[int, str]:
    """Those that still run: the same process, not another one with its pid."""
    still: dict[int, str] = {}
    for pid, began in found.items():
        stat = _stat(str(pid))
        if stat is not None and stat[3] == began:
            still[pid] = began
    return still


def _stat(name: str) -> tuple[int, int, int, str] | None:
    """Parent, group, session and start time; None of a process that is gone or a zombie."""
    try:
        with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - thousands of these
            text = file.read()
    except OSError:
        return None
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[1]), int(fields[2]), int(fields[3]), fields[19].decode()


def _has_mark(pid: int, wanted: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return any(entry.startswith(wanted) for entry in file.read().split(b"\0"))
    except OSError:
        return False


def kill(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def main() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    mark = sys.argv[1]
    sessions: set[int] = set()
    for line in sys.stdin.buffer:
        number = int(line[1:])
        if line[:1] == b"+":
            sessions.add(number)
        else:
            sessions.discard(number)
    for session in sessions:
        with contextlib.suppress(OSError):
            os.killpg(session, signal.SIGKILL)
    for _ in range(ROUNDS):
        left = find(mark, frozenset(sessions))
        if not left:
            return
        kill(left, signal.SIGKILL)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
