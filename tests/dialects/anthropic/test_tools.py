"""Tools and choices of a Messages request, read."""

import json
from typing import Any

import pytest
from msgspec import Raw

from modelplex.core.errors import BadRequest
from modelplex.core.request import CacheBreakpoint, HostedTool, Tool, ToolChoice
from modelplex.dialects.anthropic.fields import FIELDS
from modelplex.dialects.anthropic.tools import read_choice, read_tools
from modelplex.dialects.core.fields import FieldValues

PLAIN: dict[str, Any] = {
    "name": "f",
    "input_schema": {"type": "object"},
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
}


def values(**body: Any) -> FieldValues:
    return FIELDS.read({name: Raw(json.dumps(value).encode()) for name, value in body.items()})


def test_a_function_is_read_the_same_alone_and_beside_a_hosted_tool() -> None:
    (alone,) = read_tools(values(tools=[PLAIN]))
    beside, hosted = read_tools(values(tools=[PLAIN, {"type": "bash_20250124", "name": "bash"}]))
    assert alone == beside
    assert isinstance(alone, Tool)
    assert (alone.name, alone.cache, alone.path) == ("f", CacheBreakpoint("1h"), "tools[0]")
    assert isinstance(hosted, HostedTool)
    assert (hosted.type, hosted.name, hosted.path) == ("bash_20250124", "bash", "tools[1]")


def test_members_that_are_not_known_ride_along() -> None:
    (tool,) = read_tools(values(tools=[{**PLAIN, "type": "custom", "surprise": True, "gone": None}]))
    assert isinstance(tool, Tool)
    assert tool.extra == {"surprise": Raw(b"true")}


WRONG: list[tuple[Any, str]] = [
    ([{"input_schema": {}}], "tools[0].name"),
    ([5], "tools[0]"),
    ({}, "tools"),
    ([{"name": 1}], "tools[0].name"),
]


@pytest.mark.parametrize(("tools", "param"), WRONG)
def test_a_wrong_tool_is_named_by_its_path(tools: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_tools(values(tools=tools))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "tool", "name": "f"}, ToolChoice("named", ("f",))),
    ],
)
def test_a_choice_is_read(given: Any, choice: ToolChoice) -> None:
    assert read_choice(values(tool_choice=given)) == choice


def test_one_call_at_a_time_is_part_of_the_choice() -> None:
    found = values(tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    read_choice(found)
    assert (found.get("parallel"), found.paths["parallel"]) == (
        False,
        "tool_choice.disable_parallel_tool_use",
    )


@pytest.mark.parametrize(
    ("given", "param"), [({"type": "tool"}, "tool_choice.name"), ({"type": "x"}, "tool_choice.type")]
)
def test_a_wrong_choice_is_named_by_its_path(given: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_choice(values(tool_choice=given))
    assert caught.value.param == param
