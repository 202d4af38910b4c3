"""The multiplexer: frames that are cut anywhere, and two ends over a line that a test can cut."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI

from modelplex.sandbox import multiplex
from modelplex.sandbox.multiplex import (
    CREDIT,
    DATA,
    EOF,
    HEADER,
    MAGIC,
    MAX_PAYLOAD,
    OPEN,
    RESET,
    RESYNC,
    WINDOW,
    FrameCodec,
    Multiplexer,
)
from tests.gateways import gateway
from tests.processes import until

WAIT_S = 20.0


class Received:
    """The frames that one end received."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, bytes]] = []
        self.drops = 0

    def on_frame(self, kind: int, number: int, payload: bytes) -> None:
        self.frames.append((kind, number, payload))

    def drop_streams(self) -> None:
        self.drops += 1


def pair() -> tuple[FrameCodec, Received, FrameCodec, Received]:
    left, right = Received(), Received()
    return FrameCodec(left), left, FrameCodec(right), right


def move(source: FrameCodec, target: FrameCodec, *, size: int = 7) -> None:
    data = bytes(source.out)
    source.out.clear()
    for at in range(0, len(data), size):
        target.receive(data[at : at + size])


def agree(one: FrameCodec, other: FrameCodec) -> None:
    for _ in range(4):
        move(one, other)
        move(other, one)
    assert one.linked
    assert other.linked


# --- frames


def test_two_ends_connect_whichever_starts_first() -> None:
    for order in ("together", "one", "other"):
        a, _, b, _ = pair()
        if order != "other":
            a.start()
        if order == "one":
            move(a, b)  # nobody there yet: it is lost, as on a port that is not open
        b.start()
        if order == "other":
            a.start()
        agree(a, b)


@given(
    st.lists(
        st.tuples(st.sampled_from([OPEN, DATA, EOF, RESET, CREDIT]), st.integers(1, 2**32 - 1), st.binary())
    ),
    st.integers(1, 50),
)
def test_frames_arrive_wherever_the_bytes_are_cut(frames: list[tuple[int, int, bytes]], size: int) -> None:
    a, _, b, received = pair()
    a.start()
    b.start()
    agree(a, b)
    for kind, number, payload in frames:
        a.send(kind, number, payload)
    move(a, b, size=size)
    assert received.frames == frames


@given(st.integers(0, HEADER.size + MAX_PAYLOAD), st.booleans())
def test_a_frame_that_is_cut_by_a_restart_is_discarded(cut: int, full: bool) -> None:
    a, _, b, received = pair()
    a.start()
    b.start()
    agree(a, b)
    drops = received.drops
    sent = (DATA, 5, bytes([1]) * (MAX_PAYLOAD if full else 100))
    a.send(*sent)
    b.receive(bytes(a.out[:cut]))
    a.start()  # the end was started anew, and the other did not notice
    agree(a, b)
    assert received.drops > drops
    assert received.frames in ([], [sent]), "a part of a frame is not delivered"
    before = len(received.frames)
    a.send(OPEN, 1)
    move(a, b)
    assert received.frames[before:] == [(OPEN, 1, b"")]


def test_a_payload_may_look_like_a_hello() -> None:
    a, _, b, received = pair()
    a.start()
    b.start()
    agree(a, b)
    payload = RESYNC[:100] + MAGIC + HEADER.pack(0, 1, 32) + MAGIC
    a.send(DATA, 1, payload)
    move(a, b)
    assert received.frames == [(DATA, 1, payload)]


@given(st.binary(min_size=1, max_size=200))
def test_noise_on_the_line_is_skipped(noise: bytes) -> None:
    a, _, b, received = pair()
    a.start()
    b.start()
    agree(a, b)
    b.receive(noise)
    a.start()
    b.start()
    agree(a, b)
    received.frames.clear()
    a.send(OPEN, 9)
    move(a, b)
    assert received.frames == [(OPEN, 9, b"")]


def test_no_frame_arrives_before_both_ends_are_linked() -> None:
    a, _, b, received = pair()
    a.start()
    a.send(OPEN, 1)
    move(a, b)
    assert not received.frames


# --- two ends


class Line:
    """What QEMU is to the two ends: each connects to a socket of its own, and bytes go to and fro.
    `cut` ends both connections.
    """

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.all: list[socket.socket] = []
        self._waiting: dict[str, socket.socket] = {}
        self._lock = threading.Lock()
        self.carried = 0
        self.cut_at = 0
        """The line is cut after so many bytes, 0 for never; then never again."""

    def arrived(self, name: str, end: socket.socket) -> None:
        with self._lock:
            self.all.append(end)
            self._waiting[name] = end
            if len(self._waiting) < 2:
                return
            guest, host = self._waiting.pop("guest"), self._waiting.pop("host")
            self.ends = [guest, host]
        for source, target in ((guest, host), (host, guest)):
            threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(8192):
                left = self.cut_at - self.carried
                if self.cut_at and left <= len(data):
                    self.cut_at = 0
                    target.sendall(data[: max(left, 0)])
                    break
                target.sendall(data)
                self.carried += len(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def line(folder: Path) -> Generator[Line]:
    made = Line()
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept(name: str, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                made.arrived(name, listener.accept()[0])

    for name in ("guest", "host"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / name))
        listener.listen()
        listeners.append(listener)
        threads.append(threading.Thread(target=accept, args=(name, listener), daemon=True))
        threads[-1].start()
    try:
        yield made
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        made.cut()
        for thread in threads:
            thread.join(WAIT_S)
        for end in made.all:
            end.close()


@contextmanager
def running(end: Multiplexer) -> Generator[None]:
    over = threading.Event()
    thread = threading.Thread(target=end.run, args=(over.is_set,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()


class Ends:
    def __init__(self, line: Line, guest: Multiplexer, host: Multiplexer, reports: list[str]) -> None:
        self.line = line
        self.guest = guest
        self.host = host
        self.reports = reports

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.wait_for(asyncio.open_connection(*self.guest.address), WAIT_S)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Gives back what it gets, and ends when it ends."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    writer.close()


@asynccontextmanager
async def ends(folder: Path, serve: object = echo) -> AsyncGenerator[Ends]:
    gateway = str(folder / "gateway.sock")
    server = None if serve is None else await asyncio.start_unix_server(serve, gateway, backlog=2000)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    reports: list[str] = []
    try:
        with line(folder) as between:
            guest = Multiplexer(str(folder / "guest"), listen=("127.0.0.1", 0), report=reports.append)
            host = Multiplexer(str(folder / "host"), dial=gateway, report=reports.append)
            made = Ends(between, guest, host, reports)
            with running(host), running(guest):
                yield made
    finally:
        if server is not None:
            server.close()


async def once(made: Ends, data: bytes) -> bytes:
    reader, writer = await made.connect()
    try:
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), WAIT_S)
    finally:
        writer.close()


async def test_bytes_and_half_closes_pass_in_both_directions(tmp_path: Path) -> None:
    async with ends(tmp_path) as made:
        for size in (0, 1, MAX_PAYLOAD, WINDOW, 1_000_000):
            data = bytes(range(256)) * (size // 256) + bytes(size % 256)
            assert await once(made, data) == data
        await until(lambda: made.guest.streams == made.host.streams == 0, what="an end of all streams")


@pytest.fixture
def descriptors() -> Generator[None]:
    """Room for four a stream, since both ends, the callers and the gateway are this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_thousand_streams_at_once(tmp_path: Path, descriptors: None) -> None:
    together = 1_000
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4 * together + 100, (
        "raise the hard limit of open files"
    )
    complete = asyncio.Event()
    there = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal there
        data = await reader.read()
        there += 1
        if there == together:
            complete.set()
        await complete.wait()  # no response before all have connected
        writer.write(data)
        writer.close()

    async with ends(tmp_path, serve) as made:
        exchanges = [once(made, f"number {number}".encode() * 100) for number in range(together)]
        got = await asyncio.gather(*exchanges)
    assert got == [f"number {number}".encode() * 100 for number in range(together)]


async def test_a_stalled_reader_costs_its_window_and_blocks_no_other(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(5) == b"flood":
            with suppress(OSError):
                while True:
                    writer.write(bytes(100_000))
                    await writer.drain()
        writer.write(b"at once")
        writer.close()

    async with ends(tmp_path, serve) as made:
        stalled: list[socket.socket] = []
        for _ in range(20):
            each = socket.socket()
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.connect(made.guest.address)
            each.sendall(b"flood")
            stalled.append(each)
        seen = -1
        while made.line.carried != seen:  # until the flood stands
            seen = made.line.carried
            await asyncio.sleep(0.3)
        assert made.guest.buffered <= 20 * WINDOW
        assert made.host.buffered < WINDOW
        for _ in range(5):
            assert await once(made, b"other") == b"at once"
        for each in stalled:
            each.close()
        await until(lambda: made.guest.streams == made.host.streams == 0, what="an end of the flood")


async def test_a_missing_gateway_closes_that_connection_only(tmp_path: Path) -> None:
    async with ends(tmp_path, None) as made:
        reader, writer = await made.connect()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        assert "gateway.sock" in made.reports[0]
        async with await asyncio.start_unix_server(echo, str(tmp_path / "gateway.sock")):
            assert await once(made, b"now") == b"now"


async def test_a_cut_line_resets_every_stream_and_recovers(tmp_path: Path) -> None:
    async with ends(tmp_path) as made:
        for _ in range(3):
            opened = [await made.connect() for _ in range(10)]
            for reader, writer in opened:
                writer.write(b"x")
                assert await asyncio.wait_for(reader.readexactly(1), WAIT_S) == b"x"
            made.line.cut()
            for reader, writer in opened:
                with pytest.raises(ConnectionResetError):
                    await asyncio.wait_for(reader.read(), WAIT_S)
                writer.close()
            await until(lambda: made.guest.streams == made.host.streams == 0, what="the end of all streams")
            assert await once(made, b"again") == b"again"


async def test_a_cut_anywhere_resets_a_stream_or_leaves_it_whole(tmp_path: Path) -> None:
    data = bytes(range(1, 256)) * 200

    async def try_once(made: Ends) -> bool:
        try:
            got = await once(made, data)
        except TimeoutError:
            raise
        except OSError:  # reset, on reading or on writing
            return False
        assert got == data
        return True

    async with ends(tmp_path) as made:
        assert await try_once(made)
        outcomes: list[bool] = []
        for after in (1, 9, 10, 11, 100, 16_384, 16_393, 16_394, 16_395, 50_000, 99_999, 150_000):
            made.line.cut_at = made.line.carried + after
            outcomes += await asyncio.gather(*(try_once(made) for _ in range(3)))
            made.line.cut_at = 0
        assert False in outcomes
        assert await try_once(made)


async def test_a_restarted_host_is_linked_again(tmp_path: Path) -> None:
    gateway = str(tmp_path / "gateway.sock")
    async with await asyncio.start_unix_server(echo, gateway):
        with line(tmp_path) as between:
            guest = Multiplexer(str(tmp_path / "guest"), listen=("127.0.0.1", 0), report=print)
            with running(guest):
                for _ in range(2):
                    host = Multiplexer(str(tmp_path / "host"), dial=gateway, report=print)
                    made = Ends(between, guest, host, [])
                    with running(host):
                        reader, writer = await made.connect()
                        writer.write(b"x")
                        assert await asyncio.wait_for(reader.readexactly(1), WAIT_S) == b"x"
                    with pytest.raises(ConnectionResetError):
                        await asyncio.wait_for(reader.read(), WAIT_S)
                    writer.close()


async def test_a_client_that_leaves_ends_its_stream_at_the_gateway(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        with suppress(OSError):
            while True:
                writer.write(bytes(1000))
                await writer.drain()
                await asyncio.sleep(0)
        gone.set()
        writer.close()

    async with ends(tmp_path, serve) as made:
        _, writer = await made.connect()
        writer.write(b"x")
        await writer.drain()
        writer.transport.abort()
        await asyncio.wait_for(gone.wait(), WAIT_S)


async def test_the_openai_sdk_streams_many_responses_at_once(tmp_path: Path) -> None:
    async with gateway('[[providers]]\nname = "demo"\ntype = "demo"\n', folder=tmp_path) as gw:
        with line(tmp_path):
            guest = Multiplexer(str(tmp_path / "guest"), listen=("127.0.0.1", 0), report=print)
            host = Multiplexer(str(tmp_path / "host"), dial=gw.socket, report=print)
            with running(host), running(guest):
                url = "http://{}:{}/v1".format(*guest.address)
                async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as sdk:

                    async def ask(number: int) -> str:
                        stream = await sdk.chat.completions.create(
                            model="demo",
                            messages=[{"role": "user", "content": f"number {number}"}],
                            stream=True,
                        )
                        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

                    texts = await asyncio.gather(*(ask(number) for number in range(40)))
    assert all(f'"number {number}"' in text for number, text in enumerate(texts))


# --- the command


async def test_the_copied_file_runs_both_ends_and_a_command(tmp_path: Path) -> None:
    file = tmp_path / "copied.py"
    file.write_text(Path(multiplex.__file__).read_text())
    gateway = str(tmp_path / "gateway.sock")
    code = (
        "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); c.sendall(b'hi');"
        "assert c.recv(9) == b'hi'; sys.exit(7)"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    alone = [sys.executable, "-I", "-S", "-W", "error", str(file)]
    with line(tmp_path):
        async with await asyncio.start_unix_server(echo, gateway):
            host = await asyncio.create_subprocess_exec(
                *alone, "--link", str(tmp_path / "host"), "--socket", gateway
            )
            inside = [*alone, "--link", str(tmp_path / "guest"), "--listen", f"127.0.0.1:{port}"]
            guest = await asyncio.create_subprocess_exec(
                *inside, "--", sys.executable, "-c", code, port, stderr=subprocess.PIPE
            )
            _, errors = await asyncio.wait_for(guest.communicate(), WAIT_S)
            assert guest.returncode == 7, errors.decode()
            host.terminate()
            assert await asyncio.wait_for(host.wait(), WAIT_S) == 128 + 15
