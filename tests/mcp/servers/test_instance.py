"""Start, loss, idleness and end of an instance."""

import asyncio
import json
import math
import os
import signal
import time

import msgspec
import pytest

from modelplex.mcp.constants import Unavailable
from modelplex.mcp.servers import lifecycle

from .conftest import Start, running, text_of, until
from .remote import CALL, Seen, Stream, modern, remote, server_of


async def test_fifty_first_calls_start_one_process(start: Start) -> None:
    scripted = start(limits={"max_server_in_flight": 64})
    replies = await asyncio.gather(*(scripted.call("echo", {"n": n}) for n in range(50)))
    assert [json.loads(text_of(reply))["n"] for reply in replies] == list(range(50))
    assert len(scripted.lines("start")) == 1


async def test_a_server_killed_during_calls_fails_them_at_once_and_the_next_call_works(start: Start) -> None:
    scripted = start()
    await scripted.call("echo")
    hanging = [asyncio.ensure_future(scripted.call("hang")) for _ in range(3)]
    await until(lambda: len(scripted.lines("tools/call")) == 4)
    began = time.monotonic()
    os.kill(scripted.server.status().pids[0], signal.SIGKILL)
    for call in hanging:
        with pytest.raises(Unavailable) as lost:
            await call
        assert lost.value.reason == "lost"
    assert time.monotonic() - began < 1
    assert scripted.server.state == "backoff"
    assert text_of(await scripted.call("echo", {"a": 1})) == '{"a": 1}'
    assert len(scripted.lines('tools/call {"arguments": {}, "name": "hang"')) == 3  # M24: none was sent twice


async def test_a_server_that_exits_at_once_enters_a_crash_loop_and_then_fails_at_once(start: Start) -> None:
    scripted = start(start="exit")
    instance = scripted.server._instance("")
    for _ in range(lifecycle.CRASHES):
        instance.life = msgspec.structs.replace(instance.life, until=0.0)  # no wait between the starts
        with pytest.raises(Unavailable) as failed:
            await scripted.call("echo")
        assert failed.value.reason == "start_failed"
    starts = len(scripted.lines("start"))
    fastest = math.inf  # of several calls: the machine may be busy
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(Unavailable) as loop:
            await scripted.call("echo")
        fastest = min(fastest, time.monotonic() - began)
        assert loop.value.reason == "crash_loop"
        assert loop.value.retry_after is not None
    assert fastest < 0.01
    assert len(scripted.lines("start")) == starts
    status = scripted.server.status()
    assert status.state == "crash_loop"
    assert status.last_error == "It exited with code 3."


async def test_an_idle_server_is_stopped_and_restarted_by_a_call_and_not_by_listing(start: Start) -> None:
    scripted = start(extra={"idle_stop": 0.1}, cache=True)
    await scripted.call("echo")
    await until(lambda: scripted.server.state == "idle_stopped")
    catalog = await scripted.server.lists()
    assert len(catalog.tools) == 2
    assert len(scripted.lines("start")) == 1
    await scripted.call("echo")
    assert len(scripted.lines("start")) == 2
    again = start(cache=True, extra={"idle_stop": 0.1})
    assert again.server.catalog is None
    assert await again.server.lists() == catalog
    assert again.server.state == "cataloged"
    assert len(scripted.lines("start")) == 2


async def test_each_scope_has_its_own_process_within_the_limit(start: Start) -> None:
    scripted = start()
    scripted.children.limit = 2
    pids = [text_of(await scripted.call("pid", scope=scope)) for scope in ("a", "b", "a")]
    assert pids[0] == pids[2] != pids[1]
    third = text_of(await scripted.call("pid", scope="c"))  # the one that was idle for longest makes room
    assert not running(int(pids[1]))
    assert running(int(pids[0]))
    hanging = [asyncio.ensure_future(scripted.call("hang", scope=scope)) for scope in ("a", "c")]
    await until(lambda: len(scripted.lines('tools/call {"arguments": {}, "name": "hang"')) == 2)
    with pytest.raises(Unavailable) as full:
        await scripted.call("pid", scope="d")
    assert full.value.reason == "limit"
    await scripted.server.end_scope("a")
    with pytest.raises(Unavailable):
        await hanging[0]
    assert not running(int(pids[0]))
    assert running(int(third))
    hanging[1].cancel()


async def test_a_call_in_flight_fails_when_its_scope_ends() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        await (stream.wait_closed() if seen.rpc_method == "tools/call" else modern(seen, stream))

    async with remote(respond) as it, server_of(it) as server:
        call = asyncio.ensure_future(server.request("tools/call", CALL, scope="s"))
        await until(lambda: bool(it.requests("tools/call")))
        await server.end_scope("s")
        with pytest.raises(Unavailable) as lost:
            await call
        assert lost.value.reason == "lost"


async def test_a_server_with_watched_resources_is_restarted_without_a_call(start: Start) -> None:
    scripted = start()
    await scripted.server.watch(frozenset({"a://b"}))
    with pytest.raises(Unavailable):
        await scripted.call("die")
    await until(lambda: len(scripted.lines("resources/subscribe")) == 2)
    assert len(scripted.lines("start")) == 2


async def test_a_refused_connection_enters_back_off() -> None:
    async with remote(modern) as it:
        pass
    async with server_of(it) as server:
        with pytest.raises(Unavailable, match="refused the connection") as failed:
            await server.lists()
        assert "127.0.0.1" not in str(failed.value)  # agents read it
        assert server.state == "backoff"
        assert server.server_catalog.known_era is None
