"""Calls that outlast their answer, through the hub: whose they are, and that nothing of them is
lost in between.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelplex.mcp.constants import (
    INVALID_PARAMS,
    META_RELATED,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    Json,
    McpReply,
    Unavailable,
)
from modelplex.mcp.tasks import EXTENSION, MAX_OF_CALLER, MAX_TASKS, Tasks
from tests.mcp.harness import WAIT, Harness, ScriptedClient, ScriptedServer, Sent, error, result, text, tool

OLD: Json = {
    "tools": {},
    "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}, "vendor": {}},
}
NEW: Json = {"tools": {}, "extensions": {EXTENSION: {}}}
KNOWS: Json = {"extensions": {EXTENSION: {}}}


def task(own: str, status: str = "working", **more: Any) -> Json:
    return {
        "taskId": own,
        "status": status,
        "createdAt": "2026-01-01T00:00:00Z",
        "lastUpdatedAt": "2026-01-01T00:00:00Z",
        "ttl": 60_000,
        **more,
    }


class Tasker:
    """A server that makes a task of each call, in the form of its era."""

    def __init__(self, era: str = "legacy") -> None:
        self.era = era
        self.made: list[str] = []
        self.waiting: Json = {}

    async def __call__(self, sent: Sent) -> McpReply:
        own = str(sent.params.get("taskId"))
        match sent.method:
            case "tools/call":
                return self.called(sent)
            case "tasks/get" | "tasks/cancel" if own not in self.made:
                return McpReply.failed(INVALID_PARAMS, "no such task")
            case "tasks/get" if self.era == "modern":
                return McpReply(result={"resultType": "complete", **task(own), **self.waiting})
            case "tasks/get" | "tasks/cancel" if self.era == "legacy":
                return McpReply(
                    result=task(own, "cancelled" if "cancel" in sent.method else "working", note=1)
                )
            case "tasks/result":
                meta = {META_RELATED: {"taskId": own, "vendor": 1}, "vendor/x": 2}
                return McpReply(result={"content": [{"type": "text", "text": f"of {own}"}], "_meta": meta})
            case "tasks/list":
                rest = [*self.made, "somebody-elses"]
                at = int(sent.params.get("cursor", "0"))
                more = {"nextCursor": str(at + 1)} if at + 1 < len(rest) else {}
                return McpReply(result={"tasks": [task(rest[at])], **more})
            case _:
                return McpReply(result={"resultType": "complete"})

    def called(self, sent: Sent) -> McpReply:
        if self.era == "legacy" and "task" not in sent.params:
            return McpReply(result={"content": [{"type": "text", "text": "at once"}]})
        self.made.append(own := f"t{len(self.made) + 1}")
        if self.era == "legacy":
            return McpReply(result={"task": task(own, vendor=[1]), "_meta": {META_RELATED: {"taskId": own}}})
        return McpReply(result={"resultType": "task", **task(own), "_meta": {"vendor/x": 2}})


def tasking(name: str, era: str = "legacy", **more: Any) -> ScriptedServer:
    more = {"allow": ("tasks",), "capabilities": OLD if era == "legacy" else NEW, **more}
    tools = [tool("work"), tool("long", execution={"taskSupport": "required"})]
    script = more.pop("script", None) or Tasker(era)
    return ScriptedServer(
        name, era="modern" if era == "modern" else "legacy", tools=tools, script=script, **more
    )


def old(**more: Any) -> ScriptedClient:
    return ScriptedClient("legacy", **more)


def new(**more: Any) -> ScriptedClient:
    return ScriptedClient("modern", capabilities=KNOWS, **more)


async def made(harness: Harness, guest: ScriptedClient, name: str = "a__work", **more: Any) -> str:
    told = result(await harness.call(guest, name, task={"ttl": 5}, **more))
    return str((told if guest.era == "modern" else told["task"])["taskId"])


# --- what is offered


async def test_tasks_are_offered_together_and_only_where_the_host_allows_them() -> None:
    asked = {"protocolVersion": "2025-11-25"}
    harness = Harness(
        tasking("a"),
        tasking("b", capabilities={"tools": {}, "tasks": {"cancel": {}}}),
        tasking("c", "modern"),
    )
    told = result(await harness.ask(old(), "initialize", asked))["capabilities"]
    assert told["tasks"] == {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    assert "extensions" not in told
    assert (
        "tasks"
        not in result(await harness.ask(old(), "initialize", {"protocolVersion": "2025-06-18"}))[
            "capabilities"
        ]
    )
    told = result(await harness.ask(new(), "server/discover"))["capabilities"]
    assert told["extensions"] == {EXTENSION: {}}
    assert "tasks" not in told
    harness = Harness(tasking("a", allow=()), tasking("c", "modern", allow=()))
    assert "tasks" not in result(await harness.ask(old(), "initialize", asked))["capabilities"]
    assert "extensions" not in result(await harness.ask(new(), "server/discover"))["capabilities"]


@pytest.mark.parametrize(
    "method", ["tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "tasks/update"]
)
async def test_without_permission_there_are_no_tasks_and_a_task_is_not_asked_for(method: str) -> None:
    harness = Harness(tasking("a", allow=()), tasking("c", "modern", allow=()))
    for guest in (old(), new()):
        assert error(await harness.ask(guest, method, {"taskId": "a__t1"}))["code"] == METHOD_NOT_FOUND
    assert text(await harness.call(old(), "a__work", task={})) == "at once"
    assert "task" not in harness.servers["a"].sent[0].params


async def test_a_tool_that_runs_only_as_a_task_says_why_it_cannot() -> None:
    harness = Harness(tasking("a", allow=()), tasking("b"), tasking("c", "modern"))
    for guest, name in ((old(), "a__long"), (new(), "b__long"), (old(), "c__long")):
        reply = await harness.call(guest, name, task={})
        assert result(reply)["isError"] is True
        assert "only as a task" in text(reply)
    assert not any(server.sent for server in harness.servers.values())
    assert [call.outcome for call in harness.calls] == ["refused"] * 3
    listed = result(await harness.ask(old(), "tools/list"))["tools"]
    assert [each["execution"] for each in listed if "execution" in each] == [{"taskSupport": "required"}] * 3


# --- the older form


async def test_a_task_of_the_older_form_is_named_by_its_server_and_nothing_of_it_is_lost() -> None:
    harness = Harness(tasking("a"), tasking("b"))
    guest = harness.opened(old())
    reply = result(await harness.call(guest, "b__work", task={"ttl": 7, "vendor": 1}))
    assert harness.servers["b"].sent[0].params["task"] == {"ttl": 7, "vendor": 1}
    assert reply == {
        "task": task("b__t1", vendor=[1]),
        "_meta": {META_RELATED: {"taskId": "b__t1"}},
    }
    assert result(await harness.ask(guest, "tasks/get", {"taskId": "b__t1"})) == task("b__t1", note=1)
    assert harness.servers["b"].sent[1].params == {"taskId": "t1"}
    told = result(await harness.ask(guest, "tasks/result", {"taskId": "b__t1"}))
    assert told["content"][0]["text"] == "of t1"
    assert told["_meta"] == {META_RELATED: {"taskId": "b__t1", "vendor": 1}, "vendor/x": 2}
    assert harness.servers["b"].sent[2].timeout == harness.config.max_call_time
    assert result(await harness.ask(guest, "tasks/cancel", {"taskId": "b__t1"}))["status"] == "cancelled"
    assert [(call.method, call.tool, call.server, call.outcome) for call in harness.calls] == [
        ("tools/call", "b__work", "b", "ok"),
        ("tasks/get", "b__t1", "b", "ok"),
        ("tasks/result", "b__t1", "b", "ok"),
        ("tasks/cancel", "b__t1", "b", "ok"),
    ]
    assert not harness.servers["a"].sent


async def test_on_the_route_of_one_server_a_task_has_the_servers_own_name() -> None:
    harness = Harness(tasking("a"))
    guest = old()
    told = result(await harness.call(guest, "work", server="a", task={}))
    assert told["task"]["taskId"] == "t1"
    assert result(await harness.ask(guest, "tasks/get", {"taskId": "t1"}, server="a"))["taskId"] == "t1"
    assert result(await harness.ask(guest, "tasks/get", {"taskId": "a__t1"}))["taskId"] == "a__t1"


async def test_a_task_is_there_for_nobody_but_the_caller_that_made_it() -> None:
    harness = Harness(tasking("a"), tasking("c", "modern"))
    mine, other = old(agent="one"), old(agent="two", session="s2")
    name = await made(harness, mine)
    for method in ("tasks/get", "tasks/result", "tasks/cancel"):
        refused = await harness.ask(other, method, {"taskId": name})
        assert (error(refused)["code"], refused.reason) == (INVALID_PARAMS, "unknown")
    assert result(await harness.ask(other, "tasks/list"))["tasks"] == []
    assert (
        result(await harness.ask(old(agent="one", session="s3"), "tasks/get", {"taskId": name}))["taskId"]
        == name
    )
    modern = await made(harness, new(agent="one"), "c__work")
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        assert (
            error(await harness.ask(new(agent="two"), method, {"taskId": modern}))["code"] == INVALID_PARAMS
        )
    assert error(await harness.ask(mine, "tasks/get", {}))["code"] == INVALID_PARAMS
    assert error(await harness.ask(mine, "tasks/get", {"taskId": "t1"}))["code"] == INVALID_PARAMS


async def test_tasks_of_all_servers_are_listed_by_pages_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelplex.mcp.task_calls.PAGE_SIZE", 2)
    harness = Harness(tasking("a"), tasking("b"))
    guest = old()
    ids = [await made(harness, guest, name) for name in ("a__work", "b__work", "a__work", "b__work")]
    await made(harness, old(agent="other"))
    first = result(await harness.ask(guest, "tasks/list"))
    assert [each["taskId"] for each in first["tasks"]] == ids[:2]
    second = result(await harness.ask(guest, "tasks/list", {"cursor": first["nextCursor"]}))
    assert [each["taskId"] for each in second["tasks"]] == ids[2:]
    assert "nextCursor" not in second
    assert error(await harness.ask(guest, "tasks/list", {"cursor": "x"}))["code"] == INVALID_PARAMS
    harness.servers["a"].fails = Unavailable("gone", server="a", reason="lost")
    left = result(await harness.ask(guest, "tasks/list", {"cursor": first["nextCursor"]}))
    assert [each["taskId"] for each in left["tasks"]] == [ids[3]]


async def test_what_a_server_says_of_a_task_reaches_the_session_that_made_it() -> None:
    harness = Harness(tasking("a"))
    mine, other = harness.opened(old()), harness.opened(old(session="s2"))
    name = await made(harness, mine)
    harness.servers["a"].says("notifications/tasks/status", task("t1", "completed"))
    harness.servers["a"].says("notifications/tasks/status", task("nobodys"))
    related = {"_meta": {META_RELATED: {"taskId": "t1"}, "io.modelcontextprotocol/x": 1}}
    harness.servers["a"].says("notifications/progress", {"progressToken": "p", "progress": 1, **related})
    assert [(each["method"], each["params"]) for each in mine.channel] == [
        ("notifications/tasks/status", task(name, "completed")),
        (
            "notifications/progress",
            {"progressToken": "p", "progress": 1, "_meta": {META_RELATED: {"taskId": name}}},
        ),
    ]
    assert other.channel == []
    harness.gateway.close_session(mine)
    harness.servers["a"].says("notifications/tasks/status", task("t1", "failed"))
    assert len(mine.channel) == 2


async def test_a_question_of_a_task_says_to_client_and_server_which_task_it_is_about() -> None:
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
    guest = harness.opened(old(capabilities={"elicitation": {}}, answers=yes))
    name = await made(harness, guest)
    scope = harness.servers["a"].sent[0].scope
    assert scope.startswith("session:")
    await harness.ask(guest, "tasks/result", {"taskId": name})
    assert guest.questions[0][1]["_meta"] == {META_RELATED: {"taskId": name}}
    assert answered[0].result == {"action": "decline", "_meta": {META_RELATED: {"taskId": "t1"}}}
    assert guest.notifications[0]["params"]["_meta"] == {META_RELATED: {"taskId": name}}
    assert harness.servers["a"].sent[1].scope == scope
    harness.gateway.close_session(guest)
    later = old(capabilities={"elicitation": {}}, session="s9")
    assert error(await harness.ask(later, "tasks/get", {"taskId": name}))["code"] == INVALID_PARAMS


async def test_a_task_that_its_server_does_not_know_any_more_is_forgotten() -> None:
    tasker = Tasker()
    harness = Harness(tasking("a", script=tasker))
    guest = old()
    name = await made(harness, guest)
    tasker.made.clear()
    assert error(await harness.ask(guest, "tasks/get", {"taskId": name}))["message"] == "no such task"
    assert (
        error(await harness.ask(guest, "tasks/get", {"taskId": name}))["message"] == f"Unknown task: {name}"
    )


# --- the newer form


async def test_a_task_of_the_newer_form_is_relayed_to_a_client_that_declares_it() -> None:
    tasker = Tasker("modern")
    harness = Harness(tasking("c", "modern", script=tasker))
    guest = new()
    reply = result(await harness.call(guest, "c__work"))
    assert harness.servers["c"].sent[0].capabilities == KNOWS
    assert (reply["resultType"], reply["taskId"], reply["ttl"]) == ("task", "c__t1", 60_000)
    assert reply["_meta"]["vendor/x"] == 2
    inner: Json = {"content": [], "_meta": {META_RELATED: {"taskId": "t1"}, "vendor/y": 3}}
    tasker.waiting = {"status": "completed", "result": inner}
    got = result(await harness.ask(guest, "tasks/get", {"taskId": "c__t1"}))
    assert (got["resultType"], got["taskId"], got["status"]) == ("complete", "c__t1", "completed")
    assert got["result"] == {"content": [], "_meta": {"vendor/y": 3}}
    assert result(await harness.ask(guest, "tasks/cancel", {"taskId": "c__t1"}))["resultType"] == "complete"
    for method in ("tasks/list", "tasks/result"):
        assert error(await harness.ask(guest, method, {"taskId": "c__t1"}))["code"] == METHOD_NOT_FOUND


async def test_a_client_that_does_not_declare_tasks_is_given_none() -> None:
    tasker = Tasker("modern")
    harness = Harness(tasking("c", "modern", script=tasker))
    refused = error(await harness.ask(ScriptedClient(), "tasks/get", {"taskId": "c__t1"}))
    assert refused["code"] == MISSING_CAPABILITY
    assert refused["data"] == {"requiredCapabilities": KNOWS}
    reply = await harness.call(ScriptedClient(), "c__work")
    assert harness.servers["c"].sent[0].capabilities == {}
    assert reply.reason == "invalid_answer"

    async def requires(sent: Sent) -> McpReply:
        return McpReply.failed(MISSING_CAPABILITY, "no", {"requiredCapabilities": KNOWS})

    harness = Harness(tasking("c", "modern", script=requires))
    told = error(await harness.call(ScriptedClient(capabilities={"extensions": {}}), "c__work"))
    assert (told["code"], told["data"]) == (MISSING_CAPABILITY, {"requiredCapabilities": KNOWS})


async def test_what_a_task_waits_for_is_asked_of_the_client_as_far_as_the_host_allows() -> None:
    tasker = Tasker("modern")
    harness = Harness(tasking("c", "modern", script=tasker, allow=("tasks", "elicitation"), roots=("/work",)))
    guest = ScriptedClient(capabilities={**KNOWS, "elicitation": {}})
    name = await made(harness, guest, "c__work")
    form = {"method": "elicitation/create", "params": {"message": "?"}}
    tasker.waiting = {"status": "input_required", "inputRequests": {"r": {"method": "roots/list"}, "e": form}}
    assert result(await harness.ask(guest, "tasks/get", {"taskId": name}))["inputRequests"] == {"e": form}
    update = harness.servers["c"].sent[-1]
    assert (update.method, update.params["taskId"]) == ("tasks/update", "t1")
    assert update.params["inputResponses"]["r"]["roots"][0]["uri"] == "file:///work"
    answers: Json = {"e": {"action": "accept", "content": {}}, "r": {"roots": [{"uri": "file:///etc"}]}}
    await harness.ask(guest, "tasks/update", {"taskId": name, "inputResponses": answers})
    assert harness.servers["c"].sent[-1].params == {
        "taskId": "t1",
        "inputResponses": {"e": {"action": "accept", "content": {}}},
    }
    tasker.waiting = {"inputRequests": {"s": {"method": "sampling/createMessage", "params": {}}}}
    told = await harness.ask(guest, "tasks/get", {"taskId": name})
    assert told.reason in ("capability", "policy")


async def test_a_subscription_to_tasks_is_told_of_those_that_are_its_callers() -> None:
    tasker = Tasker("modern")

    async def listened(sent: Sent) -> McpReply:
        if sent.method != "subscriptions/listen":
            return await tasker(sent)
        assert sent.params == {"notifications": {"taskIds": ["t1"]}}
        assert sent.on_notification is not None
        for own in ("t1", "t2"):
            params = {**task(own, "completed"), "_meta": {"io.modelcontextprotocol/subscriptionId": 4}}
            sent.on_notification({"jsonrpc": "2.0", "method": "notifications/tasks", "params": params})
        await asyncio.Event().wait()
        raise AssertionError

    harness = Harness(tasking("c", "modern", script=listened))
    guest = new(agent="one")
    mine, theirs = await made(harness, guest, "c__work"), await made(harness, new(agent="two"), "c__work")
    message = guest.message("subscriptions/listen", {"notifications": {"taskIds": [mine, theirs, "x"]}}, id=9)
    listening = asyncio.create_task(harness.gateway.request(guest, message))
    while len(guest.notifications) < 2:
        guest.notified.clear()
        await asyncio.wait_for(guest.notified.wait(), WAIT)
    assert guest.notifications[0]["params"]["notifications"] == {"taskIds": [mine]}
    assert guest.notifications[1]["method"] == "notifications/tasks"
    assert guest.notifications[1]["params"] == {
        **task(mine, "completed"),
        "_meta": {"io.modelcontextprotocol/subscriptionId": 9},
    }
    listening.cancel()
    await asyncio.wait([listening])
    while not harness.servers["c"].cancelled:
        await asyncio.sleep(0)


def test_the_oldest_tasks_are_forgotten_of_a_caller_that_makes_too_many() -> None:
    tasks, back, guest = Tasks(), tasking("a"), old()
    for number in range(MAX_OF_CALLER + 5):
        tasks.add(back, f"t{number}", scope="", client=guest, route=None)
    assert len(tasks) == MAX_OF_CALLER
    assert tasks.find("a__t4", client=guest, route=None) is None
    assert tasks.find("a__t5", client=guest, route=None) is not None
    for caller in range(MAX_TASKS // MAX_OF_CALLER + 2):
        for number in range(MAX_OF_CALLER):
            tasks.add(back, f"c{caller}-{number}", scope="", client=old(agent=str(caller)), route=None)
    assert len(tasks) == MAX_TASKS
    tasks.forget_server(back)
    assert len(tasks) == 0
