"""Signals as a queue. In a process of its own, since signals belong to the main thread."""

from __future__ import annotations

import os
import select
import signal

import pytest

from modelplex.server.workers.signals import SignalQueue, ignore

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
"""Pytest may have threads, which the forked processes do not need."""


def test_signals_are_queued_and_wake_whoever_selects() -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            queue = SignalQueue([signal.SIGUSR1], woken_by=[signal.SIGUSR2])
            queue.open()
            assert not select.select([queue.socket], [], [], 0)[0]
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
                signal.raise_signal(number)
            assert select.select([queue.socket], [], [], 5)[0]
            assert queue.take() == [signal.SIGUSR1, signal.SIGUSR1]
            assert not select.select([queue.socket], [], [], 0)[0]
            assert queue.take() == []
            signal.raise_signal(signal.SIGUSR2)
            assert select.select([queue.socket], [], [], 5)[0]
            queue.close()
            assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
            signal.signal(signal.SIGUSR1, ignore)
            signal.raise_signal(signal.SIGUSR1)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
