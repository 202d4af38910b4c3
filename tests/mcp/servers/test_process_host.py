"""Processes that this one starts. test_server_process.py has their use."""

from __future__ import annotations

import os
import select
import signal
import sys

import pytest

from modelplex.mcp.servers.process_host import LocalProcesses, Spawned

WAIT_S = 20
SLEEP = (sys.executable, "-S", "-c", "input()")


def close(spawned: Spawned) -> None:
    for each in (spawned.stdin, spawned.stdout, spawned.stderr, spawned.ended):
        if each is not None:
            os.close(each)


def test_a_process_is_found_signalled_and_reaped() -> None:
    mark = os.urandom(8).hex()
    host = LocalProcesses(mark)
    spawned = host.spawn(SLEEP, env={}, cwd=None, mark=f"{mark}-1-")
    found = host.find(spawned.mark, spawned.child.pid, {})
    assert list(found) == [spawned.child.pid]
    assert host.alive(found) == found
    assert spawned.child.poll() is None
    host.signal(signal.SIGTERM, found)
    assert spawned.ended is not None
    assert select.select([spawned.ended], [], [], WAIT_S)[0]
    assert spawned.child.poll() == -signal.SIGTERM
    assert spawned.child.returncode == spawned.child.wait() == -signal.SIGTERM
    assert host.find(spawned.mark, spawned.child.pid, found) == {}
    close(spawned)
    host.close()


def test_the_group_of_a_process_that_has_ended_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = os.urandom(8).hex()
    host = LocalProcesses(mark)
    spawned = host.spawn((sys.executable, "-S", "-c", ""), env={}, cwd=None, mark=f"{mark}-1-")
    assert spawned.child.wait() == 0
    signalled: list[int] = []

    def record(pid: int, number: int) -> None:
        del number
        signalled.append(pid)

    monkeypatch.setattr(os, "killpg", record)
    spawned.child.signal_group(signal.SIGKILL)
    assert signalled == []
    close(spawned)
    host.close()


def test_closing_kills_what_is_left() -> None:
    mark = os.urandom(8).hex()
    host = LocalProcesses(mark)
    spawned = host.spawn(SLEEP, env={}, cwd=None, mark=f"{mark}-1-")
    host.close()
    assert spawned.child.wait() == -signal.SIGKILL
    close(spawned)
