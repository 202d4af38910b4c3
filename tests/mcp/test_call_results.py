"""Replies converted for the client."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.mcp.call_results import reply_for_client
from modelplex.mcp.call_route import CallRoute
from modelplex.mcp.constants import MISSING_CAPABILITY, Era, Json, McpReply
from modelplex.mcp.tasks import Tasks
from tests.mcp.harness import Harness, ScriptedClient, ScriptedServer, Sent, error, result, text, tool

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


def call_of(
    client: ScriptedClient, server: ScriptedServer, method: str = "tools/call", **members: Any
) -> CallRoute:
    return CallRoute(
        client=client,
        method=method,
        upstream=server,
        scope="",
        era=server.offered.era,
        capabilities={},
        **members,
    )


@pytest.mark.parametrize("answer", [None, [], "text", 5])
def test_what_is_no_result_is_an_error_of_the_gateway(answer: Any) -> None:
    reply = reply_for_client(call_of(ScriptedClient(), ScriptedServer("s")), McpReply(result=answer))
    assert reply.reason == "invalid_answer"
    assert "no result" in text(reply)


def test_an_unknown_kind_of_result_is_not_relayed() -> None:
    call = call_of(ScriptedClient(), ScriptedServer("s", era="modern"))
    for kind in ("new", "task"):
        reply = reply_for_client(call, McpReply(result={"resultType": kind, "content": []}))
        assert (reply.reason, repr(kind) in text(reply)) == ("invalid_answer", True)


def test_an_error_of_the_gateway_itself_stays_as_it_is() -> None:
    refused = McpReply.failed(-32022, "no", reason="policy")
    assert reply_for_client(call_of(ScriptedClient("legacy"), ScriptedServer("s")), refused) is refused


@pytest.mark.parametrize("plain_text", [False, True])
def test_invisible_characters_of_an_error_are_escaped_if_configured(plain_text: bool) -> None:
    server = ScriptedServer("s", plain_text=plain_text)
    reply = reply_for_client(
        call_of(ScriptedClient(), server), McpReply(error={"code": 1, "message": "a\x1b"})
    )
    assert error(reply)["message"] == ("a\\x1b" if plain_text else "a\x1b")


def test_a_read_resource_may_not_be_cached_by_a_modern_client() -> None:
    content: Json = {"contents": [{"uri": "a:b", "text": "it"}]}
    for era in ERAS:
        call = call_of(ScriptedClient(era), ScriptedServer("s"), "resources/read")
        found = result(reply_for_client(call, McpReply(result=content)))
        assert found.get("ttlMs") == (0 if era == "modern" else None)


@pytest.mark.parametrize("era", ERAS)
def test_a_created_task_is_added_with_the_clients_id(era: Era) -> None:
    tasks, client, server = Tasks(), ScriptedClient(era), ScriptedServer("s", era=era)
    call = call_of(client, server, tasks=tasks)
    created: Json = {"taskId": "t1", "status": "working"}
    answer: Json = {"task": created} if era == "legacy" else {"resultType": "task", **created}
    converted = result(reply_for_client(call, McpReply(result=answer)))
    assert (converted["task"] if era == "legacy" else converted)["taskId"] == "s__t1"
    assert tasks.find("s__t1", client=client, route=None) is not None


def test_required_capabilities_of_any_form_are_answered() -> None:
    call = call_of(ScriptedClient(), ScriptedServer("s", era="modern"))
    forms: list[Any] = [None, [], {"requiredCapabilities": 3}, {"requiredCapabilities": {"sampling": {}}}]
    for data in forms:
        reply = reply_for_client(call, McpReply(error={"code": MISSING_CAPABILITY, "data": data}))
        assert reply.reason in ("policy", "capability")
