"""Progress and log messages of one call."""

import asyncio

from modelplex.mcp.constants import (
    META_LOG_LEVEL,
    McpReply,
)
from modelplex.mcp.progress_sink import MAX_LOGS
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    tool,
)


async def test_progress_goes_to_the_calling_client() -> None:
    async def script(sent: Sent) -> McpReply:
        assert sent.on_notification is not None
        token = sent.params["_meta"]["progressToken"]
        sent.on_notification(
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": 1, "_meta": {"io.modelcontextprotocol/x": 1}},
            }
        )
        await asyncio.sleep(0)
        return McpReply(result={"content": []})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=script))
    one, two = ScriptedClient("legacy", session="a"), ScriptedClient("modern")
    await asyncio.gather(
        harness.call(one, "s__x", _meta={"progressToken": 1}),
        harness.call(two, "s__x", _meta={"progressToken": 1}),
    )
    for guest in (one, two):
        (told,) = guest.notifications
        assert told["params"] == {"progressToken": 1, "progress": 1}


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


async def test_a_modern_client_gets_log_messages_only_at_the_requested_level() -> None:
    server = logging(1)
    harness = Harness(server)
    quiet, asks, strict = ScriptedClient(), ScriptedClient(), ScriptedClient()
    await harness.call(quiet, "s__x")
    await harness.call(asks, "s__x", _meta={META_LOG_LEVEL: "info"})
    await harness.call(strict, "s__x", _meta={META_LOG_LEVEL: "error"})
    assert (len(quiet.notifications), len(asks.notifications), len(strict.notifications)) == (0, 1, 0)
    assert [sent.log_level for sent in server.sent] == [None, "info", "error"]


async def test_log_messages_have_a_rate_limit() -> None:
    harness = Harness(logging(50))
    guest = ScriptedClient("legacy")
    await harness.call(guest, "s__x")
    assert len(guest.notifications) == MAX_LOGS
