"""Messages of a chat completions request, and where their parts stand."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    CacheBreakpoint,
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    TextPart,
    ToolCallPart,
    UrlReference,
)
from modelplex.dialects.openai_chat.messages_in import MAX_DATA_HEAD, read_messages, read_url
from tests.dialects.sides import stands

CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def read(*messages: Any) -> tuple[Message, ...]:
    return read_messages(msgspec.Raw(json.dumps(messages).encode()))


def test_each_part_stands_where_the_client_wrote_it() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://e.org/a.png", "detail": "low"}}
    file = {"type": "file", "file": {"file_id": "x", "filename": "a.pdf"}}
    custom = {"id": "b", "type": "custom", "custom": {"name": "g", "input": "x"}}
    details = [
        {"type": "reasoning.text", "text": "h", "index": 0},
        {"type": "reasoning.text", "text": "m", "index": 0, "signature": "s"},
        {"type": "reasoning.encrypted", "data": "d"},
    ]
    answer = {
        "role": "assistant",
        "content": "So.",
        "reasoning_details": details,
        "refusal": "No.",
        "audio": {"id": "x"},
        "tool_calls": [CALL, custom],
        "extra_content": {"google": {"thought_signature": "t"}},
    }
    results = [{"role": "tool", "tool_call_id": "a", "content": "r"}]
    results.append({"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "s"}]})  # type: ignore[dict-item]
    user, made, joined = read({"role": "user", "content": [image, file, {"type": "odd"}]}, answer, *results)
    content = "messages[0].content"
    assert stands(user.parts) == [
        ("Image", f"{content}[0]"),
        ("Document", f"{content}[1]"),
        ("Foreign", f"{content}[2]"),
    ]
    assert [part.at.member(name) for part, name in zip(user.parts, ("detail", "filename"), strict=False)] == [
        f"{content}[0].image_url.detail",
        f"{content}[1].file.filename",
    ]
    at = "messages[1]"
    assert stands(made.parts) == [
        ("Reasoning", f"{at}.extra_content.google.thought_signature"),
        ("Reasoning", f"{at}.reasoning_details[0]"),
        ("Reasoning", f"{at}.reasoning_details[2]"),
        ("Text", f"{at}.content"),
        ("Refusal", f"{at}.refusal"),
        ("Audio", f"{at}.audio"),
        ("ToolCall", f"{at}.tool_calls[0]"),
        ("ToolCall", f"{at}.tool_calls[1]"),
    ]
    assert [part.at.member("state") for part in made.parts[:3]] == [
        f"{at}.extra_content.google.thought_signature",
        f"{at}.reasoning_details[0].signature",
        f"{at}.reasoning_details[2].data",
    ]
    names = [part.at.member("name") for part in made.parts[-2:]]
    assert names == [f"{at}.tool_calls[0].function.name", f"{at}.tool_calls[1].custom.name"]
    assert made.parts[3].at.member("annotations") == f"{at}.annotations"
    assert stands(joined.parts) == [
        ("ToolResult", "messages[2]"),
        ("Text", "messages[2].content"),
        ("ToolResult", "messages[3]"),
        ("Text", "messages[3].content[0]"),
    ]


def test_older_members_have_places_of_their_own() -> None:
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    made, result, thought = read(
        old,
        {"role": "function", "name": "f", "content": "r"},
        {"role": "assistant", "reasoning": "hm", "content": "x"},
    )
    assert stands(made.parts) == [("ToolCall", "messages[0].function_call")]
    assert stands(result.parts) == [("ToolResult", "messages[1]"), ("Text", "messages[1].content")]
    assert stands(thought.parts)[0] == ("Reasoning", "messages[2].reasoning")


@pytest.mark.parametrize("member", ["cache_control", "prompt_cache_breakpoint"])
def test_a_cache_breakpoint_is_called_what_the_client_calls_it(member: str) -> None:
    (message,) = read({"role": "user", "content": [{"type": "text", "text": "x", member: {"ttl": "1h"}}]})
    (part,) = message.parts
    assert part == TextPart("x", CacheBreakpoint("1h"))
    assert part.at.member("cache") == f"messages[0].content[0].{member}"


def test_members_that_are_not_read_are_kept_at_every_depth() -> None:
    text = {"type": "text", "text": "x", "odd": 1, "cache_control": {"type": "ephemeral", "odd": 2}}
    url = {"url": "https://e.org/a.png", "odd": 3}
    call = {**CALL, "odd": 4, "function": {"name": "f", "arguments": "{}", "odd": 5}}
    answer = {
        "role": "assistant",
        "content": "",
        "tool_calls": [call],
        "odd": 6,
        "audio": {"id": "x", "odd": 7},
    }
    user, made, result = read(
        {"role": "user", "content": [text, {"type": "image_url", "image_url": url}], "odd": 8},
        answer,
        {"role": "tool", "tool_call_id": "a", "content": "r", "odd": 9},
    )
    found = [(sorted(part.extra), bytes(b"".join(map(bytes, part.extra.values())))) for part in user.parts]
    assert found == [(["cache_control.odd", "odd"], b"12"), (["image_url.odd"], b"3")]
    assert {name: bytes(raw) for name, raw in made.extra.items()} == {"odd": b"6", "audio.odd": b"7"}
    assert sorted(made.parts[-1].extra) == ["function.odd", "odd"]
    assert (list(user.extra), list(result.parts[0].extra)) == (["odd"], ["odd"])


def test_the_usual_members_leave_nothing_unread() -> None:
    streamed = {**CALL, "index": 0}
    user, made, result = read(
        {"role": "user", "content": "x", "name": "n"},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [streamed], "audio": None},
        {"role": "tool", "tool_call_id": "a", "content": "r", "name": "f"},
    )
    assert [dict(message.extra) for message in (user, made, result)] == [{}, {}, {}]
    assert not any(part.extra for part in (*made.parts, *result.parts))


WRONG: list[tuple[Any, str]] = [
    ({"role": "user", "content": 7}, "messages[0].content"),
    ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
    ({"role": "user", "content": [{"type": "text", "text": 7}]}, "messages[0].content[0].text"),
    ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0].image_url"),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 7, "odd": 1}}]},
        "messages[0].content[0].image_url.url",
    ),
    ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0].input_audio"),
    ({"role": "user", "content": [{"type": "file"}]}, "messages[0].content[0].file"),
    ({"role": "robot", "content": "x"}, "messages[0].role"),
    ({"role": "assistant", "tool_calls": [{}]}, "messages[0].tool_calls[0].id"),
    ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "messages[0].tool_calls[0].function"),
    ({"role": "tool", "content": "x", "odd": 1}, "messages[0].tool_call_id"),
    ({"role": "function", "content": "x", "name": "f"}, "messages[0].name"),
]


@pytest.mark.parametrize(("message", "param"), WRONG)
def test_what_is_wrong_is_named_by_its_place(message: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(message)
    assert refused.value.param == param


def test_an_image_may_be_a_bare_address() -> None:
    (message,) = read(
        {"role": "user", "content": [{"type": "image_url", "image_url": "https://e.org/a.png"}]}
    )
    assert message.parts == (ImagePart(UrlReference("https://e.org/a.png")),)


def test_empty_text_beside_calls_is_no_part() -> None:
    (message,) = read({"role": "assistant", "content": "", "tool_calls": [CALL]})
    assert [type(part) for part in message.parts] == [ToolCallPart]


@pytest.mark.parametrize(
    ("url", "media_type", "data"),
    [
        ("data:image/png;base64,AA==", "image/png", "AA=="),
        ("DATA:Image/PNG;BASE64,AbC=", "image/png", "AbC="),
        ("DATA:Text/HTML;Charset=UTF-8,AbC", "text/html", "QWJD"),
        ("data:,a%20b", "text/plain", "YSBi"),
        ("data:text/html;charset=utf-8,%3Cp%3E", "text/html", "PHA+"),
    ],
)
def test_a_data_url_holds_its_bytes(url: str, media_type: str, data: str) -> None:
    read_back: Any = read_url(url, path="x")
    assert (read_back.media_type, read_back.data) == (media_type, data)


@pytest.mark.parametrize(
    "url", ["ftp://e.org/a", "", "data:image/png", "data:" + "x" * MAX_DATA_HEAD + ",AA"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_url(url, path="x.url")
    assert refused.value.param == "x.url"


@pytest.mark.parametrize("scheme", ["data", "DATA", "Data"])
def test_schemes_are_of_either_case(scheme: str) -> None:
    """RFC 3986 3.1."""
    assert read_url(f"{scheme}:image/png;base64,QUJD", path="p") == InlineData("image/png", "QUJD")
    assert read_url("HTTPS://e.org/a.png", path="p") == UrlReference("HTTPS://e.org/a.png")
    [message] = read({"role": "user", "content": [{"type": "file", "file": {"file_data": f"{scheme}:text/plain;base64,QUJD"}}]})  # fmt: skip
    [part] = message.parts
    assert isinstance(part, DocumentPart)
    assert part.source == InlineData("text/plain", "QUJD")
