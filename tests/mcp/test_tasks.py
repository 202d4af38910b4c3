"""Tasks: what is offered, and the table of tasks."""

from __future__ import annotations

import pytest

from modelplex.mcp.constants import META_RELATED
from modelplex.mcp.tasks import (
    EXTENSION,
    MAX_OF_CALLER,
    MAX_TASKS,
    Tasks,
    merge_offers,
    offered,
    related_task_id,
)
from tests.mcp.harness import Harness, result, text
from tests.mcp.task_servers import new, old, tasking


async def test_tasks_are_offered_together_and_only_where_the_host_allows_them() -> None:
    asked = {"protocolVersion": "2025-11-25"}
    harness = Harness(
        tasking("a"),
        tasking("b", capabilities={"tools": {}, "tasks": {"cancel": {}}}),
        tasking("c", "modern"),
    )
    found = result(await harness.ask(old(), "initialize", asked))["capabilities"]
    assert found["tasks"] == {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    assert "extensions" not in found
    assert (
        "tasks"
        not in result(await harness.ask(old(), "initialize", {"protocolVersion": "2025-06-18"}))[
            "capabilities"
        ]
    )
    found = result(await harness.ask(new(), "server/discover"))["capabilities"]
    assert found["extensions"] == {EXTENSION: {}}
    assert "tasks" not in found
    harness = Harness(tasking("a", allow=()), tasking("c", "modern", allow=()))
    assert "tasks" not in result(await harness.ask(old(), "initialize", asked))["capabilities"]
    assert "extensions" not in result(await harness.ask(new(), "server/discover"))["capabilities"]


async def test_a_task_only_tool_is_refused_with_the_reason() -> None:
    harness = Harness(tasking("a", allow=()), tasking("b"), tasking("c", "modern"))
    for client, name in ((old(), "a__long"), (new(), "b__long"), (old(), "c__long")):
        reply = await harness.call(client, name, task={})
        assert result(reply)["isError"] is True
        assert "only as a task" in text(reply)
    assert not any(server.sent for server in harness.servers.values())
    assert [call.outcome for call in harness.calls] == ["refused"] * 3
    listed = result(await harness.ask(old(), "tools/list"))["tools"]
    assert [each["execution"] for each in listed if "execution" in each] == [{"taskSupport": "required"}] * 3


def test_the_oldest_tasks_of_a_caller_are_forgotten_above_a_limit() -> None:
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


def test_a_task_is_found_by_its_id_on_each_route() -> None:
    tasks, server, client = Tasks(), tasking("a"), old()
    made = tasks.add(server, "t__1", scope="", client=client, route=None)
    assert (made.id_on(None), made.id_on("a")) == ("a__t__1", "t__1")
    assert tasks.find("a__t__1", client=client, route=None) is made
    assert tasks.find("t__1", client=client, route="a") is made
    for name, route in (("t__1", None), ("t1", None), ("a__t__1", "a"), ("t__1", "b")):
        assert tasks.find(name, client=client, route=route) is None
    assert tasks.find("a__t__1", client=old(agent="other"), route=None) is None


def test_of_equal_ids_the_one_of_the_own_session_is_found_else_the_last() -> None:
    tasks, server = Tasks(), tasking("a")
    first, second = old(session="s1"), old(session="s2")
    made = [tasks.add(server, "t", scope=each.session, client=each, route=None) for each in (first, second)]
    assert tasks.find("a__t", client=first, route=None) is made[0]
    assert tasks.find("a__t", client=second, route=None) is made[1]
    assert tasks.find("a__t", client=old(session="s3"), route=None) is made[1]
    tasks.forget_server(server, "s2")
    assert tasks.find("a__t", client=second, route=None) is made[0]
    assert tasks.at(server, "s2", "t") is None
    assert tasks.at(server, "s1", 5) is None


def test_an_id_that_a_server_gives_again_is_another_task() -> None:
    tasks, server, client = Tasks(), tasking("a"), old()
    before = tasks.add(server, "t", scope="", client=client, route=None)
    after = tasks.add(server, "t", scope="", client=client, route=None)
    assert (len(tasks), tasks.at(server, "", "t"), before.number < after.number) == (1, after, True)
    assert list(tasks.of(client.caller.owner, after=0)) == [after]
    assert list(tasks.of(client.caller.owner, after=after.number)) == []
    tasks.forget(before)
    tasks.forget(after)
    tasks.forget(after)
    assert len(tasks) == 0


@pytest.mark.parametrize("meta", [None, 3, {}, {META_RELATED: "t"}, {META_RELATED: {}}])
def test_a_meta_without_a_task_names_none(meta: object) -> None:
    assert related_task_id(meta) is None
    assert Tasks().related(meta, upstream=tasking("a"), scope="", owner="x", route=None) == {}


def test_offers_are_merged_by_era() -> None:
    assert merge_offers([], "legacy") == {}
    assert merge_offers([{}, {}], "modern") == {"extensions": {EXTENSION: {}}}
    assert merge_offers([{"list": {}}, {"requests": {"tools": {"call": {}}}}], "legacy") == {
        "tasks": {"list": {}, "requests": {"tools": {"call": {}}}}
    }
    assert merge_offers([{"cancel": {}, "requests": {"tools": 1}}], "legacy") == {"tasks": {"cancel": {}}}


def test_a_task_capability_counts_in_its_own_era_if_the_host_allows_tasks() -> None:
    assert offered(tasking("a"), "legacy") is not None
    assert offered(tasking("a"), "modern") is None
    assert offered(tasking("a", allow=()), "legacy") is None
    assert offered(tasking("a", capabilities={"tasks": True}), "legacy") is None
    unknown = tasking("a")
    unknown.catalog = None
    assert offered(unknown, "legacy") is None
