"""Items of a Responses request for a provider."""

from typing import Any

import msgspec
import pytest

from modelplex.core.errors import StatePinned, Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    CacheBreakpoint,
    Change,
    ChatRequest,
    DocumentPart,
    FileReference,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    Quirks,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.openai_responses.messages_out import ResponsesItemWriter
from tests.dialects.sides import with_places

PNG = InlineData("image/png", "AA==")
OWN = "openai_responses"


def writer(
    *messages: Message, client: str = "toy", model: str = "m", **quirks: Any
) -> tuple[ResponsesItemWriter, list[Change]]:
    changes: list[Change] = []
    call = ChatRequest(dialect=client, model="m", messages=messages)
    attempt = Attempt(provider="p", model=model, dialect=OWN, account="k1", quirks=Quirks(**quirks))
    names = ToolAliases(changes, native=client == OWN)
    return ResponsesItemWriter(
        with_places(call), attempt, name_of=names.sent, changes=changes, free=set()
    ), changes


def items(*messages: Message, client: str = "toy", **quirks: Any) -> tuple[list[Any], list[tuple[str, str]]]:
    made, changes = writer(*messages, client=client, **quirks)
    return made.items(), [(change.op, change.path) for change in changes]


def user(*parts: Any) -> Message:
    return Message("user", parts)


def answer(*parts: Any, **more: Any) -> Message:
    return Message("assistant", parts, **more)


def test_leading_instructions_stand_beside_the_items() -> None:
    system = Message("system", (TextPart("a", CacheBreakpoint()), TextPart("b")), name="n")
    made, changes = writer(system, Message("developer", (TextPart("c"),)), user(TextPart("x")))
    assert made.instructions() == "a\n\nb\n\nc"
    assert [item["role"] for item in made.items() if isinstance(item, dict)] == ["user"]
    assert [change.path for change in changes] == ["messages[0].name", "messages[0].content[0].cache_control"]
    odd, _ = writer(Message("system", (TextPart("a"), ImagePart(PNG))), user(TextPart("x")))
    assert odd.instructions() is None
    assert len(odd.items()) == 2


def test_an_answer_becomes_items_in_its_order() -> None:
    message = answer(
        TextPart("a"), RefusalPart("no"), ToolCallPart("c", "f", ""), TextPart("b"), ReasoningPart("")
    )
    made, changes = items(message, user(TextPart("x")))
    assert [(item["type"], item.get("id")) for item in made] == [
        ("message", "msg_0"),
        ("function_call", None),
        ("message", "msg_1"),
        ("message", None),
    ]
    assert [part["type"] for part in made[0]["content"]] == ["output_text", "refusal"]
    assert made[1]["arguments"] == "{}"
    assert changes == []


def test_members_go_back_to_the_dialect_that_they_came_from() -> None:
    extra = {"odd": msgspec.Raw(b"1")}
    message = answer(TextPart("a", extra=extra), id="m", phase="p", extra=extra)
    (made,), changes = items(message, client=OWN)
    text = {"odd": extra["odd"], "type": "output_text", "text": "a", "annotations": ()}
    named = {"id": "m", "status": "completed", "phase": "p"}
    assert made == {"type": "message", "role": "assistant", "content": [text], **named, **extra}
    assert changes == []
    _, changes = items(message)
    assert changes == [
        ("drop", "messages[0].content[0].odd"),
        ("drop", "messages[0].phase"),
        ("drop", "messages[0].odd"),
    ]


@pytest.mark.parametrize(
    ("thought", "client", "quirks", "written"),
    [
        (
            ReasoningPart("t", OpaqueState("openai-responses-v1", "x", "p", "k1", id="r")),
            "toy",
            {},
            {"id": "r", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "x"},
        ),
        (ReasoningPart("t", summary=True), OWN, {}, {"summary": [{"type": "summary_text", "text": "t"}]}),
        (
            ReasoningPart("t"),
            "toy",
            {"reasoning_back": "reasoning"},
            {"summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
        ),
    ],
)
def test_reasoning_goes_back_where_it_is_taken(thought: Any, client: str, quirks: Any, written: Any) -> None:
    (made,), changes = items(answer(thought), client=client, **quirks)
    assert made == {"type": "reasoning", **written}
    assert changes == []


def test_other_reasoning_is_left_out_and_reported() -> None:
    unknown = ReasoningPart("", OpaqueState("x", "y"))
    made, changes = items(answer(ReasoningPart("t"), unknown), user(TextPart("x")))
    assert len(made) == 1
    assert changes == [("drop", "messages[0].content[0]"), ("drop", "messages[0].content[1].state")]
    with pytest.raises(StatePinned) as pinned:
        items(answer(ReasoningPart("", OpaqueState("openai-responses-v1", "x", "q"))))
    assert pinned.value.param == "messages[0].content[0]"


@pytest.mark.parametrize(
    ("result", "output"),
    [
        (ToolResultPart("c", (TextPart("x"),)), "x"),
        (ToolResultPart("c", ()), ""),
        (ToolResultPart("c", (), is_error=True), "[tool error] "),
        (ToolResultPart("c", (TextPart("x"),), is_error=True), "[tool error] x"),
        (
            ToolResultPart("c", (ImagePart(PNG),), is_error=True),
            [
                {"type": "input_text", "text": "[tool error] "},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AA=="},
            ],
        ),
    ],
)
def test_a_result_is_a_string_where_one_text_is_all_there_is(result: ToolResultPart, output: Any) -> None:
    (made,), changes = items(Message("tool", (result,)))
    assert made == {"type": "function_call_output", "call_id": "c", "output": output}
    assert changes == []


def test_a_long_id_is_cut_alike_in_call_and_result() -> None:
    long = "x" * 100
    call = answer(ToolCallPart(long, "f", "i", free=True))
    made, _ = items(call, Message("tool", (ToolResultPart(long, ()),)))
    assert [item["type"] for item in made] == ["custom_tool_call", "custom_tool_call_output"]
    assert made[0]["call_id"] == made[1]["call_id"]
    assert len(made[0]["call_id"]) == 64


def test_an_item_of_this_dialect_is_one_of_its_own() -> None:
    raw = msgspec.Raw(b'{"type":"x"}')
    assert items(user(ForeignPart(OWN, "computer_call_output", raw)), client=OWN)[0] == [raw]
    (message,), _ = items(user(ForeignPart(OWN, "input_video", raw)), client=OWN)
    assert message["content"] == [raw]


@pytest.mark.parametrize(
    ("part", "member"),
    [
        (TextPart("a", CacheBreakpoint("5m")), {}),
        (TextPart("a", CacheBreakpoint()), {}),
        (ImagePart(PNG, cache=CacheBreakpoint("12h")), {"ttl": "12h"}),
    ],
)
def test_a_cache_marker_goes_to_models_that_take_one(part: Any, member: Any) -> None:
    (message,), changes = items(user(part), model="gpt-5.6-sol", cache_breakpoints=True)
    assert message["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit", **member}
    assert changes == []
    _, changes = items(user(part))
    assert changes == [("drop", "messages[0].content[0].cache_control")]


def test_a_files_name_goes_where_there_is_a_place_for_it() -> None:
    by_address = DocumentPart(UrlReference("https://e.org/a"), filename="n", context="c")
    (message,), changes = items(user(by_address, DocumentPart(PNG)))
    assert message["content"][0] == {"type": "input_file", "file_url": "https://e.org/a"}
    assert message["content"][1]["filename"] == "document.png"
    assert changes == [
        ("drop", "messages[0].content[0].filename"),
        ("drop", "messages[0].content[0].context"),
    ]
    (message,), _ = items(user(DocumentPart(FileReference("x"), filename="n")), client=OWN)
    assert message["content"][0] == {"type": "input_file", "filename": "n", "file_id": "x"}


@pytest.mark.parametrize(
    "message",
    [
        user(TextPart("x"), AudioPart("AA==", "wav")),
        user(TextPart("x"), ImagePart(FileReference("f"))),
        user(TextPart("x"), ToolCallPart("a", "f", "{}")),
        answer(TextPart("x"), ImagePart(PNG)),
        Message("tool", (ToolResultPart("a", ()), TextPart("x"))),
    ],
)
def test_what_has_no_form_is_refused_at_its_place(message: Message) -> None:
    with pytest.raises(Unsupported) as refused:
        items(message)
    assert refused.value.param == "messages[0].content[1]"
