"""Passes sockets from the supervisor to a worker that runs already, beside their messages."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Final

AT_ONCE: Final = 250
"""Descriptors in one message: SCM_MAX_FD of Linux is 253 (unix(7))."""


def send_sockets(channel: socket.socket, sockets: Sequence[socket.socket]) -> None:
    """Does not block. Raises OSError where the worker does not take what was sent before."""
    for start in range(0, len(sockets), AT_ONCE):
        part = [each.fileno() for each in sockets[start : start + AT_ONCE]]
        # As many bytes as descriptors: the other end knows how many of both are still to come.
        socket.send_fds(channel, [b"s" * len(part)], part)


def receive_sockets(channel: socket.socket, count: int) -> list[socket.socket]:
    """So many sockets, which were sent already. Does not block. Raises OSError if there are
    fewer.
    """
    found: list[socket.socket] = []
    try:
        while len(found) < count:
            wanted = min(count - len(found), AT_ONCE)
            data, descriptors, _, _ = socket.recv_fds(channel, wanted, wanted)
            for number in descriptors:
                os.set_inheritable(number, False)  # for the programs that a worker starts
                found.append(socket.socket(fileno=number))
            if not data or len(data) != len(descriptors):
                raise OSError("the supervisor has sent fewer sockets than it said")
    except BaseException:
        for each in found:
            each.close()
        raise
    return found


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """The ends of the supervisor and of a worker."""
    ends = socket.socketpair()
    for each in ends:
        each.setblocking(False)
    return ends
