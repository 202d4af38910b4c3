"""Views of the merged catalog, and the waits for unknown lists."""

import asyncio

import pytest

from modelplex.mcp import routing
from modelplex.mcp.constants import (
    Unavailable,
)
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    SlowServer,
    error,
    result,
    text,
    tool,
)


async def test_a_server_that_does_not_start_hides_no_other_and_is_announced_later() -> None:
    down = ScriptedServer(
        "down",
        known=False,
        tools=[tool("late")],
        fails=Unavailable("it does not start", server="down", reason="start_failed"),
    )
    harness = Harness(down, ScriptedServer("up", tools=[tool("x")]))
    client = harness.opened(ScriptedClient("legacy"))
    modern = result(await harness.ask(ScriptedClient(), "tools/list"))
    assert [each["name"] for each in modern["tools"]] == ["up__x"]
    assert modern["ttlMs"] == 0
    assert ("down", "it does not start") in harness.reports
    assert error(await harness.call(client, "down__late"))["data"] == {
        "reason": "start_failed",
        "server": "down",
    }
    down.fails = None
    assert await harness.names(client) == ["up__x"]  # one that failed is tried again, and not waited for
    for _ in range(10):
        await asyncio.sleep(0)
    assert await harness.names(client) == ["down__late", "up__x"]
    assert {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"} in client.channel


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_slow_server_delays_the_list_by_a_short_wait_only(
    era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 0.02)
    slow = SlowServer("slow")
    harness = Harness(slow, ScriptedServer("up", known=False, tools=[tool("x")]))
    client = harness.opened(ScriptedClient("legacy"))
    if era == "legacy":
        began = result(
            await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
        )
        assert began["capabilities"]["tools"] == {"listChanged": True}
    assert await harness.names(ScriptedClient("legacy" if era == "legacy" else "modern")) == ["up__x"]
    assert slow.late
    assert client.channel == []
    slow.go_on.set()
    async with asyncio.timeout(5):
        while not client.channel:
            await asyncio.sleep(0)
    assert {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"} in client.channel
    assert await harness.names(client) == ["slow__late", "up__x"]


async def test_a_list_that_would_be_empty_waits_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 0.02)
    slow, slower = SlowServer("slow"), SlowServer("slower")
    harness = Harness(slow, slower)
    began = await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
    assert result(began)["capabilities"]["tools"] == {"listChanged": True}
    listed = asyncio.create_task(harness.names(ScriptedClient("legacy")))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not listed.done()
    slow.go_on.set()
    slower.go_on.set()
    assert await listed == ["slow__late", "slower__late"]


async def test_the_wait_for_an_empty_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(routing, "CALL_WAIT_SECONDS", 0.02)
    slow = SlowServer("slow")
    assert await Harness(slow).names(ScriptedClient("legacy")) == []
    slow.go_on.set()


async def test_a_list_does_not_wait_for_a_server_that_was_slow_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 600.0)
    slow = SlowServer("slow")
    slow.late = True
    harness = Harness(slow, ScriptedServer("up", known=False, tools=[tool("x")]))
    assert await harness.names(ScriptedClient()) == ["up__x"]
    slow.go_on.set()


async def test_a_call_waits_for_its_slow_server() -> None:
    slow = SlowServer("slow")
    slow.late = True
    harness = Harness(slow, ScriptedServer("up", tools=[tool("x")]))
    assert await harness.names(ScriptedClient()) == ["up__x"]
    called = asyncio.create_task(harness.call(ScriptedClient(), "slow__late", {"text": "x"}))
    await asyncio.sleep(0)
    assert not called.done()
    slow.go_on.set()
    assert text(await called) == "{'text': 'x'}"


async def test_the_gateway_loads_unknown_lists_at_its_start() -> None:
    unknown, known = (
        ScriptedServer("a", known=False, tools=[tool("x")]),
        ScriptedServer("b", tools=[tool("y")]),
    )
    harness = Harness(unknown, known)
    harness.gateway.start()
    async with asyncio.timeout(5):
        while unknown.catalog is None:
            await asyncio.sleep(0)
    assert (unknown.listed, known.listed) == (1, 0)


async def test_a_server_without_lists_is_logged_when_the_gateway_stops() -> None:
    slow = SlowServer("slow")
    harness = Harness(slow)
    harness.gateway.start()
    for _ in range(10):
        await asyncio.sleep(0)
    await harness.gateway.close()
    assert [server for server, sentence in harness.reports if "modelplex mcp list" in sentence] == ["slow"]
