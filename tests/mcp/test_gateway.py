"""The hub: what is listed, called, refused and kept, in front of scripted servers."""

import asyncio
from contextlib import AbstractContextManager

import msgspec
import pytest

from modelplex.core.caller import Caller
from modelplex.mcp import routing
from modelplex.mcp.approvals import Approvals, LockedServer, hash_of
from modelplex.mcp.constants import (
    INVALID_PARAMS,
    META_SERVER,
    METHOD_NOT_FOUND,
    Catalog,
    Json,
    McpReply,
    Unavailable,
)
from modelplex.mcp.gateway import ToolGateway
from tests.mcp.harness import (
    Harness,
    Script,
    ScriptedClient,
    ScriptedServer,
    Sent,
    echo,
    error,
    result,
    text,
    tool,
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


def two() -> Harness:
    return Harness(
        ScriptedServer("git", tools=[tool("log"), tool("status")]),
        ScriptedServer("web", era="modern", tools=[tool("fetch")]),
    )


# --- what is there


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clients_of_both_eras_see_and_call_tools_of_servers_of_both(era: str) -> None:
    harness = two()
    guest = ScriptedClient("legacy" if era == "legacy" else "modern")
    assert await harness.names(guest) == ["git__log", "git__status", "web__fetch"]
    for name in await harness.names(guest):
        assert text(await harness.call(guest, name, {"text": "x"})) == "{'text': 'x'}"
    assert [sent.params["name"] for sent in harness.servers["git"].sent] == ["log", "status"]


async def test_both_eras_are_served_at_the_same_time_with_equal_ids() -> None:
    harness = two()
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
    harness = two()
    guest = ScriptedClient()
    assert await harness.names(guest, server="git") == ["log", "status"]
    assert "x" in text(await harness.call(guest, "log", {"text": "x"}, server="git"))
    assert error(await harness.call(guest, "fetch", server="git"))["code"] == INVALID_PARAMS


async def test_initialize_echoes_a_revision_that_is_known_and_offers_the_newest_for_others() -> None:
    harness = two()
    guest = ScriptedClient("legacy")
    for asked, given in (("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999", "2025-11-25")):
        told = result(await harness.ask(guest, "initialize", {"protocolVersion": asked}))
        assert told["protocolVersion"] == given
        assert told["serverInfo"]["name"] == "modelplex"
        assert told["capabilities"]["tools"] == {"listChanged": True}


async def test_discover_starts_nothing_and_says_how_long_it_holds() -> None:
    harness = Harness(ScriptedServer("git", known=False))
    told = result(await harness.ask(ScriptedClient(), "server/discover"))
    assert told["supportedVersions"][0] == "2026-07-28"
    assert "2025-11-25" in told["supportedVersions"]
    assert told["cacheScope"] == "private"
    assert told["ttlMs"] == 0
    assert "tools" in told["capabilities"]
    assert harness.servers["git"].listed == 0


async def test_capabilities_are_those_of_the_servers_less_what_is_not_relayed() -> None:
    harness = Harness(
        ScriptedServer("a", capabilities={"tools": {}, "tasks": {"list": {}}, "experimental": {"x": {}}}),
        ScriptedServer("b", capabilities={"completions": {}, "resources": {"subscribe": True}}),
    )
    told = result(
        await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
    )
    assert told["capabilities"] == {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": True},
        "completions": {},
    }


async def test_instructions_are_told_below_the_name_of_their_server() -> None:
    harness = Harness(
        ScriptedServer("a", instructions="be kind"), ScriptedServer("b", instructions="be brief")
    )
    told = result(
        await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
    )
    assert told["instructions"] == "# a\n\nbe kind\n\n# b\n\nbe brief"


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
    harness = two()
    guest = ScriptedClient("legacy" if era == "legacy" else "modern")
    assert error(await harness.ask(guest, method))["code"] == METHOD_NOT_FOUND
    assert all(not server.sent for server in harness.servers.values())


async def test_a_server_that_does_not_start_hides_no_other_and_is_told_of_when_it_comes() -> None:
    down = ScriptedServer(
        "down",
        known=False,
        tools=[tool("late")],
        fails=Unavailable("it does not start", server="down", reason="start_failed"),
    )
    harness = Harness(down, ScriptedServer("up", tools=[tool("x")]))
    guest = harness.opened(ScriptedClient("legacy"))
    modern = result(await harness.ask(ScriptedClient(), "tools/list"))
    assert [each["name"] for each in modern["tools"]] == ["up__x"]
    assert modern["ttlMs"] == 0
    assert ("down", "it does not start") in harness.reports
    assert error(await harness.call(guest, "down__late"))["data"] == {
        "reason": "start_failed",
        "server": "down",
    }
    down.fails = None
    assert await harness.names(guest) == ["up__x"]  # one that failed is tried again, and not waited for
    for _ in range(10):
        await asyncio.sleep(0)
    assert await harness.names(guest) == ["down__late", "up__x"]
    assert {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"} in guest.channel


async def test_a_cursor_that_no_list_gave_is_refused() -> None:
    assert (
        error(await two().ask(ScriptedClient(), "tools/list", {"cursor": "AAAA"}))["code"] == INVALID_PARAMS
    )
    assert error(await two().ask(ScriptedClient(), "tools/list", {"cursor": 1}))["code"] == INVALID_PARAMS


async def test_names_are_the_same_whatever_other_servers_are_there() -> None:
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


# --- policy


async def test_what_a_caller_may_not_use_is_not_there_for_them() -> None:
    harness = two()
    guest = ScriptedClient(agent="coder", tools=("git__log",))
    assert await harness.names(guest) == ["git__log"]
    assert error(await harness.call(guest, "git__status"))["code"] == INVALID_PARAMS
    assert error(await harness.call(guest, "web__fetch"))["code"] == INVALID_PARAMS
    assert error(await harness.ask(guest, "tools/list", server="web"))["code"] == INVALID_PARAMS
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
    guest = ScriptedClient()
    assert await harness.names(guest) == ["git__log"]
    for name in ("git__status", "git__new"):
        reply = await harness.call(guest, name)
        assert result(reply)["isError"] is True
        assert "approve" in text(reply)
        assert reply.reason == "policy"
    assert not harness.servers["git"].sent
    harness.gateway.approvals = Approvals(
        mode="locked",
        lock={"git": LockedServer(tools={n: hash_of(tool(n)) for n in ("log", "status", "new")})},
    )
    assert await harness.names(guest) == ["git__log", "git__new", "git__status"]


async def test_where_the_first_sight_is_trusted_a_change_is_relayed_and_reported() -> None:
    server = ScriptedServer("git", tools=[tool("log")])
    harness = Harness(server, approvals=Approvals(mode="trust_first"))
    assert await harness.names(ScriptedClient()) == ["git__log"]
    assert harness.seen["git"].tools == {"log": hash_of(tool("log"))}
    server.becomes(tools=(tool("log", title="Other"),))
    assert await harness.names(ScriptedClient()) == ["git__log"]
    assert any("not as it was approved" in sentence for _, sentence in harness.reports)
    assert harness.gateway.status()[0]["changed"] == ["log"]


async def test_hidden_characters_in_a_description_are_reported() -> None:
    harness = Harness(
        ScriptedServer("git", tools=[tool("log", description="good\u200btool")]),
        approvals=Approvals(mode="trust_first"),
    )
    await harness.names(ScriptedClient())
    assert any("invisible characters" in sentence for _, sentence in harness.reports)


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


async def test_prompts_and_completions_are_asked_by_the_server_s_own_names() -> None:
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


# --- search


async def test_search_mode_shows_three_tools_and_finds_the_right_one_of_500() -> None:
    tools = [tool(f"thing_{number}") for number in range(499)]
    tools.append(tool("convert_currency", description="Converts money between currencies"))
    harness = Harness(ScriptedServer("big", tools=tools), search="auto", search_above=60)
    guest = ScriptedClient()
    assert await harness.names(guest) == ["search_tools", "tool_details", "call_tool"]
    found = result(await harness.call(guest, "search_tools", {"query": "exchange money to another currency"}))
    assert found["structuredContent"]["tools"][0]["name"] == "big__convert_currency"
    assert found["resultType"] == "complete"
    inner = {"name": "big__convert_currency", "arguments": {"text": "5 EUR"}}
    assert "5 EUR" in text(await harness.call(guest, "call_tool", inner))
    assert harness.calls[-1].tool == "big__convert_currency"
    assert harness.calls[-1].server == "big"
    unknown = await harness.call(guest, "call_tool", {"name": "big__nothing"})
    assert error(unknown)["code"] == INVALID_PARAMS


async def test_search_finds_and_calls_nothing_that_the_caller_may_not_use() -> None:
    harness = Harness(
        ScriptedServer("a", tools=[tool("secret")]), ScriptedServer("b", tools=[tool("open")]), search="on"
    )
    guest = ScriptedClient(agent="x", tools=("b__*",))
    found = result(await harness.call(guest, "search_tools", {"query": "secret"}))
    assert found["structuredContent"]["tools"] == []
    assert error(await harness.call(guest, "call_tool", {"name": "a__secret"}))["code"] == INVALID_PARAMS
    assert not harness.servers["a"].sent


# --- limits


async def test_a_caller_at_its_limit_is_told_when_to_come_again_and_others_are_not() -> None:
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


async def test_a_server_has_so_many_calls_at_once_and_the_next_one_waits() -> None:
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


async def test_a_call_waits_for_a_place_as_long_as_the_server_may_be_silent() -> None:
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


async def test_a_result_that_is_too_large_is_an_error_that_the_model_can_read() -> None:
    async def much(sent: Sent) -> McpReply:
        return McpReply(result={"content": [{"type": "text", "text": "x" * 2000}]})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=much), max_result=1000)
    reply = await harness.call(ScriptedClient(), "s__x")
    assert result(reply)["isError"] is True
    assert "1000" in text(reply)
    assert harness.calls[-1].outcome == "error"
    assert harness.calls[-1].reason == "size"


async def test_an_agent_s_own_limits_are_asked_and_told_when_a_call_is_over() -> None:
    told: list[str] = []

    class Ticket(AbstractContextManager[None]):
        def __enter__(self) -> None:
            told.append("in")

        def __exit__(self, *_: object) -> None:
            told.append("out")

    def admit(caller: Caller) -> AbstractContextManager[object]:
        if caller.agent == "full":
            raise Unavailable("used up", server="", reason="limit", retry_after=7.0)
        return Ticket()

    harness = Harness(ScriptedServer("s", tools=[tool("x")]), admit=admit)
    await harness.call(ScriptedClient(), "s__x")
    assert told == ["in", "out"]
    refused = error(await harness.call(ScriptedClient(agent="full"), "s__x"))
    assert refused["data"] == {"reason": "limit", "retryAfterMs": 7000}
    assert len(harness.servers["s"].sent) == 1


@pytest.mark.parametrize("reason", ["timeout", "lost", "crash_loop"])
async def test_a_server_that_cannot_be_asked_is_an_error_with_its_reason(reason: str) -> None:
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


# --- records


async def test_every_call_leaves_one_record_with_decision_rule_hash_and_duration() -> None:
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


async def test_a_call_whose_client_is_gone_is_cancelled_at_the_server_and_recorded() -> None:
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


# --- the plain form


async def test_the_plain_form_has_the_same_tools_and_results() -> None:
    harness = two()
    caller = ScriptedClient().caller
    plain = await harness.gateway.tool_list(caller)
    assert [(each["name"], each["server"]) for each in plain] == [
        ("git__log", "git"),
        ("git__status", "git"),
        ("web__fetch", "web"),
    ]
    assert "x" in text(await harness.gateway.call_tool(caller, "git__log", {"text": "x"}))
    assert (await harness.gateway.call_tool(caller, "git__nothing", {})).reason == "unknown"


async def test_a_schema_is_told_by_the_name_that_the_caller_knows() -> None:
    harness = two()
    caller = ScriptedClient().caller
    schema = tool("log")["inputSchema"]
    assert harness.gateway.schema(caller, "git__log") == schema
    assert harness.gateway.schema(caller, "log", server="git") == schema
    assert harness.gateway.schema(ScriptedClient(tools=("web__*",)).caller, "git__log") is None


# --- another config


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


def test_a_hub_says_what_it_is_doing() -> None:
    async def made() -> ToolGateway:
        return two().gateway

    assert "2 of 2 servers" in repr(asyncio.run(made()))


async def test_arguments_that_are_no_object_are_refused() -> None:
    harness = two()
    bad: list[Json] = [{"name": "git__log", "arguments": []}, {"name": 5}, {}]
    for params in bad:
        assert error(await harness.ask(ScriptedClient(), "tools/call", params))["code"] == INVALID_PARAMS
    assert not harness.servers["git"].sent


# --- slow servers


class Slow(ScriptedServer):
    """One whose lists come when `go_on` is set."""

    def __init__(self, name: str, *, allow: tuple[str, ...] = ()) -> None:
        super().__init__(name, known=False, tools=[tool("late")], allow=allow)
        self.go_on = asyncio.Event()

    async def lists(self, *, fresh: bool = False) -> Catalog:
        await self.go_on.wait()
        return await super().lists(fresh=fresh)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_slow_server_delays_the_others_by_the_grace_at_most(
    era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 0.02)
    slow = Slow("slow")
    harness = Harness(slow, ScriptedServer("up", known=False, tools=[tool("x")]))
    guest = harness.opened(ScriptedClient("legacy"))
    if era == "legacy":
        began = result(
            await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
        )
        assert began["capabilities"]["tools"] == {"listChanged": True}
    assert await harness.names(ScriptedClient("legacy" if era == "legacy" else "modern")) == ["up__x"]
    assert slow.late
    assert guest.channel == []
    slow.go_on.set()
    async with asyncio.timeout(5):
        while not guest.channel:
            await asyncio.sleep(0)
    assert {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"} in guest.channel
    assert await harness.names(guest) == ["slow__late", "up__x"]


async def test_a_list_that_would_be_empty_waits_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 0.02)
    slow, slower = Slow("slow"), Slow("slower")
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


async def test_a_client_may_use_all_that_a_slow_server_may_turn_out_to_offer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 0.01)
    slow = Slow("slow", allow=("tasks",))
    harness = Harness(slow, ScriptedServer("up", tools=[tool("x")], capabilities={"tools": {}}))
    began = await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
    claims = result(began)["capabilities"]
    assert claims["resources"]["subscribe"] is True
    assert (claims["logging"], claims["completions"]) == ({}, {})
    assert claims["tasks"] == {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    slow.go_on.set()


async def test_an_empty_list_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(routing, "CALL_WAIT_SECONDS", 0.02)
    slow = Slow("slow")
    assert await Harness(slow).names(ScriptedClient("legacy")) == []
    slow.go_on.set()


async def test_nobody_waits_for_a_server_that_was_slow_in_an_earlier_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 600.0)
    slow = Slow("slow")
    slow.late = True
    harness = Harness(slow, ScriptedServer("up", known=False, tools=[tool("x")]))
    assert await harness.names(ScriptedClient()) == ["up__x"]
    slow.go_on.set()


async def test_a_call_waits_for_a_server_that_is_slow() -> None:
    slow = Slow("slow")
    slow.late = True
    harness = Harness(slow, ScriptedServer("up", tools=[tool("x")]))
    assert await harness.names(ScriptedClient()) == ["up__x"]
    called = asyncio.create_task(harness.call(ScriptedClient(), "slow__late", {"text": "x"}))
    await asyncio.sleep(0)
    assert not called.done()
    slow.go_on.set()
    assert text(await called) == "{'text': 'x'}"


async def test_a_server_of_which_nothing_is_known_is_asked_when_the_gateway_starts() -> None:
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


async def test_the_log_names_a_server_that_told_nothing_before_the_gateway_stopped() -> None:
    slow = Slow("slow")
    harness = Harness(slow)
    harness.gateway.start()
    for _ in range(10):
        await asyncio.sleep(0)
    await harness.gateway.close()
    assert [server for server, sentence in harness.reports if "modelplex mcp list" in sentence] == ["slow"]
