"""Sessions and subscriptions of clients."""

from __future__ import annotations

import asyncio

from modelplex.mcp.constants import (
    INVALID_PARAMS,
    META_SUBSCRIPTION,
    McpReply,
)
from modelplex.mcp.streams import MAX_SUBSCRIPTIONS
from tests.mcp.harness import (
    WAIT,
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    error,
    result,
    tool,
)
from tests.mcp.listening import ALL, TOOLS, Listening, files
from tests.mcp.task_servers import Tasker, made, new, task, tasking


def logging(count: int, level: str = "info") -> ScriptedServer:
    async def script(sent: Sent) -> McpReply:
        for number in range(count):
            if sent.on_notification is not None:
                sent.on_notification(
                    {
                        "jsonrpc": "2.0",
                        "method": "notifications/message",
                        "params": {"level": level, "data": number},
                    }
                )
        return McpReply(result={"content": []})

    return ScriptedServer("s", tools=[tool("x")], script=script)


async def test_each_legacy_session_has_its_own_log_level() -> None:
    harness = Harness(logging(1, "info"))
    one, two = ScriptedClient("legacy", session="a"), ScriptedClient("legacy", session="b")
    assert result(await harness.ask(one, "logging/setLevel", {"level": "error"})) == {}
    assert error(await harness.ask(one, "logging/setLevel", {"level": "loud"}))["code"] == INVALID_PARAMS
    await harness.call(one, "s__x")
    await harness.call(two, "s__x")
    assert (len(one.notifications), len(two.notifications)) == (0, 1)


async def test_a_caller_gets_no_changes_of_servers_it_may_not_see() -> None:
    harness = Harness(files(), ScriptedServer("other", tools=[tool("y")]))
    blind = harness.opened(ScriptedClient("legacy", session="a", tools=("other__*",)))
    elsewhere = harness.opened(ScriptedClient("legacy", session="b"), server="other")
    harness.servers["fs"].says("notifications/tools/list_changed")
    assert blind.channel == []
    assert elsewhere.channel == []
    harness.servers["other"].says("notifications/tools/list_changed")
    assert blind.channel == elsewhere.channel == [TOOLS]


async def test_the_tools_of_search_mode_never_change() -> None:
    harness = Harness(files(), search="on")
    client = harness.opened(ScriptedClient("legacy"))
    harness.servers["fs"].says("notifications/tools/list_changed")
    harness.servers["fs"].says("notifications/resources/list_changed")
    assert [each["method"] for each in client.channel] == ["notifications/resources/list_changed"]


async def test_the_subscriptions_of_a_caller_are_limited() -> None:
    harness = Harness(files())
    running = [Listening(harness, ScriptedClient(), ALL, id=number) for number in range(MAX_SUBSCRIPTIONS)]
    for each in running:
        await each.begun()
    refused = await harness.ask(ScriptedClient(), "subscriptions/listen", {"notifications": ALL})
    assert error(refused)["data"]["reason"] == "limit"
    for each in running:
        await each.end()


async def test_a_stopping_gateway_ends_subscriptions_with_their_result() -> None:
    harness = Harness(files())
    client = ScriptedClient()
    listening = Listening(harness, client, ALL, id="x")
    await listening.begun()
    await harness.gateway.close()
    reply = await asyncio.wait_for(listening.task, WAIT)
    assert result(reply)["_meta"][META_SUBSCRIPTION] == "x"
    assert result(reply)["resultType"] == "complete"
    assert harness.servers["fs"].closed


async def test_a_subscription_to_tasks_gets_only_the_callers_tasks() -> None:
    tasker = Tasker("modern")

    async def listened(sent: Sent) -> McpReply:
        if sent.method != "subscriptions/listen":
            return await tasker(sent)
        assert sent.params == {"notifications": {"taskIds": ["t1"]}}
        assert sent.on_notification is not None
        for own in ("t1", "t2"):
            params = {**task(own, "completed"), "_meta": {"io.modelcontextprotocol/subscriptionId": 4}}
            sent.on_notification({"jsonrpc": "2.0", "method": "notifications/tasks", "params": params})
        await asyncio.Event().wait()
        raise AssertionError

    harness = Harness(tasking("c", "modern", script=listened))
    client = new(agent="one")
    mine, theirs = await made(harness, client, "c__work"), await made(harness, new(agent="two"), "c__work")
    message = client.message(
        "subscriptions/listen", {"notifications": {"taskIds": [mine, theirs, "x"]}}, id=9
    )
    listening = asyncio.create_task(harness.gateway.request(client, message))
    while len(client.notifications) < 2:
        client.notified.clear()
        await asyncio.wait_for(client.notified.wait(), WAIT)
    assert client.notifications[0]["params"]["notifications"] == {"taskIds": [mine]}
    assert client.notifications[1]["method"] == "notifications/tasks"
    assert client.notifications[1]["params"] == {
        **task(mine, "completed"),
        "_meta": {"io.modelcontextprotocol/subscriptionId": 9},
    }
    listening.cancel()
    await asyncio.wait([listening])
    while not harness.servers["c"].cancelled:
        await asyncio.sleep(0)
