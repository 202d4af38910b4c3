"""The tool gateway in front of scripted servers, in both protocol eras."""

import asyncio

import pytest

from modelplex.mcp.constants import (
    INVALID_PARAMS,
    META_SERVER,
    METHOD_NOT_FOUND,
    McpReply,
)
from modelplex.mcp.gateway import ToolGateway
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    echo,
    error,
    result,
    text,
    tool,
    two_servers,
)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clients_of_both_eras_see_and_call_tools_of_servers_of_both(era: str) -> None:
    harness = two_servers()
    client = ScriptedClient("legacy" if era == "legacy" else "modern")
    assert await harness.names(client) == ["git__log", "git__status", "web__fetch"]
    for name in await harness.names(client):
        assert text(await harness.call(client, name, {"text": "x"})) == "{'text': 'x'}"
    assert [sent.params["name"] for sent in harness.servers["git"].sent] == ["log", "status"]


async def test_both_eras_are_served_at_the_same_time_with_equal_ids() -> None:
    harness = two_servers()
    old, new = ScriptedClient("legacy"), ScriptedClient("modern")
    first, second = await asyncio.gather(
        harness.call(old, "git__log", {"text": "old"}), harness.call(new, "git__log", {"text": "new"})
    )
    assert "old" in text(first)
    assert "resultType" not in result(first)
    assert "new" in text(second)
    assert result(second)["resultType"] == "complete"
    assert result(second)["_meta"][META_SERVER]["name"] == "modelplex"


async def test_one_server_has_its_own_names_on_its_own_route() -> None:
    harness = two_servers()
    client = ScriptedClient()
    assert await harness.names(client, server="git") == ["log", "status"]
    assert "x" in text(await harness.call(client, "log", {"text": "x"}, server="git"))
    assert error(await harness.call(client, "fetch", server="git"))["code"] == INVALID_PARAMS


@pytest.mark.parametrize(
    ("era", "method"),
    [
        ("modern", "initialize"),
        ("modern", "ping"),
        ("modern", "logging/setLevel"),
        ("modern", "resources/subscribe"),
        ("legacy", "server/discover"),
        ("legacy", "subscriptions/listen"),
        ("legacy", "tasks/get"),
        ("legacy", "vendor/method"),
        ("modern", "tools/secret"),
    ],
)
async def test_methods_of_another_era_and_unknown_ones_are_refused(era: str, method: str) -> None:
    harness = two_servers()
    client = ScriptedClient("legacy" if era == "legacy" else "modern")
    assert error(await harness.ask(client, method))["code"] == METHOD_NOT_FOUND
    assert all(not server.sent for server in harness.servers.values())


async def test_names_do_not_depend_on_other_servers() -> None:
    strange = [tool("a.b c"), tool("x" * 128), tool("under__score")]
    alone = Harness(ScriptedServer("s", tools=strange))
    beside = Harness(ScriptedServer("r", tools=[tool("z")]), ScriptedServer("s", tools=strange))
    names = await alone.names(ScriptedClient())
    assert [n for n in await beside.names(ScriptedClient()) if n.startswith("s__")] == names
    for name in names:
        assert len(name) <= 64
        await alone.call(ScriptedClient(), name)
    assert {sent.params["name"] for sent in alone.servers["s"].sent} == {each["name"] for each in strange}


async def test_names_that_would_be_equal_are_hidden_and_reported() -> None:
    harness = Harness(
        ScriptedServer("a", tools=[tool("same"), tool("same")]), ScriptedServer("b", tools=[tool("x")])
    )
    assert await harness.names(ScriptedClient()) == ["b__x"]
    assert error(await harness.call(ScriptedClient(), "a__same"))["code"] == INVALID_PARAMS
    assert any(server == "a" and "same" in sentence for server, sentence in harness.reports)


async def test_the_plain_form_has_the_same_tools_and_results() -> None:
    harness = two_servers()
    caller = ScriptedClient().caller
    plain = result(await harness.gateway.tool_list(caller))["tools"]
    assert [(each["name"], each["server"]) for each in plain] == [
        ("git__log", "git"),
        ("git__status", "git"),
        ("web__fetch", "web"),
    ]
    assert "x" in text(await harness.gateway.call_tool(caller, "git__log", {"text": "x"}))
    assert (await harness.gateway.call_tool(caller, "git__nothing", {})).reason == "unknown"


async def test_a_schema_is_found_by_the_exposed_name() -> None:
    harness = two_servers()
    caller = ScriptedClient().caller
    schema = tool("log")["inputSchema"]
    assert harness.gateway.schema(caller, "git__log") == schema
    assert harness.gateway.schema(caller, "log", server="git") == schema
    assert harness.gateway.schema(ScriptedClient(tools=("web__*",)).caller, "git__log") is None


async def test_a_server_that_stays_the_same_runs_on_and_one_that_goes_ends_after_its_last_call() -> None:
    gate = asyncio.Event()

    async def wait(sent: Sent) -> McpReply:
        await gate.wait()
        return await echo(sent)

    stays, goes = (
        ScriptedServer("stays", tools=[tool("x")]),
        ScriptedServer("goes", tools=[tool("x")], script=wait),
    )
    harness = Harness(stays, goes)
    running = asyncio.create_task(harness.call(ScriptedClient(), "goes__x"))
    while not goes.sent:
        await asyncio.sleep(0)
    harness.gateway.adopt(harness.config, harness.tool_servers({"stays": stays}))
    assert await harness.names(ScriptedClient()) == ["stays__x"]
    assert not goes.closed
    gate.set()
    assert text(await running) == "{}"
    await asyncio.sleep(0)
    assert goes.closed
    assert not stays.closed


def test_the_repr_shows_the_state() -> None:
    async def made() -> ToolGateway:
        return two_servers().gateway

    assert "2 of 2 servers" in repr(asyncio.run(made()))
