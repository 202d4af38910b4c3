"""The processes of all tool servers: limited in number, started without a shell, and ended if the
gateway dies.

Blocking work (spawning, looking up programs) runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from modelplex.mcp.servers.process_host import LocalProcesses, ProcessHost, Spawned

INHERITED: Final = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG")
"""Variables that a process gets of the gateway's environment: enough to find programs and a home,
and no key.
"""
STARTS_PER_CORE: Final = 2
"""Servers that may start at once. More would slow each other down until one misses the probe's
deadline and counts as legacy.
"""
START_SLOT_SECONDS: Final = 1.0
"""Seconds after which the next server may start, even if this one is not ready."""


def resolved(command: str, *, environ: Mapping[str, str]) -> str | None:
    """The command's absolute path in the PATH of `environ`; None if there is no such program.
    Blocks for a few `stat`s.
    """
    found = shutil.which(str(Path(command).expanduser()), path=environ.get("PATH"))
    return None if found is None else str(Path(found).absolute())


def environment(environ: Mapping[str, str], declared: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server's process, besides the mark."""
    return {**{name: environ[name] for name in INHERITED if name in environ}, **declared}


class IdleHolder(Protocol):
    """The holder of a process that may be stopped when idle."""

    @property
    def idle_since(self) -> float | None:
        """The time of its last use; None while it is in use."""
        ...

    async def stop(self) -> None: ...


class NoRoom(Exception):
    """The process limit is reached, and all processes are in use."""


class ProcessTable:
    """Limits the processes of all servers. `new_host` makes what starts them, for a mark that all
    of them have. One for the gateway.
    """

    def __init__(self, limit: int = 64, *, new_host: Callable[[str], ProcessHost] = LocalProcesses) -> None:
        self.limit = limit
        self.mark = secrets.token_hex(8)
        self.host = new_host(self.mark)
        self._spawned = 0
        self._holders: set[IdleHolder] = set()
        self._lock = asyncio.Lock()
        self.start_slots = (os.cpu_count() or 1) * STARTS_PER_CORE
        """Starts that may begin now."""
        self._start_slots = asyncio.Semaphore(self.start_slots)
        self._spawn_lock = threading.Lock()
        self._starting: set[asyncio.Future[Spawned]] = set()
        """Starts that run in a thread, whether or not a caller still waits."""

    def __repr__(self) -> str:
        return f"<ProcessTable {len(self._holders)} of {self.limit}>"

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

    def free(self, holder: IdleHolder) -> None:
        self._holders.discard(holder)

    @contextlib.asynccontextmanager
    async def start_slot(self) -> AsyncGenerator[None]:
        """Wait until a process may start. The slot is free again after the block, or after
        START_SLOT_SECONDS.
        """
        await self._start_slots.acquire()
        self.start_slots -= 1
        held = contextlib.ExitStack()
        held.callback(self._free_start_slot)
        timer = asyncio.get_running_loop().call_later(START_SLOT_SECONDS, held.close)
        try:
            yield
        finally:
            timer.cancel()
            held.close()

    def _free_start_slot(self) -> None:
        self.start_slots += 1
        self._start_slots.release()

    async def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> Spawned:
        """`spawn` in a thread. The thread cannot be cancelled: if the caller is, the process is
        killed as soon as it runs. `aclose` waits for it.
        """
        starting = asyncio.ensure_future(asyncio.to_thread(self.spawn, argv, env=env, cwd=cwd))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._kill_unwanted)
            raise

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> Spawned:
        """Start a process in its own session, with three pipes. Blocks: for a thread.

        Raises: OSError if there is no such program or folder, or too many processes or descriptors.
        """
        with self._spawn_lock:
            self._spawned += 1
            mark = f"{self.mark}-{self._spawned}-"
        return self.host.spawn(argv, env=env, cwd=cwd, mark=mark)

    def _kill_unwanted(self, starting: asyncio.Future[Spawned]) -> None:
        """Kill a process whose caller was cancelled."""
        if starting.cancelled() or starting.exception() is not None:
            return
        spawned = starting.result()
        spawned.child.signal_group(signal.SIGKILL)
        for end in (*spawned[2:5], spawned.ended):
            if end is not None:
                os.close(end)
        spawned.child.wait()
        self.host.ended(spawned.child.pid)

    async def aclose(self) -> None:
        """Kill every process that still has a mark."""
        while self._starting:
            await asyncio.wait(self._starting)
            await asyncio.sleep(0)  # `_kill_unwanted` runs
        await asyncio.to_thread(self.host.close)
