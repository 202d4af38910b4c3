import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from modelplex.config.secret import Secret
from modelplex.config.settings import McpConfig, McpServer
from modelplex.mcp.constants import Json, McpReply, Unavailable
from modelplex.mcp.servers import ManagedServer

from .conftest import SCRIPT, Start, running, text_of, until
from .remote import Seen, Stream, legacy, remote, text
from .test_streamable_http import CALL, asked


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


async def test_a_quarantined_or_disabled_server_refuses_at_once_and_is_stopped(start: Start) -> None:
    scripted = start()
    await scripted.call("echo")
    scripted.server.quarantine()
    with pytest.raises(Unavailable) as refused:
        await scripted.call("echo")
    assert refused.value.reason == "quarantined"
    await until(lambda: scripted.server.status().pids == ())
    assert scripted.server.state == "quarantined"
    scripted.server.approve()
    await scripted.call("echo")
    scripted.server.disable()
    with pytest.raises(Unavailable) as disabled:
        await scripted.call("echo", scope="other")
    assert disabled.value.reason == "disabled"


async def test_a_watched_server_comes_back_without_being_called(start: Start) -> None:
    scripted = start()
    await scripted.server.watch(frozenset({"a://b"}))
    with pytest.raises(Unavailable):
        await scripted.call("die")
    await until(lambda: len(scripted.lines("resources/subscribe")) == 2)
    assert len(scripted.lines("start")) == 2


async def test_a_broken_server_takes_no_other_down(start: Start, tmp_path: Path) -> None:
    broken = start(start="exit")
    (tmp_path / "well").mkdir()
    well = start()
    failing = asyncio.ensure_future(broken.call("echo"))
    assert text_of(await well.call("echo", {"a": 1})) == '{"a": 1}'
    with pytest.raises(Unavailable):
        await failing


async def test_a_question_ends_with_the_call_that_it_belongs_to() -> None:
    async def never(method: str, params: Json) -> McpReply:
        await asyncio.sleep(60)
        return McpReply(result={})

    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said == "tools/call":
            await stream.events()
            await stream.event({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}})
            await stream.event(text(seen, "no matter"))
        else:
            await legacy(seen, stream)

    async with remote(answer) as it, asked(it) as server:
        assert text_of(await server.request("tools/call", CALL, on_request=never)) == "no matter"
        await until(lambda: any("error" in seen.message for seen in it.seen))


async def test_a_question_that_the_server_takes_back_is_not_answered() -> None:
    heard, taken_back = asyncio.Event(), asyncio.Event()

    async def never(method: str, params: Json) -> McpReply:
        heard.set()
        try:
            await asyncio.sleep(60)
        finally:
            taken_back.set()
        return McpReply(result={})

    async def answer(seen: Seen, stream: Stream) -> None:
        if seen.said == "tools/call":
            await stream.events()
            await stream.event({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}})
            await heard.wait()
            back: Json = {"requestId": "q"}
            await stream.event({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": back})
            await taken_back.wait()
            await stream.event(text(seen, "done"))
        else:
            await legacy(seen, stream)

    async with remote(answer) as it, asked(it) as server:
        assert text_of(await server.request("tools/call", CALL, on_request=never)) == "done"
        assert not [seen for seen in it.seen if seen.method == "POST" and not seen.said]


async def test_while_a_question_is_answered_only_the_maximum_bounds_the_call(start: Start) -> None:
    scripted = start(extra={"timeout": 0.2}, limits={"max_call_time": 5.0})

    async def slowly(method: str, params: Json) -> McpReply:
        await asyncio.sleep(0.5)
        return McpReply(result={"action": "accept"})

    reply = await scripted.call("ask", {"method": "elicitation/create"}, on_request=slowly)
    assert json.loads(text_of(reply))["result"] == {"action": "accept"}
