"""Replies converted for the client."""

from __future__ import annotations

import pytest

from modelplex.mcp.constants import (
    Era,
    McpReply,
)
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    error,
    result,
    tool,
)

ERAS: tuple[Era, Era] = ("legacy", "modern")


@pytest.mark.parametrize("client", ERAS)
async def test_a_servers_own_error_passes_with_code_and_data(client: Era) -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(error={"code": -7, "message": "mine", "data": {"a": [1]}, "more": 1})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=script))
    reply = await harness.call(ScriptedClient(client), "s__x")
    assert error(reply) == {"code": -7, "message": "mine", "data": {"a": [1]}, "more": 1}
    assert reply.reason == ""


async def test_members_of_modern_results_do_not_reach_a_legacy_client() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(result={"content": [], "resultType": "complete", "ttlMs": 5, "cacheScope": "public"})

    harness = Harness(ScriptedServer("s", era="modern", tools=[tool("x")], script=script))
    assert result(await harness.call(ScriptedClient("legacy"), "s__x")) == {"content": []}


async def test_a_result_that_cannot_be_repaired_is_an_error_with_the_reason() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(result={"contents": [{"uri": "a:b"}]})

    server = ScriptedServer(
        "s", resources=[{"uri": "a:b", "name": "b"}], capabilities={"resources": {}}, script=script
    )
    reply = await Harness(server).ask(ScriptedClient(), "resources/read", {"uri": "a:b"})
    assert error(reply)["data"]["reason"] == "invalid_answer"
    assert "contents.0.blob is missing" in error(reply)["message"]
