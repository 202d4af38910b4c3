"""Processes of tool servers: started without a shell, bounded in number, and ended with everything
that they started.

Above it stands the stdio channel; below it the operating system. It knows lines and no JSON.
Starting does not go through the event loop's own subprocesses: those of asyncio need a thread or a
watcher for each child, those of uvloop fork in Python code, and neither lets us see that a child
has died while its children hold its pipes. What blocks (spawning, looking through /proc) is done in
a thread.
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
"""What a process has of the gateway's own environment: enough to find programs and a home, and no
key.
"""
VARIABLE: Final = _process_reaper.VARIABLE
GRACE: Final = 2.0
"""Seconds after the end of its input, and again after SIGTERM, that a server has to leave by
itself.
"""
KILL_SECONDS: Final = 5.0
"""How long killed processes are looked for; one in an uninterruptible wait may outlast that, and is
told of.
"""
FIRST_POLL: Final = 0.002
POLL: Final = 0.05
"""Seconds between two looks whether what was signalled has gone: most are gone at once."""
LAST_WORDS: Final = 0.1
"""Seconds that a dead process's output is still read: its children may hold the pipe open for ever.
"""
UNWRITTEN: Final = 16 * 1024 * 1024
"""Bytes waiting for a server that does not read, above which writing waits too."""
ERROR_LINE: Final = 8_192
"""Bytes of one line of stderr that are read. Fewer are told, so that no secret is cut in two before
it is hidden.
"""

STARTS_PER_CORE: Final = 2
"""Servers that may start at once. More of them make each other slow, so that one misses the probe's
deadline and passes for an older one.
"""
TURN: Final = 1.0
"""Seconds after which the next one may start, whether this one is ready or not: one that hangs
takes no time from others.
"""


def resolved(command: str, *, environ: Mapping[str, str]) -> str | None:
    """The command's absolute path, looked for in the PATH of `environ`; None where there is no such
    program. Blocks for a few `stat`s.
    """
    found = shutil.which(str(Path(command).expanduser()), path=environ.get("PATH"))
    return None if found is None else str(Path(found).absolute())


class IdleHolder(Protocol):
    """Whoever holds a process and could do without it."""

    @property
    def idle_since(self) -> float | None:
        """When it was last used; None while it is in use."""
        ...

    async def stop(self) -> None: ...


class NoRoom(Exception):
    """As many processes run as may, and all of them are in use."""


class Spawned(NamedTuple):
    """A process that was just started, its mark, and our ends of its pipes."""

    child: subprocess.Popen[bytes]
    mark: str
    stdin: int
    stdout: int
    stderr: int


class ProcessTable:
    """How many processes there may be, of all servers together, and the one that ends them should
    the gateway die. One for the whole gateway.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self.mark = secrets.token_hex(8)
        self._tree = 0
        self._holders: set[IdleHolder] = set()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._lock = asyncio.Lock()
        self.turns = (os.cpu_count() or 1) * STARTS_PER_CORE
        """How many may start now."""
        self._turns = asyncio.Semaphore(self.turns)
        self._spawning = threading.Lock()
        self._starting: set[asyncio.Future[Spawned]] = set()
        """Starts that run in a thread at this moment, whether anybody still waits for them or not.
        """

    def __repr__(self) -> str:
        return f"<Children {len(self._holders)} of {self.limit}>"

    async def take(self, holder: IdleHolder) -> None:
        """Have room for one process; the one that was idle for longest is given up where there is
        none.

        Raises:
            NoRoom
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
        """Wait until a process may start; the turn ends with the block, or after TURN seconds."""
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
        """Start a process in a session of its own, with three pipes. Blocks: for a thread.

        Raises:
            OSError: no such program or folder, or too many processes or descriptors.
        """
        with self._spawning:
            self._keep()
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

    def _keep(self) -> None:
        """Have the keeper run; one that was killed is replaced. It finds by their marks those that
        were started before it.
        """
        keeper = self._keeper
        if keeper is not None and keeper.poll() is not None:
            if keeper.stdin is not None:
                keeper.stdin.close()
            keeper = None
        if keeper is None and sys.executable:
            keeper = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", _process_reaper.__file__, self.mark],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={}, cwd="/", start_new_session=True, bufsize=0,
            )  # fmt: skip
        self._keeper = keeper

    def ended(self, pid: int) -> None:
        self._note(b"-", pid)

    def _note(self, sign: bytes, pid: int) -> None:
        if self._keeper is not None and self._keeper.stdin is not None:
            with contextlib.suppress(OSError):
                self._keeper.stdin.write(b"%b%d\n" % (sign, pid))

    async def aclose(self) -> None:
        """Let the keeper go. Whatever still carries a mark of ours dies with this."""
        while self._starting:
            await asyncio.wait(self._starting)
            await asyncio.sleep(0)  # what nobody waits for any more is ended by its callback
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
            await asyncio.to_thread(keeper.wait)


class ProcessListener(Protocol):
    """Who hears of a process. Called on the event loop."""

    def line(self, data: bytes) -> None: ...
    def error_line(self, text: bytes) -> None: ...
    def overflow(self, size: int) -> None:
        """A line is longer than the limit; nothing more is read of it."""
        ...

    def exited(self, code: int | None) -> None:
        """Once: the exit code (negative for a signal), None where only its output ended."""
        ...


class _Lines(asyncio.Protocol):
    """Cuts a pipe into lines. Beyond `limit` bytes without an end of line it gives `long` what it
    has and passes over the rest of that line.
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
    """One running server with its three pipes. `stop` is the only end of it, also where it died by
    itself: its children may live.
    """

    def __init__(self, spawned: Spawned, *, children: ProcessTable, ears: ProcessListener) -> None:
        self._child = spawned.child
        self._mark = spawned.mark
        self._unconnected = list(spawned[2:])
        self._children = children
        self._ears = ears
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
        """0 for one that is not asked to leave, but killed."""

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
        ears: ProcessListener,
        limit: int,
    ) -> ServerProcess:
        """Raises OSError: it could not be started."""
        if not network:
            argv = [sys.executable, "-I", "-S", _network_namespace.__file__, *argv]
        spawning = children.start(argv, env=env, cwd=cwd)
        try:
            spawned = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            spawning.add_done_callback(partial(_kill_unwanted, children))
            raise
        process = cls(spawned, children=children, ears=ears)
        try:
            await process._connect(limit)
        except BaseException:
            await asyncio.shield(process.stop())
            raise
        return process

    async def _connect(self, limit: int) -> None:
        loop, ears = self._loop, self._ears
        self._watch()
        self._stdin, _ = await loop.connect_write_pipe(lambda: self._input, self._next_pipe("wb"))
        self._stdin.set_write_buffer_limits(high=UNWRITTEN)
        lines = self._lines = _Lines(ears.line, limit=limit, long=lambda cut: ears.overflow(len(cut)))
        self._stdout, _ = await loop.connect_read_pipe(lambda: lines, self._next_pipe("rb"))
        errors = self._errors = _Lines(ears.error_line, limit=ERROR_LINE, long=ears.error_line)
        self._stderr, _ = await loop.connect_read_pipe(lambda: errors, self._next_pipe("rb"))
        lines.ended.add_done_callback(lambda _: self._output_ended())

    def _next_pipe(self, mode: Literal["rb", "wb"]) -> IO[bytes]:
        """The next of stdin, stdout, stderr, for the loop to own.

        uvloop closes a pipe's descriptor twice, by its number and by the file object: between the
        two a thread that starts another process may have been given that number. So the file object
        closes it only where the loop is asyncio's own, which has no other way.
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
            await asyncio.wait(outputs, timeout=LAST_WORDS)
        self._tell(self._child.returncode)

    def _output_ended(self) -> None:
        """A server that closed its output says nothing any more, whether it runs or not; mostly its
        death is told in a moment.
        """
        self._loop.call_later(LAST_WORDS, lambda: self._tell(self._child.returncode))

    def _tell(self, code: int | None) -> None:
        if not self._told:
            self._told = True
            self._ears.exited(code)

    async def write(self, data: bytes) -> None:
        """Hand bytes over; waits only where the server has not read for long.

        Raises:
            ConnectionError: it does not take input any more.
        """
        if not self._input.room.is_set():
            await self._input.room.wait()
        if self._stdin is None or self._stdin.is_closing():
            raise ConnectionError
        self._stdin.write(data)

    def write_now(self, data: bytes) -> None:
        """The same without waiting; what a server that does not read would be told is dropped."""
        if self._stdin is not None and not self._stdin.is_closing() and self._input.room.is_set():
            self._stdin.write(data)

    def stop(self) -> Awaitable[None]:
        """End it: the end of its input, then SIGTERM, then SIGKILL, to all that descend from it.
        Any number of callers wait for the one end.
        """
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop())
        return asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self._told = True  # whoever stops it knows
        try:
            await self._end_tree()
        finally:
            await self._close_pipes()
            self._children.ended(self.pid)

    async def _close_pipes(self) -> None:
        """All three, whether they came to be connected or not. What the transports close, they
        close in the loop's next turn.
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
        """Signal what is known of the tree until nothing is left of it, or the time is over. Gives
        what is left.
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
            # All that was known is gone; a tree may have grown meanwhile.
            known = await asyncio.to_thread(self._find, {})
            if not known:
                break
            self._signal(known, number)
        return known

    def _find(self, known: dict[int, str]) -> dict[int, str]:
        return {**_process_reaper.alive(known), **_process_reaper.find(self._mark, frozenset({self.pid}))}

    def _signal(self, known: Mapping[int, str], number: signal.Signals) -> None:
        if not self.exited.is_set():  # its number is still its own, so is its group's
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)
        _process_reaper.kill(known, number)


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    """To read from, to write to; both are closed with the stack, unless it is kept."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


def _kill_unwanted(children: ProcessTable, spawning: asyncio.Future[Spawned]) -> None:
    """What was started for somebody who has gone."""
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
    """What a server's process sees, beside the mark that its end needs."""
    return {**{name: environ[name] for name in INHERITED if name in environ}, **declared}
