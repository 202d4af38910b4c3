"""Messages of /api/chat, and where their parts stand."""

import base64
import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import InlineData, Message, Place, ToolCallPart, ToolResultPart
from modelplex.dialects.ollama.messages_in import read_image, read_messages
from tests.dialects.sides import stands

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 24).decode()


def read(*messages: Any) -> tuple[Message, ...]:
    return read_messages(msgspec.Raw(json.dumps(messages).encode()))


def called(*names: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "tool_calls": [{"function": {"name": name, "arguments": {}}} for name in names],
    }


def test_each_part_stands_where_the_client_wrote_it() -> None:
    user, made, results = read(
        {"role": "user", "content": "x", "images": [PNG, PNG]},
        {**called("f"), "content": "So.", "thinking": "hm"},
        {"role": "tool", "tool_name": "f", "content": "r", "images": [PNG]},
    )
    assert stands(user.parts) == [
        ("Image", "messages[0].images[0]"),
        ("Image", "messages[0].images[1]"),
        ("Text", "messages[0].content"),
    ]
    assert stands(made.parts) == [
        ("Reasoning", "messages[1].thinking"),
        ("Text", "messages[1].content"),
        ("ToolCall", "messages[1].tool_calls[0]"),
    ]
    assert made.parts[2].at.member("name") == "messages[1].tool_calls[0].function.name"
    assert stands(results.parts) == [
        ("ToolResult", "messages[2]"),
        ("Text", "messages[2].content"),
        ("Image", "messages[2].images[0]"),
    ]


def test_a_result_finds_its_call_by_name_or_in_order() -> None:
    made, results = read(
        called("f", "g", "f"),
        {"role": "tool", "name": "g", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "tool", "tool_name": "f", "content": "3"},
    )
    ids = [part.id for part in made.parts if isinstance(part, ToolCallPart)]
    assert ids == ["call_0", "call_1", "call_2"]
    assert [part.id for part in results.parts if isinstance(part, ToolResultPart)] == [ids[1], ids[0], ids[2]]


def test_members_that_are_not_read_are_kept_at_every_depth() -> None:
    call = {"function": {"name": "f", "arguments": {"odd": 0}, "odd": 1}, "odd": 2, "type": "function"}
    made, result = read(
        {"role": "assistant", "tool_calls": [call], "odd": 3},
        {"role": "tool", "content": "r", "odd": 4},
    )
    assert sorted(made.parts[0].extra) == ["function.odd", "odd"]
    assert (list(made.extra), list(result.parts[0].extra)) == (["odd"], ["odd"])


WRONG: list[tuple[Any, str]] = [
    ({"role": "robot"}, "messages[0].role"),
    ({"role": "user", "content": 7}, "messages[0].content"),
    ({"role": "user", "images": ["x"]}, "messages[0].images[0]"),
    ({"role": "tool", "content": "x"}, "messages[0]"),
    (
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": []}}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
]


@pytest.mark.parametrize(("message", "param"), WRONG)
def test_what_is_wrong_is_named_by_its_place(message: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(message)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\x89PNG", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF0000WEBP", "image/webp"),
        (b"BM", "image/bmp"),
    ],
)
def test_the_first_bytes_of_an_image_name_its_kind(head: bytes, media_type: str) -> None:
    data = base64.b64encode(head + b"0" * 40).decode()
    assert read_image(data, Place("images", "", 0)).source == InlineData(media_type, data)
