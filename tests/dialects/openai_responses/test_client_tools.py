"""Typed tools of the Responses API that the client runs, before each provider without them.

OpenAI's client offers them, gets calls of their types, and sends their outputs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gateways import WAIT_S
from tests.pairs import SPEAKERS, Answer, Said, World, spoken, world
from tests.turns import HEARD

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHOUT = [name for name in SPEAKERS if name != "responses"]
RULES = "\n[failover]\nretries = 0\nbreaker_failures = 100000\n"
SKILL = {"name": "tidy", "description": "Tidies up.", "path": "/skills/tidy"}
TOOLS: list[dict[str, Any]] = [
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local", "skills": [SKILL]}},
    {"type": "apply_patch"},
]
PATCH = {"type": "update_file", "path": "a.py", "diff": "@@ def a():\n-    pass\n+    return 1"}
GONE = {"type": "delete_file", "path": "b.py"}
CALLS = (
    Said("call_a", "local_shell", ('{"command": ["ls"', ', "-l"], "timeout_ms": 900}')),
    Said("call_b", "shell", ('{"commands": ["ls", "pwd"], "max_output_length": 99}',)),
    Said("call_c", "apply_patch", (json.dumps(PATCH),)),
    Said("call_d", "apply_patch", (json.dumps(GONE),)),
)
RAN = [
    {"stdout": "a.py\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
    {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}},
]
OUTPUTS: list[dict[str, Any]] = [
    {"type": "local_shell_call_output", "id": "call_a", "output": '{"output":"a.py"}'},
    {"type": "shell_call_output", "call_id": "call_b", "max_output_length": 99, "output": RAN},
    {"type": "apply_patch_call_output", "call_id": "call_c", "status": "completed", "output": "Done a.py"},
    {"type": "apply_patch_call_output", "call_id": "call_d", "status": "failed"},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everywhere(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("w"), *WITHOUT, rules=RULES) as made:
        yield made


async def ask(
    gw: World,
    dialect: str,
    answer: Answer,
    *,
    stream: bool,
    items: Any = "Hi",
    tools: list[dict[str, Any]] = TOOLS,
    **more: Any,
) -> list[Any]:
    """The output items that OpenAI's client reads."""
    gw.providers[dialect].scripts[:] = [spoken(dialect, answer, stream=stream)]
    asked: dict[str, Any] = {"model": f"m-{dialect}", "input": items, "tools": tools, "store": False, **more}
    create: Any = gw.clients.openai.responses
    async with asyncio.timeout(WAIT_S):
        if not stream:
            return list((await create.create(**asked)).output)
        async with create.stream(**asked) as events:
            told = [event async for event in events]
    done = [event.item for event in told if event.type == "response.output_item.done"]
    final = told[-1].response
    assert [item.id for item in final.output] == [item.id for item in done]
    return list(final.output)


def sendable(items: list[Any]) -> list[dict[str, Any]]:
    return [item.model_dump(exclude_none=True, exclude_unset=True) for item in items]


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", WITHOUT)
async def test_calls_and_outputs_of_typed_tools_find_their_way(
    everywhere: World, dialect: str, *, streamed: bool
) -> None:
    made = await ask(everywhere, dialect, Answer(calls=CALLS, end="calls"), stream=streamed)
    local, shell, patch, delete = sendable(made)
    assert (local["type"], local["status"]) == ("local_shell_call", "completed")
    assert local["action"] == {"type": "exec", "env": {}, "command": ["ls", "-l"], "timeout_ms": 900}
    assert (shell["type"], shell["environment"]) == ("shell_call", {"type": "local"})
    assert shell["action"] == {"commands": ["ls", "pwd"], "max_output_length": 99}
    assert (patch["type"], patch["operation"]) == ("apply_patch_call", PATCH)
    assert (delete["type"], delete["operation"], delete["status"]) == ("apply_patch_call", GONE, "completed")
    offered = json.dumps(everywhere.body(dialect)["tools"])
    assert "tidy (/skills/tidy): Tidies up." in offered

    ids = [item["call_id"] for item in sendable(made)]
    outputs = [{**each, ("id" if "id" in each else "call_id"): ids[n]} for n, each in enumerate(OUTPUTS)]
    items = [{"role": "user", "content": "Hi"}, *sendable(made), *outputs]
    then = await ask(everywhere, dialect, Answer(text=("Done.",)), stream=streamed, items=items)
    assert then[-1].content[0].text == "Done."
    heard = HEARD[dialect](everywhere.body(dialect))
    assert [(name, arguments) for _, name, arguments in heard.calls] == [
        ("local_shell", {"command": ["ls", "-l"], "env": {}, "timeout_ms": 900}),
        ("shell", {"commands": ["ls", "pwd"], "max_output_length": 99}),
        ("apply_patch", PATCH),
        ("apply_patch", GONE),
    ]
    assert [(result.text, result.failed) for result in heard.results] == [
        ('{"output":"a.py"}', False),
        (json.dumps(RAN, separators=(",", ":")), False),
        ("Done a.py", False),
        ("The patch was not applied.", True),
    ]


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
async def test_arguments_that_are_not_the_tools_run_nothing(everywhere: World, *, streamed: bool) -> None:
    """The model is told so on the next turn."""
    slips = (
        Said("call_a", "local_shell", ('{"command": "ls"}',)),
        Said("call_b", "shell", ('{"command": ["ls"]}',)),
        Said("call_c", "apply_patch", ('{"type": "move_file", "path": "a"}',)),
    )
    made = sendable(await ask(everywhere, "chat", Answer(calls=slips, end="calls"), stream=streamed))
    assert [item.get("action") or item["operation"] for item in made] == [
        {"type": "exec", "command": [], "env": {}},
        {"commands": []},
        {"type": "update_file", "path": "", "diff": ""},
    ]
    output: dict[str, Any] = {"type": "shell_call_output", "call_id": "call_b", "output": []}
    items: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}, made[1], output]
    await ask(everywhere, "chat", Answer(text=("Done.",)), stream=streamed, items=items)
    (result,) = HEARD["chat"](everywhere.body("chat")).results
    assert (result.failed, "`commands` must be a list" in result.text) == (True, True)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
async def test_a_call_that_a_limit_cut_is_not_complete(everywhere: World, *, streamed: bool) -> None:
    half = Said("call_c", "apply_patch", ('{"type": "update_file", "path": "a',))
    made = await ask(everywhere, "chat", Answer(calls=(half,), end="length"), stream=streamed)
    assert [(item.type, item.status, item.operation.path) for item in made] == [
        ("apply_patch_call", "in_progress", "")
    ]


async def test_a_choice_of_a_typed_tool_is_one_of_its_function(everywhere: World) -> None:
    answer = Answer(calls=CALLS[1:2], end="calls")
    await ask(everywhere, "chat", answer, stream=False, tool_choice={"type": "shell"})
    assert everywhere.body("chat")["tool_choice"] == {"type": "function", "function": {"name": "shell"}}


async def test_a_function_of_the_same_name_stays_apart(everywhere: World) -> None:
    own: dict[str, Any] = {
        "type": "function",
        "name": "shell",
        "parameters": {"type": "object", "properties": {}},
    }
    tools = [own, TOOLS[1], TOOLS[1]]
    await ask(everywhere, "chat", Answer(text=("Hi",)), stream=False, tools=tools)
    mine, typed = (each["function"]["name"] for each in everywhere.body("chat")["tools"])
    assert (mine, typed.startswith("shell_")) == ("shell", True)
    calls = (Said("call_a", "shell", ("{}",)), Said("call_b", typed, ('{"commands": "ls"}',)))
    made = await ask(everywhere, "chat", Answer(calls=calls, end="calls"), stream=False, tools=tools)
    assert [item.type for item in made] == ["function_call", "shell_call"]
    assert made[1].action.commands == ["ls"]


async def test_a_shell_in_a_container_is_refused_by_name(everywhere: World) -> None:
    tool = {"type": "shell", "environment": {"type": "container_auto"}}
    got = await everywhere.gw.ask(
        "POST", "/v1/responses", {"model": "m-chat", "input": "Hi", "tools": [tool]}
    )
    assert (got.status, got.json["error"]["param"]) == (400, "tools[0]")


async def test_lowered_tools_are_reported(everywhere: World) -> None:
    everywhere.providers["chat"].scripts[:] = [spoken("chat", Answer(text=("Hi",)), stream=False)]
    got = await everywhere.gw.ask("POST", "/v1/responses", {"model": "m-chat", "input": "Hi", "tools": TOOLS})
    changes = got.headers["x-modelplex-changes"].split(",")
    assert {f"lower=tools[{n}]" for n in range(3)} <= set(changes)
