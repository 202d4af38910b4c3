"""Limits and starts of processes."""

import asyncio
import json
import sys
import threading
from collections.abc import Mapping, Sequence

import pytest

from modelplex.config.secret import Secret
from modelplex.mcp.servers import process_table
from modelplex.mcp.servers.process_host import ChildProcess, Spawned
from modelplex.mcp.servers.process_table import ProcessTable
from modelplex.mcp.servers.server_process import ServerProcess

from .conftest import Start, text_of

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
        self.started: list[ChildProcess] = []

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> Spawned:
        self.reached.set()
        assert self.may.wait(WAIT_S)
        spawned = super().spawn(argv, env=env, cwd=cwd)
        self.started.append(spawned.child)
        return spawned


@pytest.mark.parametrize("declared", [{}, {"DECLARED": "yes"}])
async def test_a_process_gets_only_allowed_and_declared_variables(
    start: Start, declared: dict[str, str]
) -> None:
    scripted = start(extra={"env": {name: Secret(value) for name, value in declared.items()}})
    seen: dict[str, str] = json.loads(text_of(await scripted.call("environment")))
    allowed = {
        "HOME",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TERM",
        "USER",
        "LANG",
        "MODELPLEX_TREE",
        "LC_CTYPE",
        *declared,
    }
    assert set(seen) <= allowed
    assert {name: seen[name] for name in declared} == declared


async def test_a_process_whose_start_was_cancelled_is_killed_before_aclose_returns() -> None:
    children = Held()
    argv = [sys.executable, "-S", "-c", "input()"]
    starting = asyncio.create_task(
        ServerProcess.start(argv, env={}, cwd=None, children=children, listener=Silent(), limit=1000)
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


async def test_two_servers_per_core_start_at_once(
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


async def test_a_server_that_hangs_at_its_start_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
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
