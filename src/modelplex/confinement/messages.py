"""What a confined gateway asks of its launcher, and the replies: JSON in one packet each, with
descriptors beside it (unix(7), SCM_RIGHTS).
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

MAX_PACKET: Final = 1024 * 1024
"""Bytes. The kernel's own limit for a packet is lower by default."""
MAX_DESCRIPTORS: Final = 4


EXIT: Final = struct.Struct("=i")
"""What the descriptor of a process's life says at its end: its exit code."""


class StartProgram(msgspec.Struct, frozen=True, tag="start"):
    """Start the command of the config with this `command_key`, as a tool server, with this mark in
    its environment. Replies ProgramStarted, with its stdin, stdout, stderr and the end of its life.
    """

    key: str
    mark: str


class PrintCredential(msgspec.Struct, frozen=True, tag="output"):
    """Start a command that prints a credential. Replies like StartProgram; stdin is empty."""

    key: str


class FindProcesses(msgspec.Struct, frozen=True, tag="find"):
    """The processes of a tool server: see ProcessHost.find. Replies ProcessesFound. Without a mark
    only those that are known and still run.
    """

    mark: str
    pid: int
    known: Mapping[int, str]


class SignalProcesses(msgspec.Struct, frozen=True, tag="signal"):
    """Signal processes that FindProcesses has found."""

    number: int
    processes: Mapping[int, str]


class SignalProcessGroup(msgspec.Struct, frozen=True, tag="signal_group"):
    """Signal the group of a process that was started."""

    pid: int
    number: int


class ForgetProcess(msgspec.Struct, frozen=True, tag="ended"):
    """The process and all that it started have ended."""

    pid: int


class CheckSocket(msgspec.Struct, frozen=True, tag="check_socket"):
    """Whether another process listens at this path; LauncherRefused says which. This and the next
    four are for paths in a folder where the config has a socket.
    """

    path: str


class LockSocket(msgspec.Struct, frozen=True, tag="lock_socket"):
    """Replies LauncherDone, with the lock of the path, or LauncherRefused."""

    path: str


class BindSocket(msgspec.Struct, frozen=True, tag="bind_socket"):
    """Listen beside the path. Replies SocketBound, with the socket, or LauncherRefused."""

    path: str
    mode: int
    group: str | None


class RenameSocket(msgspec.Struct, frozen=True, tag="rename_socket"):
    hidden: str
    path: str


class UnlinkSocket(msgspec.Struct, frozen=True, tag="unlink_socket"):
    """Remove a socket, or a lock, if it is still this one (device and inode)."""

    path: str
    identity: tuple[int, int]


SocketRequest = CheckSocket | LockSocket | BindSocket | RenameSocket | UnlinkSocket


class ConnectSocket(msgspec.Struct, frozen=True, tag="connect"):
    """Connect to a Unix socket of the config. Replies LauncherDone, with the socket."""

    path: str


class LoadConfig(msgspec.Struct, frozen=True, tag="load"):
    """Load the config file again. From then on the commands and sockets are those of the new
    config. Replies LauncherDone with a file that holds the pickled Config.
    """


class RereadConfig(msgspec.Struct, frozen=True, tag="reread"):
    """The config file has changed: read it before the next use of a command or a socket."""


class EndProcesses(msgspec.Struct, frozen=True, tag="end_all"):
    """Kill all that was started with a mark that begins with this one."""

    mark: str


LauncherRequest = (
    StartProgram
    | PrintCredential
    | FindProcesses
    | SignalProcesses
    | SignalProcessGroup
    | ForgetProcess
    | SocketRequest
    | ConnectSocket
    | LoadConfig
    | RereadConfig
    | EndProcesses
)


class LauncherDone(msgspec.Struct, frozen=True, tag="done"):
    pass


class ProgramStarted(msgspec.Struct, frozen=True, tag="started"):
    pid: int


class ProcessesFound(msgspec.Struct, frozen=True, tag="found"):
    processes: dict[int, str]


class SocketBound(msgspec.Struct, frozen=True, tag="bound"):
    hidden: str
    identity: tuple[int, int]


class LauncherFailed(msgspec.Struct, frozen=True, tag="failed"):
    """`number` is an errno."""

    number: int
    text: str


class LauncherRefused(msgspec.Struct, frozen=True, tag="refused"):
    """`sentence` is for the user: a socket that cannot be claimed, or a config that is invalid."""

    sentence: str


LauncherReply = (
    LauncherDone | ProgramStarted | ProcessesFound | SocketBound | LauncherFailed | LauncherRefused
)

REQUESTS: Final = msgspec.json.Decoder(LauncherRequest)
REPLIES: Final = msgspec.json.Decoder(LauncherReply)


def command_key(argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> str:
    """Names a command to the launcher, which knows those of the config: so the gateway cannot ask
    for another one.
    """
    content = (list(argv), None if env is None else sorted(env.items()), cwd)
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def send(
    end: socket.socket, message: LauncherRequest | LauncherReply, descriptors: Sequence[int] = ()
) -> None:
    """Raises OSError."""
    socket.send_fds(end, [msgspec.json.encode(message)], list(descriptors))


class DescriptorsLost(OSError):
    """This process has no room for the descriptors of a packet. `data` is what it said."""

    def __init__(self, data: bytes) -> None:
        super().__init__(errno.EMFILE, os.strerror(errno.EMFILE))
        self.data = data


def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and its descriptors; empty at the end. Raises OSError."""
    data, descriptors, flags, _ = socket.recv_fds(end, MAX_PACKET, MAX_DESCRIPTORS)
    if flags & socket.MSG_CTRUNC:
        for each in descriptors:
            os.close(each)
        raise DescriptorsLost(data)
    for each in descriptors:  # `recv_fds` drops MSG_CMSG_CLOEXEC
        os.set_inheritable(each, False)
    return data, descriptors
