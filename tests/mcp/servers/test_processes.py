"""Processes of tool servers: none is left when the gateway has closed, however early it closes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

import pytest

from modelplex.mcp.servers.processes import ProcessTable, ServerProcess, Spawned

WAIT_S = 20


class Silent:
    def line(self, data: bytes) -> None: ...
    def error_line(self, text: bytes) -> None: ...
    def overflow(self, size: int) -> None: ...
    def exited(self, code: int | None) -> None: ...


class Held(ProcessTable):
    """Its threads start no process before they may."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.may = threading.Event(), threading.Event()
        self.started: list[subprocess.Popen[bytes]] = []

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> Spawned:
        self.reached.set()
        assert self.may.wait(WAIT_S)
        spawned = super().spawn(argv, env=env, cwd=cwd)
        self.started.append(spawned.child)
        return spawned


async def test_a_start_that_nobody_waits_for_is_over_when_all_is_closed() -> None:
    children = Held()
    argv = [sys.executable, "-S", "-c", "input()"]
    starting = asyncio.create_task(
        ServerProcess.start(
            argv, env={}, cwd=None, network=True, children=children, listener=Silent(), limit=1000
        )
    )
    assert await asyncio.to_thread(children.reached.wait, WAIT_S)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    closing = asyncio.create_task(children.aclose())
    await asyncio.sleep(0)
    children.may.set()
    await asyncio.wait_for(closing, WAIT_S)
    (child,) = children.started
    assert child.returncode is not None
