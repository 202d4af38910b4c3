"""Requests about tasks."""

from __future__ import annotations

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
from tests.mcp.harness import Harness, ScriptedClient, Sent, error, result, text
from tests.mcp.task_servers import KNOWS, Tasker, made, new, old, task, tasking


@pytest.mark.parametrize(
    "method", ["tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "tasks/update"]
)
async def test_without_permission_task_methods_are_unknown_and_no_task_is_requested(method: str) -> None:
    harness = Harness(tasking("a", allow=()), tasking("c", "modern", allow=()))
    for client in (old(), new()):
        assert error(await harness.ask(client, method, {"taskId": "a__t1"}))["code"] == METHOD_NOT_FOUND
    assert text(await harness.call(old(), "a__work", task={})) == "at once"
    assert "task" not in harness.servers["a"].sent[0].params


async def test_a_legacy_task_has_a_prefixed_id_and_keeps_all_members() -> None:
    harness = Harness(tasking("a"), tasking("b"))
    client = harness.opened(old())
    reply = result(await harness.call(client, "b__work", task={"ttl": 7, "vendor": 1}))
    assert harness.servers["b"].sent[0].params["task"] == {"ttl": 7, "vendor": 1}
    assert reply == {
        "task": task("b__t1", vendor=[1]),
        "_meta": {META_RELATED: {"taskId": "b__t1"}},
    }
    assert result(await harness.ask(client, "tasks/get", {"taskId": "b__t1"})) == task("b__t1", note=1)
    assert harness.servers["b"].sent[1].params == {"taskId": "t1"}
    found = result(await harness.ask(client, "tasks/result", {"taskId": "b__t1"}))
    assert found["content"][0]["text"] == "of t1"
    assert found["_meta"] == {META_RELATED: {"taskId": "b__t1", "vendor": 1}, "vendor/x": 2}
    assert harness.servers["b"].sent[2].timeout == harness.config.max_call_time
    assert result(await harness.ask(client, "tasks/cancel", {"taskId": "b__t1"}))["status"] == "cancelled"
    assert [(call.method, call.tool, call.server, call.outcome) for call in harness.calls] == [
        ("tools/call", "b__work", "b", "ok"),
        ("tasks/get", "b__t1", "b", "ok"),
        ("tasks/result", "b__t1", "b", "ok"),
        ("tasks/cancel", "b__t1", "b", "ok"),
    ]
    assert not harness.servers["a"].sent


async def test_on_the_route_of_one_server_a_task_has_the_servers_own_id() -> None:
    harness = Harness(tasking("a"))
    client = old()
    found = result(await harness.call(client, "work", server="a", task={}))
    assert found["task"]["taskId"] == "t1"
    assert result(await harness.ask(client, "tasks/get", {"taskId": "t1"}, server="a"))["taskId"] == "t1"
    assert result(await harness.ask(client, "tasks/get", {"taskId": "a__t1"}))["taskId"] == "a__t1"


async def test_a_task_is_unknown_to_other_callers() -> None:
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


async def test_tasks_of_all_servers_are_listed_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelplex.mcp.task_calls.PAGE_SIZE", 2)
    harness = Harness(tasking("a"), tasking("b"))
    client = old()
    ids = [await made(harness, client, name) for name in ("a__work", "b__work", "a__work", "b__work")]
    await made(harness, old(agent="other"))
    first = result(await harness.ask(client, "tasks/list"))
    assert [each["taskId"] for each in first["tasks"]] == ids[:2]
    second = result(await harness.ask(client, "tasks/list", {"cursor": first["nextCursor"]}))
    assert [each["taskId"] for each in second["tasks"]] == ids[2:]
    assert "nextCursor" not in second
    assert error(await harness.ask(client, "tasks/list", {"cursor": "x"}))["code"] == INVALID_PARAMS
    harness.servers["a"].fails = Unavailable("gone", server="a", reason="lost")
    left = result(await harness.ask(client, "tasks/list", {"cursor": first["nextCursor"]}))
    assert [each["taskId"] for each in left["tasks"]] == [ids[3]]


async def test_a_task_unknown_to_its_server_is_forgotten() -> None:
    tasker = Tasker()
    harness = Harness(tasking("a", script=tasker))
    client = old()
    name = await made(harness, client)
    tasker.made.clear()
    assert error(await harness.ask(client, "tasks/get", {"taskId": name}))["message"] == "no such task"
    assert (
        error(await harness.ask(client, "tasks/get", {"taskId": name}))["message"] == f"Unknown task: {name}"
    )


async def test_a_modern_task_is_relayed_to_a_client_that_declares_tasks() -> None:
    tasker = Tasker("modern")
    harness = Harness(tasking("c", "modern", script=tasker))
    client = new()
    reply = result(await harness.call(client, "c__work"))
    assert harness.servers["c"].sent[0].capabilities == KNOWS
    assert (reply["resultType"], reply["taskId"], reply["ttl"]) == ("task", "c__t1", 60_000)
    assert reply["_meta"]["vendor/x"] == 2
    inner: Json = {"content": [], "_meta": {META_RELATED: {"taskId": "t1"}, "vendor/y": 3}}
    tasker.waiting = {"status": "completed", "result": inner}
    got = result(await harness.ask(client, "tasks/get", {"taskId": "c__t1"}))
    assert (got["resultType"], got["taskId"], got["status"]) == ("complete", "c__t1", "completed")
    assert got["result"] == {"content": [], "_meta": {"vendor/y": 3}}
    assert result(await harness.ask(client, "tasks/cancel", {"taskId": "c__t1"}))["resultType"] == "complete"
    for method in ("tasks/list", "tasks/result"):
        assert error(await harness.ask(client, method, {"taskId": "c__t1"}))["code"] == METHOD_NOT_FOUND


async def test_a_client_that_does_not_declare_tasks_gets_none() -> None:
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
    found = error(await harness.call(ScriptedClient(capabilities={"extensions": {}}), "c__work"))
    assert (found["code"], found["data"]) == (MISSING_CAPABILITY, {"requiredCapabilities": KNOWS})
