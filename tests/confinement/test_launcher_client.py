"""The gateway's side: faults, and the end of a launcher. test_launcher.py has what it does."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from modelplex.confinement.launcher_client import (
    LauncherClient,
    LauncherGone,
    LauncherProcesses,
    RemoteChild,
    SocketRefused,
)
from modelplex.confinement.messages import CheckSocket, LauncherFailed, LauncherRefused, LauncherReply, send

from .conftest import Confined

Answered = Callable[[LauncherReply | None], LauncherClient]


@pytest.fixture
def answered() -> Iterator[Answered]:
    """Makes clients whose next request has a reply; None is a launcher that has ended."""
    with contextlib.ExitStack() as sockets:

        def make(reply: LauncherReply | None) -> LauncherClient:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sockets.enter_context(ours)
            sockets.enter_context(theirs)
            if reply is None:
                theirs.close()
            else:
                send(theirs, reply)
            return LauncherClient(ours)

        yield make


def test_a_fault_keeps_its_number(answered: Answered) -> None:
    with pytest.raises(OSError, match="no such program") as caught:
        answered(LauncherFailed(errno.ENOENT, "no such program")).connect("/x")
    assert caught.value.errno == errno.ENOENT


def test_a_socket_that_is_refused_has_its_sentence(answered: Answered) -> None:
    with pytest.raises(SocketRefused, match="is in use by process 7"):
        answered(LauncherRefused("x.sock is in use by process 7")).ask(CheckSocket("x.sock"))


def test_without_a_launcher_nothing_is_started_and_the_end_goes_on(answered: Answered) -> None:
    with pytest.raises(LauncherGone):
        answered(None).connect("/x")
    processes = LauncherProcesses(answered(None), "abc")
    assert processes.find("abc-1-", 1, {2: "3"}) == {}
    assert processes.alive({}) == {}
    processes.signal(15, {2: "3"})
    processes.ended(1)
    processes.close()
    with pytest.raises(LauncherGone):
        processes.spawn(["true"], env={}, cwd=None, mark="abc-1-")


def test_a_child_has_its_code_once_it_has_ended(answered: Answered) -> None:
    life, end = os.pipe()
    child = RemoteChild(123, life, answered(None))
    assert child.poll() is None
    os.write(end, struct.pack("=i", 3))
    assert (child.poll(), child.returncode, child.wait()) == (3, 3, 3)
    os.close(end)
    child.signal_group(9)  # nobody is asked


def test_a_child_of_a_launcher_that_died_counts_as_killed(answered: Answered) -> None:
    life, end = os.pipe()
    child = RemoteChild(123, life, answered(None))
    os.close(end)
    assert child.wait() == -9


def test_an_invalid_config_has_its_faults(confined: Confined) -> None:
    (told,) = confined(
        """
from modelplex.config import ConfigError
try:
    launcher.load()
except ConfigError as error:
    tell(error.sentence)
""",
        later="[server]\nhttp = 5\n",
    )
    assert "server.http: expected an address" in told
