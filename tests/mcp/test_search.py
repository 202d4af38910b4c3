"""Search in place of a long list: three tools that never change, and the right one of
five hundred.
"""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.mcp.constants import INVALID_PARAMS, Json, McpReply
from modelplex.mcp.search import (
    CALL,
    DEFINITIONS,
    DETAILS,
    FOUND,
    MAX_DETAILS,
    MAX_FOUND,
    NAMES,
    SEARCH,
    InnerCall,
    ToolIndex,
    is_enabled,
    tokenize,
)

VERBS = ["create", "delete", "list", "update", "find", "export", "import", "archive", "share", "rename"]
THINGS = [
    *(
        "issue",
        "branch",
        "commit",
        "invoice",
        "customer",
        "calendar event",
        "message",
        "folder",
        "photo",
        "contact",
    ),
    *(
        "payment",
        "deployment",
        "database table",
        "user account",
        "playlist",
        "ticket",
        "webhook",
        "report",
        "alarm",
        "route",
    ),
    *("spreadsheet", "document", "notebook", "container", "certificate"),
]
SERVERS = ["hub", "desk"]


def tool(name: str, description: str = "", *, title: str | None = None, **properties: Json) -> Json:
    definition: Json = {
        "name": name,
        "description": description,
        "inputSchema": {"type": "object", "properties": properties},
    }
    return {**definition, "title": title} if title else definition


def five_hundred() -> list[Json]:
    return [
        tool(
            f"{server}__{verb}_{thing.replace(' ', '_')}",
            f"{verb.capitalize()}s a {thing} of the {server} and gives back what became of it.",
            id={"type": "string"},
        )
        for server, verb, thing in itertools.product(SERVERS, VERBS, THINGS)
    ]


def shown(reply: McpReply | InnerCall) -> Any:
    assert isinstance(reply, McpReply)
    assert reply.result
    content = reply.result["structuredContent"]
    assert msgspec.json.decode(reply.result["content"][0]["text"]) == content
    return content


def test_the_right_one_of_five_hundred_is_found() -> None:
    tools = five_hundred()
    assert len(tools) == 500
    index = ToolIndex(tools)
    for server, verb, thing in itertools.product(SERVERS, VERBS, THINGS):
        wanted_tool = f"{server}__{verb}_{thing.replace(' ', '_')}"
        assert index.find(f"{verb} a {thing} in the {server}", limit=1) == [wanted_tool]
        assert wanted_tool in index.find(f"{thing}s {verb}", limit=2)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("read a file", "fs__readTextFile"),
        ("take a picture of the page", "web__browser_screenshot"),
        ("timezone", "time__convert"),
        ("Git Status", "git__status"),
        ("HTTP requests", "web__HTTPRequest"),
    ],
)
def test_a_tool_is_found_by_name_title_description_and_arguments(query: str, name: str) -> None:
    index = ToolIndex(
        [
            tool("fs__readTextFile"),
            tool("web__browser_screenshot", "Captures what is shown as a picture"),
            tool("time__convert", "", source_timezone={}, target_timezone={}),
            tool("git__status", title="Status"),
            tool("web__HTTPRequest"),
        ]
    )
    assert index.find(query)[0] == name


def test_those_that_fit_equally_well_come_in_the_lists_order_every_time() -> None:
    tools = [tool(f"{server}__status", "Shows the status") for server in "bca"]
    for _ in range(3):
        assert ToolIndex(tools).find("status") == ["b__status", "c__status", "a__status"]


def test_an_empty_query_finds_the_first_tools_and_an_unmatched_one_none() -> None:
    index = ToolIndex(five_hundred())
    assert index.find("?!") == [each["name"] for each in five_hundred()[:FOUND]]
    assert index.find("xylophone") == []
    assert ToolIndex([]).find("a") == []


@given(st.text(max_size=60), st.integers(1, 70))
def test_no_query_breaks_it(query: str, limit: int) -> None:
    found = INDEX.find(query, limit=limit)
    assert len(found) == len(set(found)) <= limit


INDEX = ToolIndex(five_hundred())


def test_names_and_sentences_have_the_same_tokens() -> None:
    assert (
        tokenize("getUserNames")
        == tokenize("get_user_name")
        == tokenize("Get user names")
        == ["get", "user", "name"]
    )
    assert tokenize("HTTPRequests") == ["http", "request"]
    assert tokenize("directories class") == ["directory", "class"]


def test_a_search_shows_names_and_short_descriptions() -> None:
    index = ToolIndex([tool("a__x", "long " * 200, title="X"), tool("a__y")])
    assert shown(index.answer(SEARCH, {"query": "long", "limit": 1})) == {
        "tools": [{"name": "a__x", "description": ("long " * 200)[:300].rstrip() + "...", "title": "X"}],
        "total": 2,
    }
    many = shown(INDEX.answer(SEARCH, {"query": "create", "limit": 1000}))
    assert len(many["tools"]) == MAX_FOUND


def test_details_are_the_definitions_unchanged() -> None:
    definition = {**tool("a__x"), "vendor": {"$defs": 1}}
    assert shown(ToolIndex([definition]).answer(DETAILS, {"names": ["a__x", "a__x"]}))["tools"] == [
        definition
    ]


def test_a_call_is_the_inner_tools() -> None:
    index = ToolIndex([tool("a__x")])
    assert index.answer(CALL, {"name": "a__x", "arguments": {"q": 1}}) == InnerCall("a__x", {"q": 1})
    assert index.answer(CALL, {"name": "a__x"}) == InnerCall("a__x", {})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(CALL, {"name": "b__x"}), (DETAILS, {"names": ["a__x", "b__x"]}), (CALL, {"name": SEARCH})],
)
def test_a_tool_outside_of_the_index_is_unknown(name: str, arguments: Json) -> None:
    reply = ToolIndex([tool("a__x")]).answer(name, arguments)
    assert isinstance(reply, McpReply)
    assert reply.error
    assert reply.error["code"] == INVALID_PARAMS


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (SEARCH, None),
        (SEARCH, {"query": 1}),
        (SEARCH, {"query": "a", "limit": 0}),
        (SEARCH, {"query": "a", "limit": True}),
        (SEARCH, {"query": "a", "limit": "5"}),
        (DETAILS, {"names": []}),
        (DETAILS, {"names": "a__x"}),
        (DETAILS, {"names": [1]}),
        (DETAILS, {"names": ["a__x"] * (MAX_DETAILS + 1)}),
        (CALL, {"arguments": {}}),
        (CALL, {"name": "a__x", "arguments": []}),
        (CALL, []),
    ],
)
def test_wrong_arguments_are_a_result_for_the_model(name: str, arguments: object) -> None:
    reply = ToolIndex([tool("a__x")]).answer(name, arguments)
    assert isinstance(reply, McpReply)
    assert reply.result
    assert reply.result["isError"] is True
    assert name in reply.result["content"][0]["text"]


def test_three_tools_stand_for_all() -> None:
    assert [definition["name"] for definition in DEFINITIONS] == list(NAMES)
    assert NAMES == ("search_tools", "tool_details", "call_tool")
    assert len(msgspec.json.encode(DEFINITIONS)) < 2500


@pytest.mark.parametrize(
    ("search", "tools", "on"),
    [("off", 1000, False), ("on", 0, True), ("auto", 60, False), ("auto", 61, True)],
)
def test_the_mode_is_configured_or_begins_above_a_number_of_tools(search: str, tools: int, on: bool) -> None:
    assert is_enabled(search, above=60, tools=tools) is on
