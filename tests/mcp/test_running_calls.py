"""Limits of running calls."""

import asyncio
from typing import Any

import pytest

from modelplex.config.mcp_settings import McpConfig
from modelplex.mcp.call_route import CallRoute
from modelplex.mcp.constants import (
    Json,
    McpReply,
    Unavailable,
)
from modelplex.mcp.progress_sink import ProgressSink
from modelplex.mcp.running_calls import RunningCalls
from modelplex.mcp.tool_server import ToolServer
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    echo,
    error,
    text,
    tool,
)


async def test_a_caller_at_its_limit_gets_a_retry_time_and_others_are_served() -> None:
    gate = asyncio.Event()

    async def wait(sent: Sent) -> McpReply:
        await gate.wait()
        return await echo(sent)

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=wait), max_in_flight=2)
    mine, other = ScriptedClient(agent="a"), ScriptedClient(agent="b")
    running = [asyncio.create_task(harness.call(mine, "s__x")) for _ in range(2)]
    while len(harness.servers["s"].sent) < 2:
        await asyncio.sleep(0)
    refused = await harness.call(mine, "s__x")
    assert error(refused)["data"] == {"reason": "limit", "retryAfterMs": 1000}
    assert refused.reason == "limit"
    theirs = asyncio.create_task(harness.call(other, "s__x"))
    gate.set()
    for reply in await asyncio.gather(*running, theirs):
        assert text(reply) == "{}"
    assert text(await harness.call(mine, "s__x")) == "{}"


async def test_a_call_beyond_the_servers_limit_waits() -> None:
    gate = asyncio.Event()

    async def wait(sent: Sent) -> McpReply:
        await gate.wait()
        return await echo(sent)

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=wait), max_server_in_flight=1)
    running = [asyncio.create_task(harness.call(ScriptedClient(), "s__x", {"n": n})) for n in range(13)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(harness.servers["s"].sent) == 1
    gate.set()
    assert [text(reply) for reply in await asyncio.gather(*running)] == [f"{{'n': {n}}}" for n in range(13)]


async def test_a_call_waits_for_a_slot_as_long_as_the_server_may_be_silent() -> None:
    gate = asyncio.Event()

    async def wait(sent: Sent) -> McpReply:
        await gate.wait()
        return await echo(sent)

    full = ScriptedServer("s", tools=[tool("x")], script=wait, timeout=0.05)
    harness = Harness(full, max_server_in_flight=1)
    running = asyncio.create_task(harness.call(ScriptedClient(), "s__x"))
    while not harness.servers["s"].sent:
        await asyncio.sleep(0)
    refused = error(await harness.call(ScriptedClient(), "s__x"))
    assert refused["data"] == {"reason": "limit", "server": "s", "retryAfterMs": 1000}
    assert "none came free within 0.05 seconds" in refused["message"]
    gate.set()
    await running


def route(
    server: ScriptedServer, *, agent: str = "", scope: str = "", client: ScriptedClient | None = None
) -> CallRoute:
    return CallRoute(
        client=client or ScriptedClient(agent=agent),
        method="tools/call",
        upstream=server,
        scope=scope,
        era="legacy",
        capabilities={},
    )


def sink(client: ScriptedClient, level: str | None = "info") -> ProgressSink:
    return ProgressSink(client, level=level, globs=(), clock=lambda: 0.0, related=lambda _: {})


def running(**config: Any) -> tuple[RunningCalls, list[ToolServer]]:
    idle: list[ToolServer] = []
    return RunningCalls(McpConfig(enabled=True, **config), on_idle=idle.append), idle


def test_a_callers_requests_are_counted_until_they_end() -> None:
    calls, _ = running(max_in_flight=1)
    with calls.count_request("a"):
        with calls.count_request("b"):
            pass
        with pytest.raises(Unavailable) as refused, calls.count_request("a"):
            pass
        assert (refused.value.reason, refused.value.retry_after) == ("limit", 1.0)
    with calls.count_request("a"):
        pass


async def test_a_server_is_idle_after_its_last_call() -> None:
    calls, idle = running()
    server = ScriptedServer("s")
    async with calls.enter(route(server), sink(ScriptedClient()), size=0):
        async with calls.enter(route(server, agent="b"), sink(ScriptedClient()), size=0):
            assert calls.runs(server) == 2
        assert (calls.runs(server), idle) == (1, [])
    assert (calls.runs(server), idle) == (0, [server])


async def test_a_log_message_is_delivered_if_exactly_one_call_wants_it() -> None:
    calls, _ = running()
    server, client, other = ScriptedServer("s"), ScriptedClient(), ScriptedClient()
    message: Json = {"method": "notifications/message", "params": {"level": "info"}}
    assert not calls.deliver_log("s", "", message)
    async with calls.enter(route(server), sink(client), size=0):
        async with calls.enter(route(server), sink(other, None), size=0):
            assert calls.deliver_log("s", "", message)
        assert not calls.deliver_log("s", "session:x", message)
        async with calls.enter(route(server), sink(other), size=0):
            assert not calls.deliver_log("s", "", message)
    assert (len(client.notifications), len(other.notifications)) == (1, 0)


async def test_an_instance_of_a_session_takes_a_process_slot_while_calls_run_there() -> None:
    calls, _ = running(max_processes=1)
    server = ScriptedServer("s", timeout=0.01)
    async with calls.enter(route(server, scope="session:a"), sink(ScriptedClient()), size=0):
        async with calls.enter(route(server, scope="session:a"), sink(ScriptedClient()), size=0):
            pass
        async with calls.enter(route(server), sink(ScriptedClient()), size=0):
            pass  # the shared instance needs none
        with pytest.raises(Unavailable, match="a process of its own"):
            async with calls.enter(route(server, scope="session:b"), sink(ScriptedClient()), size=0):
                pass
    async with (
        asyncio.timeout(5),
        calls.enter(route(server, scope="session:b"), sink(ScriptedClient()), size=0),
    ):
        assert calls.runs(server) == 1
