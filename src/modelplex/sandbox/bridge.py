"""A bridge: forwards connections from a TCP, Unix or AF_VSOCK listener to the gateway's socket.

One file for Python 3.8 and newer with nothing but the standard library, so that it can be copied
into a container or a guest:

    python3 bridge.py --socket PATH --listen 127.0.0.1:11435 [-- COMMAND ...]

It copies bytes and knows no protocol. One thread and one selector: a side that does not read stops
the reading from the other.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Address = str | tuple[str, int] | tuple[int, int]

CHUNK = 262_144
"""Bytes of one read, and the most that a connection buffers in one direction. More is no faster."""
DIAL_TIMEOUT_S = 10.0
"""While the gateway's backlog is full."""
RETRY_S = 0.02
"""Between two tries to dial (full backlog), or to accept (no free descriptor)."""
BACKLOG = 1024
DEFAULT_LISTEN = "127.0.0.1:11435"
ANY_CID = 0xFFFFFFFF
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends these to the whole foreground group, so the command has received them."""

NOT_READY = (errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY, errno.EINTR)
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class BridgeEndpoint:
    """An address to listen on or to dial. `fallback` is dialled where it refuses."""

    fallback: BridgeEndpoint | None = None

    def __init__(self, family: int, address: Address) -> None:
        self.family = family
        self.address = address

    def __str__(self) -> str:
        if isinstance(self.address, str):
            return self.address
        if self.family == socket.AF_INET6:
            return "[{}]:{}".format(*self.address)
        return ("vsock:%s:%d" if self.family != socket.AF_INET else "%s:%d") % self.address


def loopback_port(port: int) -> BridgeEndpoint:
    """A server may listen on one of the two addresses of `localhost`."""
    endpoint = BridgeEndpoint(socket.AF_INET, ("127.0.0.1", port))
    endpoint.fallback = BridgeEndpoint(socket.AF_INET6, ("::1", port))
    return endpoint


def parse_endpoint(written: str) -> BridgeEndpoint:
    """`HOST:PORT`, `unix:PATH`, `vsock:PORT` (any CID) or `vsock:CID:PORT`. Raises ValueError."""
    kind, colon, rest = written.partition(":")
    if kind == "unix" and rest:
        return BridgeEndpoint(socket.AF_UNIX, rest)
    host, has_port, port = written.rpartition(":")
    if kind == "vsock" and colon:
        cid = rest.rpartition(":")[0]
        return BridgeEndpoint(
            socket.AF_VSOCK, (_number(cid, written) if cid else ANY_CID, _number(port, written))
        )
    if not has_port:
        raise ValueError(
            f'"{written}" is not an address: give HOST:PORT, unix:PATH, vsock:PORT or vsock:CID:PORT'
        )
    return BridgeEndpoint(socket.AF_INET, (host or "127.0.0.1", _number(port, written)))


def _number(text: str, written: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'"{written}" needs a number instead of "{text}"')
    return int(text)


def raise_loopback() -> None:
    """Bring `lo` up. Raises OSError without the right to; the creator of this namespace may have
    done it already.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack("16xH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))
        if not flags & IFF_UP:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def listen(endpoint: BridgeEndpoint) -> socket.socket:
    """A listening socket. Replaces a Unix socket that nobody listens on. Raises OSError where
    anything else is at its path.
    """
    listener = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        if endpoint.family == socket.AF_INET:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif endpoint.family == socket.AF_UNIX and _is_dead(str(endpoint.address)):
            os.unlink(str(endpoint.address))  # noqa: PTH108 - an address is text
        listener.bind(endpoint.address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_dead(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError as fault:
            return fault.errno == errno.ECONNREFUSED and (os.lstat(path).st_mode & 0o170000) == 0o140000
        return False


def report(sentence: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"modelplex bridge: {sentence}\n")
        sys.stderr.flush()


class Side:
    """One of the two sockets of a connection. `pending` are bytes to write to it."""

    __slots__ = ("at_eof", "broken", "interest", "peer", "pending", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peer = self
        self.pending: bytes | memoryview = b""
        self.interest = 0
        self.at_eof = False
        """Nothing more can be read from it."""
        self.broken = False
        """Nothing more can be written to it."""


class Dial:
    """A connection to the target in progress, for an accepted client."""

    __slots__ = ("client", "deadline", "sock", "target")

    def __init__(self, client: socket.socket, sock: socket.socket, target: BridgeEndpoint) -> None:
        self.client = client
        self.sock = sock
        self.target = target
        self.deadline = time.monotonic() + DIAL_TIMEOUT_S


class Bridge:
    """Forwards connections of the listeners to one endpoint, or to that with which a listener was
    added, until `run` is told to stop.
    """

    def __init__(
        self,
        target: BridgeEndpoint,
        listeners: list[socket.socket],
        *,
        report: Callable[[str], None] = report,
    ) -> None:
        self._target = target
        self._report = report
        self._selector = selectors.DefaultSelector()
        self._blocked: list[Dial] = []
        """Dials that met a full backlog."""
        self._paused: list[tuple[socket.socket, BridgeEndpoint]] = []
        """Listeners that found no free descriptor."""
        self._closed: set[Side] = set()
        """Closed in this round of the selector, whose remaining events must be skipped."""
        for listener in listeners:
            self.add(listener)

    def add(self, listener: socket.socket, target: BridgeEndpoint | None = None) -> None:
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, target or self._target)

    def run(self, wakeup: socket.socket, is_over: Callable[[], bool]) -> None:
        """Forward until `is_over()`, which is called when `wakeup` (non-blocking) is readable."""
        self._selector.register(wakeup, selectors.EVENT_READ, wakeup)
        while not is_over():
            for key, mask in self._selector.select(RETRY_S if self._blocked or self._paused else None):
                data: Any = key.data
                if isinstance(data, BridgeEndpoint):
                    self._accept(key.fileobj, data)  # type: ignore[arg-type]
                elif isinstance(data, Side):
                    if data not in self._closed:
                        self._forward(data, mask)
                elif isinstance(data, Dial):
                    self._finish_dial(data)
                else:
                    with suppress(OSError):
                        while data.recv(4096):
                            pass
            self._closed.clear()
            self._retry()

    # --- accepting and dialling ---

    def _accept(self, listener: socket.socket, target: BridgeEndpoint) -> None:
        try:
            client, _ = listener.accept()
        except OSError as fault:
            if fault.errno in NO_DESCRIPTOR:
                self._selector.unregister(listener)
                self._paused.append((listener, target))
            return
        client.setblocking(False)
        self._dial_new(client, target)

    def _dial_new(self, client: socket.socket, target: BridgeEndpoint) -> None:
        try:
            sock = socket.socket(target.family, socket.SOCK_STREAM)
        except OSError as fault:
            self._report(f"{target}: {fault.strerror}")
            client.close()
            return
        sock.setblocking(False)
        self._dial(Dial(client, sock, target))

    def _dial(self, dial: Dial) -> None:
        code = dial.sock.connect_ex(dial.target.address)
        if code in {0, errno.EISCONN}:
            self._join(dial)
        elif code == errno.EAGAIN and dial.target.family == socket.AF_UNIX:
            self._blocked.append(dial)
        elif code in NOT_READY:
            self._selector.register(dial.sock, selectors.EVENT_WRITE, dial)
        else:
            self._fail(dial, code)

    def _finish_dial(self, dial: Dial) -> None:
        self._selector.unregister(dial.sock)
        if code := dial.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(dial, code)
        else:
            self._join(dial)

    def _retry(self) -> None:
        blocked, self._blocked = self._blocked, []
        for dial in blocked:
            if time.monotonic() > dial.deadline:
                self._fail(dial, errno.EAGAIN)
            else:
                self._dial(dial)
        paused, self._paused = self._paused, []
        for listener, target in paused:
            self._selector.register(listener, selectors.EVENT_READ, target)

    def _fail(self, dial: Dial, code: int) -> None:
        dial.sock.close()
        if code == errno.ECONNREFUSED and dial.target.fallback is not None:
            self._dial_new(dial.client, dial.target.fallback)
            return
        reason = "it accepts no connection" if code == errno.EAGAIN else os.strerror(code)
        self._report(f"{dial.target}: {reason}")
        dial.client.close()

    def _join(self, dial: Dial) -> None:
        for sock in (dial.client, dial.sock):
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one, two = Side(dial.client), Side(dial.sock)
        one.peer, two.peer = two, one
        self._watch(one)
        self._watch(two)

    # --- forwarding ---

    def _watch(self, side: Side) -> None:
        """Read where the peer has nothing pending; write what is pending here."""
        wanted = selectors.EVENT_WRITE if side.pending else 0
        if not side.at_eof and not side.peer.pending:
            wanted |= selectors.EVENT_READ
        if wanted == side.interest:
            return
        if not side.interest:
            self._selector.register(side.sock, wanted, side)
        elif wanted:
            self._selector.modify(side.sock, wanted, side)
        else:
            self._selector.unregister(side.sock)
        side.interest = wanted

    def _forward(self, side: Side, mask: int) -> None:
        peer = side.peer
        if mask & selectors.EVENT_WRITE and side.pending:
            self._write(side, side.pending)
        if mask & selectors.EVENT_READ and not side.at_eof and not peer.pending:
            self._read(side)
        finished = side.at_eof and peer.at_eof and not side.pending and not peer.pending
        # A side that is broken and at its end has left: the other direction has no reader.
        left = any(each.at_eof and each.broken and not each.peer.pending for each in (side, peer))
        if finished or left:
            self._close(side)
        else:
            self._watch(side)
            self._watch(peer)

    def _read(self, side: Side) -> None:
        try:
            data = side.sock.recv(CHUNK)
        except OSError as fault:
            if fault.errno in NOT_READY:
                return
            side.broken = True
            data = b""
        if data:
            if not side.peer.broken:
                self._write(side.peer, data)
            return
        side.at_eof = True
        if not side.peer.pending:
            self._half_close(side.peer)

    def _write(self, side: Side, data: bytes | memoryview) -> None:
        try:
            sent = side.sock.send(data)
        except OSError as fault:
            if fault.errno not in NOT_READY:
                # What it sent before, often an error response, may still be in our queue: the other
                # direction goes on.
                side.broken = True
                side.pending = b""
                return
            sent = 0
        side.pending = b"" if sent == len(data) else memoryview(data)[sent:]
        if not side.pending and side.peer.at_eof:
            self._half_close(side)

    def _half_close(self, side: Side) -> None:
        with suppress(OSError):
            side.sock.shutdown(socket.SHUT_WR)

    def _close(self, side: Side) -> None:
        for each in (side, side.peer):
            if each.interest:
                self._selector.unregister(each.sock)
            each.sock.close()
            self._closed.add(each)


# --- the command ---


class Once(argparse.Action):
    """An option with one value: argparse would silently use the last of several."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None)
        if before not in (None, values):
            parser.error(f"argument {option_string}: given twice, as {before} and as {values}")
        setattr(namespace, self.dest, values)


def file_name(written: str) -> str:
    """A path. An empty one, from a variable that is not set, would mean the working folder."""
    if not written:
        raise argparse.ArgumentTypeError("the path is empty")
    return written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket", metavar="PATH", type=file_name, action=Once, help="the gateway's Unix socket"
    )
    parser.add_argument(
        "--connect",
        metavar="ADDRESS",
        action=Once,
        help='another address of the gateway: "vsock:CID:PORT" (the host has CID 2)',
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        help=f'"HOST:PORT", "unix:PATH" or "vsock:PORT"; may be repeated (default: {DEFAULT_LISTEN})',
    )
    add_command_line(parser)


def add_command_line(parser: argparse.ArgumentParser, *, offered: tuple[str, ...] = ()) -> None:
    """All after the options. `offered` are words that shells complete beside programs."""
    action: Any = parser.add_argument(
        "command_line", nargs=argparse.REMAINDER, metavar="-- COMMAND", help=argparse.SUPPRESS
    )
    action.offered = offered


def command_of(rest: list[str]) -> list[str]:
    """The command line after the options, without the `--` that may separate them."""
    return rest[1:] if rest[:1] == ["--"] else rest


def run(arguments: argparse.Namespace) -> int:
    """Forward, and run the command if there is one. Returns its status, or 128 plus the number of
    the signal that ended it; without a command 0 after SIGTERM or Ctrl-C.
    """
    if (arguments.socket is None) == (arguments.connect is None):
        report("it needs either --socket PATH or --connect ADDRESS: the address of the gateway")
        return 2
    try:
        target = parse_endpoint(arguments.connect or f"unix:{arguments.socket}")
        endpoints = [parse_endpoint(each) for each in arguments.listen or [DEFAULT_LISTEN]]
    except ValueError as fault:
        report(str(fault))
        return 2
    if any(each.family == socket.AF_INET for each in endpoints):
        with suppress(OSError):
            raise_loopback()
    listeners: list[socket.socket] = []
    for each in endpoints:
        try:
            listeners.append(listen(each))
        except OSError as fault:
            report(f"cannot listen on {each}: {fault.strerror}")
            return 1
    raise_descriptor_limit()
    return BridgedCommand(command_of(arguments.command_line)).run(Bridge(target, listeners))


def raise_descriptor_limit() -> None:
    """To the hard limit. A connection needs two; the usual 1,024 are too few for a thousand."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def wakeup_on_signals() -> socket.socket:
    """A socket that is readable after a signal, SIGCHLD included."""
    wakeup, sender = socket.socketpair()
    wakeup.setblocking(False)
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return wakeup


def shell_status(code: int) -> int:
    """The status that a shell gives for a returncode of subprocess."""
    return code if code >= 0 else 128 - code


class BridgedCommand:
    """The program that the bridge is for. An empty one: forward until a signal."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self, bridge: Bridge) -> int:
        wakeup = wakeup_on_signals()
        for number in FORWARDED:
            signal.signal(number, self._on_signal)
        if self._command:
            try:
                self._child = subprocess.Popen(self._command)  # noqa: S603 - the user's own command
            except OSError as fault:
                report(f"cannot run {self._command[0]}: {fault.strerror}")
                return 127 if isinstance(fault, FileNotFoundError) else 126
        bridge.run(wakeup, self._is_over)
        if self._child is None:
            return 0
        return shell_status(self._child.wait())

    def _is_over(self) -> bool:
        return self._stopped or (self._child is not None and self._child.poll() is not None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._child is None:
            self._stopped = True
        elif not (number in FROM_TERMINAL and in_foreground()):
            self._child.send_signal(number)


def in_foreground() -> bool:
    """Whether this process's group is the foreground group of its terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bridge.py", description="Forward a loopback port to a gateway's socket.", allow_abbrev=False
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
