"""Which instance of a server gets a call."""

import asyncio

from modelplex.mcp.constants import (
    Json,
    McpReply,
)
from tests.mcp.harness import (
    ANSWER,
    ELICIT,
    Harness,
    ScriptedClient,
    ScriptedServer,
    allowing,
    asking_legacy_server,
    asking_server,
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
    guest = ScriptedClient(capabilities={"elicitation": {}, "roots": {}})
    first = result(await harness.call(guest, "s__x"))
    assert first["inputRequests"] == {"q1": ELICIT}
    evil = {"q0": {"roots": [{"uri": "file:///etc"}]}, "q1": ANSWER}
    await harness.call(guest, "s__x", inputResponses=evil, requestState=first["requestState"])
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
