"""Processes of tool servers: none is left when the gateway has closed, however early it closes."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

import pytest

from modelplex.mcp.servers import ProcessTable, process_table
from modelplex.mcp.servers.process_table import Spawned
from modelplex.mcp.servers.server_process import ServerProcess

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


async def test_no_more_servers_start_at_once_than_the_processors_can_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    children = ProcessTable(64)
    running: list[int] = [0, 0]
    go_on = asyncio.Event()

    async def start() -> None:
        async with children.start_slot():
            running[0] += 1
            running[1] = max(running)
            await go_on.wait()
            running[0] -= 1

    starts = [asyncio.create_task(start()) for _ in range(5)]
    while running[0] < 2:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait_for(asyncio.gather(*starts), 5)
    assert running == [0, 2]


async def test_a_server_that_hangs_takes_no_turn_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr(process_table, "START_SLOT_SECONDS", 0.01)
    children = ProcessTable(64)
    began: list[int] = []

    async def hang(number: int) -> None:
        async with children.start_slot():
            began.append(number)
            await asyncio.Event().wait()

    starts = [asyncio.create_task(hang(number)) for number in range(5)]
    async with asyncio.timeout(5):
        while len(began) < 5:
            await asyncio.sleep(0.005)
    for task in starts:
        task.cancel()
    await asyncio.wait(starts)
    assert children.start_slots == 2  # each was given back once
