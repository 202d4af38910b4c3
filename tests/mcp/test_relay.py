"""Relaying one call."""

from modelplex.mcp.constants import (
    MISSING_CAPABILITY,
    McpReply,
    Unavailable,
)
from modelplex.mcp.relay import MAX_ROUNDS
from tests.mcp.harness import (
    ANSWER,
    ELICIT,
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    allowing,
    asking_legacy_server,
    asking_server,
    error,
    result,
    text,
    tool,
)


async def test_a_call_is_cancelled_when_a_legacy_server_asks_a_modern_client() -> None:
    server = asking_legacy_server()
    harness = Harness(server)
    assert error(await harness.call(ScriptedClient(), "s__x"))["code"] == MISSING_CAPABILITY
    assert server.cancelled == 1
    declared = await harness.call(ScriptedClient(capabilities={"elicitation": {}}), "s__x")
    assert result(declared)["isError"] is True
    assert "does not allow" in text(declared)
    assert server.cancelled == 2
    # The task goes on: what was cancelled was the call alone.
    assert await harness.names(ScriptedClient()) == ["s__x"]


async def test_the_rounds_of_questions_are_limited() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply(result={"resultType": "input_required", "inputRequests": {"q": ELICIT}})

    server = allowing(ScriptedServer("s", era="modern", tools=[tool("x")], script=script), "elicitation")
    client = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(ANSWER)}
    )
    reply = await Harness(server).call(client, "s__x")
    assert result(reply)["isError"] is True
    assert len(client.questions) == MAX_ROUNDS


async def test_a_request_state_without_questions_is_returned_for_a_legacy_client() -> None:
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


async def test_a_server_of_both_eras_is_called_in_the_legacy_era_if_it_may_ask_a_legacy_client() -> None:
    newer = allowing(asking_server(ELICIT), "elicitation")
    older = allowing(asking_legacy_server(), "elicitation")
    harness = Harness(newer, legacy_servers=[older])
    able = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(ANSWER)}
    )
    assert "accept" in text(await harness.call(able, "s__x"))
    assert older.sent[0].scope.startswith("session:")
    assert not newer.sent
    await harness.call(
        ScriptedClient("legacy", session="b"), "s__x"
    )  # it can answer nothing, so it needs no process of its own
    await harness.call(ScriptedClient(capabilities={"elicitation": {}}), "s__x")
    assert (len(older.sent), len(newer.sent)) == (1, 2)


async def test_a_server_that_does_not_start_in_the_legacy_era_is_called_in_the_modern_one() -> None:
    newer = allowing(asking_server(ELICIT), "elicitation")
    older = allowing(asking_legacy_server(), "elicitation")
    older.fails = Unavailable("no", server="s", reason="start_failed")
    client = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(ANSWER)}
    )
    harness = Harness(newer, legacy_servers=[older])
    assert "accept" in text(await harness.call(client, "s__x"))
    older.fails = Unavailable("gone in the middle", server="s", reason="lost")
    assert "accept" in text(await harness.call(client, "s__x"))  # it is not tried again


async def test_a_call_lost_in_the_legacy_era_is_not_repeated_in_the_modern_one() -> None:
    newer = allowing(asking_server(ELICIT), "elicitation")
    older = allowing(asking_legacy_server(), "elicitation")
    older.fails = Unavailable("gone in the middle", server="s", reason="lost")
    client = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(ANSWER)}
    )
    lost = await Harness(newer, legacy_servers=[older]).call(client, "s__x")
    assert error(lost)["data"] == {"reason": "lost", "server": "s"}
    assert not newer.sent
