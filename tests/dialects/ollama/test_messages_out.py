"""Messages of /api/chat for a provider."""

from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    Attempt,
    CacheBreakpoint,
    Change,
    ChatRequest,
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    PlainText,
    ReasoningPart,
    RefusalPart,
    SearchResultPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.ollama.messages_out import OllamaLosses, turns
from tests.dialects.sides import with_places

PNG = InlineData("image/png", "AA==")


def write(*messages: Message) -> tuple[list[Any], list[tuple[str, str]]]:
    changes: list[Change] = []
    losses = OllamaLosses(changes, Attempt(provider="p", model="m", dialect="ollama"))
    call = with_places(ChatRequest(dialect="toy", model="m", messages=messages))
    written = msgspec.json.decode(msgspec.json.encode(list(turns(call.messages, losses))))
    return written, [(change.op, change.path) for change in changes]


def calls(*ids: str) -> Message:
    return Message("assistant", tuple(ToolCallPart(id_, f"f_{id_}", "{}") for id_ in ids))


def results(*ids: str) -> Message:
    return Message("tool", tuple(ToolResultPart(id_, (TextPart(id_),)) for id_ in ids))


def test_the_parts_of_a_message_are_joined_by_kind() -> None:
    parts = (
        TextPart("a", CacheBreakpoint()),
        ImagePart(PNG, detail="low"),
        DocumentPart(PlainText("b"), title="T", citations=True),
        SearchResultPart("s", "t", ("x", "y")),
    )
    (message,), changes = write(Message("developer", parts, name="n"))
    assert message == {"role": "system", "content": "a\n\nT\n\nb\n\nt\ns\n\nx\n\ny", "images": ["AA=="]}
    assert changes == [
        ("drop", "messages[0].name"),
        ("drop", "messages[0].content[0].cache_control"),
        ("drop", "messages[0].content[1].detail"),
        ("drop", "messages[0].content[2].citations"),
    ]


def test_thinking_goes_back_as_text_without_its_signature() -> None:
    thought = ReasoningPart("t", OpaqueState("x", "y"))
    (message,), changes = write(Message("assistant", (thought, RefusalPart("no"))))
    assert message == {"role": "assistant", "content": "no", "thinking": "t"}
    assert changes == [("drop", "messages[0].content[0].state"), ("lower", "messages[0].content[1]")]


def test_results_follow_in_the_order_of_their_calls_with_their_names() -> None:
    written, changes = write(calls("a", "b"), results("b", "a"), calls("c"), results("c"))
    assert [(message["role"], message.get("tool_name")) for message in written] == [
        ("assistant", None),
        ("tool", "f_a"),
        ("tool", "f_b"),
        ("assistant", None),
        ("tool", "f_c"),
    ]
    assert changes == []


def test_a_failed_result_says_so_in_its_text() -> None:
    result = ToolResultPart("a", (TextPart("x"), ImagePart(PNG)), is_error=True, cache=CacheBreakpoint())
    written, changes = write(calls("a"), Message("tool", (result,)))
    assert (written[1]["content"], written[1]["images"]) == ("[tool error] x", ["AA=="])
    assert changes == [("drop", "messages[1].content[0].cache_control")]


@pytest.mark.parametrize(
    ("messages", "told", "param"),
    [
        ((calls("a", "b"), results("a")), "missing: b", "messages[0].content[1]"),
        ((calls("a"), Message("user", (TextPart("x"),))), "missing: a", "messages[0].content[0]"),
        ((calls("a"), calls("b")), "missing: a", "messages[0].content[0]"),
        ((results("z"),), "'z'", "messages[0].content[0]"),
        ((calls("a"), results("a", "a")), "'a'", "messages[1].content[1]"),
    ],
)
def test_calls_and_results_match_or_are_refused_at_their_place(
    messages: tuple[Message, ...], told: str, param: str
) -> None:
    with pytest.raises(BadRequest, match=told) as refused:
        write(*messages)
    assert refused.value.param == param


def test_a_system_message_may_stand_between_call_and_result() -> None:
    written, _ = write(calls("a"), Message("system", (TextPart("s"),)), results("a"))
    assert [message["role"] for message in written] == ["assistant", "system", "tool"]


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (ImagePart(UrlReference("https://e.org")), Unsupported),
        (DocumentPart(UrlReference("https://e.org")), Unsupported),
        (DocumentPart(InlineData("text/plain", "!")), BadRequest),
        (ToolResultPart("a", ()), Unsupported),
    ],
)
def test_what_has_no_form_is_refused_at_its_place(part: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as refused:
        write(Message("user", (TextPart("x"), part)))
    assert getattr(refused.value, "param", None) == "messages[0].content[1]"
