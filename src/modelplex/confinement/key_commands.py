"""Runs the commands that print credentials by the launcher, for a gateway that is confined."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from modelplex.confinement.launcher_client import LauncherClient
from modelplex.confinement.messages import ForgetProcess
from modelplex.credentials.key_command import bounded, not_started, printed
from modelplex.credentials.key_file import MAX_SIZE
from modelplex.mcp.servers.process_host import Spawned


class LauncherCommands:
    """A RunCommand."""

    def __init__(self, launcher: LauncherClient) -> None:
        self._launcher = launcher

    def __repr__(self) -> str:
        return "<LauncherCommands>"

    async def __call__(self, command: Sequence[str], *, failed: Callable[[str], None]) -> bytes:
        program = Path(command[0]).name
        try:
            started = await asyncio.to_thread(self._launcher.output, command)
        except OSError as error:
            raise not_started(program, error) from None
        os.close(started.stdin)
        try:
            output, said = await asyncio.gather(
                self._read(started.stdout, MAX_SIZE + 1), self._read(started.stderr, MAX_SIZE)
            )
            status = await asyncio.to_thread(started.child.wait)
        finally:
            self._end(started)
        return printed(program, status, output, said, failed=failed)

    async def _read(self, number: int, limit: int) -> bytes:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        # uvloop closes the descriptor itself: see ServerProcess.
        twice = type(loop).__module__.startswith("uvloop")
        pipe = open(number, "rb", buffering=0, closefd=not twice)  # noqa: ASYNC230, SIM115 - a descriptor
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            return await bounded(reader, limit)
        finally:
            transport.close()

    def _end(self, started: Spawned) -> None:
        """Kill it, if it runs, as where its reader was cancelled."""
        if started.ended is not None:
            os.close(started.ended)
        if started.child.poll() is None:
            started.child.signal_group(signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._launcher.ask(ForgetProcess(started.child.pid))
