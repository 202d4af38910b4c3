"""Calls of tools, prompts, resources and completions."""

from contextlib import AbstractAsyncContextManager

import msgspec
import pytest

from modelplex.core.caller import Caller
from modelplex.mcp.approvals import Approvals, LockedServer, hash_of
from modelplex.mcp.constants import (
    INVALID_PARAMS,
    Json,
    McpReply,
    Unavailable,
)
from tests.mcp.harness import (
    Harness,
    Script,
    ScriptedClient,
    ScriptedServer,
    Sent,
    error,
    result,
    text,
    tool,
    two_servers,
)


def files(script: Script) -> ScriptedServer:
    return ScriptedServer(
        "fs",
        script=script,
        resources=[{"uri": "file:///a", "name": "a"}, {"uri": "https://example.org/x", "name": "x"}],
        templates=[
            {"uriTemplate": "note://{id}", "name": "note"},
            {"uriTemplate": "https://example.org/{page}", "name": "page"},
        ],
        capabilities={"tools": {}, "resources": {"subscribe": True}, "completions": {}},
    )


async def test_a_tool_that_a_caller_may_not_use_is_unknown_to_it() -> None:
    harness = two_servers()
    client = ScriptedClient(agent="coder", tools=("git__log",))
    assert await harness.names(client) == ["git__log"]
    assert error(await harness.call(client, "git__status"))["code"] == INVALID_PARAMS
    assert error(await harness.call(client, "web__fetch"))["code"] == INVALID_PARAMS
    assert error(await harness.ask(client, "tools/list", server="web"))["code"] == INVALID_PARAMS
    assert not harness.servers["web"].sent
    assert [(call.decision, call.rule) for call in harness.calls] == [("deny", "agent_tools")] * 2


async def test_a_tool_that_the_host_denies_is_neither_listed_nor_called() -> None:
    server = ScriptedServer("fs", tools=[tool("read"), tool("write")])
    server.config = msgspec.structs.replace(server.config, tools=("!write",))
    harness = Harness(server)
    assert await harness.names(ScriptedClient()) == ["fs__read"]
    assert error(await harness.call(ScriptedClient(), "fs__write"))["code"] == INVALID_PARAMS
    assert not harness.servers["fs"].sent


async def test_in_locked_mode_a_changed_or_new_tool_is_hidden_and_refused_with_the_reason() -> None:
    lock = {
        "git": LockedServer(tools={"log": hash_of(tool("log")), "status": "sha256:other"}),
    }
    harness = Harness(
        ScriptedServer("git", tools=[tool("log"), tool("status"), tool("new")]),
        approvals=Approvals(mode="locked", lock=lock),
    )
    client = ScriptedClient()
    assert await harness.names(client) == ["git__log"]
    for name in ("git__status", "git__new"):
        reply = await harness.call(client, name)
        assert result(reply)["isError"] is True
        assert "approve" in text(reply)
        assert reply.reason == "policy"
    assert not harness.servers["git"].sent
    harness.gateway.approvals = Approvals(
        mode="locked",
        lock={"git": LockedServer(tools={n: hash_of(tool(n)) for n in ("log", "status", "new")})},
    )
    assert await harness.names(client) == ["git__log", "git__new", "git__status"]


async def test_only_listed_resources_and_templates_are_read() -> None:
    async def read(sent: Sent) -> McpReply:
        return McpReply(result={"contents": [{"uri": sent.params["uri"], "text": "it"}]})

    harness = Harness(files(read))
    for uri in ("file:///a", "note://7", "https://example.org/x"):
        got = result(await harness.ask(ScriptedClient(), "resources/read", {"uri": uri}))
        assert got["contents"][0]["uri"] == uri
        assert (got["ttlMs"], got["cacheScope"]) == (0, "private")
    for uri in ("file:///etc/passwd", "https://example.org/y", "http://example.org/x", "note://../etc"):
        assert (
            error(await harness.ask(ScriptedClient(), "resources/read", {"uri": uri}))["code"]
            == INVALID_PARAMS
        )
        assert (
            error(await harness.ask(ScriptedClient("legacy"), "resources/read", {"uri": uri}))["code"]
            == -32002
        )
    assert len(harness.servers["fs"].sent) == 3


async def test_prompts_and_completions_use_the_servers_own_names() -> None:
    async def answer(sent: Sent) -> McpReply:
        return McpReply(result={"asked": sent.params, "messages": [], "completion": {"values": []}})

    server = ScriptedServer(
        "p",
        script=answer,
        prompts=[{"name": "review"}],
        templates=[{"uriTemplate": "note://{id}", "name": "note"}],
        capabilities={"prompts": {}, "completions": {}},
    )
    harness = Harness(server)
    listed = result(await harness.ask(ScriptedClient(), "prompts/list"))
    assert [each["name"] for each in listed["prompts"]] == ["p__review"]
    await harness.ask(ScriptedClient(), "prompts/get", {"name": "p__review", "arguments": {"a": "b"}})
    argument = {"name": "a", "value": "b"}
    for ref in ({"type": "ref/prompt", "name": "p__review"}, {"type": "ref/resource", "uri": "note://{id}"}):
        await harness.ask(ScriptedClient(), "completion/complete", {"ref": ref, "argument": argument})
    assert [sent.params.get("name", sent.params.get("ref")) for sent in server.sent] == [
        "review",
        {"type": "ref/prompt", "name": "review"},
        {"type": "ref/resource", "uri": "note://{id}"},
    ]
    assert (
        error(await harness.ask(ScriptedClient(), "prompts/get", {"name": "p__none"}))["code"]
        == INVALID_PARAMS
    )


async def test_search_mode_lists_three_tools_and_finds_the_right_one_of_500() -> None:
    tools = [tool(f"thing_{number}") for number in range(499)]
    tools.append(tool("convert_currency", description="Converts money between currencies"))
    harness = Harness(ScriptedServer("big", tools=tools), search="auto", search_above=60)
    client = ScriptedClient()
    assert await harness.names(client) == ["search_tools", "tool_details", "call_tool"]
    found = result(
        await harness.call(client, "search_tools", {"query": "exchange money to another currency"})
    )
    assert found["structuredContent"]["tools"][0]["name"] == "big__convert_currency"
    assert found["resultType"] == "complete"
    inner = {"name": "big__convert_currency", "arguments": {"text": "5 EUR"}}
    assert "5 EUR" in text(await harness.call(client, "call_tool", inner))
    assert harness.calls[-1].tool == "big__convert_currency"
    assert harness.calls[-1].server == "big"
    unknown = await harness.call(client, "call_tool", {"name": "big__nothing"})
    assert error(unknown)["code"] == INVALID_PARAMS


async def test_search_finds_and_calls_only_permitted_tools() -> None:
    harness = Harness(
        ScriptedServer("a", tools=[tool("secret")]), ScriptedServer("b", tools=[tool("open")]), search="on"
    )
    client = ScriptedClient(agent="x", tools=("b__*",))
    found = result(await harness.call(client, "search_tools", {"query": "secret"}))
    assert found["structuredContent"]["tools"] == []
    assert error(await harness.call(client, "call_tool", {"name": "a__secret"}))["code"] == INVALID_PARAMS
    assert not harness.servers["a"].sent


async def test_a_result_that_is_too_large_is_an_error_that_the_model_can_read() -> None:
    async def much(sent: Sent) -> McpReply:
        return McpReply(result={"content": [{"type": "text", "text": "x" * 2000}]})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=much), max_result=1000)
    reply = await harness.call(ScriptedClient(), "s__x")
    assert result(reply)["isError"] is True
    assert "1000" in text(reply)
    assert harness.calls[-1].outcome == "error"
    assert harness.calls[-1].reason == "size"


async def test_an_agents_limits_are_entered_and_left_around_a_call() -> None:
    found: list[str] = []

    class Ticket(AbstractAsyncContextManager[None]):
        async def __aenter__(self) -> None:
            found.append("in")

        async def __aexit__(self, *_: object) -> None:
            found.append("out")

    def admit(caller: Caller) -> AbstractAsyncContextManager[object]:
        if caller.agent == "full":
            raise Unavailable("used up", server="", reason="limit", retry_after=7.0)
        return Ticket()

    harness = Harness(ScriptedServer("s", tools=[tool("x")]), admit=admit)
    await harness.call(ScriptedClient(), "s__x")
    assert found == ["in", "out"]
    refused = error(await harness.call(ScriptedClient(agent="full"), "s__x"))
    assert refused["data"] == {"reason": "limit", "retryAfterMs": 7000}
    assert len(harness.servers["s"].sent) == 1


@pytest.mark.parametrize("reason", ["timeout", "lost", "crash_loop"])
async def test_an_unavailable_server_is_an_error_with_its_reason(reason: str) -> None:
    server = ScriptedServer("s", tools=[tool("x")])
    harness = Harness(server)
    server.fails = Unavailable("no answer", server="s", reason=reason, retry_after=1.5)
    reply = await harness.call(ScriptedClient(), "s__x")
    assert error(reply) == {
        "code": -32603,
        "message": "no answer",
        "data": {"reason": reason, "server": "s", "retryAfterMs": 1500},
    }
    assert reply.reason == reason
    assert harness.calls[-1].reason == reason
    assert harness.calls[-1].outcome == "error"


async def test_arguments_that_are_no_object_are_refused() -> None:
    harness = two_servers()
    bad: list[Json] = [{"name": "git__log", "arguments": []}, {"name": 5}, {}]
    for params in bad:
        assert error(await harness.ask(ScriptedClient(), "tools/call", params))["code"] == INVALID_PARAMS
    assert not harness.servers["git"].sent
