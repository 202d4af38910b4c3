"""A forked worker and the channel to it."""

from __future__ import annotations

import os
import select
import signal
import socket

import pytest

from modelplex.server.workers.child import Child, Ended, WorkerEnd, WorkerLink, fork
from modelplex.server.workers.descriptors import channel_pair
from modelplex.server.workers.messages import MAX_FRAME, Frames, Message, NewConfig, Ready, Stop, frame

QUIET = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
"""Pytest may have threads, which the forked processes do not need."""


def received(channel: WorkerLink) -> list[Message] | None:
    assert select.select([channel.socket], [], [], 10)[0]
    return channel.receive()


def test_a_process_speaks_exits_with_its_status_and_is_deaf_to_quiet_signals() -> None:
    def run(ends: WorkerEnd) -> int:
        end = ends.messages
        for number in QUIET:
            signal.raise_signal(number)
        end.sendall(frame(Ready()))
        assert Frames().feed(end.recv(100)) == [Stop()]
        return 7

    pid, channel = fork(run, quiet=QUIET)
    child = Child(1, sockets=[], stdio=None)
    child.pid, child.channel = pid, channel
    assert received(channel) == [Ready()]
    child.send(Stop())
    assert received(channel) is None
    ended = Ended(*os.waitpid(pid, 0))
    assert (ended.pid, ended.reason) == (pid, "exit status 7")
    child.close()
    assert not child.pid
    assert child.channel is None
    child.kill()
    child.send(Stop())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) & QUIET == set()


def test_a_process_that_raises_or_is_killed_says_so() -> None:
    def fail(end: WorkerEnd) -> int:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise RuntimeError

    pid, channel = fork(fail, quiet=QUIET)
    assert received(channel) is None
    assert Ended(*os.waitpid(pid, 0)).reason == "exit status 1"
    channel.close()

    def wait(end: WorkerEnd) -> int:
        end.messages.recv(1)
        return 0

    pid, channel = fork(wait, quiet=QUIET)
    os.kill(pid, signal.SIGKILL)
    assert Ended(*os.waitpid(pid, 0)).reason == "signal SIGKILL"
    channel.close()


def test_what_a_worker_does_not_read_waits_and_is_bounded() -> None:
    ours, theirs = socket.socketpair()
    descriptors, others = channel_pair()
    channel, large = WorkerLink(ours, descriptors), NewConfig(b"x" * (MAX_FRAME // 2))
    for _ in range(4):
        channel.send(large)
    assert channel.has_unsent
    frames, got = Frames(), list[Message]()
    while channel.has_unsent:
        got += frames.feed(theirs.recv(1 << 20))
        channel.flush()
    theirs.setblocking(False)
    try:
        while data := theirs.recv(1 << 20):
            got += frames.feed(data)
    except BlockingIOError:
        pass
    # The third one was begun below the limit; the fourth was dropped.
    assert got == [large] * len(got)
    assert len(got) in {2, 3}
    assert channel.receive() == []
    theirs.close()
    others.close()
    channel.close()
    assert channel.receive() is None
    ours.close()
