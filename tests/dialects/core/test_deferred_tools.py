"""Tools that are loaded in the course of a conversation, from each dialect that has them to every
other.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelplex.core.request import Attempt, Change, ChatRequest, ModelFacts, ProviderRequest, Quirks
from modelplex.dialects.core.deferred_tools import PRESENT
from modelplex.dialects.registry import write_request
from tests.dialects.anthropic.peer import make_call as make_messages
from tests.dialects.openai_responses.peer import make_call as make_responses

SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
NAMESPACE: dict[str, Any] = {
    "type": "namespace",
    "name": "git",
    "description": "",
    "tools": [
        {"type": "function", "name": "log", "parameters": SCHEMA, "defer_loading": True},
        {"type": "custom", "name": "exec", "format": {"type": "text"}},
    ],
}
SEARCH: dict[str, Any] = {
    "type": "tool_search",
    "execution": "client",
    "description": "Finds",
    "parameters": SCHEMA,
}
SEARCHED: list[dict[str, Any]] = [
    {"role": "user", "content": "go"},
    {"type": "tool_search_call", "call_id": "c1", "execution": "client", "arguments": {"query": "git"}},
    {"type": "tool_search_output", "call_id": "c1", "execution": "client", "tools": [NAMESPACE]},
    {"type": "function_call", "call_id": "c2", "name": "log", "namespace": "git", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c2", "output": "x"},
]
MESSAGES: dict[str, Any] = {
    "max_tokens": 9,
    "tools": [
        {"name": "ToolSearch", "input_schema": SCHEMA},
        {"name": "mcp__git__log", "input_schema": SCHEMA, "defer_loading": True},
        {"name": "mcp__git__push", "input_schema": SCHEMA, "defer_loading": True},
    ],
    "messages": [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [{"type": "tool_reference", "tool_name": "mcp__git__log"}],
                }
            ],
        },
    ],
}
LOADS = Quirks(loads_tools=True, custom_tools=True)
OTHERS = ["openai_chat", "gemini", "ollama"]


def write(call: ChatRequest, dialect: str, *, loads: bool = False) -> tuple[dict[str, Any], ProviderRequest]:
    attempt = Attempt(
        "acme",
        "m-up",
        dialect,
        quirks=LOADS if loads else Quirks(),
        facts=ModelFacts(deferred_tools=loads, thinking="none"),
    )
    written = write_request(call, attempt)
    return msgspec.json.decode(written.body), written


def names(body: dict[str, Any]) -> list[str]:
    """The names of the tools in a body of any dialect."""
    tools = body["tools"]
    if "functionDeclarations" in tools[0]:
        tools = tools[0]["functionDeclarations"]
    return [tool.get("function", tool)["name"] for tool in tools]


@pytest.mark.parametrize("dialect", [*OTHERS, "anthropic_messages"])
def test_what_a_client_searched_for_is_among_the_tools_of_every_provider(dialect: str) -> None:
    body, written = write(make_responses(input=SEARCHED, tools=[SEARCH]), dialect)
    assert names(body) == ["tool_search", "git__log", "git__exec"]
    assert Change("lower", "input[2].tools[0].tools[0].defer_loading", PRESENT) in written.changes
    sent = written.body.decode()
    assert "The tool git__log can be called now." in sent
    assert "tool_reference" not in sent
    assert "defer_loading" not in sent


def test_what_a_client_searched_for_is_loaded_where_claude_loads_tools() -> None:
    body, written = write(make_responses(input=SEARCHED, tools=[SEARCH]), "anthropic_messages", loads=True)
    assert [tool.get("defer_loading") for tool in body["tools"]] == [None, True, True]
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "c1", "name": "tool_search", "input": {"query": "git"}}
    ]
    (result,) = body["messages"][2]["content"]
    assert result["content"] == [
        {"type": "tool_reference", "tool_name": "git__log"},
        {"type": "tool_reference", "tool_name": "git__exec"},
    ]
    assert not [change for change in written.changes if change.path.endswith("defer_loading")]


@pytest.mark.parametrize("dialect", [*OTHERS, "openai_responses"])
def test_claudes_reference_to_a_tool_is_text_where_all_tools_are_there(dialect: str) -> None:
    body, written = write(make_messages(**MESSAGES), dialect)
    assert names(body) == ["ToolSearch", "mcp__git__log", "mcp__git__push"]
    assert "The tool mcp__git__log can be called now." in written.body.decode()
    lowered = [change.path for change in written.changes if change.op == "lower"]
    reference = "messages[2].content[0].content[0]"
    assert {"tools[1].defer_loading", "tools[2].defer_loading", reference} <= {*lowered}


def test_claudes_reference_adds_the_tool_after_the_result_in_the_form_of_responses() -> None:
    body, _ = write(make_messages(**MESSAGES), "openai_responses", loads=True)
    assert names(body) == ["ToolSearch"]
    added = body["input"][-1]
    assert (added["type"], added["role"]) == ("additional_tools", "developer")
    assert [tool["name"] for tool in added["tools"]] == ["mcp__git__log"]
    assert "defer_loading" not in added["tools"][0]


def test_a_reference_stays_a_reference_at_its_own_form() -> None:
    body, written = write(make_messages(**MESSAGES), "anthropic_messages")
    assert body["messages"][2]["content"][0]["content"] == [
        {"type": "tool_reference", "tool_name": "mcp__git__log"}
    ]
    assert [tool.get("defer_loading") for tool in body["tools"]] == [None, True, True]
    assert written.changes == ()


def test_items_that_load_tools_stay_items_at_their_own_form() -> None:
    items: list[dict[str, Any]] = [
        {"type": "additional_tools", "role": "developer", "tools": [NAMESPACE]},
        *SEARCHED,
    ]
    body, written = write(make_responses(input=items, tools=[SEARCH]), "openai_responses")
    assert body["tools"] == [SEARCH]
    assert body["input"][0] == items[0]
    assert body["input"][2:4] == SEARCHED[1:3]
    assert written.changes == ()


@pytest.mark.parametrize("dialect", [*OTHERS, "anthropic_messages"])
def test_additional_tools_are_tools(dialect: str) -> None:
    item: dict[str, Any] = {
        "type": "additional_tools",
        "role": "developer",
        "tools": [NAMESPACE, {"type": "web_search"}],
    }
    body, written = write(make_responses(input=[item, {"role": "user", "content": "go"}]), dialect)
    assert names(body) == ["git__log", "git__exec"]
    assert written.free == {"git__exec"}
    moved = [change.path for change in written.changes if change.op == "move"]
    assert moved == ["input[0]"]
    assert "input[0].tools[1]" in [change.path for change in written.changes if change.op == "drop"]


def test_a_search_that_the_provider_ran_is_not_sent_and_its_tools_are_there() -> None:
    bm25 = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
    found: dict[str, Any] = {"type": "tool_search_tool_search_result", "tool_references": []}
    blocks: list[dict[str, Any]] = [
        {"type": "server_tool_use", "id": "s", "name": "tool_search_tool_bm25", "input": {}},
        {"type": "tool_search_tool_result", "tool_use_id": "s", "content": found},
        {"type": "text", "text": "found"},
    ]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": "y"},
    ]
    call = make_messages(max_tokens=9, tools=[bm25, MESSAGES["tools"][1]], messages=messages)
    body, written = write(call, "openai_responses", loads=True)
    assert names(body) == ["mcp__git__log"]
    dropped = [change.path for change in written.changes if change.op == "drop"]
    assert dropped == ["messages[1].content[0]", "messages[1].content[1]", "tools[0]"]
