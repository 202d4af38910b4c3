"""Many connections over one byte stream: the door of a virtual machine that has a serial port and
no network.

    multiplex.py --link /dev/vport0p1 --listen 127.0.0.1:11435 [-- COMMAND ...]     in the guest
    multiplex.py --link /run/vm/channel --socket /run/modelplex/modelplex.socket    on the host

One file for both ends, which may be copied: the standard library and nothing of ours. It carries
bytes and reads none of them. The guest's end takes connections, the host's end dials the gateway
for each. The link is a character device or a Unix socket; it is opened again whenever it is lost,
and then both ends drop every stream.

A frame is `stream id (4), kind (1), length (4), payload, end mark (1)`. What keeps it whole:

- Each stream has a window: so many bytes may be under way until the other end has passed them on
  and says so (CREDIT). A reader that stalls costs its window, and stops nobody else.
- A link may be cut anywhere and begin anew without either end noticing at once. So an end that
  begins sends as many zeros as the longest frame may still lack, then HELLO with an epoch of its
  own. A frame that zeros completed has no end mark and is told to nobody; one of kind 0 means: skip
  until the next HELLO; another epoch means: drop every stream.
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
"""How a HELLO is found in a stream that was joined midway."""
END = b"\xa5"
NOBODY = bytes(8)

PIECE = 16_384
"""The longest payload: short enough that streams take turns."""
WINDOW = 65_536
"""Bytes of one stream that may be under way in one direction. A thousand stalled readers cost 64
MB.
"""
LINK_QUEUE = 262_144
"""Bytes that wait for the link; beyond it no connection is read."""
MAX_STREAMS = 4_096
"""Connections at a time: descriptors are finite."""
DIAL_WAIT_S = 10.0
"""How long a gateway whose backlog is full is asked again."""
PAUSE_S = 0.05
"""Between two tries to open the link, or to dial."""

ANEW = bytes(HEADER.size + PIECE + len(END) + HEADER.size)
"""Completes whatever frame the other end may be in, and is a whole header of kind 0 after that."""


class FrameReceiver(Protocol):
    """What the frames are told to."""

    def take(self, kind: int, number: int, payload: bytes) -> None: ...
    def drop(self) -> None: ...


class FrameCodec:
    """Bytes of the link to frames and back, and the agreement that both ends are in the same
    conversation. No I/O: `out` is what is to be written.

    `told` hears only of frames of a conversation that both ends are in, and `drop` at the end of
    each.
    """

    def __init__(self, told: FrameReceiver, *, epoch: Callable[[], bytes] = lambda: os.urandom(8)) -> None:
        self._told = told
        self._new_epoch = epoch
        self._epoch = NOBODY
        self._peer = NOBODY
        self._got = bytearray()
        self._searching = True
        self.linked = False
        self.out = bytearray()

    def begin(self) -> None:
        """The link is new: nothing of before counts any more."""
        self._got.clear()
        self._anew()

    def _anew(self) -> None:
        self._epoch = self._new_epoch()
        self._peer = NOBODY
        self._searching = True
        self._end()
        self._hello()

    def send(self, kind: int, number: int, payload: bytes | memoryview = b"") -> None:
        self.out += HEADER.pack(number, kind, len(payload))
        self.out += payload
        self.out += END

    def receive(self, data: bytes) -> None:
        """Bytes from the link, cut anywhere."""
        self._got += data
        while self._search() if self._searching else self._step():
            pass

    def _hello(self) -> None:
        self.out[:] = ANEW
        self.send(HELLO, 0, HELLO_BODY.pack(MAGIC, self._epoch, self._peer))

    def _end(self) -> None:
        self.linked = False
        self._told.drop()

    def _search(self) -> bool:
        mark = HEADER.pack(0, HELLO, HELLO_BODY.size) + MAGIC
        at = self._got.find(mark)
        self._searching = at < 0
        del self._got[: at if at >= 0 else max(0, len(self._got) - len(mark) + 1)]
        return at >= 0

    def _step(self) -> bool:
        """One frame, where it is whole."""
        if len(self._got) < HEADER.size:
            return False
        number, kind, length = HEADER.unpack_from(self._got)
        if kind == PADDING:
            self._searching = True
            return True
        size = HEADER.size + length
        if kind > CREDIT or length > PIECE or bytes(self._got[size : size + 1]) not in {b"", END}:
            del self._got[0]
            self._anew()  # no frame of ours: something was lost, and both ends begin anew
            return True
        if len(self._got) <= size:
            return False
        payload = bytes(self._got[HEADER.size : size])
        del self._got[: size + 1]
        if kind == HELLO:
            self._greeted(payload)
        elif self.linked:
            self._told.take(kind, number, payload)
        return True

    def _greeted(self, payload: bytes) -> None:
        if len(payload) != HELLO_BODY.size or not payload.startswith(MAGIC):
            self._searching = True
            return
        _, theirs, ours = HELLO_BODY.unpack(payload)
        other = theirs != self._peer
        if other:
            self._peer = theirs
            self._end()
        if other or ours != self._epoch:
            self._hello()
        self.linked = ours == self._epoch != NOBODY


class MultiplexedStream:
    """One connection at this end. `inbox` is what the other end sent and the connection has not
    taken yet.
    """

    def __init__(self, number: int, connection: socket.socket, *, dialled_by: float | None = None) -> None:
        self.number = number
        self.connection = connection
        self.dialled_by = dialled_by
        """Until when the gateway may be asked again; None once it is connected."""
        self.inbox = bytearray()
        self.credit = WINDOW
        """How much more the other end takes."""
        self.owed = 0
        """What the connection took and the other end has not been told of."""
        self.said_eof = False
        self.got_eof = False
        self.shut = False
        self.watched = 0


class Multiplexer:
    """One end: a link, and the streams over it. With `listen` it takes connections, with `dial` (a
    Unix socket's path) it makes one for each stream.
    """

    def __init__(
        self,
        link: str,
        *,
        listen: tuple[str, int] | None = None,
        dial: str | None = None,
        tell: Callable[[str], None],
    ) -> None:
        self._path = link
        self._dial = dial
        self._tell = tell
        self._frames = FrameCodec(self)
        self._streams: dict[int, MultiplexedStream] = {}
        self._dialling: set[int] = set()
        self._last = 0
        self._everything = selectors.DefaultSelector()
        self._only_link = selectors.DefaultSelector()
        self._link: int | None = None
        # A shorter queue than what may come at once is answered with SYN cookies, and some of those
        # connections are reset.
        self._listener = None if listen is None else socket.create_server(listen, backlog=MAX_STREAMS)
        if self._listener is not None:
            self._listener.setblocking(False)
            self._listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # its connections have it too
        self._listening = False

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def streams(self) -> int:
        return len(self._streams)

    @property
    def held(self) -> int:
        """Bytes in memory on their way, in both directions."""
        return len(self._frames.out) + sum(len(each.inbox) for each in self._streams.values())

    def run(self, over: Callable[[], bool]) -> None:
        """Until `over`, which is asked some times a second and after each piece of work."""
        try:
            while not over():
                self.turn(PAUSE_S)
        finally:
            self.close()

    def close(self) -> None:
        self._lose()
        self.drop()
        if self._listener is not None:
            self._listener.close()
        self._everything.close()
        self._only_link.close()

    def turn(self, wait: float) -> None:
        """One round of what is ready, waiting at most so many seconds for it."""
        if self._link is None and not self._open():
            time.sleep(wait)
            return
        self._accept_where_linked()
        for number in tuple(self._dialling):
            self._connect(self._streams[number])
        full = len(self._frames.out) >= LINK_QUEUE
        for key, ready in (self._only_link if full else self._everything).select(wait):
            if self._link is None:
                return
            if key.fd == self._link:
                self._serve_link(ready)
            elif not isinstance(key.data, MultiplexedStream):
                self._accept()
            elif key.data.number in self._streams:  # it may have gone while others were served
                self._serve(key.data, ready)
        if self._link is not None and self._frames.out:
            self._write_link()

    # --- the link

    def _open(self) -> bool:
        try:
            self._link = opened(self._path)
        except OSError:
            return False
        self._only_link.register(self._link, selectors.EVENT_READ)
        self._everything.register(self._link, selectors.EVENT_READ)
        self._frames.begin()
        return True

    def _lose(self) -> None:
        if self._link is None:
            return
        for each in (self._only_link, self._everything):
            each.unregister(self._link)
        os.close(self._link)
        self._link = None
        self.drop()

    def _serve_link(self, ready: int) -> None:
        if ready & selectors.EVENT_READ:
            try:
                data = os.read(self._fd, LINK_QUEUE)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                self._lose()
                time.sleep(PAUSE_S)  # a port whose other side is not there says so at once, again and again
                return
            if data:
                self._frames.receive(data)
        if ready & selectors.EVENT_WRITE:
            self._write_link()

    def _write_link(self) -> None:
        try:
            written = os.write(self._fd, self._frames.out)
        except BlockingIOError:
            written = 0
        except OSError:
            self._lose()
            return
        del self._frames.out[:written]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._frames.out else 0)
        for each in (self._only_link, self._everything):
            if each.get_key(self._fd).events != events:
                each.modify(self._fd, events)

    @property
    def _fd(self) -> int:
        assert self._link is not None
        return self._link

    # --- connections

    def _accept_where_linked(self) -> None:
        """While the other end is away, who connects waits in the backlog."""
        wanted = self._frames.linked and len(self._streams) < MAX_STREAMS
        if self._listener is None or wanted == self._listening:
            return
        if wanted:
            self._everything.register(self._listener, selectors.EVENT_READ)
        else:
            self._everything.unregister(self._listener)
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
        """A Unix socket is connected at once, or is not there, or has a full backlog: then it is
        asked again.
        """
        assert self._dial is not None
        assert stream.dialled_by is not None
        try:
            stream.connection.connect(self._dial)
        except BlockingIOError as error:
            if time.monotonic() > stream.dialled_by:
                self._refuse(stream, error)
            return
        except OSError as error:
            self._refuse(stream, error)
            return
        self._dialling.discard(stream.number)
        stream.dialled_by = None
        self._watch(stream)

    def _refuse(self, stream: MultiplexedStream, error: OSError) -> None:
        self._tell(f"{self._dial}: {error}")
        self._reset(stream)

    def _watch(self, stream: MultiplexedStream) -> None:
        """Ask for what this stream can do something about."""
        events = 0
        if stream.dialled_by is None:
            if not stream.said_eof and stream.credit:
                events |= selectors.EVENT_READ
            if stream.inbox or (stream.got_eof and not stream.shut):
                events |= selectors.EVENT_WRITE
        if events == stream.watched:
            return
        if not stream.watched:
            self._everything.register(stream.connection, events, stream)
        elif events:
            self._everything.modify(stream.connection, events, stream)
        else:
            self._everything.unregister(stream.connection)
        stream.watched = events

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
        if stream.said_eof and stream.shut:
            self._forget(stream)
        else:
            self._watch(stream)

    def _read(self, stream: MultiplexedStream) -> None:
        data = stream.connection.recv(min(PIECE, stream.credit))
        if data:
            stream.credit -= len(data)
            self._frames.send(DATA, stream.number, data)
        else:
            stream.said_eof = True
            self._frames.send(EOF, stream.number)

    def _write(self, stream: MultiplexedStream) -> None:
        if stream.inbox:
            written = stream.connection.send(stream.inbox)
            del stream.inbox[:written]
            stream.owed += written
            if stream.owed >= WINDOW // 4:
                self._frames.send(CREDIT, stream.number, NUMBER.pack(stream.owed))
                stream.owed = 0
        if stream.got_eof and not stream.inbox:
            stream.connection.shutdown(socket.SHUT_WR)
            stream.shut = True

    def _reset(self, stream: MultiplexedStream) -> None:
        self._frames.send(RESET, stream.number)
        self._forget(stream, cut=True)

    def _forget(self, stream: MultiplexedStream, *, cut: bool = False) -> None:
        self._streams.pop(stream.number, None)
        self._dialling.discard(stream.number)
        if stream.watched:
            self._everything.unregister(stream.connection)
        if cut and stream.connection.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # a cut answer must not look like one that ended
                stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.connection.close()

    # --- what the other end says

    def drop(self) -> None:
        """The conversation is over, and with it every stream of it."""
        for each in tuple(self._streams.values()):
            self._forget(each, cut=True)

    def take(self, kind: int, number: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if kind == OPEN:
            self._opened(number, stream)
        elif stream is None:
            return  # it was forgotten here while this was on its way
        elif kind == RESET:
            self._forget(stream, cut=True)
        else:
            self._told(stream, kind, payload)

    def _opened(self, number: int, already: MultiplexedStream | None) -> None:
        if self._dial is None or already is not None or len(self._streams) >= MAX_STREAMS:
            self._frames.send(RESET, number)
            return
        try:
            connection = socket.socket(socket.AF_UNIX)
        except OSError as error:  # no descriptor left
            self._tell(f"{self._dial}: {error}")
            self._frames.send(RESET, number)
            return
        stream = MultiplexedStream(number, connection, dialled_by=time.monotonic() + DIAL_WAIT_S)
        self._dialling.add(number)
        self._add(stream)
        self._connect(stream)

    def _told(self, stream: MultiplexedStream, kind: int, payload: bytes) -> None:
        if kind == DATA:
            if len(stream.inbox) + stream.owed + len(payload) > WINDOW:
                self._reset(stream)  # more than was allowed: memory is bounded by us, not by who sends
                return
            stream.inbox += payload
        elif kind == EOF:
            stream.got_eof = True
        elif kind == CREDIT and len(payload) == NUMBER.size:
            stream.credit = min(WINDOW, stream.credit + NUMBER.unpack(payload)[0])
        self._watch(stream)


def opened(path: str) -> int:
    """The link's descriptor, which never blocks.

    Raises:
        OSError: it is not there, or nobody listens on it.
    """
    if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - this file starts in slow machines, and pathlib is not free
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.setblocking(False)
        return connection.detach()


def raise_loopback() -> None:
    """Bring `lo` up, as nobody else does in a machine without a network. Where it is up, or is not
    ours to raise, nothing happens.
    """
    import fcntl

    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = struct.unpack(
            "16sH14x", fcntl.ioctl(any_socket, get_flags, struct.pack("16sH14x", b"lo", 0))
        )[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", flags | up))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="multiplex", description="Many connections over one serial port of a virtual machine."
    )
    parser.add_argument("--link", required=True, metavar="PATH", help="a character device or a Unix socket")
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--listen", metavar="HOST:PORT", help="take connections here: the guest's end")
    end.add_argument("--socket", metavar="PATH", help="carry them to this Unix socket: the host's end")
    parser.add_argument("command", nargs="*", help="run this, and end with its status")
    asked = parser.parse_args(arguments)
    listen = None
    if asked.listen is not None:
        raise_loopback()
        host, _, port = asked.listen.rpartition(":")
        listen = (host, int(port))
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: ended.append(128 + got))
    end_of_it = Multiplexer(
        asked.link,
        listen=listen,
        dial=asked.socket,
        tell=lambda said: print(f"multiplex: {said}", file=sys.stderr, flush=True),  # noqa: T201 - it has no log
    )
    child = subprocess.Popen(asked.command) if asked.command else None  # noqa: S603 - the caller's own

    def over() -> bool:
        if child is not None and child.poll() is not None:
            ended.append(child.returncode if child.returncode >= 0 else 128 - child.returncode)
        return bool(ended)

    end_of_it.run(over)
    if child is not None and child.poll() is None:
        child.terminate()
        child.wait()
    return ended[-1] if ended else 0


if __name__ == "__main__":
    sys.exit(main())
