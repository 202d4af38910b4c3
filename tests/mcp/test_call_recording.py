"""Records of calls."""

import asyncio

import pytest

from modelplex.mcp.approvals import hash_of
from modelplex.mcp.constants import (
    McpReply,
)
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    echo,
    tool,
)


async def test_every_call_has_one_record_with_decision_rule_hash_and_duration() -> None:
    server = ScriptedServer("git", tools=[tool("log")])
    harness = Harness(server)

    async def slow(sent: Sent) -> McpReply:
        harness.now += 0.5
        return McpReply(result={"content": [], "isError": True})

    server.script = slow
    await harness.call(ScriptedClient(agent="coder"), "git__log", {"b": 1, "a": 2})
    await harness.call(ScriptedClient("legacy"), "git__none")
    first, second = harness.calls
    assert (first.agent, first.server, first.tool, first.method) == ("coder", "git", "git__log", "tools/call")
    assert (first.decision, first.rule, first.outcome) == ("allow", "default", "tool_error")
    assert first.definition == hash_of(tool("log"))
    assert len(first.arguments) == 64
    assert first.seconds == 0.5
    assert first.bytes_in == len('{"a":2,"b":1}')
    assert first.bytes_out > 0
    assert (second.outcome, second.reason, second.era) == ("refused", "unknown", "legacy")
    assert first.id != second.id


async def test_a_call_of_a_disconnected_client_is_cancelled_at_the_server_and_recorded() -> None:
    async def never(sent: Sent) -> McpReply:
        await asyncio.Event().wait()
        return await echo(sent)

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=never))
    task = asyncio.create_task(harness.call(ScriptedClient(), "s__x"))
    while not harness.servers["s"].sent:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert harness.servers["s"].cancelled == 1
    assert harness.calls[-1].outcome == "client_closed"
