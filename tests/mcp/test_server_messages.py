"""Messages of servers that belong to no request."""

from __future__ import annotations

import asyncio

from modelplex.mcp.constants import (
    META_RELATED,
    McpReply,
    Unavailable,
)
from tests.mcp.harness import (
    WAIT,
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    tool,
)
from tests.mcp.task_servers import made, old, task, tasking


async def test_a_log_message_outside_of_calls_goes_to_the_only_call_or_to_the_log() -> None:
    gate = asyncio.Event()

    async def script(sent: Sent) -> McpReply:
        await gate.wait()
        return McpReply(result={"content": []})

    server = ScriptedServer("s", tools=[tool("x")], script=script)
    harness = Harness(server)
    one, two = ScriptedClient("legacy", session="a"), ScriptedClient("legacy", session="b")
    server.says("notifications/message", {"level": "info", "data": "nobody"})
    first = asyncio.create_task(harness.call(one, "s__x"))
    while len(server.sent) < 1:
        await asyncio.sleep(0)
    server.says("notifications/message", {"level": "info", "data": "one"})
    second = asyncio.create_task(harness.call(two, "s__x"))
    while len(server.sent) < 2:
        await asyncio.sleep(0)
    server.says("notifications/message", {"level": "info", "data": "both"})
    gate.set()
    await asyncio.gather(first, second)
    assert [message["params"]["data"] for message in one.notifications] == ["one"]
    assert two.notifications == []
    assert [sentence for _, sentence in harness.reports] == ["log message: nobody", "log message: both"]


async def test_a_list_changed_by_a_legacy_instance_is_loaded_before_it_is_announced() -> None:
    main = ScriptedServer("a", era="modern", allow=("elicitation",))
    legacy_server = ScriptedServer("a", allow=("elicitation",))
    harness = Harness(main, legacy_servers=[legacy_server])
    client = harness.opened(ScriptedClient("legacy"))
    for _ in range(3):
        legacy_server.says("notifications/tools/list_changed", scope="session:x")
    assert client.channel == []
    async with asyncio.timeout(WAIT):
        while not client.channel:
            await asyncio.sleep(0)
    assert main.listed == 1
    assert [each["method"] for each in client.channel] == ["notifications/tools/list_changed"]
    main.fails = Unavailable("gone", server="a", reason="lost")
    legacy_server.says("notifications/prompts/list_changed", scope="session:x")
    async with asyncio.timeout(WAIT):
        while len(client.channel) < 2:
            await asyncio.sleep(0)


async def test_a_task_notification_goes_to_the_session_that_made_the_task() -> None:
    harness = Harness(tasking("a"))
    mine, other = harness.opened(old()), harness.opened(old(session="s2"))
    name = await made(harness, mine)
    harness.servers["a"].says("notifications/tasks/status", task("t1", "completed"))
    harness.servers["a"].says("notifications/tasks/status", task("nobodys"))
    related = {"_meta": {META_RELATED: {"taskId": "t1"}, "io.modelcontextprotocol/x": 1}}
    harness.servers["a"].says("notifications/progress", {"progressToken": "p", "progress": 1, **related})
    assert [(each["method"], each["params"]) for each in mine.channel] == [
        ("notifications/tasks/status", task(name, "completed")),
        (
            "notifications/progress",
            {"progressToken": "p", "progress": 1, "_meta": {META_RELATED: {"taskId": name}}},
        ),
    ]
    assert other.channel == []
    harness.gateway.close_session(mine)
    harness.servers["a"].says("notifications/tasks/status", task("t1", "failed"))
    assert len(mine.channel) == 2
