"""The socket at which runs of `modelplex run` attach to a gateway, each by a connection that lasts
as long as the run: see run_messages.py.

A gateway that a run has started has that run's connection from the beginning, and stops when no run
is attached any more. It may take others at a path. A gateway of the host only has the path.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from modelplex.config import Config
from modelplex.limits.agent_usage import NOTHING
from modelplex.records.run_facts import SandboxFacts
from modelplex.server.address import ListenError, Unix
from modelplex.server.attached_runs import AttachedRun, AttachedRuns, same_user
from modelplex.server.run_messages import (
    MAX_LINE,
    FromGateway,
    RunEnded,
    RunNotice,
    RunReply,
    RunRequest,
    attach_path,
)
from modelplex.server.socket_file import SocketFile, claim

MODE: Final = 0o600
READ_SIZE: Final = 65_536


class RunControl:
    """`first` is the connection of the run that has started this gateway. Without one the gateway
    is the host's: it does not stop when no run is attached, and starts without `path` where that
    cannot be served.
    """

    def __init__(self, path: str | None, *, first: socket.socket | None = None) -> None:
        self._path = path
        self._first = first
        self.is_of_runs = first is not None
        self._count = 0
        self._over = asyncio.Event()
        self._file: SocketFile | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: AttachedRuns | None = None

    def __repr__(self) -> str:
        return f"<RunControl {self._count} attached at {self._path}>"

    def claim(self) -> None:
        """Take the path, before anything else is opened. Raises ListenError."""
        if self._path is None:
            return
        try:
            self._file = claim(Unix(self._path, mode=MODE))
        except ListenError:
            if self.is_of_runs:
                raise

    async def open(self, runs: AttachedRuns) -> None:
        """Take runs. Called once the gateway listens."""
        self._runs = runs
        if self._first is not None:
            self._hold(self._first)
        if self._file is not None:
            self._file.socket.setblocking(False)
            asyncio.get_running_loop().add_reader(self._file.socket.fileno(), self._accept)
            self._file.publish()

    async def wait_until_unused(self) -> None:
        await self._over.wait()

    async def close(self) -> None:
        self._refuse_more()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._file is not None:
            self._file.release()

    def _refuse_more(self) -> None:
        if self._file is not None and self._file.socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._file.socket.fileno())
            self._file.remove()
            self._file.socket.close()

    def _accept(self) -> None:
        assert self._file is not None
        with suppress(OSError):
            connection, _ = self._file.socket.accept()
            if same_user(connection):
                self._hold(connection)
            else:
                connection.close()

    def _hold(self, connection: socket.socket) -> None:
        self._count += 1
        connection.setblocking(False)
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            connection.close()

        task.add_done_callback(done)

    async def _serve(self, connection: socket.socket) -> None:
        assert self._runs is not None
        run = None
        spent = NOTHING
        try:
            run, rest = await self._attach(connection, self._runs)
            if run is not None:
                await _until_closed(connection, rest, on_measured=partial(self._runs.measured, run))
                spent = await self._runs.detach(run)
        finally:
            self._count -= 1
            if not self._count and self.is_of_runs:
                self._refuse_more()
                self._over.set()
        if run is not None:
            _send(connection, RunEnded(is_last=self._over.is_set(), usd=spent.usd, tokens=spent.tokens))

    async def _attach(
        self, connection: socket.socket, runs: AttachedRuns
    ) -> tuple[AttachedRun | None, bytes]:
        """And what has come after the request."""
        try:
            request, listener, rest = await _receive(connection)
        except (OSError, msgspec.DecodeError):
            return None, b""

        def notify(notice: RunNotice) -> None:
            _send(connection, notice)

        try:
            run = await runs.attach(request, listener, notify=notify)
        except ListenError as error:
            listener.close()
            _send(connection, RunReply(error.sentence))
            return None, b""
        _send(connection, RunReply(pid=os.getpid()))
        return run, rest


async def _receive(connection: socket.socket) -> tuple[RunRequest, socket.socket, bytes]:
    """The first line, the socket that comes with it, and what comes after it. Raises OSError, also
    where either is missing, and DecodeError.
    """
    line, passed = b"", list[int]()
    try:
        while b"\n" not in line:
            await _readable(connection)
            data, descriptors, _, _ = socket.recv_fds(connection, READ_SIZE, 1)
            passed += descriptors
            line += data
            if not data or len(line) > MAX_LINE:
                raise OSError("there is no request")
        line, _, rest = line.partition(b"\n")
        request = msgspec.json.decode(line, type=RunRequest)
        if not passed:
            raise OSError("there is no socket")
        return request, socket.socket(fileno=os.dup(passed[0])), rest
    finally:
        for each in passed:
            os.close(each)


async def _until_closed(
    connection: socket.socket, rest: bytes, *, on_measured: Callable[[SandboxFacts], None]
) -> None:
    """A run says one thing more until its end; `rest` is what came of it."""
    with suppress(OSError):
        while True:
            line, newline, rest = rest.partition(b"\n")
            if newline:
                with suppress(msgspec.DecodeError):
                    on_measured(msgspec.json.decode(line, type=SandboxFacts))
                continue
            await _readable(connection)
            data = connection.recv(READ_SIZE)
            rest = line + data
            if not data or len(rest) > MAX_LINE:
                return


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    loop.add_reader(connection.fileno(), wake)
    try:
        await waiting
    finally:
        loop.remove_reader(connection.fileno())


def _send(connection: socket.socket, message: FromGateway) -> None:
    """What does not fit into the socket's buffer is dropped: nobody reads it."""
    with suppress(OSError):
        connection.send(msgspec.json.encode(message) + b"\n")


def control_of_host(config: Config, *, environ: Mapping[str, str]) -> RunControl:
    """Of a gateway that somebody has started: runs with the same config find it."""
    real = None if config.path is None else os.path.realpath(config.path)
    return RunControl(attach_path(real, environ=environ))
