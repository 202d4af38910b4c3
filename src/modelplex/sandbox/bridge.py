"""A bridge: connections on a port of the loopback, a Unix socket or an AF_VSOCK port become
connections to the gateway's socket, or to its AF_VSOCK port.

It stands alone: nothing but the standard library of Python 3.8, nothing else of this package, so
that this one file can be copied into a container or a guest:

    python3 bridge.py --socket PATH --listen 127.0.0.1:11435 [-- COMMAND ...]

It copies bytes and knows no protocol. One thread, one selector: what the one side does not take is
not read from the other.
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

PIECE = 262_144
"""Bytes of one read: larger ones are no faster, and this is the most that a connection holds in one
direction.
"""
DIAL_SECONDS = 10.0
"""How long a gateway may have no room for a connection (a full backlog) until the dial has failed.
"""
RETRY_SECONDS = 0.02
"""Between two looks at a full backlog, and between two tries to accept where no descriptor is left.
"""
BACKLOG = 1024
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
TYPED = (signal.SIGINT, signal.SIGQUIT)
"""What a terminal sends to the whole foreground group: the command has had it already."""

NOT_YET = (errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY, errno.EINTR)
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class BridgeEndpoint:
    """Where to listen or to dial: `HOST:PORT`, `unix:PATH`, `vsock:PORT` (any CID) or
    `vsock:CID:PORT`.
    """

    def __init__(self, family: int, address: Address) -> None:
        self.family = family
        self.address = address

    def __str__(self) -> str:
        if isinstance(self.address, str):
            return self.address
        return ("vsock:%s:%d" if self.family != socket.AF_INET else "%s:%d") % self.address


def place(written: str) -> BridgeEndpoint:
    """Read a place. Raises ValueError with a sentence."""
    kind, colon, rest = written.partition(":")
    if kind == "unix" and colon and rest:
        return BridgeEndpoint(socket.AF_UNIX, rest)
    if kind == "vsock" and colon:
        cid, _, port = rest.rpartition(":")
        return BridgeEndpoint(
            socket.AF_VSOCK, (_number(cid, written) if cid else 0xFFFFFFFF, _number(port, written))
        )
    host, colon, port = written.rpartition(":")
    if not colon:
        raise ValueError(f'"{written}" is no place: give HOST:PORT, unix:PATH, vsock:PORT or vsock:CID:PORT')
    return BridgeEndpoint(socket.AF_INET, (host or "127.0.0.1", _number(port, written)))


def _number(text: str, written: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'"{written}" has "{text}" where a number stands')
    return int(text)


def raise_loopback() -> None:
    """Bring `lo` up. Raises OSError where it is not ours to raise; whoever made this namespace may
    have done it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack("16xH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked))
        if not flags & IFF_UP:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def listen(where: BridgeEndpoint) -> socket.socket:
    """A listening socket. A Unix socket that nobody serves any more is replaced; anything else at
    its path is refused.
    """
    listener = socket.socket(where.family, socket.SOCK_STREAM)
    try:
        if where.family == socket.AF_INET:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif where.family == socket.AF_UNIX and _is_dead(str(where.address)):
            os.unlink(str(where.address))  # noqa: PTH108 - an address is text
        listener.bind(where.address)
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


def complain(sentence: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"modelplex bridge: {sentence}\n")
        sys.stderr.flush()


class End:
    """One of the two sockets of a connection. `held` is what waits until this socket takes it."""

    __slots__ = ("broken", "ended", "held", "interest", "other", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.other = self
        self.held: bytes | memoryview = b""
        self.interest = 0
        self.ended = False
        """It says no more."""
        self.broken = False
        """It takes no more."""


class Dial:
    """A connection that is being made for a client."""

    __slots__ = ("client", "sock", "until")

    def __init__(self, client: socket.socket, sock: socket.socket, until: float) -> None:
        self.client = client
        self.sock = sock
        self.until = until


class Bridge:
    """Carries what arrives at the listeners to one place, until `run` is told to end."""

    def __init__(
        self,
        target: BridgeEndpoint,
        listeners: list[socket.socket],
        *,
        tell: Callable[[str], None] = complain,
    ) -> None:
        self._target = target
        self._tell = tell
        self._selector = selectors.DefaultSelector()
        self._waiting: list[Dial] = []
        """Dials that met a full backlog."""
        self._resting: list[socket.socket] = []
        """Listeners that found no descriptor free."""
        self._gone: dict[End, bool] = {}
        for listener in listeners:
            self.add(listener)

    def add(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, None)

    def run(self, wakeup: socket.socket, over: Callable[[], bool]) -> None:
        """Carry until `over()`, which is asked whenever `wakeup` can be read."""
        wakeup.setblocking(False)
        self._selector.register(wakeup, selectors.EVENT_READ, wakeup)
        while not over():
            for key, mask in self._selector.select(RETRY_SECONDS if self._waiting or self._resting else None):
                data: Any = key.data
                if data is None:
                    self._accept(key.fileobj)  # type: ignore[arg-type]
                elif isinstance(data, End):
                    if data not in self._gone:
                        self._carry(data, mask)
                elif isinstance(data, Dial):
                    self._dialled(data)
                else:
                    with suppress(OSError):
                        while data.recv(4096):
                            pass
            self._gone.clear()
            self._again()

    # --- accepting and dialling ---

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError as fault:
            if fault.errno in NO_DESCRIPTOR:
                self._selector.unregister(listener)
                self._resting.append(listener)
            return
        client.setblocking(False)
        try:
            sock = socket.socket(self._target.family, socket.SOCK_STREAM)
        except OSError as fault:
            self._fail(client, None, str(fault.strerror))
            return
        sock.setblocking(False)
        self._dial(Dial(client, sock, time.monotonic() + DIAL_SECONDS))

    def _dial(self, dial: Dial) -> None:
        code = dial.sock.connect_ex(self._target.address)
        if code in {0, errno.EISCONN}:
            self._join(dial)
        elif code == errno.EAGAIN and self._target.family == socket.AF_UNIX:
            self._waiting.append(dial)
        elif code in NOT_YET:
            self._selector.register(dial.sock, selectors.EVENT_WRITE, dial)
        else:
            self._fail(dial.client, dial.sock, os.strerror(code))

    def _dialled(self, dial: Dial) -> None:
        self._selector.unregister(dial.sock)
        code = dial.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(dial.client, dial.sock, os.strerror(code))
        else:
            self._join(dial)

    def _again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for dial in waiting:
            if time.monotonic() > dial.until:
                self._fail(dial.client, dial.sock, "it takes no connection")
            else:
                self._dial(dial)
        resting, self._resting = self._resting, []
        for listener in resting:
            self._selector.register(listener, selectors.EVENT_READ, None)

    def _fail(self, client: socket.socket, sock: socket.socket | None, reason: str) -> None:
        self._tell(f"{self._target}: {reason}")
        client.close()
        if sock is not None:
            sock.close()

    def _join(self, dial: Dial) -> None:
        for sock in (dial.client, dial.sock):
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one, two = End(dial.client), End(dial.sock)
        one.other, two.other = two, one
        self._watch(one)
        self._watch(two)

    # --- carrying ---

    def _watch(self, end: End) -> None:
        """Read where the other side holds nothing, write where this one does."""
        wanted = 0
        if not end.ended and not end.other.held:
            wanted |= selectors.EVENT_READ
        if end.held:
            wanted |= selectors.EVENT_WRITE
        if wanted == end.interest:
            return
        if not end.interest:
            self._selector.register(end.sock, wanted, end)
        elif wanted:
            self._selector.modify(end.sock, wanted, end)
        else:
            self._selector.unregister(end.sock)
        end.interest = wanted

    def _carry(self, end: End, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and end.held:
            self._give(end, end.held)
        if mask & selectors.EVENT_READ and not end.ended and not end.other.held:
            self._take(end)
        other = end.other
        both = end.ended and other.ended and not end.held and not other.held
        # Who takes no more and has said all has left: nothing will come of the rest.
        left = (end.ended and end.broken and not other.held) or (
            other.ended and other.broken and not end.held
        )
        if both or left:
            self._close(end)
        else:
            self._watch(end)
            self._watch(other)

    def _take(self, end: End) -> None:
        try:
            data = end.sock.recv(PIECE)
        except OSError as fault:
            if fault.errno in NOT_YET:
                return
            end.broken = True
            data = b""
        if data:
            if not end.other.broken:
                self._give(end.other, data)
            return
        end.ended = True
        if not end.other.held:
            self._hang_up(end.other)

    def _give(self, end: End, data: bytes | memoryview) -> None:
        try:
            sent = end.sock.send(data)
        except OSError as fault:
            if fault.errno not in NOT_YET:
                # What it has said may still lie in our queue: a refusal, often. So the other
                # direction goes on.
                end.broken = True
                end.held = b""
                return
            sent = 0
        end.held = b"" if sent == len(data) else memoryview(data)[sent:]
        if not end.held and end.other.ended:
            self._hang_up(end)

    def _hang_up(self, end: End) -> None:
        """The other side's end becomes a half-close, so that an answer still streams."""
        with suppress(OSError):
            end.sock.shutdown(socket.SHUT_WR)

    def _close(self, end: End) -> None:
        for each in (end, end.other):
            if each.interest:
                self._selector.unregister(each.sock)
            each.sock.close()
            self._gone[each] = True


# --- the command ---


class Once(argparse.Action):
    """A value that an option has once: argparse lets the last of several win, so that what was
    asked first is not done.
    """

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
    """An empty path, as of a variable that is not set, would name the working folder. Raises
    ArgumentTypeError.
    """
    if not written:
        raise argparse.ArgumentTypeError("it names no file")
    return written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket", metavar="PATH", type=file_name, action=Once, help="the gateway's Unix socket"
    )
    parser.add_argument(
        "--connect",
        metavar="PLACE",
        action=Once,
        help='where the gateway is, if not on a Unix socket here: "vsock:CID:PORT" (the host is CID 2)',
    )
    parser.add_argument(
        "--listen",
        metavar="PLACE",
        action="append",
        help='"HOST:PORT", "unix:PATH" or "vsock:PORT"; may be repeated (default: 127.0.0.1:11435)',
    )
    parser.add_argument(
        "command_line", nargs=argparse.REMAINDER, metavar="-- COMMAND", help=argparse.SUPPRESS
    )


def command_of(rest: list[str]) -> list[str]:
    """What stands behind the options, less the `--` that may part them."""
    return rest[1:] if rest[:1] == ["--"] else rest


def run(arguments: argparse.Namespace) -> int:
    """Serve what the arguments name. Returns the command's status, 128 and the signal's number
    where one ended it; without a command 0 after SIGTERM or Ctrl-C.
    """
    if (arguments.socket is None) == (arguments.connect is None):
        complain("it needs one of --socket PATH and --connect PLACE: where the gateway is")
        return 2
    try:
        target = (
            place(arguments.connect)
            if arguments.connect
            else BridgeEndpoint(socket.AF_UNIX, arguments.socket)
        )
        places = [place(each) for each in arguments.listen or ["127.0.0.1:11435"]]
    except ValueError as fault:
        complain(str(fault))
        return 2
    if any(each.family == socket.AF_INET for each in places):
        with suppress(OSError):
            raise_loopback()
    listeners: list[socket.socket] = []
    for each in places:
        try:
            listeners.append(listen(each))
        except OSError as fault:
            complain(f"cannot listen on {each}: {fault.strerror}")
            return 1
    raise_descriptors()
    return Command(command_of(arguments.command_line)).run(Bridge(target, listeners))


def raise_descriptors() -> None:
    """Two for each connection; the usual 1,024 are too few for a thousand of them."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Command:
    """The program that the bridge is for. An empty one means: serve until a signal."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._child: subprocess.Popen[bytes] | None = None
        self._ended = False

    def run(self, bridge: Bridge) -> int:
        woken, wakes = socket.socketpair()
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in PASSED_ON:
            signal.signal(number, self._signalled)
        if self._words:
            try:
                self._child = subprocess.Popen(self._words)  # noqa: S603 - it is what the user asked for
            except OSError as fault:
                complain(f"cannot run {self._words[0]}: {fault.strerror}")
                return 127 if isinstance(fault, FileNotFoundError) else 126
        bridge.run(woken, self._over)
        if self._child is None:
            return 0
        status = self._child.wait()
        return status if status >= 0 else 128 - status

    def _over(self) -> bool:
        return self._ended or (self._child is not None and self._child.poll() is not None)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._child is None:
            self._ended = True
        elif not (number in TYPED and in_foreground()):
            self._child.send_signal(number)


def in_foreground() -> bool:
    """Whether a terminal sends what is typed to this process's group."""
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
        prog="bridge.py",
        description="Connections to a port of the loopback become connections to the gateway's socket.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
