"""Limits of running calls."""

import asyncio

from modelplex.mcp.constants import (
    McpReply,
)
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
