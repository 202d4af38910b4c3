"""Messages of a Messages request, and where their parts stand."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import CacheBreakpoint, Message, PlainText, TextPart
from modelplex.dialects.anthropic.messages_in import read_messages, read_system
from tests.dialects.sides import stands

IMAGE: dict[str, Any] = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
}


def read(*messages: Any) -> tuple[Message, ...]:
    return read_messages(msgspec.Raw(json.dumps(messages).encode()))


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def test_system_is_a_string_or_blocks_at_their_places() -> None:
    assert read_system(None) == read_system(raw("")) == read_system(raw([])) == ()
    (whole,) = read_system(raw("Be brief."))
    assert stands(whole.parts) == [("Text", "system")]
    block = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    (blocks,) = read_system(raw([{"type": "text", "text": "a"}, block]))
    assert stands(blocks.parts) == [("Text", "system[0]"), ("Text", "system[1]")]
    assert blocks.parts[1] == TextPart("x", CacheBreakpoint("1h"))
    assert blocks.parts[1].at.member("cache") == "system[1].cache_control"
    with pytest.raises(BadRequest) as refused:
        read_system(raw([IMAGE]))
    assert refused.value.param == "system[0]"


def test_results_become_a_message_and_keep_their_places() -> None:
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": "a"}
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "x"},
        {**result, "content": [IMAGE, {"type": "text", "text": "y"}]},
        {**result, "content": "z", "is_error": True},
        {**result},
    ]
    results, rest = read({"role": "user", "content": content})
    at = "messages[0].content"
    assert stands(results.parts) == [
        ("ToolResult", f"{at}[1]"),
        ("Image", f"{at}[1].content[0]"),
        ("Text", f"{at}[1].content[1]"),
        ("ToolResult", f"{at}[2]"),
        ("Text", f"{at}[2].content"),
        ("ToolResult", f"{at}[3]"),
    ]
    assert stands(rest.parts) == [("Text", f"{at}[0]")]
    assert results.parts[1].at.member("is_error") == f"{at}[2].is_error"


def test_members_are_called_what_the_client_calls_them() -> None:
    content: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "h", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "x", "citations": [{"cited_text": "c"}]},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]
    (message,) = read({"role": "assistant", "content": content})
    members = ("state", "state", "annotations", "arguments")
    assert [part.at.member(name) for part, name in zip(message.parts, members, strict=True)] == [
        "messages[0].content[0].signature",
        "messages[0].content[1].data",
        "messages[0].content[2].citations",
        "messages[0].content[3].input",
    ]


def test_members_that_are_not_read_are_kept_at_every_depth() -> None:
    text = {"type": "text", "text": "x", "odd": 1, "cache_control": {"type": "ephemeral", "odd": 2}}
    image = {"type": "image", "source": {**IMAGE["source"], "odd": 3}}
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {"odd": 0}, "caller": {"type": "direct"}}
    user, made = read(
        {"role": "user", "content": [text, image], "odd": 4}, {"role": "assistant", "content": [use]}
    )
    assert [sorted(part.extra) for part in user.parts] == [["cache_control.odd", "odd"], ["source.odd"]]
    assert list(user.extra) == ["odd"]
    assert sorted(made.parts[0].extra) == ["caller"]


def test_a_document_of_blocks_is_text_where_they_all_are() -> None:
    def document(*blocks: Any) -> Any:
        source = {"type": "content", "content": list(blocks)}
        (message,) = read({"role": "user", "content": [{"type": "document", "source": source}]})
        return message.parts[0]

    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert document(*texts).source == PlainText("a\n\nb")
    assert stands([document(*texts, IMAGE)]) == [("Foreign", "messages[0].content[0]")]


WRONG: list[tuple[Any, str]] = [
    ({"type": "text"}, ".text"),
    ({"type": "thinking", "signature": "s"}, ".thinking"),
    ({"type": "tool_use", "id": "a", "name": "f", "input": []}, ".input"),
    ({"type": "image"}, ".source"),
    ({"type": "image", "source": {"type": "base64", "odd": 1}}, ".source.media_type"),
    ({"type": "image", "source": {"type": "url", "url": "ftp://x"}}, ".source.url"),
    ({"type": "image", "source": {"type": "x"}}, ".source.type"),
    ({"type": "search_result", "source": "s", "title": "t", "content": [{}]}, ".content[0].text"),
    (
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "thinking", "thinking": "x"}]},
        ".content[0]",
    ),
    ({"type": "text", "text": 7, "odd": 1}, ".text"),
]


@pytest.mark.parametrize(("block", "member"), WRONG)
def test_what_is_wrong_is_named_by_its_place(block: Any, member: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read({"role": "user", "content": [block]})
    assert refused.value.param == f"messages[0].content[0]{member}"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ((), "messages"),
        (({"role": "user"},), "messages[0].content"),
        (({"role": "user", "content": 7},), "messages[0].content"),
        (({"role": "robot", "content": "x"},), "messages[0].role"),
    ],
)
def test_so_is_a_message(messages: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(*messages)
    assert refused.value.param == param
