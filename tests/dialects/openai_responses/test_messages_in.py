"""Items of a Responses request become messages; each part knows its item."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import ForeignPart, Message
from modelplex.dialects.openai_responses.messages_in import read_input
from tests.dialects.sides import stands


def read(*items: Any) -> list[Message]:
    return read_input(msgspec.Raw(json.dumps(items).encode()))


def said(text: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
        **more,
    }


def called(id_: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id_, "name": "f", "arguments": "{}", **more}


def output(id_: str, content: Any = "r", **more: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id_, "output": content, **more}


def test_a_text_is_the_whole_input() -> None:
    (message,) = read_input(msgspec.Raw(b' "Hi"'))
    assert (message.path, stands(message.parts)) == ("input", [("Text", "input")])


def test_items_that_become_one_message_keep_their_places() -> None:
    thought: dict[str, Any] = {"type": "reasoning", "summary": [], "encrypted_content": "e"}
    user, made, results, last = read(
        {"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_odd"}]},
        thought,
        said("a"),
        called("c1"),
        said("b"),
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "i"},
        {"type": "web_search_call", "id": "w"},
        output("c1", [{"type": "input_text", "text": "y"}]),
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "z"},
        {"role": "user", "content": "on"},
    )
    assert stands(user.parts) == [("Text", "input[0].content[0]"), ("Foreign", "input[0].content[1]")]
    assert stands(made.parts) == [
        ("Reasoning", "input[1]"),
        ("Text", "input[2].content[0]"),
        ("ToolCall", "input[3]"),
        ("Text", "input[4].content[0]"),
        ("ToolCall", "input[5]"),
        ("Foreign", "input[6]"),
    ]
    assert made.parts[0].at.member("state") == "input[1].encrypted_content"
    assert [part.at.member("arguments") for part in made.parts if stands([part])[0][0] == "ToolCall"] == [
        "input[3].arguments",
        "input[5].input",
    ]
    assert stands(results.parts) == [
        ("ToolResult", "input[7]"),
        ("Text", "input[7].output[0]"),
        ("ToolResult", "input[8]"),
        ("Text", "input[8].output"),
    ]
    assert [message.path for message in (user, made, results, last)] == [
        "input[0]",
        "input[1]",
        "input[7]",
        "input[9]",
    ]
    assert stands(last.parts) == [("Text", "input[9].content")]


def test_members_of_joined_messages_are_found_at_their_own_items() -> None:
    (made, _) = read(called("c"), said("a", odd=1), called("d"), said("b", odd=2, phase="p"), output("c"))
    assert made.path == "input[0]"
    assert {made.member(name): bytes(value) for name, value in made.extra.items()} == {
        "input[1].odd": b"1",
        "input[3].odd": b"2",
    }
    assert (made.phase, made.member("phase"), made.member("name")) == ("p", "input[3].phase", "input[0].name")


def test_members_that_are_not_read_are_kept() -> None:
    part: dict[str, Any] = {"type": "input_image", "image_url": "https://e.org/a.png", "odd": 1}
    part["prompt_cache_breakpoint"] = {"mode": "explicit", "ttl": "30m", "odd": 2}
    text = {"type": "output_text", "text": "x", "logprobs": [{"token": "x"}], "annotations": []}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s", "odd": 3}], "odd": 4}
    user, made, result = read(
        {"role": "user", "content": [part]},
        thought,
        {"role": "assistant", "content": [text], "id": "m", "status": "completed"},
        called("c", odd=5, id="i", status="completed"),
        output("c", odd=6, id="o"),
    )
    assert sorted(user.parts[0].extra) == ["odd", "prompt_cache_breakpoint.odd"]
    assert [sorted(each.extra) for each in made.parts] == [["odd", "summary[0].odd"], ["logprobs"], ["odd"]]
    assert (list(result.parts[0].extra), made.extra, made.id) == (["odd"], {}, "m")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}},
        {"type": "mcp_approval_response", "approve": True},
        {"id": "x"},
    ],
)
def test_an_item_of_another_type_rides_along_unread(item: dict[str, Any]) -> None:
    (message,) = read(item)
    (part,) = message.parts
    assert isinstance(part, ForeignPart)
    assert json.loads(bytes(part.raw)) == item
    assert str(part.at) == "input[0]"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "function_call", "name": "f"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "c", "odd": 1}, "input[0].name"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "message", "role": "robot"}, "input[0].role"),
        ({"role": "user", "content": 7}, "input[0].content"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url"),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[0].content[0].file_data"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "input[0].content[0].input_audio"),
        ({"type": "reasoning", "content": [{"text": 7}]}, "input[0].content[0].text"),
        (7, "input[0]"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(item: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(item)
    assert refused.value.param == param
