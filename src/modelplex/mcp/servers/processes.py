"""Processes of tool servers: started without a shell, limited in number, and ended with all their
descendants.

Does not use the event loop's subprocesses: asyncio's need a thread or a watcher for each child,
uvloop's fork in Python code, and neither shows that a child has exited while its children hold its
pipes. Blocking work (spawning, reading /proc) runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple, Protocol

from modelplex.mcp.servers import _network_namespace, _process_reaper

INHERITED: Final = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG")
"""Variables that a process gets of the gateway's environment: enough to find programs and a home,
and no key.
"""
VARIABLE: Final = _process_reaper.VARIABLE
GRACE: Final = 2.0
"""Seconds that a server has to exit by itself after the end of its input, and again
after SIGTERM.
"""
KILL_SECONDS: Final = 5.0
"""Seconds to look for killed processes; one in an uninterruptible wait may take longer and is
logged.
"""
FIRST_POLL: Final = 0.002
POLL: Final = 0.05
"""Seconds between two checks whether signalled processes have exited."""
LAST_OUTPUT_SECONDS: Final = 0.1
"""Seconds that a dead process's output is still read: its children may hold the pipe open."""
UNWRITTEN: Final = 16 * 1024 * 1024
"""Bytes waiting for a server that does not read, above which writes wait."""
ERROR_LINE: Final = 8_192
"""Bytes of a line of stderr that are read. The log gets fewer, so that no secret is cut before it
is masked.
"""

STARTS_PER_CORE: Final = 2
"""Servers that may start at once. More would slow each other down until one misses the probe's
deadline and counts as legacy.
"""
TURN: Final = 1.0
"""Seconds after which the next server may start, even if this one is not ready."""


def resolved(command: str, *, environ: Mapping[str, str]) -> str | None:
    """The command's absolute path in the PATH of `environ`; None if there is no such program.
    Blocks for a few `stat`s.
    """
    found = shutil.which(str(Path(command).expanduser()), path=environ.get("PATH"))
    return None if found is None else str(Path(found).absolute())


class IdleHolder(Protocol):
    """The holder of a process that may be stopped when idle."""

    @property
    def idle_since(self) -> float | None:
        """The time of its last use; None while it is in use."""
        ...

    async def stop(self) -> None: ...


class NoRoom(Exception):
    """The process limit is reached, and all processes are in use."""


class Spawned(NamedTuple):
    """A new process, its mark, and this side of its pipes."""

    child: subprocess.Popen[bytes]
    mark: str
    stdin: int
    stdout: int
    stderr: int


class ProcessTable:
    """Limits the processes of all servers, and runs the reaper that ends them if the gateway dies.
    One for the gateway.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self.mark = secrets.token_hex(8)
        self._tree = 0
        self._holders: set[IdleHolder] = set()
        self._reaper: subprocess.Popen[bytes] | None = None
        self._lock = asyncio.Lock()
        self.turns = (os.cpu_count() or 1) * STARTS_PER_CORE
        """Starts that may run now."""
        self._turns = asyncio.Semaphore(self.turns)
        self._spawning = threading.Lock()
        self._starting: set[asyncio.Future[Spawned]] = set()
        """Starts that run in a thread, whether or not a caller still waits."""

    def __repr__(self) -> str:
        return f"<Children {len(self._holders)} of {self.limit}>"

    async def take(self, holder: IdleHolder) -> None:
        """Make room for one process; stops the one that was idle longest if there is none.

        Raises: NoRoom
        """
        if holder in self._holders:
            return
        async with self._lock:
            while len(self._holders) >= self.limit:
                idle = [(since, other) for other in self._holders if (since := other.idle_since) is not None]
                if not idle:
                    raise NoRoom
                oldest = min(idle, key=lambda pair: pair[0])[1]
                await oldest.stop()
                self._holders.discard(oldest)
            self._holders.add(holder)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait until a process may start. The slot is free again after the block, or after TURN
        seconds.
        """
        await self._turns.acquire()
        self.turns -= 1
        held = contextlib.ExitStack()
        held.callback(self._turn_over)
        timer = asyncio.get_running_loop().call_later(TURN, held.close)
        try:
            yield
        finally:
            timer.cancel()
            held.close()

    def _turn_over(self) -> None:
        self.turns += 1
        self._turns.release()

    def free(self, holder: IdleHolder) -> None:
        self._holders.discard(holder)

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None
    ) -> asyncio.Future[Spawned]:
        """`spawn` in a thread. It cannot be cancelled; `aclose` waits for it."""
        starting = asyncio.ensure_future(asyncio.to_thread(self.spawn, argv, env=env, cwd=cwd))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        return starting

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> Spawned:
        """Start a process in its own session, with three pipes. Blocks: for a thread.

        Raises: OSError if there is no such program or folder, or too many processes or descriptors.
        """
        with self._spawning:
            self._start_reaper()
            self._tree += 1
            mark = f"{self.mark}-{self._tree}-"
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            their_in, our_in = _pipe(ours)
            our_out, their_out = _pipe(ours)
            our_err, their_err = _pipe(ours)
            child = subprocess.Popen(  # noqa: S603
                argv,
                stdin=their_in, stdout=their_out, stderr=their_err,
                env={**env, VARIABLE: mark}, cwd=cwd, start_new_session=True,
            )  # fmt: skip
            ours.pop_all()
            for end in (their_in, their_out, their_err):
                theirs.callback(os.close, end)
        self._note(b"+", child.pid)
        return Spawned(child, mark, our_in, our_out, our_err)

    def _start_reaper(self) -> None:
        """Start the reaper, again if it was killed. It finds earlier processes by their marks."""
        reaper = self._reaper
        if reaper is not None and reaper.poll() is not None:
            if reaper.stdin is not None:
                reaper.stdin.close()
            reaper = None
        if reaper is None and sys.executable:
            reaper = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", _process_reaper.__file__, self.mark],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={}, cwd="/", start_new_session=True, bufsize=0,
            )  # fmt: skip
        self._reaper = reaper

    def ended(self, pid: int) -> None:
        self._note(b"-", pid)

    def _note(self, sign: bytes, pid: int) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            with contextlib.suppress(OSError):
                self._reaper.stdin.write(b"%b%d\n" % (sign, pid))

    async def aclose(self) -> None:
        """End the reaper, which kills every process that still carries a mark."""
        while self._starting:
            await asyncio.wait(self._starting)
            await asyncio.sleep(0)  # the callback ends what nobody waits for
        reaper, self._reaper = self._reaper, None
        if reaper is not None and reaper.stdin is not None:
            reaper.stdin.close()
            await asyncio.to_thread(reaper.wait)


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
    """Splits a pipe into lines. Passes the first `limit` bytes of a longer line to `long` and skips
    the rest.
    """

    def __init__(self, take: Callable[[bytes], None], *, limit: int, long: Callable[[bytes], None]) -> None:
        self._take = take
        self._limit = limit
        self._long = long
        self._carry = bytearray()
        self._skipping = False
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        first, newline, rest = data.partition(b"\n")
        if not newline:
            self._add(data)
            return
        self._add(first)
        if self._skipping:
            self._skipping = False
        else:
            line = bytes(self._carry)
            self._carry.clear()
            self._take(line)
        *lines, tail = rest.split(b"\n")
        for line in lines:
            if len(line) > self._limit:
                self._long(line[: self._limit])
            else:
                self._take(line)
        self._add(tail)

    def _add(self, data: bytes) -> None:
        if self._skipping:
            return
        self._carry += data
        if len(self._carry) > self._limit:
            self._skipping = True
            cut = bytes(self._carry[: self._limit])
            self._carry.clear()
            self._long(cut)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class _Input(asyncio.BaseProtocol):
    def __init__(self) -> None:
        self.gone = False
        self.room = asyncio.Event()
        self.room.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.room.set()


class ServerProcess:
    """A running server with its three pipes. It must be stopped even if it exited by itself: its
    children may live.
    """

    def __init__(self, spawned: Spawned, *, children: ProcessTable, listener: ProcessListener) -> None:
        self._child = spawned.child
        self._mark = spawned.mark
        self._unconnected = list(spawned[2:])
        self._children = children
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._pidfd: int | None = None
        self._told = False
        self._input = _Input()
        self._lines: _Lines | None = None
        self._errors: _Lines | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._stdout: asyncio.ReadTransport | None = None
        self._stderr: asyncio.ReadTransport | None = None
        self._over: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.exited = asyncio.Event()
        self.grace = GRACE
        """0 kills at once."""

    @property
    def pid(self) -> int:
        return self._child.pid

    def __repr__(self) -> str:
        return f"<Process {self.pid} {'exited' if self.exited.is_set() else 'running'}>"

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        network: bool,
        children: ProcessTable,
        listener: ProcessListener,
        limit: int,
    ) -> ServerProcess:
        """Raises OSError if it cannot be started."""
        if not network:
            argv = [sys.executable, "-I", "-S", _network_namespace.__file__, *argv]
        spawning = children.start(argv, env=env, cwd=cwd)
        try:
            spawned = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            spawning.add_done_callback(partial(_kill_unwanted, children))
            raise
        process = cls(spawned, children=children, listener=listener)
        try:
            await process._connect(limit)
        except BaseException:
            await asyncio.shield(process.stop())
            raise
        return process

    async def _connect(self, limit: int) -> None:
        loop, listener = self._loop, self._listener
        self._watch()
        self._stdin, _ = await loop.connect_write_pipe(lambda: self._input, self._next_pipe("wb"))
        self._stdin.set_write_buffer_limits(high=UNWRITTEN)
        lines = self._lines = _Lines(listener.line, limit=limit, long=lambda cut: listener.overflow(len(cut)))
        self._stdout, _ = await loop.connect_read_pipe(lambda: lines, self._next_pipe("rb"))
        errors = self._errors = _Lines(listener.error_line, limit=ERROR_LINE, long=listener.error_line)
        self._stderr, _ = await loop.connect_read_pipe(lambda: errors, self._next_pipe("rb"))
        lines.ended.add_done_callback(lambda _: self._output_ended())

    def _next_pipe(self, mode: Literal["rb", "wb"]) -> IO[bytes]:
        """The next of stdin, stdout, stderr, for the loop to own.

        uvloop closes a pipe's descriptor twice, by its number and by the file object; in between,
        another thread's process may get that number. So the file object closes it only with
        asyncio's own loop.
        """
        twice = type(self._loop).__module__.startswith("uvloop")
        return open(self._unconnected.pop(0), mode, buffering=0, closefd=not twice)

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or an old one: a thread waits
            waiting = asyncio.ensure_future(asyncio.to_thread(self._child.wait))
            waiting.add_done_callback(lambda _: self._died())
        else:
            self._loop.add_reader(self._pidfd, self._died)

    def _died(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._child.poll()
        self.exited.set()
        self._over = self._loop.create_task(self._after_death())

    async def _after_death(self) -> None:
        outputs = [lines.ended for lines in (self._lines, self._errors) if lines is not None]
        if outputs:
            await asyncio.wait(outputs, timeout=LAST_OUTPUT_SECONDS)
        self._report_exit(self._child.returncode)

    def _output_ended(self) -> None:
        """A server that closed its output is over, whether it runs or not; its exit
        follows soon.
        """
        self._loop.call_later(LAST_OUTPUT_SECONDS, lambda: self._report_exit(self._child.returncode))

    def _report_exit(self, code: int | None) -> None:
        if not self._told:
            self._told = True
            self._listener.exited(code)

    async def write(self, data: bytes) -> None:
        """Write; waits only if the server has not read for long.

        Raises: ConnectionError if it takes no more input.
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
        self._told = True  # the stopping caller knows
        try:
            await self._end_tree()
        finally:
            await self._close_pipes()
            self._children.ended(self.pid)

    async def _close_pipes(self) -> None:
        """Close all three, connected or not. The transports close theirs in the loop's next
        iteration.
        """
        while self._unconnected:
            os.close(self._unconnected.pop())
        if self._stdin is not None and not self._input.gone:
            self._stdin.abort()  # unwritten bytes would hold it open
        for reading in (self._stdout, self._stderr):
            if reading is not None:
                reading.close()
        if self._over is not None:
            self._over.cancel()
        await asyncio.sleep(0)

    async def _end_tree(self) -> None:
        known = await asyncio.to_thread(self._find, {})
        if self._stdin is not None:
            self._stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), self.grace)
        known = await asyncio.to_thread(self._find, known)
        for number, seconds in ((signal.SIGTERM, self.grace), (signal.SIGKILL, KILL_SECONDS)):
            if not known and self.exited.is_set():
                return
            known = await self._end_with(number, known, seconds=seconds)

    async def _end_with(
        self, number: signal.Signals, known: dict[int, str], *, seconds: float
    ) -> dict[int, str]:
        """Signal the process tree until nothing is left of it or the time is over. Returns what is
        left.
        """
        deadline, pause = self._loop.time() + seconds, FIRST_POLL
        self._signal(known, number)
        while self._loop.time() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, POLL)
            if (await asyncio.to_thread(_process_reaper.alive, known)) or not self.exited.is_set():
                if number == signal.SIGKILL:
                    self._signal(known, number)
                continue
            # The known processes are gone; new ones may have started.
            known = await asyncio.to_thread(self._find, {})
            if not known:
                break
            self._signal(known, number)
        return known

    def _find(self, known: dict[int, str]) -> dict[int, str]:
        return {**_process_reaper.alive(known), **_process_reaper.find(self._mark, frozenset({self.pid}))}

    def _signal(self, known: Mapping[int, str], number: signal.Signals) -> None:
        if not self.exited.is_set():  # its pid is still its own, so is its group's
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)
        _process_reaper.kill(known, number)


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe to read from and to write to; the stack closes both unless it is kept."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


def _kill_unwanted(children: ProcessTable, spawning: asyncio.Future[Spawned]) -> None:
    """Kill a process that was started for a caller who is gone."""
    if spawning.cancelled() or spawning.exception() is not None:
        return
    spawned = spawning.result()
    with contextlib.suppress(OSError):
        os.killpg(spawned.child.pid, signal.SIGKILL)
    for end in spawned[2:]:
        os.close(end)
    spawned.child.wait()
    children.ended(spawned.child.pid)


def environment(environ: Mapping[str, str], declared: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server's process, besides the mark."""
    return {**{name: environ[name] for name in INHERITED if name in environ}, **declared}
