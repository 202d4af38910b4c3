"""Signed request state."""

from modelplex.mcp.constants import (
    INVALID_PARAMS,
    Json,
)
from modelplex.mcp.request_state import RequestStateSealer, SealedRequestState
from tests.mcp.harness import (
    ANSWER,
    ELICIT,
    Harness,
    ScriptedClient,
    ScriptedServer,
    allowing,
    asking_server,
    error,
    result,
    tool,
)


async def test_a_request_state_is_valid_for_its_caller_and_its_server_only() -> None:
    server = allowing(asking_server(ELICIT, state="st"), "elicitation")
    other = ScriptedServer("t", era="modern", tools=[tool("x")])
    harness = Harness(server, other)
    client = ScriptedClient(capabilities={"elicitation": {}}, agent="a")
    state: str = result(await harness.call(client, "s__x"))["requestState"]
    again: Json = {"inputResponses": {"q0": ANSWER}}
    thief = ScriptedClient(capabilities={"elicitation": {}}, agent="b")
    swapped = state[:-2] + ("A" if state[-2] != "A" else "B") + state[-1]
    for who, name, given in (
        (thief, "s__x", state),
        (client, "t__x", state),
        (client, "s__x", "st"),
        (client, "s__x", swapped),
    ):
        refused = await harness.call(who, name, requestState=given, **again)
        assert error(refused)["code"] == INVALID_PARAMS
    assert len(server.sent) == 1
    assert not other.sent


def test_a_state_opens_with_its_key_only() -> None:
    sealed = SealedRequestState("s", "agent:a", "st", ("q",))
    seals = RequestStateSealer(b"a" * 32)
    found = seals.seal(sealed)
    assert seals.open(found, server="s", owner="agent:a") == sealed
    assert RequestStateSealer(b"b" * 32).open(found, server="s", owner="agent:a") is None
    for bad in ("", "mpx1.", "mpx1.AAAA", "mpx1.é", 5, None, found[:-4]):
        assert seals.open(bad, server="s", owner="agent:a") is None
