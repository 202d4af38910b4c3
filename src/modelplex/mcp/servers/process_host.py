"""Starts the processes of tool servers, finds what they started, and signals them.

`LocalProcesses` does it in this process. A gateway that has given up these rights asks a process
that has them (confinement/launcher_client.py), with the same methods. All block: they are for a
thread.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from modelplex.mcp.servers import process_reaper

Processes = dict[int, str]
"""Start times by pid, so that another process with the pid is not taken for it."""


class ChildProcess(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """Negative for a signal; None while it runs, as far as `poll` has seen."""
        ...

    def poll(self) -> int | None:
        """Look whether it has ended, without waiting."""
        ...

    def wait(self) -> int: ...

    def signal_group(self, number: int) -> None:
        """Send a signal to its process group, unless it has ended: its number may be another's."""
        ...


class Spawned(NamedTuple):
    """A new process, its mark, and this side of its pipes. `ended` is a descriptor that becomes
    readable when it ends, which the caller closes; None where the system has none.
    """

    child: ChildProcess
    mark: str
    stdin: int
    stdout: int
    stderr: int
    ended: int | None


class ProcessHost(Protocol):
    """`mark` is in the environment of a process and of all that it starts."""

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None, mark: str) -> Spawned:
        """Start a process in its own session, with three pipes.

        Raises: OSError if there is no such program or folder, or too many processes or descriptors.
        """
        ...

    def find(self, mark: str, pid: int, known: Mapping[int, str]) -> Processes:
        """Those of `known` that still run, and all with the mark, in the session of `pid`, or that
        descend from such.
        """
        ...

    def alive(self, known: Mapping[int, str]) -> Processes: ...

    def signal(self, number: int, processes: Mapping[int, str]) -> None: ...

    def ended(self, pid: int) -> None:
        """The process and all that it started have ended."""
        ...

    def close(self) -> None:
        """Kill every process that was started, and what they started."""
        ...


class LocalChild:
    """A child of this process. The lock is held while it may be reaped, or signalled."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<LocalChild {self.pid}>"

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.returncode

    def poll(self) -> int | None:
        with self._lock:
            return self._popen.poll()

    def wait(self) -> int:
        with contextlib.suppress(ChildProcessError):  # it was reaped already
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            return self._popen.wait()

    def signal_group(self, number: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._popen.poll() is None:
                os.killpg(self.pid, number)


class LocalProcesses:
    """Processes of this one. The reaper ends them if this one dies."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._reaper: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<LocalProcesses {self._mark}>"

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None, mark: str) -> Spawned:
        with self._lock:
            self._start_reaper()
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            their_in, our_in = _pipe(ours)
            our_out, their_out = _pipe(ours)
            our_err, their_err = _pipe(ours)
            child = subprocess.Popen(  # noqa: S603
                argv,
                stdin=their_in, stdout=their_out, stderr=their_err,
                env={**env, process_reaper.VARIABLE: mark}, cwd=cwd, start_new_session=True,
            )  # fmt: skip
            ours.pop_all()
            for end in (their_in, their_out, their_err):
                theirs.callback(os.close, end)
        self._inform_reaper(b"+", child.pid)
        try:
            ended = os.pidfd_open(child.pid)
        except (AttributeError, OSError):  # not Linux, or an old one
            ended = None
        return Spawned(LocalChild(child), mark, our_in, our_out, our_err, ended)

    def find(self, mark: str, pid: int, known: Mapping[int, str]) -> Processes:
        return {**process_reaper.alive(dict(known)), **process_reaper.find(mark, frozenset({pid}))}

    def alive(self, known: Mapping[int, str]) -> Processes:
        return process_reaper.alive(dict(known))

    def signal(self, number: int, processes: Mapping[int, str]) -> None:
        process_reaper.kill(processes, number)

    def ended(self, pid: int) -> None:
        self._inform_reaper(b"-", pid)

    def close(self) -> None:
        """End the reaper, which kills every process that still has a mark."""
        reaper, self._reaper = self._reaper, None
        if reaper is not None and reaper.stdin is not None:
            reaper.stdin.close()
            reaper.wait()

    def _start_reaper(self) -> None:
        """Start the reaper, again if it was killed. It finds earlier processes by their marks."""
        reaper = self._reaper
        if reaper is not None and reaper.poll() is not None:
            if reaper.stdin is not None:
                reaper.stdin.close()
            reaper = None
        if reaper is None and sys.executable:
            reaper = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", process_reaper.__file__, self._mark],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={}, cwd="/", start_new_session=True, bufsize=0,
            )  # fmt: skip
        self._reaper = reaper

    def _inform_reaper(self, sign: bytes, pid: int) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            with contextlib.suppress(OSError):
                self._reaper.stdin.write(b"%b%d\n" % (sign, pid))


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe to read from and to write to; the stack closes both unless it is emptied before."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends
