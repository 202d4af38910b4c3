"""The tools of a Responses request, namespaces among them, and the choice."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import FreeformTool, HostedTool, Tool, ToolChoice
from modelplex.dialects.openai_responses.fields import FIELDS
from modelplex.dialects.openai_responses.tools import flat_names, read_choice, read_tools, write_choice

FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}


def values(**members: Any) -> Any:
    return FIELDS.read({name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()})


def test_tools_are_read_in_order_with_their_kind() -> None:
    custom = {"type": "custom", "name": "run", "format": GRAMMAR}
    tools, namespaces = read_tools(values(tools=[FUNCTION, custom, {"type": "web_search"}]))
    function, freeform, hosted = tools
    assert isinstance(function, Tool)
    assert (function.name, function.strict, function.path) == ("look", True, "tools[0]")
    assert isinstance(freeform, FreeformTool)
    assert (freeform.name, freeform.syntax, freeform.definition) == ("run", "lark", "start: /a/")
    assert isinstance(hosted, HostedTool)
    assert (hosted.type, hosted.path) == ("web_search", "tools[2]")
    assert namespaces == {}


def test_the_tools_of_a_namespace_are_read_flat_with_their_own_paths() -> None:
    space = {"type": "namespace", "name": "files", "description": "Of files.", "tools": [FUNCTION, FUNCTION]}
    tools, namespaces = read_tools(values(tools=[space]))
    assert [(tool.path, getattr(tool, "namespace", None)) for tool in tools] == [
        ("tools[0].tools[0]", "files"),
        ("tools[0].tools[1]", "files"),
    ]
    assert namespaces == {"files": "Of files."}


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "function"}], "tools[0].name"),
        ([FUNCTION, {"type": "custom", "name": ""}], "tools[1].name"),
        ([{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}], "tools[0].tools[0].name"),
    ],
)
def test_a_tool_without_a_name_is_an_error_at_its_place(tools: list[Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_tools(values(tools=tools))
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "look"}, ToolChoice("named", ("look",))),
        ({"type": "custom", "name": "run"}, ToolChoice("named", ("run",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]},
            ToolChoice("subset", ("look",), required=True),
        ),
        ({"type": "web_search"}, ToolChoice("named", ("web_search",))),
    ],
)
def test_a_choice_is_read(given: object, choice: ToolChoice) -> None:
    read = values(tool_choice=given)
    assert read_choice(read) == choice
    is_hosted = given == {"type": "web_search"}
    assert ("tool_choice" in read.extra) == is_hosted, "a choice of hosted tools rides along"


@pytest.mark.parametrize("given", ["any", {"type": "function"}, {"type": "allowed_tools", "tools": []}])
def test_a_choice_that_names_nothing_is_refused(given: object) -> None:
    with pytest.raises(BadRequest) as refused:
        read_choice(values(tool_choice=given))
    assert refused.value.param == "tool_choice"


def test_a_choice_is_written_with_the_kind_of_each_tool() -> None:
    def same(name: str) -> str:
        return name

    assert write_choice(ToolChoice("auto"), (), same) == "auto"
    assert write_choice(ToolChoice("named", ("run",)), ["run"], same) == {"type": "custom", "name": "run"}
    assert write_choice(ToolChoice("subset", ("a", "run"), required=True), ["run"], same) == {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "a"}, {"type": "custom", "name": "run"}],
    }


def test_two_tools_that_would_have_one_name_outside_their_namespaces_have_two() -> None:
    tools = (Tool("b__c", namespace="a"), Tool("c", namespace="a__b"), Tool("d"))
    names = flat_names(tools)
    assert names["a", "b__c"] == "a__b__c"
    assert names["a__b", "c"].startswith("a__b__c_")
    assert names == flat_names(tools)
    assert flat_names((Tool("a__b"), Tool("b", namespace="a")))["a", "b"] != "a__b"
