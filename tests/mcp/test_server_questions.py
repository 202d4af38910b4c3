"""Requests of servers to their clients during a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelplex.mcp.call_route import CallRoute
from modelplex.mcp.constants import (
    INVALID_PARAMS,
    META_RELATED,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    Era,
    Json,
    McpReply,
)
from modelplex.mcp.request_state import RequestStateSealer
from modelplex.mcp.server_questions import answer_questions, ask_client, questions_for_client
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
from tests.mcp.task_servers import KNOWS, OLD, Tasker, made, old, tasking

ERAS: tuple[Era, Era] = ("legacy", "modern")


@pytest.mark.parametrize("client", ERAS)
async def test_a_modern_server_gets_no_capability_unless_the_host_allows_it(client: Era) -> None:
    server = asking_server(ELICIT)
    harness = Harness(server)
    guest = ScriptedClient(client, capabilities={"elicitation": {}, "sampling": {}, "roots": {}})
    reply = await harness.call(guest, "s__x")
    assert server.sent[0].capabilities == {}
    assert result(reply)["isError"] is True
    assert "does not allow" in text(reply)
    assert guest.questions == []


async def test_a_modern_client_without_the_capability_gets_its_name() -> None:
    reply = await Harness(asking_server(ELICIT)).call(ScriptedClient(), "s__x")
    assert error(reply)["code"] == MISSING_CAPABILITY
    assert error(reply)["data"] == {"requiredCapabilities": {"elicitation": {}}}


async def test_a_modern_servers_missing_capability_is_the_clients_or_the_hosts() -> None:
    async def script(sent: Sent) -> McpReply:
        return McpReply.failed(MISSING_CAPABILITY, "no", {"requiredCapabilities": {"sampling": {}}})

    harness = Harness(ScriptedServer("s", era="modern", tools=[tool("x")], script=script))
    assert error(await harness.call(ScriptedClient(), "s__x"))["code"] == MISSING_CAPABILITY
    assert "does not allow" in text(await harness.call(ScriptedClient(capabilities={"sampling": {}}), "s__x"))


async def test_a_question_to_a_legacy_client_is_refused_unless_the_host_allows_it() -> None:
    client = ScriptedClient("legacy", capabilities={"elicitation": {}})
    reply = await Harness(asking_legacy_server()).call(client, "s__x")
    assert str(METHOD_NOT_FOUND) in text(reply)
    assert client.questions == []


async def test_url_elicitation_is_refused() -> None:
    async def script(sent: Sent) -> McpReply:
        assert sent.on_request is not None
        answer = await sent.on_request("elicitation/create", {"mode": "url", "url": "https://example.org"})
        return McpReply(result={"content": [{"type": "text", "text": str(answer.error)}]})

    server = allowing(ScriptedServer("s", tools=[tool("x")], script=script), "elicitation")
    client = ScriptedClient("legacy", capabilities={"elicitation": {"form": {}, "url": {}}})
    assert str(METHOD_NOT_FOUND) in text(await Harness(server).call(client, "s__x"))
    assert client.questions == []


async def test_a_modern_servers_questions_are_relayed_to_a_legacy_client() -> None:
    server = allowing(asking_server(ELICIT, state="st"), "elicitation")
    client = ScriptedClient(
        "legacy", capabilities={"elicitation": {}}, answers={ELICIT["method"]: McpReply(ANSWER)}
    )
    assert text(await Harness(server).call(client, "s__x")) == str({"q0": ANSWER}) + " st"
    assert client.questions == [(ELICIT["method"], ELICIT["params"])]
    assert server.sent[0].capabilities == {"elicitation": {"form": {}}}


async def test_questions_pass_to_a_modern_client_and_its_answers_come_back() -> None:
    server = allowing(asking_server(ELICIT, state="their state"), "elicitation")
    harness = Harness(server)
    client = ScriptedClient(capabilities={"elicitation": {}})
    first = result(await harness.call(client, "s__x"))
    assert first["resultType"] == "input_required"
    assert first["inputRequests"] == {"q0": ELICIT}
    assert first["requestState"] != "their state"
    done = await harness.call(
        client, "s__x", inputResponses={"q0": ANSWER}, requestState=first["requestState"]
    )
    assert text(done) == str({"q0": ANSWER}) + " their state"
    assert server.sent[1].params["requestState"] == "their state"


async def test_a_question_of_a_task_names_the_task_to_client_and_server() -> None:
    answered: list[McpReply] = []
    tasker = Tasker()

    async def asks(sent: Sent) -> McpReply:
        if sent.method == "tasks/result":
            assert sent.on_request is not None
            question = {"message": "which?", "_meta": {META_RELATED: {"taskId": "t1"}}}
            answered.append(await sent.on_request("elicitation/create", question))
            assert sent.on_notification is not None
            logged = {"level": "info", "data": "x", "_meta": {META_RELATED: {"taskId": "t1"}}}
            sent.on_notification({"jsonrpc": "2.0", "method": "notifications/message", "params": logged})
        return await tasker(sent)

    harness = Harness(
        tasking("a", script=asks, allow=("tasks", "elicitation"), capabilities={**OLD, "logging": {}})
    )
    yes = {"elicitation/create": McpReply(result={"action": "decline"})}
    client = harness.opened(old(capabilities={"elicitation": {}}, answers=yes))
    name = await made(harness, client)
    scope = harness.servers["a"].sent[0].scope
    assert scope.startswith("session:")
    await harness.ask(client, "tasks/result", {"taskId": name})
    assert client.questions[0][1]["_meta"] == {META_RELATED: {"taskId": name}}
    assert answered[0].result == {"action": "decline", "_meta": {META_RELATED: {"taskId": "t1"}}}
    assert client.notifications[0]["params"]["_meta"] == {META_RELATED: {"taskId": name}}
    assert harness.servers["a"].sent[1].scope == scope
    harness.gateway.close_session(client)
    later = old(capabilities={"elicitation": {}}, session="s9")
    assert error(await harness.ask(later, "tasks/get", {"taskId": name}))["code"] == INVALID_PARAMS


async def test_the_input_requests_of_a_task_go_to_the_client_as_far_as_the_host_allows() -> None:
    tasker = Tasker("modern")
    harness = Harness(tasking("c", "modern", script=tasker, allow=("tasks", "elicitation"), roots=("/work",)))
    client = ScriptedClient(capabilities={**KNOWS, "elicitation": {}})
    name = await made(harness, client, "c__work")
    form = {"method": "elicitation/create", "params": {"message": "?"}}
    tasker.waiting = {"status": "input_required", "inputRequests": {"r": {"method": "roots/list"}, "e": form}}
    assert result(await harness.ask(client, "tasks/get", {"taskId": name}))["inputRequests"] == {"e": form}
    update = harness.servers["c"].sent[-1]
    assert (update.method, update.params["taskId"]) == ("tasks/update", "t1")
    assert update.params["inputResponses"]["r"]["roots"][0]["uri"] == "file:///work"
    answers: Json = {"e": {"action": "accept", "content": {}}, "r": {"roots": [{"uri": "file:///etc"}]}}
    await harness.ask(client, "tasks/update", {"taskId": name, "inputResponses": answers})
    assert harness.servers["c"].sent[-1].params == {
        "taskId": "t1",
        "inputResponses": {"e": {"action": "accept", "content": {}}},
    }
    tasker.waiting = {"inputRequests": {"s": {"method": "sampling/createMessage", "params": {}}}}
    found = await harness.ask(client, "tasks/get", {"taskId": name})
    assert found.reason in ("capability", "policy")


def call_of(client: ScriptedClient, server: ScriptedServer, **members: Any) -> CallRoute:
    return CallRoute(
        client=client,
        method="tools/call",
        upstream=server,
        scope="",
        era=server.offered.era,
        capabilities=members.pop("capabilities", {"elicitation": {"form": {}}}),
        **members,
    )


async def test_roots_are_answered_from_the_config_and_the_rest_is_left_for_a_modern_client() -> None:
    call = call_of(ScriptedClient(), ScriptedServer("s", era="modern", roots=("/srv/data",)))
    questions: Json = {"r": {"method": "roots/list"}, "e": ELICIT}
    answers, left = await answer_questions(call, questions, timeout=5.0)
    assert answers == {"r": {"roots": [{"uri": "file:///srv/data", "name": "data"}]}}
    assert left == {"e": ELICIT}


@pytest.mark.parametrize("question", [None, "text", {}, {"method": "roots/list"}, {"method": "vendor/ask"}])
async def test_a_question_that_is_not_allowed_ends_the_call(question: Any) -> None:
    call = call_of(ScriptedClient(capabilities={"roots": {}}), ScriptedServer("s", era="modern"))
    answers, left = await answer_questions(call, {"q": question}, timeout=5.0)
    assert answers == {}
    assert isinstance(left, McpReply)
    assert left.reason in ("policy", "capability")


async def test_a_legacy_client_that_answers_with_an_error_or_too_late_ends_the_call() -> None:
    class Silent(ScriptedClient):
        async def send_request(self, method: str, params: Json) -> McpReply:
            await asyncio.Event().wait()
            raise AssertionError

    for client, reason in ((ScriptedClient("legacy"), "no"), (Silent("legacy"), "no answer in time")):
        call = call_of(client, ScriptedServer("s", era="modern"))
        _, left = await answer_questions(call, {"q": ELICIT}, timeout=0.01)
        assert isinstance(left, McpReply)
        assert left.reason == "client"
        assert text(left) == f"The client did not answer elicitation/create: {reason}"


async def test_a_relayed_question_and_its_answer_lose_reserved_members() -> None:
    meta = {"a.org/x": 1, "b.org/y": 2, "progressToken": 3, "io.modelcontextprotocol/z": 4}
    client = ScriptedClient(
        "legacy", answers={"elicitation/create": McpReply(result={"action": "accept", "_meta": meta})}
    )
    call = call_of(client, ScriptedServer("s"), globs=("a.org/*",))
    reply = await ask_client(call, "elicitation/create", {"message": "?", "_meta": meta})
    assert client.questions == [("elicitation/create", {"message": "?", "_meta": {"a.org/x": 1}})]
    assert reply.result == {"action": "accept", "_meta": {"a.org/x": 1, "progressToken": 3}}


def test_the_request_state_for_a_client_is_signed() -> None:
    sealer = RequestStateSealer(b"k" * 32)
    call = call_of(ScriptedClient(agent="a"), ScriptedServer("s", era="modern"))
    result_: Json = {"resultType": "input_required", "inputRequests": {"q": ELICIT}, "requestState": "st"}
    asked = result(questions_for_client(call, result_, {"q": ELICIT}, ("r",), sealer=sealer))
    opened = sealer.open(asked["requestState"], server="s", owner="agent:a")
    assert opened is not None
    assert (opened.state, opened.roots) == ("st", ("r",))
    assert result_["requestState"] == "st", "the server's result is not changed"
    only_roots = result(questions_for_client(call, {}, {"q": ELICIT}, ("r",), sealer=sealer))
    opened = sealer.open(only_roots["requestState"], server="s", owner="agent:a")
    assert opened is not None
    assert (opened.state, opened.roots) == (None, ("r",))
    plain = result(questions_for_client(call, {"inputRequests": {}}, {}, (), sealer=sealer))
    assert plain == {}
