"""The four cells: what crosses between clients and servers of either era, what is rewritten on the
way, and what a server may ask.
"""

import asyncio

import pytest

from modelplex.mcp import era_translation
from modelplex.mcp.constants import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    META_LOG_LEVEL,
    META_SERVER,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    RESOURCE_NOT_FOUND,
    Era,
    Json,
    McpReply,
    Unavailable,
)
from modelplex.mcp.progress_sink import MAX_LOGS
from modelplex.mcp.relay import MAX_ROUNDS
from modelplex.mcp.request_state import RequestStateSealer, SealedRequestState
from tests.mcp.harness import Harness, ScriptedClient, ScriptedServer, Sent, error, result, text, tool

ERAS: tuple[Era, Era] = ("legacy", "modern")
ELICIT: Json = {
    "method": "elicitation/create",
    "params": {"message": "who?", "requestedSchema": {"type": "object"}},
}
SAID: Json = {"action": "accept", "content": {"name": "x"}}


def asking(*questions: Json, state: str | None = None) -> ScriptedServer:
    """A modern server whose tool needs answers before it gives its result; it says back what it was
    given.
    """

    async def script(sent: Sent) -> McpReply:
        answers = sent.params.get("inputResponses")
        if not answers:
            asked: Json = {"resultType": "input_required", "inputRequests": {}}
            asked["inputRequests"] = {f"q{number}": each for number, each in enumerate(questions)}
            if state is not None:
                asked["requestState"] = state
            return McpReply(result=asked)
        told = f"{answers} {sent.params.get('requestState')}"
        return McpReply(result={"resultType": "complete", "content": [{"type": "text", "text": told}]})

    return ScriptedServer("s", era="modern", tools=[tool("x")], script=script)


def allowing(server: ScriptedServer, *allow: str, roots: tuple[str, ...] = ()) -> ScriptedServer:
    made = ScriptedServer(
        server.name,
        era=server.offered.era,
        tools=server.offered.tools,
        script=server.script,
        allow=allow,
        roots=roots,
    )
    made.offered = server.offered
    return made


# --- rewriting


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_unknown_members_survive_both_directions_in_every_cell(client: Era, era: Era) -> None:
    told: Json = {
        "content": [
            {"type": "hologram", "vendorField": {"deep": [1, {"x": None}]}, "annotations": {"newHint": 1}}
        ],
        # Another value than an object is for clients of 2026-07-28.
        "structuredContent": [1, "any"] if client == "modern" else {"any": [1]},
        "futureField": {"a": 1},
        "_meta": {"example.org/key": {"b": 2}},
    }

    async def script(sent: Sent) -> McpReply:
        return McpReply(result=dict(told))

    server = ScriptedServer("s", era=era, tools=[tool("x", futureHint={"a": [1]})], script=script)
    harness = Harness(server)
    guest = ScriptedClient(client)
    listed = result(await harness.ask(guest, "tools/list"))
    assert listed["tools"][0]["futureHint"] == {"a": [1]}
    got = result(await harness.call(guest, "s__x", {"deep": {"y": [1]}}, futureParam={"z": 1}))
    assert server.sent[0].params["arguments"] == {"deep": {"y": [1]}}
    assert server.sent[0].params["futureParam"] == {"z": 1}
    assert {name: got[name] for name in told if name != "_meta"} == {
        n: v for n, v in told.items() if n != "_meta"
    }
    assert got["_meta"]["example.org/key"] == {"b": 2}


async def test_schemas_arrive_unchanged_and_as_the_same_object() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"a": {"$anchor": "b", "type": "string"}},
        "type": "object",
        "properties": {"x": {"$ref": "https://example.org/never-fetched"}},
        "allOf": [{"$ref": "#b"}],
    }
    harness = Harness(ScriptedServer("s", tools=[{"name": "x", "inputSchema": schema}]))
    (listed,) = result(await harness.ask(ScriptedClient(), "tools/list"))["tools"]
    assert listed["inputSchema"] is schema


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_client_says_of_itself_never_reaches_a_server(era: Era) -> None:
    server = ScriptedServer("s", era=era, tools=[tool("x")])
    harness = Harness(server)
    guest = ScriptedClient(capabilities={"roots": {}, "sampling": {}, "elicitation": {}})
    meta = {
        "progressToken": 7,
        "traceparent": "00-a-b-01",
        "example.org/key": 1,
        "io.modelcontextprotocol/x": 1,
        "mcp.dev/y": 1,
        "tools.mcp.com/z": 1,
    }
    await harness.call(
        guest,
        "s__x",
        _meta=meta,
        inputResponses={"roots": {"roots": [{"uri": "file:///etc"}]}},
        requestState=None,
    )
    (sent,) = server.sent
    assert sent.params["_meta"] == {"progressToken": 7, "traceparent": "00-a-b-01", "example.org/key": 1}
    assert sent.capabilities == {}
    assert not sent.params.get("inputResponses")


async def test_vendor_keys_pass_by_the_allow_list_in_both_directions() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(
            result={
                "content": [],
                "_meta": {
                    "a.org/x": 1,
                    "b.org/y": 2,
                    META_SERVER: {"name": "forged"},
                    "io.modelcontextprotocol/z": 3,
                },
            }
        )

    server = ScriptedServer("s", tools=[tool("x")], script=script)
    harness = Harness(server, meta=("a.org/*",))
    meta = {"a.org/x": 1, "b.org/y": 2, "tracestate": "t"}
    got = result(await harness.call(ScriptedClient(), "s__x", _meta=meta))
    assert server.sent[0].params["_meta"] == {"a.org/x": 1, "tracestate": "t"}
    assert set(got["_meta"]) == {"a.org/x", META_SERVER}
    assert got["_meta"][META_SERVER]["name"] == "modelplex"
    assert set(result(await harness.call(ScriptedClient("legacy"), "s__x"))["_meta"]) == {"a.org/x"}


def test_keys_with_the_protocol_s_names_are_reserved_and_vendors_with_theirs_are_not() -> None:
    for key in (
        "io.modelcontextprotocol/x",
        "mcp/x",
        "modelcontextprotocol.io/x",
        "api.mcp.dev/x",
        "com.mcp.tools/x",
    ):
        assert era_translation.reserved(key), key
    for key in ("progressToken", "example.com/x", "com.example.mcp/x", "plain"):
        assert not era_translation.reserved(key), key


@pytest.mark.parametrize("client", ERAS)
async def test_a_server_s_own_error_passes_with_code_and_data(client: Era) -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(error={"code": -7, "message": "mine", "data": {"a": [1]}, "more": 1})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=script))
    reply = await harness.call(ScriptedClient(client), "s__x")
    assert error(reply) == {"code": -7, "message": "mine", "data": {"a": [1]}, "more": 1}
    assert reply.reason == ""


@pytest.mark.parametrize(
    ("client", "method", "code", "told"),
    [
        ("modern", "tools/call", -32042, INTERNAL_ERROR),
        ("modern", "resources/read", RESOURCE_NOT_FOUND, INVALID_PARAMS),
        ("modern", "tools/call", RESOURCE_NOT_FOUND, INTERNAL_ERROR),
        ("modern", "tools/call", -32050, INTERNAL_ERROR),
        ("modern", "tools/call", -32001, -32001),
        ("modern", "tools/call", INVALID_PARAMS, INVALID_PARAMS),
        ("modern", "tools/call", -32500, INTERNAL_ERROR),
        ("legacy", "tools/call", -32022, INTERNAL_ERROR),
        ("legacy", "tools/call", -32042, -32042),
        ("legacy", "resources/read", RESOURCE_NOT_FOUND, RESOURCE_NOT_FOUND),
        ("legacy", "tools/call", 42, 42),
    ],
)
def test_a_code_that_the_client_s_revision_does_not_have_becomes_an_internal_error(
    client: Era, method: str, code: int, told: int
) -> None:
    assert era_translation.error_for_client(
        {"code": code, "message": "m", "data": 1}, era=client, method=method
    ) == {
        "code": told,
        "message": "m",
        "data": 1,
    }


async def test_a_modern_server_s_marks_do_not_reach_a_legacy_client() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(result={"content": [], "resultType": "complete", "ttlMs": 5, "cacheScope": "public"})

    harness = Harness(ScriptedServer("s", era="modern", tools=[tool("x")], script=script))
    assert result(await harness.call(ScriptedClient("legacy"), "s__x")) == {"content": []}


# --- what is said during a call


async def test_progress_goes_to_the_one_who_called() -> None:
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


async def test_log_messages_reach_a_modern_client_only_where_the_request_asked() -> None:
    server = logging(1)
    harness = Harness(server)
    quiet, asks, strict = ScriptedClient(), ScriptedClient(), ScriptedClient()
    await harness.call(quiet, "s__x")
    await harness.call(asks, "s__x", _meta={META_LOG_LEVEL: "info"})
    await harness.call(strict, "s__x", _meta={META_LOG_LEVEL: "error"})
    assert (len(quiet.notifications), len(asks.notifications), len(strict.notifications)) == (0, 1, 0)
    assert [sent.log_level for sent in server.sent] == [None, "info", "error"]


async def test_a_legacy_session_s_level_is_its_own() -> None:
    harness = Harness(logging(1, "info"))
    one, two = ScriptedClient("legacy", session="a"), ScriptedClient("legacy", session="b")
    assert result(await harness.ask(one, "logging/setLevel", {"level": "error"})) == {}
    assert error(await harness.ask(one, "logging/setLevel", {"level": "loud"}))["code"] == INVALID_PARAMS
    await harness.call(one, "s__x")
    await harness.call(two, "s__x")
    assert (len(one.notifications), len(two.notifications)) == (0, 1)


async def test_so_many_log_messages_a_second_and_no_more() -> None:
    harness = Harness(logging(50))
    guest = ScriptedClient("legacy")
    await harness.call(guest, "s__x")
    assert len(guest.notifications) == MAX_LOGS


async def test_a_log_message_of_nobody_s_goes_to_the_only_call_that_wants_some_else_to_the_log() -> None:
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


# --- what a server asks: off


@pytest.mark.parametrize("client", ERAS)
async def test_a_modern_server_sees_no_capability_where_nothing_is_allowed(client: Era) -> None:
    server = asking(ELICIT)
    harness = Harness(server)
    guest = ScriptedClient(client, capabilities={"elicitation": {}, "sampling": {}, "roots": {}})
    reply = await harness.call(guest, "s__x")
    assert server.sent[0].capabilities == {}
    assert result(reply)["isError"] is True
    assert "does not allow" in text(reply)
    assert guest.questions == []


async def test_a_modern_client_that_cannot_answer_is_told_which_capability_is_missing() -> None:
    reply = await Harness(asking(ELICIT)).call(ScriptedClient(), "s__x")
    assert error(reply)["code"] == MISSING_CAPABILITY
    assert error(reply)["data"] == {"requiredCapabilities": {"elicitation": {}}}


async def test_a_modern_server_s_own_refusal_tells_the_client_whose_fault_it_is() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply.failed(MISSING_CAPABILITY, "no", {"requiredCapabilities": {"sampling": {}}})

    harness = Harness(ScriptedServer("s", era="modern", tools=[tool("x")], script=script))
    assert error(await harness.call(ScriptedClient(), "s__x"))["code"] == MISSING_CAPABILITY
    assert "does not allow" in text(await harness.call(ScriptedClient(capabilities={"sampling": {}}), "s__x"))


def asking_legacy() -> ScriptedServer:
    """A legacy server that asks during its call, and says what it was answered."""

    async def script(sent: Sent) -> McpReply:
        assert sent.on_request is not None
        answer = await sent.on_request("elicitation/create", dict(ELICIT["params"]))
        await asyncio.sleep(0)
        return McpReply(result={"content": [{"type": "text", "text": str(answer.result or answer.error)}]})

    return ScriptedServer("s", tools=[tool("x")], script=script)


async def test_a_legacy_server_that_asks_a_modern_client_has_its_call_cancelled() -> None:
    server = asking_legacy()
    harness = Harness(server)
    assert error(await harness.call(ScriptedClient(), "s__x"))["code"] == MISSING_CAPABILITY
    assert server.cancelled == 1
    declared = await harness.call(ScriptedClient(capabilities={"elicitation": {}}), "s__x")
    assert result(declared)["isError"] is True
    assert "does not allow" in text(declared)
    assert server.cancelled == 2
    # The task goes on: what was cancelled was the call alone.
    assert await harness.names(ScriptedClient()) == ["s__x"]


async def test_a_legacy_server_that_asks_a_legacy_client_is_refused_where_it_is_not_allowed() -> None:
    guest = ScriptedClient("legacy", capabilities={"elicitation": {}})
    reply = await Harness(asking_legacy()).call(guest, "s__x")
    assert str(METHOD_NOT_FOUND) in text(reply)
    assert guest.questions == []


# --- what a server asks: on


async def test_a_legacy_server_that_may_ask_has_a_process_for_each_session_and_its_client_answers() -> None:
    server = allowing(asking_legacy(), "elicitation")
    harness = Harness(server)
    one = ScriptedClient(
        "legacy", session="a", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(SAID)}
    )
    two = ScriptedClient(
        "legacy", session="b", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(SAID)}
    )
    assert "accept" in text(await harness.call(one, "s__x"))
    await harness.call(two, "s__x")
    scopes = [sent.scope for sent in server.sent]
    assert len(set(scopes)) == 2
    assert all(scope.startswith("session:") and scope != "a" for scope in scopes)
    harness.gateway.close_session(harness.opened(one))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.ended == scopes[:1]


async def test_addresses_to_open_are_never_asked_for() -> None:
    async def script(sent: Sent) -> McpReply:
        assert sent.on_request is not None
        answer = await sent.on_request("elicitation/create", {"mode": "url", "url": "https://example.org"})
        return McpReply(result={"content": [{"type": "text", "text": str(answer.error)}]})

    server = allowing(ScriptedServer("s", tools=[tool("x")], script=script), "elicitation")
    guest = ScriptedClient("legacy", capabilities={"elicitation": {"form": {}, "url": {}}})
    assert str(METHOD_NOT_FOUND) in text(await Harness(server).call(guest, "s__x"))
    assert guest.questions == []


async def test_a_modern_server_s_questions_are_answered_by_asking_a_legacy_client() -> None:
    server = allowing(asking(ELICIT, state="st"), "elicitation")
    guest = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(SAID)}
    )
    assert text(await Harness(server).call(guest, "s__x")) == str({"q0": SAID}) + " st"
    assert guest.questions == [(ELICIT["method"], ELICIT["params"])]
    assert server.sent[0].capabilities == {"elicitation": {"form": {}}}


async def test_a_server_that_never_stops_asking_is_ended() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(result={"resultType": "input_required", "inputRequests": {"q": ELICIT}})

    server = allowing(ScriptedServer("s", era="modern", tools=[tool("x")], script=script), "elicitation")
    guest = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(SAID)}
    )
    reply = await Harness(server).call(guest, "s__x")
    assert result(reply)["isError"] is True
    assert len(guest.questions) == MAX_ROUNDS


async def test_questions_pass_to_a_modern_client_and_its_answers_come_back() -> None:
    server = allowing(asking(ELICIT, state="their state"), "elicitation")
    harness = Harness(server)
    guest = ScriptedClient(capabilities={"elicitation": {}})
    first = result(await harness.call(guest, "s__x"))
    assert first["resultType"] == "input_required"
    assert first["inputRequests"] == {"q0": ELICIT}
    assert first["requestState"] != "their state"
    done = await harness.call(guest, "s__x", inputResponses={"q0": SAID}, requestState=first["requestState"])
    assert text(done) == str({"q0": SAID}) + " their state"
    assert server.sent[1].params["requestState"] == "their state"


async def test_a_request_state_is_of_use_to_its_caller_and_its_server_alone() -> None:
    server = allowing(asking(ELICIT, state="st"), "elicitation")
    other = ScriptedServer("t", era="modern", tools=[tool("x")])
    harness = Harness(server, other)
    guest = ScriptedClient(capabilities={"elicitation": {}}, agent="a")
    state: str = result(await harness.call(guest, "s__x"))["requestState"]
    again: Json = {"inputResponses": {"q0": SAID}}
    thief = ScriptedClient(capabilities={"elicitation": {}}, agent="b")
    swapped = state[:-2] + ("A" if state[-2] != "A" else "B") + state[-1]
    for who, name, given in (
        (thief, "s__x", state),
        (guest, "t__x", state),
        (guest, "s__x", "st"),
        (guest, "s__x", swapped),
    ):
        refused = await harness.call(who, name, requestState=given, **again)
        assert error(refused)["code"] == INVALID_PARAMS
    assert len(server.sent) == 1
    assert not other.sent


async def test_roots_are_the_host_s_whatever_a_client_says() -> None:
    roots: Json = {"method": "roots/list"}
    server = allowing(asking(roots, ELICIT), "elicitation", roots=("/srv/data",))
    harness = Harness(server)
    guest = ScriptedClient(capabilities={"elicitation": {}, "roots": {}})
    first = result(await harness.call(guest, "s__x"))
    assert first["inputRequests"] == {"q1": ELICIT}
    evil = {"q0": {"roots": [{"uri": "file:///etc"}]}, "q1": SAID}
    await harness.call(guest, "s__x", inputResponses=evil, requestState=first["requestState"])
    answers = server.sent[1].params["inputResponses"]
    assert answers == {"q0": {"roots": [{"uri": "file:///srv/data", "name": "data"}]}, "q1": SAID}
    alone = Harness(allowing(asking(roots), roots=("/srv/data",)))
    assert "file:///srv/data" in text(await alone.call(ScriptedClient(), "s__x"))


def test_a_seal_opens_for_its_key_alone() -> None:
    sealed = SealedRequestState("s", "agent:a", "st", ("q",))
    seals = RequestStateSealer(b"a" * 32)
    told = seals.seal(sealed)
    assert seals.open(told, server="s", owner="agent:a") == sealed
    assert RequestStateSealer(b"b" * 32).open(told, server="s", owner="agent:a") is None
    for bad in ("", "mpx1.", "mpx1.AAAA", "mpx1.é", 5, None, told[:-4]):
        assert seals.open(bad, server="s", owner="agent:a") is None


async def test_a_state_alone_is_brought_back_for_a_legacy_client() -> None:
    async def script(sent: Sent) -> McpReply:
        if "requestState" in sent.params:
            return McpReply(
                result={
                    "resultType": "complete",
                    "content": [{"type": "text", "text": sent.params["requestState"]}],
                }
            )
        return McpReply(result={"resultType": "input_required", "requestState": "later"})

    harness = Harness(ScriptedServer("s", era="modern", tools=[tool("x")], script=script))
    assert text(await harness.call(ScriptedClient("legacy"), "s__x")) == "later"


async def test_an_agent_s_server_has_a_process_for_each_agent() -> None:
    server = ScriptedServer("s", tools=[tool("x")], scope="agent")
    harness = Harness(server)
    for agent in ("a", "b", "a"):
        await harness.call(ScriptedClient(agent=agent), "s__x")
    assert [sent.scope for sent in server.sent] == ["agent:a", "agent:b", "agent:a"]


async def test_a_server_of_both_eras_is_asked_in_the_older_one_where_it_may_ask_a_legacy_client() -> None:
    newer = allowing(asking(ELICIT), "elicitation")
    older = allowing(asking_legacy(), "elicitation")
    harness = Harness(newer, legacy_servers=[older])
    able = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(SAID)}
    )
    assert "accept" in text(await harness.call(able, "s__x"))
    assert older.sent[0].scope.startswith("session:")
    assert not newer.sent
    await harness.call(
        ScriptedClient("legacy", session="b"), "s__x"
    )  # it can answer nothing, so it needs no process of its own
    await harness.call(ScriptedClient(capabilities={"elicitation": {}}), "s__x")
    assert (len(older.sent), len(newer.sent)) == (1, 2)


async def test_a_server_without_an_older_era_is_asked_in_its_own() -> None:
    newer = allowing(asking(ELICIT), "elicitation")
    older = allowing(asking_legacy(), "elicitation")
    older.fails = Unavailable("no", server="s", reason="start_failed")
    guest = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(SAID)}
    )
    harness = Harness(newer, legacy_servers=[older])
    assert "accept" in text(await harness.call(guest, "s__x"))
    older.fails = Unavailable("gone in the middle", server="s", reason="lost")
    assert "accept" in text(await harness.call(guest, "s__x"))  # it is not tried again


async def test_a_call_that_was_lost_in_the_older_era_is_not_sent_again_in_the_newer() -> None:
    newer = allowing(asking(ELICIT), "elicitation")
    older = allowing(asking_legacy(), "elicitation")
    older.fails = Unavailable("gone in the middle", server="s", reason="lost")
    guest = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(SAID)}
    )
    lost = await Harness(newer, legacy_servers=[older]).call(guest, "s__x")
    assert error(lost)["data"] == {"reason": "lost", "server": "s"}
    assert not newer.sent
