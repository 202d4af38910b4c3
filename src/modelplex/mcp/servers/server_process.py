"""One process of a tool server: its pipes, its exit, and the end of all its descendants.

Does not use the event loop's subprocesses: asyncio's need a thread or a watcher for each child,
uvloop's fork in Python code, and neither shows that a child has exited while its children hold its
pipes open. Reading /proc runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import IO, Final, Literal, Protocol

from modelplex.mcp.servers import network_namespace
from modelplex.mcp.servers.process_host import Processes, Spawned
from modelplex.mcp.servers.process_table import ProcessTable

GRACE_SECONDS: Final = 2.0
"""Seconds that a server has to exit after the end of its input, and again after SIGTERM."""
KILL_SECONDS: Final = 5.0
"""Seconds to wait for killed processes; one in an uninterruptible wait may take longer."""
FIRST_POLL: Final = 0.002
MAX_POLL: Final = 0.05
"""Seconds between two checks whether signalled processes have exited."""
LAST_OUTPUT_SECONDS: Final = 0.1
"""Seconds that the output of a dead process is still read: its children may hold the pipe open."""
MAX_UNWRITTEN: Final = 16 * 1024 * 1024
"""Bytes waiting for a server that does not read, above which writes wait."""
MAX_ERROR_LINE: Final = 8_192
"""Bytes of a line of stderr that are read. The log gets fewer, so that no secret is cut before it
is masked.
"""


def isolated(argv: Sequence[str]) -> tuple[str, ...]:
    """The command that starts this one in an empty network namespace."""
    return (sys.executable, "-I", "-S", network_namespace.__file__, *argv)


class ProcessListener(Protocol):
    """Takes events of a process, on the event loop."""

    def line(self, data: bytes) -> None: ...
    def error_line(self, text: bytes) -> None: ...
    def overflow(self, size: int) -> None:
        """A line is longer than the limit; the rest of it is skipped."""
        ...

    def exited(self, code: int | None) -> None:
        """Called once: the exit code (negative for a signal), None if only the output ended."""
        ...


class _Lines(asyncio.Protocol):
    """Splits a pipe into lines. Passes the first `limit` bytes of a longer line to `too_long` and
    skips the rest.
    """

    def __init__(
        self, take: Callable[[bytes], None], *, limit: int, too_long: Callable[[bytes], None]
    ) -> None:
        self._take = take
        self._limit = limit
        self._too_long = too_long
        self._partial = bytearray()
        self._skipping = False
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        first, newline, rest = data.partition(b"\n")
        self._add(first)
        if not newline:
            return
        if self._skipping:
            self._skipping = False
        else:
            line = bytes(self._partial)
            self._partial.clear()
            self._take(line)
        *lines, tail = rest.split(b"\n")
        for line in lines:
            if len(line) > self._limit:
                self._too_long(line[: self._limit])
            else:
                self._take(line)
        self._add(tail)

    def _add(self, data: bytes) -> None:
        if self._skipping:
            return
        self._partial += data
        if len(self._partial) > self._limit:
            self._skipping = True
            cut = bytes(self._partial[: self._limit])
            self._partial.clear()
            self._too_long(cut)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class _Input(asyncio.BaseProtocol):
    def __init__(self) -> None:
        self.closed = False
        self.room = asyncio.Event()
        self.room.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.room.set()


class ServerProcess:
    """A running server with its three pipes. It must be stopped even if it exited by itself: its
    children may still run.
    """

    def __init__(self, spawned: Spawned, *, children: ProcessTable, listener: ProcessListener) -> None:
        self._child = spawned.child
        self._mark = spawned.mark
        self._unconnected = [spawned.stdin, spawned.stdout, spawned.stderr]
        self._ended = spawned.ended
        self._host = children.host
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._exit_reported = False
        self._input = _Input()
        self._stdin: asyncio.WriteTransport | None = None
        self._outputs: list[tuple[_Lines, asyncio.ReadTransport]] = []
        self._after_exit: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.exited = asyncio.Event()
        self.grace = GRACE_SECONDS
        """0 kills at once."""

    @property
    def pid(self) -> int:
        return self._child.pid

    def __repr__(self) -> str:
        return f"<ServerProcess {self.pid} {'exited' if self.exited.is_set() else 'running'}>"

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        children: ProcessTable,
        listener: ProcessListener,
        limit: int,
    ) -> ServerProcess:
        """`limit` in bytes of a line of stdout. Raises OSError if it cannot be started."""
        spawned = await children.start(argv, env=env, cwd=cwd)
        process = cls(spawned, children=children, listener=listener)
        try:
            await process._connect(limit)
        except BaseException:
            await asyncio.shield(process.stop())
            raise
        return process

    async def _connect(self, limit: int) -> None:
        listener = self._listener
        self._watch()
        self._stdin, _ = await self._loop.connect_write_pipe(lambda: self._input, self._next_pipe("wb"))
        self._stdin.set_write_buffer_limits(high=MAX_UNWRITTEN)
        lines = _Lines(listener.line, limit=limit, too_long=lambda cut: listener.overflow(len(cut)))
        await self._connect_output(lines)
        await self._connect_output(
            _Lines(listener.error_line, limit=MAX_ERROR_LINE, too_long=listener.error_line)
        )
        lines.ended.add_done_callback(lambda _: self._output_ended())

    async def _connect_output(self, lines: _Lines) -> None:
        transport, _ = await self._loop.connect_read_pipe(lambda: lines, self._next_pipe("rb"))
        self._outputs.append((lines, transport))

    def _next_pipe(self, mode: Literal["rb", "wb"]) -> IO[bytes]:
        """The next of stdin, stdout, stderr, for the loop to own.

        uvloop closes a pipe's descriptor twice, by its number and by the file object; in between,
        another thread's process may get that number. So the file object closes it only with
        asyncio's own loop.
        """
        twice = type(self._loop).__module__.startswith("uvloop")
        return open(self._unconnected.pop(0), mode, buffering=0, closefd=not twice)

    def _watch(self) -> None:
        if self._ended is not None:
            self._loop.add_reader(self._ended, self._exited)
        else:
            waiting = asyncio.ensure_future(asyncio.to_thread(self._child.wait))
            waiting.add_done_callback(lambda _: self._exited())

    def _exited(self) -> None:
        if self._ended is not None:
            self._loop.remove_reader(self._ended)
        self._child.poll()
        if self._ended is not None:
            os.close(self._ended)
            self._ended = None
        self.exited.set()
        self._after_exit = self._loop.create_task(self._read_last_output())

    async def _read_last_output(self) -> None:
        if self._outputs:
            await asyncio.wait([lines.ended for lines, _ in self._outputs], timeout=LAST_OUTPUT_SECONDS)
        self._report_exit()

    def _output_ended(self) -> None:
        """A server that closed its output counts as ended. Usually it exits soon."""
        self._loop.call_later(LAST_OUTPUT_SECONDS, self._report_exit)

    def _report_exit(self) -> None:
        if not self._exit_reported:
            self._exit_reported = True
            self._listener.exited(self._child.returncode)

    async def write(self, data: bytes) -> None:
        """Write; waits only if the server has not read for long.

        Raises: ConnectionError if it reads no more input.
        """
        if not self._input.room.is_set():
            await self._input.room.wait()
        if self._stdin is None or self._stdin.is_closing():
            raise ConnectionError
        self._stdin.write(data)

    def write_now(self, data: bytes) -> None:
        """Write without waiting; dropped if the server does not read."""
        if self._stdin is not None and not self._stdin.is_closing() and self._input.room.is_set():
            self._stdin.write(data)

    def stop(self) -> Awaitable[None]:
        """End its input, then send SIGTERM, then SIGKILL, to all its descendants. Any number of
        callers may wait.
        """
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop())
        return asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._exit_reported = True  # the caller of `stop` needs no report
        try:
            await self._end_tree()
        finally:
            await self._close_pipes()
            self._host.ended(self.pid)

    async def _close_pipes(self) -> None:
        """Close all three, connected or not. The transports close theirs in the loop's next
        iteration.
        """
        while self._unconnected:
            os.close(self._unconnected.pop())
        if self._stdin is not None and not self._input.closed:
            self._stdin.abort()  # unwritten bytes would hold it open
        for _, transport in self._outputs:
            transport.close()
        if self._after_exit is not None:
            self._after_exit.cancel()
        await asyncio.sleep(0)

    async def _end_tree(self) -> None:
        found = await self._find({})
        if self._stdin is not None:
            self._stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), self.grace)
        found = await self._find(found)
        for number, seconds in ((signal.SIGTERM, self.grace), (signal.SIGKILL, KILL_SECONDS)):
            if not found and self.exited.is_set():
                return
            found = await self._end_with(number, found, seconds=seconds)

    async def _end_with(self, number: signal.Signals, found: Processes, *, seconds: float) -> Processes:
        """Signal the process tree until none is left or the time is over. Returns those left."""
        deadline, pause = self._loop.time() + seconds, FIRST_POLL
        await self._signal(found, number)
        while self._loop.time() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_POLL)
            if (await asyncio.to_thread(self._host.alive, found)) or not self.exited.is_set():
                if number == signal.SIGKILL:
                    await self._signal(found, number)
                continue
            # These processes are gone; new ones may have started.
            found = await self._find({})
            if not found:
                break
            await self._signal(found, number)
        return found

    async def _find(self, found: Processes) -> Processes:
        return await asyncio.to_thread(self._host.find, self._mark, self.pid, found)

    async def _signal(self, found: Processes, number: signal.Signals) -> None:
        await asyncio.to_thread(self._child.signal_group, number)
        await asyncio.to_thread(self._host.signal, number, found)
