"""ManagedServer."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.secret import Secret
from modelplex.mcp.constants import Unavailable
from modelplex.mcp.servers.server import ManagedServer

from .conftest import SCRIPT, Start, running, text_of, until


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_both_event_loops_start_call_and_stop_a_process(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> list[int]:
        args = tuple(map(Secret, ("-S", "-E", str(SCRIPT))))
        server = ManagedServer(McpServer(name="s", command=sys.executable, args=args), limits=McpConfig())
        pids = [int(text_of(await server.request("tools/call", {"name": "pid"}))) for _ in range(2)]
        pids.append(int(text_of(await server.request("tools/call", {"name": "fork"}))))
        with pytest.raises(Unavailable):
            await server.request("tools/call", {"name": "die"})
        pids.append(int(text_of(await server.request("tools/call", {"name": "pid"}))))
        await server.close()
        return pids

    with asyncio.Runner(loop_factory=make_loop) as runner:
        pids = runner.run(main())
    assert pids[0] == pids[1] != pids[3]
    assert not any(map(running, pids))


async def test_a_broken_server_does_not_affect_others(start: Start, tmp_path: Path) -> None:
    broken = start(start="exit")
    (tmp_path / "well").mkdir()
    well = start()
    failing = asyncio.ensure_future(broken.call("echo"))
    assert text_of(await well.call("echo", {"a": 1})) == '{"a": 1}'
    with pytest.raises(Unavailable):
        await failing


async def test_calls_above_the_limit_are_refused_and_not_queued(start: Start) -> None:
    scripted = start(limits={"max_server_in_flight": 2})
    hanging = [asyncio.ensure_future(scripted.call("hang")) for _ in range(2)]
    await until(lambda: len(scripted.lines("tools/call")) == 2)
    with pytest.raises(Unavailable) as full:
        await scripted.call("echo")
    assert full.value.reason == "limit"
    for call in hanging:
        call.cancel()
    await asyncio.wait(hanging)
    await scripted.call("echo")
