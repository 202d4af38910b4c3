"""The connection of a run to its gateway, by which the gateway serves the run's socket: see
server/run_messages.py.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Final

import msgspec

from modelplex.records.run_facts import SandboxFacts
from modelplex.server.run_messages import FromGateway, RunEnded, RunNotice, RunReply, RunRequest

READ_SIZE: Final = 65_536
SEND_TIMEOUT_S: Final = 10.0
"""For a request: a gateway that takes none for so long is not working."""
_decoder: Final[msgspec.json.Decoder[FromGateway]] = msgspec.json.Decoder(FromGateway)


class RunLink:
    """`connection` is connected to the gateway. `notices` are those that were not taken yet."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        self.reply: RunReply | None = None
        self.ended: RunEnded | None = None
        self.is_over = False
        """The gateway has closed it."""
        self.notices: list[RunNotice] = []

    def __repr__(self) -> str:
        return f"<RunLink {self.reply!r} {self.ended!r}{' over' if self.is_over else ''}>"

    def send(self, request: RunRequest, listener: socket.socket) -> None:
        """Raises OSError where the gateway is gone."""
        data = msgspec.json.encode(request) + b"\n"
        self._connection.settimeout(SEND_TIMEOUT_S)
        sent = socket.send_fds(self._connection, [data], [listener.fileno()])
        self._connection.sendall(data[sent:])

    def report(self, sandbox: SandboxFacts) -> None:
        """What was measured inside, before the program starts. A gateway that is gone is noticed
        elsewhere.
        """
        with suppress(OSError):
            self._connection.sendall(msgspec.json.encode(sandbox) + b"\n")

    def read(self, *, wait_s: float = 0.0) -> None:
        """Take what has come, and wait for the first of it."""
        while not self.is_over and select.select([self._connection], [], [], wait_s)[0]:
            wait_s = 0.0
            try:
                data = self._connection.recv(READ_SIZE)
            except OSError:
                data = b""
            self.is_over = not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        message: FromGateway = _decoder.decode(line)
        match message:
            case RunReply() as reply:
                self.reply = reply
            case RunNotice() as notice:
                self.notices.append(notice)
            case RunEnded() as ended:
                self.ended = ended

    def take_notices(self) -> list[RunNotice]:
        taken, self.notices = self.notices, []
        return taken

    def signal_with(self, number: signal.Signals) -> None:
        """Send this thread the signal, which it blocks, when something comes: fcntl(2), O_ASYNC."""
        owner = struct.pack("ii", F_OWNER_TID, threading.get_native_id())
        fcntl.fcntl(self._connection, F_SETOWN_EX, owner)
        fcntl.fcntl(self._connection, F_SETSIG, number)
        flags = fcntl.fcntl(self._connection, fcntl.F_GETFL)
        fcntl.fcntl(self._connection, fcntl.F_SETFL, flags | os.O_ASYNC)

    def no_signals(self) -> None:
        flags = fcntl.fcntl(self._connection, fcntl.F_GETFL)
        fcntl.fcntl(self._connection, fcntl.F_SETFL, flags & ~os.O_ASYNC)

    def close(self) -> None:
        self._connection.close()

    def leave(self, *, timeout_s: float) -> None:
        """End the run's use, and wait for the gateway's last word."""
        deadline = time.monotonic() + timeout_s
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            while not self.is_over and (left := deadline - time.monotonic()) > 0:
                self.read(wait_s=left)


F_SETSIG: Final = 10
F_SETOWN_EX: Final = 15
F_OWNER_TID: Final = 0
"""Of Linux (fcntl(2)); the module fcntl has no names for them."""


def connect(path: str) -> RunLink | None:
    """None where no gateway takes runs at this path."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return RunLink(connection)
