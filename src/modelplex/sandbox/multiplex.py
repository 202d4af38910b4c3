"""Many connections over one byte stream, for a virtual machine with a serial port and no network.

    multiplex.py --link /dev/vport0p1 --listen 127.0.0.1:11435 [-- COMMAND ...]     in the guest
    multiplex.py --link /run/vm/channel --socket /run/modelplex/modelplex.socket    on the host

One file for both ends with nothing but the standard library, so that it can be copied. It copies
bytes and knows no protocol. The guest's end accepts connections, the host's end dials the gateway
for each. The link is a character device or a Unix socket. A lost link is opened again, and both
ends then drop all streams.

A frame is `stream id (4), kind (1), length (4), payload, end mark (1)`.

- Each stream has a window of bytes in flight, which the other end renews (CREDIT) as it passes them
  on. A stalled reader costs its window and does not block others.
- A link may be cut anywhere and restart before an end notices. So an end that starts sends zeros up
  to the longest remainder of a frame, then HELLO with its new epoch. A frame that zeros completed
  has no end mark and is discarded; a frame of kind 0 means: skip to the next HELLO; a new epoch
  means: drop all streams.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

HEADER = struct.Struct(">IBI")
HELLO_BODY = struct.Struct(">16s8s8s")
NUMBER = struct.Struct(">I")
PADDING, HELLO, OPEN, DATA, EOF, RESET, CREDIT = range(7)
MAGIC = b"\x00modelplex-mux\x01\xff"
"""Marks a HELLO in a byte stream that is joined midway."""
END = b"\xa5"
NO_EPOCH = bytes(8)

MAX_PAYLOAD = 16_384
"""Short enough that streams take turns."""
WINDOW = 65_536
"""Bytes of one stream in flight in one direction. A thousand stalled readers cost 64 MB."""
LINK_QUEUE = 262_144
"""Bytes waiting for the link. Above it no connection is read."""
MAX_STREAMS = 4_096
"""Connections at a time: descriptors are limited."""
DIAL_TIMEOUT_S = 10.0
"""While the gateway's backlog is full."""
PAUSE_S = 0.05
"""Between two tries to open the link, or to dial."""

RESYNC = bytes(HEADER.size + MAX_PAYLOAD + len(END) + HEADER.size)
"""Completes any frame that the other end may be reading, and then is a header of kind 0."""


class FrameReceiver(Protocol):
    def on_frame(self, kind: int, number: int, payload: bytes) -> None: ...
    def drop_streams(self) -> None: ...


class FrameCodec:
    """Frames to bytes of the link and back, and the handshake of both ends. No I/O: `out` is to be
    written. `receiver` gets the frames of a conversation that both ends have joined, and
    `drop_streams` at the end of each.
    """

    def __init__(
        self, receiver: FrameReceiver, *, epoch: Callable[[], bytes] = lambda: os.urandom(8)
    ) -> None:
        self._receiver = receiver
        self._new_epoch = epoch
        self._epoch = NO_EPOCH
        self._peer = NO_EPOCH
        self._buffer = bytearray()
        self._searching = True
        self.linked = False
        self.out = bytearray()

    def start(self) -> None:
        """Begin a conversation on a new link."""
        self._buffer.clear()
        self._restart()

    def send(self, kind: int, number: int, payload: bytes | memoryview = b"") -> None:
        self.out += HEADER.pack(number, kind, len(payload))
        self.out += payload
        self.out += END

    def receive(self, data: bytes) -> None:
        """Bytes from the link, cut anywhere."""
        self._buffer += data
        while self._search() if self._searching else self._read_frame():
            pass

    def _restart(self) -> None:
        self._epoch = self._new_epoch()
        self._peer = NO_EPOCH
        self._searching = True
        self._end()
        self._send_hello()

    def _send_hello(self) -> None:
        self.out[:] = RESYNC
        self.send(HELLO, 0, HELLO_BODY.pack(MAGIC, self._epoch, self._peer))

    def _end(self) -> None:
        self.linked = False
        self._receiver.drop_streams()

    def _search(self) -> bool:
        mark = HEADER.pack(0, HELLO, HELLO_BODY.size) + MAGIC
        at = self._buffer.find(mark)
        self._searching = at < 0
        del self._buffer[: at if at >= 0 else max(0, len(self._buffer) - len(mark) + 1)]
        return at >= 0

    def _read_frame(self) -> bool:
        """False where the frame is not complete."""
        if len(self._buffer) < HEADER.size:
            return False
        number, kind, length = HEADER.unpack_from(self._buffer)
        if kind == PADDING:
            self._searching = True
            return True
        size = HEADER.size + length
        if kind > CREDIT or length > MAX_PAYLOAD or bytes(self._buffer[size : size + 1]) not in {b"", END}:
            del self._buffer[0]
            self._restart()  # bytes were lost
            return True
        if len(self._buffer) <= size:
            return False
        payload = bytes(self._buffer[HEADER.size : size])
        del self._buffer[: size + 1]
        if kind == HELLO:
            self._on_hello(payload)
        elif self.linked:
            self._receiver.on_frame(kind, number, payload)
        return True

    def _on_hello(self, payload: bytes) -> None:
        if len(payload) != HELLO_BODY.size or not payload.startswith(MAGIC):
            self._searching = True
            return
        _, theirs, ours = HELLO_BODY.unpack(payload)
        is_new = theirs != self._peer
        if is_new:
            self._peer = theirs
            self._end()
        if is_new or ours != self._epoch:
            self._send_hello()
        self.linked = ours == self._epoch != NO_EPOCH


class Link:
    """The character device or Unix socket to the other end, registered with selectors while it is
    open.
    """

    def __init__(self, path: str, registered: Sequence[selectors.BaseSelector]) -> None:
        self._path = path
        self._selectors = registered
        self.fd = -1

    @property
    def is_open(self) -> bool:
        return self.fd >= 0

    def open(self) -> bool:
        try:
            self.fd = open_link(self._path)
        except OSError:
            return False
        for each in self._selectors:
            each.register(self.fd, selectors.EVENT_READ)
        return True

    def close(self) -> None:
        if self.is_open:
            for each in self._selectors:
                each.unregister(self.fd)
            os.close(self.fd)
            self.fd = -1

    def read(self) -> bytes | None:
        """None where there is nothing to read, b"" where the link is lost."""
        try:
            return os.read(self.fd, LINK_QUEUE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def write(self, out: bytearray) -> bool:
        """Write what fits and remove it from `out`. False where the link is lost."""
        try:
            written = os.write(self.fd, out)
        except BlockingIOError:
            written = 0
        except OSError:
            return False
        del out[:written]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if out else 0)
        for each in self._selectors:
            if each.get_key(self.fd).events != events:
                each.modify(self.fd, events)
        return True


def open_link(path: str) -> int:
    """A descriptor that does not block. Raises OSError where there is no link, or no listener."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - pathlib costs start-up time in slow machines
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.setblocking(False)
        return connection.detach()


class MultiplexedStream:
    """One connection at this end. `inbox` is received and not yet written to the connection."""

    def __init__(self, number: int, connection: socket.socket, *, dial_until: float | None = None) -> None:
        self.number = number
        self.connection = connection
        self.dial_until = dial_until
        """The deadline of the dial; None once connected."""
        self.inbox = bytearray()
        self.credit = WINDOW
        """Bytes that the other end still accepts."""
        self.unacknowledged = 0
        """Bytes written to the connection for which no CREDIT is sent yet."""
        self.sent_eof = False
        self.received_eof = False
        self.is_shut = False
        self.interest = 0


class Multiplexer:
    """One end: a link and its streams. With `listen` it accepts connections, with `dial` (the path
    of a Unix socket) it makes one for each stream.
    """

    def __init__(
        self,
        link: str,
        *,
        listen: tuple[str, int] | None = None,
        dial: str | None = None,
        report: Callable[[str], None],
    ) -> None:
        self._dial = dial
        self._report = report
        self._frames = FrameCodec(self)
        self._streams: dict[int, MultiplexedStream] = {}
        self._dialling: set[int] = set()
        self._last = 0
        self._all = selectors.DefaultSelector()
        self._link_only = selectors.DefaultSelector()
        self._link = Link(link, (self._all, self._link_only))
        # Above the backlog the kernel answers with SYN cookies, and some connections are reset.
        self._listener = None if listen is None else socket.create_server(listen, backlog=MAX_STREAMS)
        if self._listener is not None:
            self._listener.setblocking(False)
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted ones inherit it
        self._listening = False

    @property
    def address(self) -> tuple[str, int]:
        """Of the listener."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def streams(self) -> int:
        return len(self._streams)

    @property
    def buffered(self) -> int:
        """Bytes in memory, of both directions."""
        return len(self._frames.out) + sum(len(each.inbox) for each in self._streams.values())

    def run(self, is_over: Callable[[], bool]) -> None:
        """Until `is_over()`, which is called at least every PAUSE_S."""
        try:
            while not is_over():
                self.run_once(PAUSE_S)
        finally:
            self.close()

    def close(self) -> None:
        self._lose_link()
        if self._listener is not None:
            self._listener.close()
        self._all.close()
        self._link_only.close()

    def run_once(self, wait: float) -> None:
        """Serve what is ready within `wait` seconds."""
        if not self._link.is_open:
            if not self._link.open():
                time.sleep(wait)
                return
            self._frames.start()
        self._watch_listener()
        for number in tuple(self._dialling):
            self._connect(self._streams[number])
        is_full = len(self._frames.out) >= LINK_QUEUE
        for key, ready in (self._link_only if is_full else self._all).select(wait):
            if not self._link.is_open:
                return
            if key.fd == self._link.fd:
                self._serve_link(ready)
            elif not isinstance(key.data, MultiplexedStream):
                self._accept()
            elif key.data.number in self._streams:  # it may have ended in this round
                self._serve(key.data, ready)
        if self._link.is_open and self._frames.out:
            self._write_link()

    # --- the link

    def _serve_link(self, ready: int) -> None:
        if ready & selectors.EVENT_READ:
            data = self._link.read()
            if data == b"":
                self._lose_link()
                time.sleep(PAUSE_S)  # a port without another end reports it again and again
                return
            if data:
                self._frames.receive(data)
        if ready & selectors.EVENT_WRITE:
            self._write_link()

    def _write_link(self) -> None:
        if not self._link.write(self._frames.out):
            self._lose_link()

    def _lose_link(self) -> None:
        self._link.close()
        self.drop_streams()

    # --- connections

    def _watch_listener(self) -> None:
        """Accept while the other end is there; otherwise clients wait in the backlog."""
        wanted = self._frames.linked and len(self._streams) < MAX_STREAMS
        if self._listener is None or wanted == self._listening:
            return
        if wanted:
            self._all.register(self._listener, selectors.EVENT_READ)
        else:
            self._all.unregister(self._listener)
        self._listening = wanted

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._last = self._last % 0xFFFF_FFFF + 1
            while self._last in self._streams:
                self._last = self._last % 0xFFFF_FFFF + 1
            self._frames.send(OPEN, self._last)
            self._add(MultiplexedStream(self._last, connection))

    def _add(self, stream: MultiplexedStream) -> None:
        stream.connection.setblocking(False)
        self._streams[stream.number] = stream
        self._watch(stream)

    def _connect(self, stream: MultiplexedStream) -> None:
        """Connecting to a Unix socket succeeds or fails at once; with a full backlog it is tried
        again.
        """
        assert self._dial is not None
        assert stream.dial_until is not None
        try:
            stream.connection.connect(self._dial)
        except OSError as error:
            if not isinstance(error, BlockingIOError) or time.monotonic() > stream.dial_until:
                self._report(f"{self._dial}: {error}")
                self._reset(stream)
            return
        self._dialling.discard(stream.number)
        stream.dial_until = None
        self._watch(stream)

    def _watch(self, stream: MultiplexedStream) -> None:
        events = 0
        if stream.dial_until is None:
            if not stream.sent_eof and stream.credit:
                events |= selectors.EVENT_READ
            if stream.inbox or (stream.received_eof and not stream.is_shut):
                events |= selectors.EVENT_WRITE
        if events == stream.interest:
            return
        if not stream.interest:
            self._all.register(stream.connection, events, stream)
        elif events:
            self._all.modify(stream.connection, events, stream)
        else:
            self._all.unregister(stream.connection)
        stream.interest = events

    def _serve(self, stream: MultiplexedStream, ready: int) -> None:
        try:
            if ready & selectors.EVENT_READ and stream.credit and len(self._frames.out) < LINK_QUEUE:
                self._read(stream)
            if ready & selectors.EVENT_WRITE:
                self._write(stream)
        except BlockingIOError:
            pass
        except OSError:
            self._reset(stream)
            return
        if stream.sent_eof and stream.is_shut:
            self._forget(stream)
        else:
            self._watch(stream)

    def _read(self, stream: MultiplexedStream) -> None:
        data = stream.connection.recv(min(MAX_PAYLOAD, stream.credit))
        if data:
            stream.credit -= len(data)
            self._frames.send(DATA, stream.number, data)
        else:
            stream.sent_eof = True
            self._frames.send(EOF, stream.number)

    def _write(self, stream: MultiplexedStream) -> None:
        if stream.inbox:
            written = stream.connection.send(stream.inbox)
            del stream.inbox[:written]
            stream.unacknowledged += written
            if stream.unacknowledged >= WINDOW // 4:
                self._frames.send(CREDIT, stream.number, NUMBER.pack(stream.unacknowledged))
                stream.unacknowledged = 0
        if stream.received_eof and not stream.inbox:
            stream.connection.shutdown(socket.SHUT_WR)
            stream.is_shut = True

    def _reset(self, stream: MultiplexedStream) -> None:
        self._frames.send(RESET, stream.number)
        self._forget(stream, cut=True)

    def _forget(self, stream: MultiplexedStream, *, cut: bool = False) -> None:
        self._streams.pop(stream.number, None)
        self._dialling.discard(stream.number)
        if stream.interest:
            self._all.unregister(stream.connection)
        if cut and stream.connection.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # a reset: a cut response must not look complete
                stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.connection.close()

    # --- frames from the other end

    def drop_streams(self) -> None:
        for each in tuple(self._streams.values()):
            self._forget(each, cut=True)

    def on_frame(self, kind: int, number: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if kind == OPEN:
            self._open(number, is_taken=stream is not None)
        elif stream is None:
            return  # it ended here while the frame was in flight
        elif kind == RESET:
            self._forget(stream, cut=True)
        elif kind == DATA and len(stream.inbox) + stream.unacknowledged + len(payload) > WINDOW:
            self._reset(stream)  # more than the window: the sender must not decide about our memory
        else:
            if kind == DATA:
                stream.inbox += payload
            elif kind == EOF:
                stream.received_eof = True
            elif kind == CREDIT and len(payload) == NUMBER.size:
                stream.credit = min(WINDOW, stream.credit + NUMBER.unpack(payload)[0])
            self._watch(stream)

    def _open(self, number: int, *, is_taken: bool) -> None:
        if self._dial is None or is_taken or len(self._streams) >= MAX_STREAMS:
            self._frames.send(RESET, number)
            return
        try:
            connection = socket.socket(socket.AF_UNIX)
        except OSError as error:  # no free descriptor
            self._report(f"{self._dial}: {error}")
            self._frames.send(RESET, number)
            return
        stream = MultiplexedStream(number, connection, dial_until=time.monotonic() + DIAL_TIMEOUT_S)
        self._dialling.add(number)
        self._add(stream)
        self._connect(stream)


def raise_loopback() -> None:
    """Bring `lo` up, as nothing else does in a machine without a network. Without the right to,
    nothing happens.
    """
    import fcntl

    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (_, flags) = struct.unpack("16sH14x", fcntl.ioctl(any_socket, get_flags, request))
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", flags | up))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="multiplex", description="Many connections over one serial port of a virtual machine."
    )
    parser.add_argument("--link", required=True, metavar="PATH", help="a character device or a Unix socket")
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--listen", metavar="HOST:PORT", help="accept connections here: the guest's end")
    end.add_argument("--socket", metavar="PATH", help="forward them to this Unix socket: the host's end")
    parser.add_argument("command", nargs="*", help="run this, and end with its status")
    options = parser.parse_args(arguments)
    listen = None
    if options.listen is not None:
        raise_loopback()
        host, _, port = options.listen.rpartition(":")
        listen = (host, int(port))
    statuses: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: statuses.append(128 + got))
    multiplexer = Multiplexer(
        options.link,
        listen=listen,
        dial=options.socket,
        report=lambda sentence: print(f"multiplex: {sentence}", file=sys.stderr, flush=True),  # noqa: T201 - it has no log
    )
    child = subprocess.Popen(options.command) if options.command else None  # noqa: S603 - the user's own command

    def is_over() -> bool:
        if child is not None and child.poll() is not None:
            statuses.append(child.returncode if child.returncode >= 0 else 128 - child.returncode)
        return bool(statuses)

    multiplexer.run(is_over)
    if child is not None and child.poll() is None:
        child.terminate()
        child.wait()
    return statuses[-1] if statuses else 0


if __name__ == "__main__":
    sys.exit(main())
