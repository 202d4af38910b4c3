"""Calls that outlast their answer, through the hub: whose they are, and that nothing of them is
lost in between.
"""

from __future__ import annotations

from modelplex.mcp.tasks import EXTENSION, MAX_OF_CALLER, MAX_TASKS, Tasks
from tests.mcp.harness import Harness, result, text
from tests.mcp.task_servers import new, old, tasking


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
