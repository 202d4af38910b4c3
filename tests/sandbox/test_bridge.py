"""The bridge: bytes, half-closes, errors, many connections, and the file on its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelplex.sandbox import bridge
from tests.processes import WAIT_S, answers, free_port

FILE = Path(bridge.__file__)
LOTS = 32 * 1024 * 1024


@pytest.fixture
def folder() -> Generator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mpx-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@contextmanager
def gateway(path: Path, serve: Callable[[socket.socket], None]) -> Generator[None]:
    """Something that listens there, each connection in a thread."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1024)

    def handle(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(WAIT_S)
            serve(client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def bridged(path: Path, *more: str) -> Generator[tuple[int, subprocess.Popen[str]]]:
    """The file alone, in an interpreter that sees nothing of the package; and the port on which it
    listens.
    """
    port = free_port()
    copied = path.parent / "bridge.py"
    copied.write_text(FILE.read_text())
    words = [sys.executable, "-I", "-S", str(copied), "--socket", str(path), "--listen", f"127.0.0.1:{port}"]
    popen = subprocess.Popen([*words, *more], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        deadline = threading.Event()
        for _ in range(int(WAIT_S / 0.02)):
            if popen.poll() is not None or answers(("127.0.0.1", port)):
                break
            deadline.wait(0.02)
        yield port, popen
    finally:
        popen.kill()
        popen.communicate()


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), WAIT_S)


def read_all(sock: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(1 << 20):
            got += data
    return got


def echo(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def test_an_end_is_forwarded_as_a_half_close(folder: Path) -> None:
    def serve(client: socket.socket) -> None:
        got = read_all(client)
        client.sendall(b"got " + got)

    with gateway(folder / "g", serve), bridged(folder / "g") as (port, _), dial(port) as sock:
        sock.sendall(b"all")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"got all"


def test_a_half_closed_gateway_still_receives(folder: Path) -> None:
    received: list[bytes] = []
    done = threading.Event()

    def serve(client: socket.socket) -> None:
        client.sendall(b"first")
        client.shutdown(socket.SHUT_WR)
        if got := read_all(client):  # the look whether the bridge is up says nothing
            received.append(got)
            done.set()

    with gateway(folder / "g", serve), bridged(folder / "g") as (port, _), dial(port) as sock:
        assert read_all(sock) == b"first"
        sock.sendall(b"later")
        sock.shutdown(socket.SHUT_WR)
        assert done.wait(WAIT_S)
        assert received == [b"later"]


def test_an_error_response_arrives_though_the_gateway_has_stopped_reading(folder: Path) -> None:
    """For example a 413 while the body is still sent."""

    def serve(client: socket.socket) -> None:
        client.recv(10)
        client.sendall(b"too large")

    with gateway(folder / "g", serve), bridged(folder / "g") as (port, _), dial(port) as sock:
        sender = threading.Thread(target=_send_lots, args=(sock,))
        sender.start()
        assert sock.recv(100) == b"too large"
        sender.join(WAIT_S)
        assert not sender.is_alive()


def _send_lots(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(bytes(LOTS))


def test_much_data_in_both_directions_at_once(folder: Path) -> None:
    data = os.urandom(1 << 20) * 8
    with gateway(folder / "g", echo), bridged(folder / "g") as (port, _), dial(port) as sock:

        def send() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        assert read_all(sock) == data


def test_a_side_that_does_not_read_stops_the_other(folder: Path) -> None:
    sent: list[int] = []

    def serve(client: socket.socket) -> None:
        client.setblocking(False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            for _ in range(LOTS // 65536):
                for _ in range(200):  # the bridge may be busy taking what was sent
                    try:
                        count += client.send(bytes(65536))
                        break
                    except BlockingIOError:
                        threading.Event().wait(0.005)
                else:
                    break
        sent.append(count)

    with gateway(folder / "g", serve), bridged(folder / "g") as (port, popen), dial(port):
        for _ in range(int(WAIT_S / 0.02)):
            if sent:
                break
            threading.Event().wait(0.02)
        assert sent
        assert sent[0] < LOTS
        resident = int(Path(f"/proc/{popen.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert resident < 64 * 1024 * 1024


def test_hundreds_of_connections_at_once(folder: Path) -> None:
    with gateway(folder / "g", echo), bridged(folder / "g") as (port, _):
        socks = [dial(port) for _ in range(400)]
        for number, sock in enumerate(socks):
            sock.sendall(f"{number:06}".encode())
        for number, sock in enumerate(socks):
            assert sock.recv(6) == f"{number:06}".encode()
        for sock in socks:
            sock.close()


def test_a_failed_dial_closes_that_connection_and_is_reported(folder: Path) -> None:
    with bridged(folder / "g") as (port, popen):
        with dial(port) as sock:
            assert read_all(sock) == b""
        with gateway(folder / "g", echo), dial(port) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        popen.terminate()
        _, stderr = popen.communicate(timeout=WAIT_S)
        assert popen.returncode == 0
        assert f"modelplex bridge: {folder / 'g'}: No such file or directory" in stderr


def test_a_unix_listener_replaces_a_dead_socket(folder: Path) -> None:
    here = folder / "here"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(here))
    dead.close()
    with gateway(folder / "g", echo), bridged(folder / "g", "--listen", f"unix:{here}"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(here))
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"


def test_the_status_is_the_commands(folder: Path) -> None:
    for words, status in (
        (["sh", "-c", "exit 5"], 5),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-program"], 127),
    ):
        with bridged(folder / "g", "--", *words) as (_, popen):
            assert popen.wait(WAIT_S) == status


def test_a_signal_is_forwarded_to_the_command(folder: Path) -> None:
    code = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print('up', flush=True); print(signal.sigwait([15]).name)"
    with bridged(folder / "g", "--", sys.executable, "-c", code) as (_, popen):
        assert popen.stdout is not None
        assert popen.stdout.readline() == "up\n"
        popen.send_signal(signal.SIGTERM)
        assert popen.communicate(timeout=WAIT_S)[0] == "SIGTERM\n"
        assert popen.returncode == 0


def test_the_command_modelplex_bridge(folder: Path) -> None:
    port = free_port()
    code = f"import socket; s = socket.create_connection(('127.0.0.1', {port})); s.sendall(b'x'); print(s.recv(1))"
    with gateway(folder / "g", echo):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "modelplex", "bridge", "--socket", str(folder / "g")),
                *("--listen", f"127.0.0.1:{port}", "--", sys.executable, "-c", code),
            ],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert (done.stdout, done.stderr, done.returncode) == ("b'x'\n", "", 0)


def test_the_file_needs_only_python_3_8() -> None:
    import ast

    tree = ast.parse(FILE.read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("written", "family", "address"),
    [
        ("127.0.0.1:80", socket.AF_INET, ("127.0.0.1", 80)),
        (":80", socket.AF_INET, ("127.0.0.1", 80)),
        ("unix:/a:b", socket.AF_UNIX, "/a:b"),
        ("vsock:11435", socket.AF_VSOCK, (0xFFFFFFFF, 11435)),
        ("vsock:3:11435", socket.AF_VSOCK, (3, 11435)),
    ],
)
def test_an_endpoint_is_parsed(written: str, family: int, address: object) -> None:
    found = bridge.parse_endpoint(written)
    assert (found.family, found.address) == (family, address)


@pytest.mark.parametrize("written", ["here", "host:", "host:x", "vsock:", "vsock:x:1"])
def test_an_invalid_endpoint_is_rejected(written: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address|needs a number"):
        bridge.parse_endpoint(written)


def test_over_vsock_both_ways(folder: Path) -> None:
    """Within this machine (CID 1) alone: CID 2 would be somebody's hypervisor."""
    try:
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as probe:
            probe.bind((1, 0xFFFFFFFF))
    except OSError as fault:
        pytest.skip(f"this machine has no vsock of its own: {fault.strerror}")
    port = 40_000 + os.getpid() % 20_000
    with gateway(folder / "g", echo), bridged(folder / "g", "--listen", f"vsock:{port}"):
        there = folder / "there"
        words = [sys.executable, str(FILE), "--connect", f"vsock:1:{port}", "--listen", f"unix:{there}"]
        code = f"import socket; s = socket.socket(1); s.connect({str(there)!r}); s.sendall(b'x'); print(s.recv(1))"
        done = subprocess.run(
            [*words, "--", sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.stdout == "b'x'\n", done.stderr
