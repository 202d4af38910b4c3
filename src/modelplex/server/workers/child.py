"""A worker as the supervisor sees it: its sockets, its process and the connection to it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence

import msgspec

from modelplex.server.listeners import BoundSocket
from modelplex.server.workers.descriptors import channel_pair, send_sockets
from modelplex.server.workers.messages import MAX_FRAME, Frames, Message, frame
from modelplex.server.workers.restarts import Restarts
from modelplex.server.workers.signals import ignore

READ_BYTES = 1024 * 1024
"""Bytes that are read of one worker before the others get their turn."""


class WorkerLink:
    """The supervisor's end of a connection to a worker. It never blocks: what the worker does not
    read waits, up to the size of a message, and is dropped beyond that.
    """

    def __init__(self, end: socket.socket, descriptors: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._descriptors = descriptors
        self._frames = Frames()
        self._unsent = bytearray()

    def __repr__(self) -> str:
        return f"<WorkerLink {len(self._unsent)} bytes unsent>"

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def send(self, message: Message) -> None:
        if len(self._unsent) < MAX_FRAME:
            self._unsent += frame(message)
            self.flush()

    def send_sockets(self, sockets: Sequence[socket.socket]) -> None:
        """For the next message. Raises OSError where the worker does not read."""
        send_sockets(self._descriptors, sockets)

    def close(self) -> None:
        self.socket.close()
        self._descriptors.close()

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]

    def receive(self) -> list[Message] | None:
        """What has come; None at the end. Raises BadFrame."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._frames.feed(data) if data else None


class Child:
    """One worker: `number` and `sockets` stay, `pid` and `channel` are those of its process, 0 and
    None while there is none. Times are monotonic seconds.
    """

    def __init__(self, number: int, *, sockets: list[BoundSocket], stdio: BoundSocket | None) -> None:
        self.number = number
        self.sockets = sockets
        self.stdio = stdio
        self.pid = 0
        self.channel: WorkerLink | None = None
        self.started = 0.0
        self.ready = False
        self.failure = ""
        """Why the process cannot start, as it says."""
        self.start_at: float | None = None
        """When the next process is started."""
        self.restarts = Restarts()

    def __repr__(self) -> str:
        return f"<Child {self.number} {'ready' if self.ready else 'not ready'}, pid {self.pid}>"

    def send(self, message: Message) -> None:
        if self.channel is not None:
            self.channel.send(message)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Its process has ended."""
        if self.channel is not None:
            self.channel.close()
        self.channel, self.pid, self.ready = None, 0, False


class Ended(msgspec.Struct, frozen=True):
    """The end of a process; `status` as waitpid(2) gives it."""

    pid: int
    status: int

    @property
    def reason(self) -> str:
        code = os.waitstatus_to_exitcode(self.status)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


class WorkerEnd(msgspec.Struct, frozen=True):
    """A worker's end: of messages, and of the sockets that come beside them."""

    messages: socket.socket
    descriptors: socket.socket


def fork(run: Callable[[WorkerEnd], int], *, quiet: frozenset[signal.Signals]) -> tuple[int, WorkerLink]:
    """Start a process that runs `run` with its end of a channel, and exits with what that returns.
    The signals `quiet` have no effect on it. Returns its pid. Raises OSError.
    """
    ours, theirs = socket.socketpair()
    our_descriptors, their_descriptors = channel_pair()
    link = WorkerLink(ours, our_descriptors)
    # Until the child has handlers of its own, a signal would run those of this process in it.
    signal.pthread_sigmask(signal.SIG_BLOCK, quiet)
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(run, link, WorkerEnd(theirs, their_descriptors), quiet=quiet)
    except BaseException:
        link.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, quiet)
        theirs.close()
        their_descriptors.close()
    return pid, link


def _be_child(
    run: Callable[[WorkerEnd], int],
    ours: WorkerLink,
    theirs: WorkerEnd,
    *,
    quiet: frozenset[signal.Signals],
) -> None:
    """Never returns: nothing of the supervisor's own stack may run here."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in quiet:
            signal.signal(number, ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, quiet)
        ours.close()
        status = run(theirs)
    except BaseException:  # noqa: BLE001 - the outermost frame of a process
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)
