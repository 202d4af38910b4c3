"""Which instance of a server gets a call."""

import asyncio

import pytest

from modelplex.mcp.call_route import CallRoute, may_be_task, scope_of, session_scope
from modelplex.mcp.constants import Era, Json, McpReply
from tests.mcp.harness import (
    ANSWER,
    ELICIT,
    Harness,
    ScriptedClient,
    ScriptedServer,
    allowing,
    asking_legacy_server,
    asking_server,
    error,
    result,
    text,
    tool,
)


async def test_a_legacy_server_that_may_ask_has_an_instance_for_each_session() -> None:
    server = allowing(asking_legacy_server(), "elicitation")
    harness = Harness(server)
    one = ScriptedClient(
        "legacy", session="a", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(ANSWER)}
    )
    two = ScriptedClient(
        "legacy", session="b", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(ANSWER)}
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


async def test_roots_are_those_of_the_config() -> None:
    roots: Json = {"method": "roots/list"}
    server = allowing(asking_server(roots, ELICIT), "elicitation", roots=("/srv/data",))
    harness = Harness(server)
    client = ScriptedClient(capabilities={"elicitation": {}, "roots": {}})
    first = result(await harness.call(client, "s__x"))
    assert first["inputRequests"] == {"q1": ELICIT}
    evil = {"q0": {"roots": [{"uri": "file:///etc"}]}, "q1": ANSWER}
    await harness.call(client, "s__x", inputResponses=evil, requestState=first["requestState"])
    answers = server.sent[1].params["inputResponses"]
    assert answers == {"q0": {"roots": [{"uri": "file:///srv/data", "name": "data"}]}, "q1": ANSWER}
    alone = Harness(allowing(asking_server(roots), roots=("/srv/data",)))
    assert "file:///srv/data" in text(await alone.call(ScriptedClient(), "s__x"))


async def test_scope_agent_has_an_instance_for_each_agent() -> None:
    server = ScriptedServer("s", tools=[tool("x")], scope="agent")
    harness = Harness(server)
    for agent in ("a", "b", "a"):
        await harness.call(ScriptedClient(agent=agent), "s__x")
    assert [sent.scope for sent in server.sent] == ["agent:a", "agent:b", "agent:a"]


@pytest.mark.parametrize(
    ("scope", "allow", "era", "session", "expected"),
    [
        ("shared", (), "legacy", "s1", ""),
        ("shared", ("elicitation",), "legacy", "s1", "session"),
        ("shared", ("elicitation",), "modern", "", ""),
        ("session", (), "legacy", "s1", "session"),
        ("session", (), "modern", "", "agent:a"),
        ("agent", ("elicitation",), "legacy", "s1", "agent:a"),
    ],
)
def test_the_scope_depends_on_config_and_client(
    scope: str, allow: tuple[str, ...], era: Era, session: str, expected: str
) -> None:
    server = ScriptedServer("s", scope=scope, allow=allow)
    client = ScriptedClient(era, agent="a", session=session)
    found = scope_of(server, client)
    assert found == (session_scope(client) if expected == "session" else expected)


def test_the_scope_of_a_session_does_not_show_its_id() -> None:
    scope = session_scope(ScriptedClient("legacy", session="secret"))
    assert scope.startswith("session:")
    assert "secret" not in scope
    assert scope != session_scope(ScriptedClient("legacy", session="other"))


@pytest.mark.parametrize(
    ("version", "tool_calls", "allowed", "expected"),
    [
        ("2025-11-25", True, True, True),
        ("2025-06-18", True, True, False),
        ("2025-11-25", False, True, False),
        ("2025-11-25", True, False, False),
    ],
)
def test_a_legacy_call_may_be_a_task_if_both_sides_support_it(
    version: str, tool_calls: bool, allowed: bool, expected: bool
) -> None:
    offer: Json = {"requests": {"tools": {"call": {}}}} if tool_calls else {"list": {}}
    server = ScriptedServer("s", capabilities={"tasks": offer}, allow=("tasks",) if allowed else ())
    client = ScriptedClient("legacy")
    client.version = version
    assert may_be_task(server, client) is expected


def test_a_failed_call_of_a_tool_is_a_result_and_of_a_prompt_an_error() -> None:
    def failed(method: str) -> McpReply:
        server = ScriptedServer("s")
        call = CallRoute(
            client=ScriptedClient(), method=method, upstream=server, scope="", era="legacy", capabilities={}
        )
        return call.failed("it failed", "lost")

    assert text(failed("tools/call")) == "it failed"
    assert error(failed("prompts/get"))["data"] == {"reason": "lost", "server": "s"}
    assert failed("tools/call").reason == failed("prompts/get").reason == "lost"
