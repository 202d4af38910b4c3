"""The lock of an output that several processes write to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from modelplex.records.log_lock import LockedOutput, OutputLock
from modelplex.records.log_output import FileOutput

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
"""Pytest may have threads, which the forked processes do not need."""


def holder(lock: OutputLock) -> int:
    """The pid of a process that holds the lock until it is killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with lock.held():
            os.write(writing, b"x")
            signal.pause()
        os._exit(0)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.close(writing)
    return pid


def test_one_process_at_a_time_and_a_killed_one_lets_go() -> None:
    lock = OutputLock()
    pid = holder(lock)
    with pytest.raises(TimeoutError), lock.held(within=0.05):
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with lock.held(within=5.0):
        pass
    with lock.held():
        pass


def test_two_processes_rotate_a_file_together(tmp_path: Path) -> None:
    path, lock = tmp_path / "log", OutputLock()

    def write(name: bytes) -> None:
        output = LockedOutput(FileOutput(path, max_size=1000, keep=100), lock)
        for number in range(100):
            output.write([b"%s %d %s\n" % (name, number, b"." * 80)])
        output.close()

    pid = os.fork()
    if pid == 0:
        write(b"child")
        os._exit(0)
    write(b"parent")
    assert os.waitpid(pid, 0)[1] == 0
    files = list(tmp_path.iterdir())
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert sorted(line.rsplit(" ", 1)[0] for line in lines) == sorted(
        f"{name} {number}" for name in ("child", "parent") for number in range(100)
    )
    assert max(file.stat().st_size for file in files) <= 1000
