"""Anthropic Messages, what is sent: each body is checked against the official SDK's own type of a
request.
"""

import base64
import json
from typing import Any, cast

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from pydantic import BaseModel, ConfigDict, TypeAdapter

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    StatePinned,
    Unsupported,
)
from modelplex.core.request import (
    AnyTool,
    Attempt,
    AudioPart,
    CacheBreakpoint,
    ChatRequest,
    DocumentPart,
    FileReference,
    ForeignPart,
    FreeformTool,
    HostedTool,
    ImagePart,
    InlineData,
    Message,
    ModelFacts,
    OpaqueState,
    Part,
    PlainText,
    ProviderRequest,
    Quirks,
    ReasoningOptions,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    Sampling,
    SearchResultPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.anthropic import fields as anthropic_fields
from modelplex.dialects.core import tool_names
from modelplex.dialects.gemini import fields as gemini_fields
from modelplex.dialects.ollama import fields as ollama_fields
from modelplex.dialects.openai_chat import fields as openai_chat_fields
from modelplex.dialects.openai_responses import fields as openai_responses_fields
from modelplex.dialects.registry import write_request
from tests.dialects.sides import placed, usual_paths, with_places

PATHS = {
    "openai_chat": usual_paths(openai_chat_fields.FIELDS),
    "openai_responses": usual_paths(openai_responses_fields.FIELDS),
    "anthropic_messages": usual_paths(anthropic_fields.FIELDS),
    "gemini": usual_paths(gemini_fields.FIELDS),
    "ollama": usual_paths(ollama_fields.FIELDS),
}
ATTEMPT = Attempt(provider="anthropic", model="claude-sonnet-4-5", dialect="anthropic_messages", account="k1")
NEWER = msgspec.structs.replace(ATTEMPT, quirks=Quirks(api_version="2026-10-21"))
PNG = ImagePart(InlineData("image/png", "aGVsbG8="))
WEATHER = Tool(
    "weather", "Tells it", msgspec.Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}')
)
CLOCK = Tool("clock")
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}')
CLOSED = {**json.loads(bytes(SCHEMA)), "additionalProperties": False}
SEALED = ReasoningPart("Hm.", OpaqueState("anthropic-claude-v1", "sig==", provider="anthropic", account="k1"))


def _with(attempt: Attempt = ATTEMPT, **facts: Any) -> Attempt:
    return msgspec.structs.replace(attempt, facts=ModelFacts(**facts))


# --- what is sent


def _call(
    *parts: Part,
    messages: tuple[Message, ...] = (),
    tools: tuple[AnyTool, ...] = (),
    dialect: str = "openai_chat",
    **more: Any,
) -> ChatRequest:
    told = messages or (Message("user", parts or (TextPart("Hi"),)),)
    paths = PATHS[dialect]
    return with_places(
        ChatRequest(dialect=dialect, model="m", messages=told, tools=placed(tools), paths=paths, **more)
    )


def _plain(value: Any) -> Any:
    """Walks what pydantic reads lazily. A response's block, which a request may hold too, must have
    no member of its own.
    """
    if isinstance(value, BaseModel):
        assert not value.model_extra
        return value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, str | int | float | None):
        return value
    return [_plain(inner) for inner in value]


_REQUEST: TypeAdapter[Any] = TypeAdapter(
    list[MessageCreateParamsNonStreaming], config=ConfigDict(extra="forbid")
)
_SAMPLING_OF_THE_OLDER_VERSION = {"temperature", "top_p", "top_k"}


def _sent(call: ChatRequest, attempt: Attempt = ATTEMPT) -> tuple[dict[str, Any], ProviderRequest]:
    """The body, which the official SDK's own type of a request takes as it is."""
    written = write_request(call, attempt)
    body: dict[str, Any] = json.loads(written.body)
    hidden = _SAMPLING_OF_THE_OLDER_VERSION | {"stream"}
    (request,) = _REQUEST.validate_python([{k: v for k, v in body.items() if k not in hidden}])
    _plain(request)
    assert body["messages"][0]["role"] == "user"
    return body, written


def _changes(written: ProviderRequest) -> list[str]:
    return [f"{change.op}={change.path}" for change in written.changes]


def _user(*parts: Part | str) -> Message:
    return Message("user", tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def _assistant(*parts: Part | str) -> Message:
    return Message("assistant", tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def _tool(*parts: Part) -> Message:
    return Message("tool", parts)


def _text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def test_a_plain_question_is_sent_plainly() -> None:
    body, written = _sent(_call())
    assert body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [_text("Hi")]}],
    }
    assert written == ProviderRequest(body=written.body)


def test_the_same_call_is_always_the_same_bytes_and_a_longer_one_begins_with_them() -> None:
    first = _call(messages=(_user("Hi"),), tools=(WEATHER, CLOCK))
    longer = msgspec.structs.replace(first, messages=(*first.messages, _assistant("Yes?"), _user("Go")))
    one, two = write_request(first, ATTEMPT).body, write_request(first, ATTEMPT).body
    assert one == two
    until = one.rindex(b"]")
    assert write_request(longer, ATTEMPT).body[:until] == one[:until]


def test_leading_instructions_are_one_block_each_and_keep_their_markers() -> None:
    messages = (
        Message("system", (TextPart("One"),)),
        Message(
            "developer",
            (
                TextPart("Two", cache=CacheBreakpoint("1h")),
                TextPart(" "),
                TextPart("Three"),
                TextPart("Four"),
            ),
        ),
        _user("Hi"),
    )
    body, written = _sent(_call(messages=messages))
    marked = _text("Two", cache_control={"type": "ephemeral", "ttl": "1h"})
    assert body["system"] == [_text("One"), marked, _text("Three\nFour")]
    assert _changes(written) == ["drop=messages[1].content[1]"]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_later_instruction_keeps_its_place_or_becomes_a_note(role: Any) -> None:
    messages = (_user("Hi"), Message(role, (TextPart("Be brief."),)), _user("Go"))
    body, written = _sent(_call(messages=messages), _with(later_system=True))
    assert [message["role"] for message in body["messages"]] == ["user", "system", "user"]
    assert written.changes == ()
    body, written = _sent(_call(messages=messages))
    (turn,) = body["messages"]
    assert turn["content"] == [
        _text("Hi"),
        _text("[System note, not written by the user]\nBe brief."),
        _text("Go"),
    ]
    assert _changes(written) == ["lower=messages[1]"]


def test_neighbours_of_one_role_are_one_turn() -> None:
    messages = (_user("a"), _user("b"), _assistant("c"), _assistant("d"), _user("e"))
    body, _ = _sent(_call(messages=messages))
    told = [(turn["role"], [block["text"] for block in turn["content"]]) for turn in body["messages"]]
    assert told == [("user", ["a", "b"]), ("assistant", ["c", "d"]), ("user", ["e"])]


def test_results_stand_first_in_one_turn_in_the_order_of_the_calls() -> None:
    messages = (
        _user("Go"),
        _assistant(
            "Both.", ToolCallPart("c1", "weather", '{"city": "Bern"}'), ToolCallPart("c2", "clock", "")
        ),
        _user("By the way"),
        _tool(
            ToolResultPart("c2", (TextPart("noon"),)),
            ToolResultPart("c1", (TextPart("rain"), PNG), is_error=True),
        ),
        _user("and?"),
    )
    body, written = _sent(_call(messages=messages, tools=(WEATHER, CLOCK)))
    assert body["messages"][1]["content"][1:] == [
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Bern"}},
        {"type": "tool_use", "id": "c2", "name": "clock", "input": {}},
    ]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": [_text("rain"), image], "is_error": True},
        {"type": "tool_result", "tool_use_id": "c2", "content": [_text("noon")]},
        _text("By the way"),
        _text("and?"),
    ]
    assert len(body["messages"]) == 3
    assert _changes(written) == ["move=messages[3].content[0]", "move=messages[3].content[1]"]


def test_a_system_note_between_call_and_result_comes_after_the_result() -> None:
    messages = (
        _user("Go"),
        _assistant(ToolCallPart("c1", "clock", "{}")),
        Message("system", (TextPart("Note"),)),
        _tool(ToolResultPart("c1", (TextPart("noon"),))),
    )
    body, _ = _sent(_call(messages=messages, tools=(CLOCK,)), _with(later_system=True))
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user", "system"]
    assert body["messages"][2]["content"][0]["type"] == "tool_result"


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ((_user("a"), _assistant(ToolCallPart("c1", "f", "{}"), ToolCallPart("c2", "f", "{}"))), "c1, c2"),
        ((_user("a"), _assistant(ToolCallPart("c1", "f", "{}")), _user("b")), "calls without a result: c1"),
        ((_user("a"), _tool(ToolResultPart("c9", (TextPart("x"),)))), "results without a call: c9"),
        (
            (_user("a"), _assistant(ToolCallPart("c1", "f", "{}")), _tool(ToolResultPart("c2", ()))),
            "calls without a result: c1; results without a call: c2",
        ),
        ((_user("a"), _assistant(ToolCallPart("c1", "f", "{}"), ToolCallPart("c1", "f", "{}"))), "'c1'"),
        (
            (
                _user("a"),
                _assistant(ToolCallPart("c1", "f", "{}")),
                _tool(ToolResultPart("c1", ()), ToolResultPart("c1", ())),
            ),
            "'c1' has two results",
        ),
        ((_user(" "), _assistant("")), "no message"),
        ((Message("system", (TextPart("Only this"),)),), "no message"),
        ((_user(ToolCallPart("c1", "f", "{}")),), "cannot be part of a message of the user"),
        ((_user("a"), _assistant(ToolResultPart("c1", ()))), "cannot be part of an assistant's message"),
    ],
)
def test_a_conversation_that_nobody_could_continue_is_refused(
    messages: tuple[Message, ...], told: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        write_request(_call(messages=messages), ATTEMPT)
    assert told in caught.value.message
    assert caught.value.param is not None


def test_ids_are_made_unique_and_of_few_characters_and_results_follow_them() -> None:
    turns = tuple(
        message
        for _ in range(2)
        for message in (
            _assistant(ToolCallPart("fn.clock:0", "clock", "{}")),
            _tool(ToolResultPart("fn.clock:0", (TextPart("noon"),))),
        )
    )
    body, written = _sent(_call(messages=(_user("Go"), *turns), tools=(CLOCK,)))
    blocks = [block for turn in body["messages"] for block in turn["content"]]
    assert [block["id"] for block in blocks if "id" in block] == ["fn_clock_0", "fn_clock_0_2"]
    assert [block["tool_use_id"] for block in blocks if "tool_use_id" in block] == [
        "fn_clock_0",
        "fn_clock_0_2",
    ]
    assert _changes(written) == ["rename=messages[1].content[0].id", "rename=messages[3].content[0].id"]


def test_empty_text_is_not_sent_and_neither_is_a_message_without_anything_else() -> None:
    messages = (
        _user("Hi"),
        _assistant(""),
        _user(" \n"),
        _assistant("", ToolCallPart("c1", "clock", "")),
        _tool(ToolResultPart("c1", (TextPart(""),))),
        _user(TextPart("", cache=CacheBreakpoint()), "Go"),
    )
    body, written = _sent(_call(messages=messages, tools=(CLOCK,)))
    assert body["messages"] == [
        {"role": "user", "content": [_text("Hi")]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "clock", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1"}, _text("Go")]},
    ]
    assert _changes(written) == [
        "drop=messages[1]",
        "drop=messages[2]",
        "drop=messages[5].content[0].cache_control",
    ]


def test_a_failed_result_without_content_says_so() -> None:
    messages = (
        _user("Go"),
        _assistant(ToolCallPart("c1", "clock", "")),
        _tool(ToolResultPart("c1", (), is_error=True)),
    )
    body, written = _sent(_call(messages=messages, tools=(CLOCK,)))
    (result,) = body["messages"][2]["content"]
    assert result["is_error"] is True
    assert result["content"] == [_text("The tool failed without saying why.")]
    assert _changes(written) == ["add=messages[2].content[0]"]


def test_a_conversation_that_the_assistant_opens_gets_a_users_first_word() -> None:
    body, written = _sent(_call(messages=(_assistant("Welcome!"), _user("Hi"))))
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert _changes(written) == ["add=messages[0]"]


def test_a_begun_answer_is_continued_only_by_models_that_can() -> None:
    call = _call(messages=(_user("Hi"), _assistant("Well, ")))
    body, written = _sent(call)
    assert body["messages"][-1] == {"role": "assistant", "content": [_text("Well,")]}
    assert _changes(written) == ["lower=messages[1]"]
    with pytest.raises(Unsupported) as caught:
        write_request(call, _with(prefill=False))
    assert caught.value.param == "messages[1]"


def test_every_kind_of_content_has_its_block() -> None:
    pdf = base64.b64encode(b"%PDF-").decode()
    body, written = _sent(
        _call(
            ImagePart(UrlReference("https://example.org/a.png"), detail="high"),
            ImagePart(InlineData("image/jpg", "aGVsbG8="), detail="auto"),
            DocumentPart(InlineData("application/pdf", pdf), filename="a.pdf"),
            DocumentPart(
                InlineData("text/markdown", base64.b64encode("# Ä".encode()).decode()),
                title="T",
                filename="f",
            ),
            DocumentPart(PlainText("Plain"), title="P", context="Old", citations=True),
            DocumentPart(UrlReference("https://example.org/a.pdf")),
            SearchResultPart("https://example.org", "Title", ("one", " "), citations=True),
            SearchResultPart("https://example.org", "Title", ("",)),
            RefusalPart("odd"),
        )
    )
    (turn,) = body["messages"]
    assert [block["source"] for block in turn["content"][:6]] == [
        {"type": "url", "url": "https://example.org/a.png"},
        {"type": "base64", "media_type": "image/jpeg", "data": "aGVsbG8="},
        {"type": "base64", "media_type": "application/pdf", "data": pdf},
        {"type": "text", "media_type": "text/plain", "data": "# Ä"},
        {"type": "text", "media_type": "text/plain", "data": "Plain"},
        {"type": "url", "url": "https://example.org/a.pdf"},
    ]
    assert [block.get("title") for block in turn["content"][2:6]] == ["a.pdf", "T", "P", None]
    assert turn["content"][4]["citations"] == {"enabled": True}
    assert turn["content"][6]["content"] == [_text("one")]
    assert _changes(written) == [
        "drop=messages[0].content[0].detail",
        "drop=messages[0].content[3].filename",
        "drop=messages[0].content[7]",
    ]


@pytest.mark.parametrize(
    "message",
    [
        _user("x", AudioPart("aGVsbG8=", "wav")),
        _user("x", ImagePart(InlineData("image/bmp", "aGVsbG8="))),
        _user("x", ImagePart(FileReference("file-1"))),
        _user("x", DocumentPart(FileReference("file-1"))),
        _user("x", DocumentPart(InlineData("application/msword", "aGVsbG8="))),
        _user("x", ForeignPart("openai_responses", "computer_call_output", msgspec.Raw(b"{}"))),
        _assistant("x", ForeignPart("openai_responses", "mcp_call", msgspec.Raw(b"{}"))),
        _assistant("x", PNG),
        _assistant("x", AudioPart("", "wav", id="audio_1")),
    ],
)
def test_a_part_without_words_here_is_refused_with_its_place(message: Message) -> None:
    with pytest.raises(Unsupported) as caught:
        write_request(_call(messages=(_user("Hi"), message, _user("Go"))), ATTEMPT)
    assert caught.value.param == "messages[1].content[1]"


def test_within_the_dialect_its_own_parts_tools_and_members_pass() -> None:
    hosted = msgspec.Raw(b'{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}')
    bash = msgspec.Raw(b'{"type":"bash_20250124","name":"bash"}')
    call = _call(
        messages=(
            _user(DocumentPart(FileReference("file_1")), ImagePart(FileReference("file_2"))),
            _assistant(
                ForeignPart("anthropic_messages", "server_tool_use", hosted),
                ToolCallPart("c1", "clock", "{}", extra={"caller": msgspec.Raw(b'{"type":"direct"}')}),
            ),
            _tool(
                ToolResultPart(
                    "c1",
                    (
                        ForeignPart(
                            "anthropic_messages",
                            "tool_reference",
                            msgspec.Raw(b'{"type":"tool_reference","tool_name":"x"}'),
                        ),
                    ),
                    extra={"toolset_name": msgspec.Raw(b'"t"')},
                )
            ),
        ),
        tools=(
            HostedTool("anthropic_messages", "bash_20250124", bash, name="bash"),
            Tool("clock", deferred=True),
        ),
        dialect="anthropic_messages",
        extra={"inference_geo": msgspec.Raw(b'"eu"')},
    )
    body, written = _sent(call)
    assert body["inference_geo"] == "eu"
    assert body["tools"][0] == {"type": "bash_20250124", "name": "bash"}
    assert body["tools"][1]["defer_loading"] is True
    assert body["messages"][0]["content"][0]["source"] == {"type": "file", "file_id": "file_1"}
    assert body["messages"][1]["content"][0]["type"] == "server_tool_use"
    assert body["messages"][1]["content"][1]["caller"] == {"type": "direct"}
    assert body["messages"][2]["content"][0]["toolset_name"] == "t"
    assert written.changes == ()


# --- thinking in the history


def test_thinking_goes_back_as_it_came_and_before_its_call() -> None:
    redacted = ReasoningPart("", OpaqueState("anthropic-claude-v1", "data=="), redacted=True)
    messages = (
        _user("Go"),
        _assistant(SEALED, redacted, ToolCallPart("c1", "clock", "")),
        _tool(ToolResultPart("c1", (TextPart("noon"),))),
    )
    body, written = _sent(_call(messages=messages, tools=(CLOCK,)))
    assert body["messages"][1]["content"][:2] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig=="},
        {"type": "redacted_thinking", "data": "data=="},
    ]
    assert written.changes == ()


@pytest.mark.parametrize(
    "thinking", [ReasoningPart("Hm."), ReasoningPart("Hm.", OpaqueState("openai-responses-v1", "enc"))]
)
def test_thinking_without_this_services_signature_is_left_out_and_named(thinking: ReasoningPart) -> None:
    body, written = _sent(_call(messages=(_user("Go"), _assistant(thinking, "Ok"), _user("On"))))
    assert body["messages"][1]["content"] == [_text("Ok")]
    assert _changes(written) == ["drop=messages[1].content[0]"]


@pytest.mark.parametrize(
    "state",
    [
        OpaqueState("anthropic-claude-v1", "sig==", provider="bedrock", account="k1"),
        OpaqueState("anthropic-claude-v1", "sig==", provider="anthropic", account="k2"),
        OpaqueState("openai-responses-v1", "enc", provider="openai", account="k1"),
    ],
)
def test_sealed_state_never_goes_to_anybody_but_its_maker(state: OpaqueState) -> None:
    with pytest.raises(StatePinned):
        write_request(
            _call(messages=(_user("Go"), _assistant(ReasoningPart("", state), "Ok"), _user("On"))), ATTEMPT
        )


def test_an_assistant_turn_never_ends_with_thinking() -> None:
    body, written = _sent(
        _call(
            messages=(_user("Go"), _assistant(SEALED, ""), _user("On"), _assistant("Ok", SEALED), _user("x"))
        )
    )
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [_text("Ok")]
    assert _changes(written) == ["drop=messages[1].content[0]", "drop=messages[3].content[1]"]


def test_a_model_that_does_not_think_is_told_no_thoughts() -> None:
    body, _ = _sent(
        _call(messages=(_user("Go"), _assistant(SEALED, "Ok"), _user("On"))), _with(thinking="none")
    )
    assert body["messages"][1]["content"] == [_text("Ok")]


# --- tools


def test_tools_always_have_a_schema_of_an_object() -> None:
    tools = (
        WEATHER,
        CLOCK,
        Tool("empty", parameters=msgspec.Raw(b"{}"), strict=True),
        Tool("null", parameters=msgspec.Raw(b"null"), strict=False),
        Tool("bare", parameters=msgspec.Raw(b'{"properties":{"a":{}}}')),
        Tool("loose", parameters=msgspec.Raw(b'{"type":["object","null"]}')),
    )
    body, written = _sent(_call(tools=tools))
    schemas = [tool["input_schema"] for tool in body["tools"]]
    nothing: dict[str, Any] = {"type": "object", "properties": {}}
    assert schemas[1:4] == [nothing] * 3
    assert schemas[4:] == [{"properties": {"a": {}}, "type": "object"}, {"type": "object"}]
    assert [tool.get("strict") for tool in body["tools"]] == [None, None, True, None, None, None]
    assert _changes(written) == ["add=tools[4].parameters.type", "add=tools[5].parameters.type"]
    assert _changes(write_request(_call(tools=(tools[2],)), _with(schema=False))) == ["drop=tools[0].strict"]


@pytest.mark.parametrize(
    ("schema", "error"), [(b'{"type":"string"}', Unsupported), (b"[]", BadRequest), (b'"x"', BadRequest)]
)
def test_a_schema_of_anything_else_is_refused(schema: bytes, error: type[ModelplexError]) -> None:
    with pytest.raises(error) as caught:
        write_request(_call(tools=(Tool("x", parameters=msgspec.Raw(schema)),)), ATTEMPT)
    assert caught.value.param == "tools[0].parameters"


def test_a_free_form_tool_is_wrapped_in_definition_and_history_and_named() -> None:
    patch = FreeformTool("patch", "Patches", syntax="lark", definition='start: "x"')
    messages = (
        _user("Go"),
        _assistant(ToolCallPart("c1", "patch", '*** "a"\n', free=True)),
        _tool(ToolResultPart("c1", (TextPart("ok"),), free=True)),
    )
    body, written = _sent(_call(messages=messages, tools=(patch, FreeformTool("bare"))))
    tool, bare = body["tools"]
    assert tool["description"] == 'Patches\n\nThe input must match this lark grammar:\nstart: "x"'
    assert tool["input_schema"]["required"] == ["input"]
    assert "description" not in bare
    assert body["messages"][1]["content"][0]["input"] == {"input": '*** "a"\n'}
    assert written.free == {"patch", "bare"}
    assert _changes(written) == ["lower=tools[0]", "lower=tools[1]"]


def test_long_names_have_one_alias_in_definition_choice_and_history() -> None:
    long = "files.read " * 10
    sent = tool_names.alias(long)
    messages = (
        _user("Go"),
        _assistant(ToolCallPart("c1", long, "{}"), ToolCallPart("c2", "gone.tool", "{}")),
        _tool(ToolResultPart("c1", ()), ToolResultPart("c2", ())),
    )
    body, written = _sent(_call(messages=messages, tools=(Tool(long),), choice=ToolChoice("named", (long,))))
    assert body["tools"][0]["name"] == sent
    assert body["tool_choice"] == {"type": "tool", "name": sent}
    assert body["messages"][1]["content"][0]["name"] == sent
    assert written.aliases == {sent: long, tool_names.alias("gone.tool"): "gone.tool"}


def test_arguments_that_are_no_object_are_wrapped_and_others_keep_their_bytes() -> None:
    odd = '{"big": 12345678901234567890123, "f": 1.0,  "e": "\\u00e4"}'
    calls = [
        ToolCallPart("c0", "f", odd),
        *(ToolCallPart(f"c{i}", "f", text) for i, text in enumerate(["[1]", "{", '"x"'], 1)),
    ]
    results = (ToolResultPart(call.id, ()) for call in calls)
    call = _call(messages=(_user("Go"), _assistant(*calls), _tool(*results)), tools=(Tool("f"),))
    body, written = _sent(call)
    assert odd.encode() in written.body
    inputs = [block["input"] for block in body["messages"][1]["content"]]
    assert inputs[1:] == [{"_raw": "[1]"}, {"_raw": "{"}, {"_raw": '"x"'}]
    assert _changes(written) == [f"lower=messages[1].content[{i}].arguments" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("choice", "parallel", "written"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("none"), None, {"type": "none"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("auto"), False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("required"), None, {"type": "any"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("named", ("clock",)), None, {"type": "tool", "name": "clock"}),
        (
            ToolChoice("named", ("clock",)),
            False,
            {"type": "tool", "name": "clock", "disable_parallel_tool_use": True},
        ),
        (ToolChoice("subset", ("clock",)), None, {"type": "auto"}),
        (ToolChoice("subset", ("clock",), required=True), None, {"type": "any"}),
    ],
)
def test_each_choice_has_its_form(choice: ToolChoice | None, parallel: bool | None, written: Any) -> None:
    body, made = _sent(_call(tools=(WEATHER, CLOCK), choice=choice, parallel=parallel))
    assert body.get("tool_choice") == written
    is_subset = choice is not None and choice.mode == "subset"
    assert [tool["name"] for tool in body["tools"]] == (["clock"] if is_subset else ["weather", "clock"])
    assert _changes(made) == (["lower=tool_choice"] if is_subset else [])


@pytest.mark.parametrize(
    "choice",
    [
        ToolChoice("required"),
        ToolChoice("named", ("clock",)),
        ToolChoice("subset", ("clock",), required=True),
    ],
)
@pytest.mark.parametrize(
    ("attempt", "reasoning"),
    [
        (ATTEMPT, ReasoningOptions(effort="low")),
        (_with(thinking="adaptive"), ReasoningOptions(effort="low")),
        (_with(forced_tools=False), None),
    ],
)
def test_a_call_is_not_forced_while_thinking_nor_where_the_model_refuses(
    attempt: Attempt, reasoning: ReasoningOptions | None, choice: ToolChoice
) -> None:
    body, written = _sent(_call(tools=(CLOCK,), choice=choice, reasoning=reasoning), attempt)
    assert body["tool_choice"] == {"type": "auto"}
    assert "lower=tool_choice" in _changes(written)


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ((), ToolChoice("required")),
        ((CLOCK,), ToolChoice("named", ("cloc",))),
        ((CLOCK,), ToolChoice("subset", ("x",))),
        ((CLOCK, CLOCK), None),
    ],
)
def test_a_choice_of_what_is_not_there_and_a_name_given_twice_are_refused(
    tools: Any, choice: ToolChoice | None
) -> None:
    with pytest.raises(BadRequest):
        write_request(_call(tools=tools, choice=choice), ATTEMPT)


def test_another_dialects_hosted_tool_stays_behind_and_is_named() -> None:
    tool = HostedTool("openai_responses", "web_search", msgspec.Raw(b'{"type":"web_search"}'))
    body, written = _sent(_call(tools=(CLOCK, tool)))
    assert [each["name"] for each in body["tools"]] == ["clock"]
    assert [(change.op, change.path) for change in written.changes] == [("drop", "tools[1]")]


def test_another_dialects_hosted_tool_is_refused_where_the_answer_would_be_another_without_it() -> None:
    tool = HostedTool("openai_responses", "web_search", msgspec.Raw(b'{"type":"web_search"}'))
    with pytest.raises(Unsupported) as caught:
        write_request(_call(tools=(CLOCK, tool), choice=ToolChoice("named", ("web_search",))), ATTEMPT)
    assert caught.value.param == "tool_choice"
    shell = HostedTool("openai_responses", "local_shell", msgspec.Raw(b'{"type":"local_shell"}'))
    with pytest.raises(Unsupported) as caught:
        write_request(_call(tools=(CLOCK, shell)), ATTEMPT)
    assert caught.value.param == "tools[1]"


# --- the form of the answer


def test_a_schema_uses_the_native_format_beside_any_tools() -> None:
    form = ResponseFormat("schema", SCHEMA, name="it", strict=True)
    body, written = _sent(_call(format=form, tools=(CLOCK,), reasoning=ReasoningOptions(effort="low")))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}}
    assert "tool_choice" not in body
    assert [change.op for change in written.changes] == ["lower"]


def test_a_model_without_formats_answers_through_one_forced_tool() -> None:
    body, written = _sent(_call(format=ResponseFormat("schema", SCHEMA)), _with(schema=False))
    (tool,) = body["tools"]
    assert (tool["name"], tool["input_schema"]) == ("answer", json.loads(bytes(SCHEMA)))
    assert body["tool_choice"] == {"type": "tool", "name": "answer", "disable_parallel_tool_use": True}
    assert written.answer_tool == "answer"
    assert _changes(written) == ["lower=response_format"]


@pytest.mark.parametrize(
    ("more", "facts"),
    [
        ({"tools": (CLOCK,)}, {}),
        ({"reasoning": ReasoningOptions(effort="low")}, {}),
        ({}, {"forced_tools": False}),
    ],
)
def test_where_that_is_not_possible_a_schema_is_refused(more: Any, facts: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        write_request(_call(format=ResponseFormat("schema", SCHEMA), **more), _with(schema=False, **facts))
    assert caught.value.param == "response_format"


def test_any_json_is_asked_for_in_words() -> None:
    body, written = _sent(
        _call(
            format=ResponseFormat("json"), messages=(Message("system", (TextPart("Be nice"),)), _user("Hi"))
        )
    )
    assert body["system"][0]["text"] == "Be nice"
    assert "JSON object" in body["system"][1]["text"]
    assert _changes(written) == ["lower=response_format"]
    assert "system" not in _sent(_call(format=ResponseFormat("text")))[0]


# --- thinking

EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]


@pytest.mark.parametrize(
    ("effort", "budget"), list(zip(EFFORTS, [None, 1024, 2048, 8192, 16384, 24576, 32000], strict=True))
)
def test_effort_is_a_budget_for_manual_models(effort: Any, budget: int | None) -> None:
    body, written = _sent(_call(reasoning=ReasoningOptions(effort=effort), max_tokens=64000))
    enabled = {"type": "enabled", "budget_tokens": budget}
    assert body["thinking"] == (enabled if budget else {"type": "disabled"})
    assert "output_config" not in body
    assert written.changes == ()


@pytest.mark.parametrize("kind", ["adaptive", "both"])
@pytest.mark.parametrize(("effort", "sent"), list(zip(EFFORTS[1:], ["low", *EFFORTS[2:]], strict=True)))
def test_effort_is_effort_for_adaptive_models(effort: Any, sent: str, kind: str) -> None:
    body, written = _sent(_call(reasoning=ReasoningOptions(effort=effort)), _with(thinking=kind))
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": sent}
    assert _changes(written) == (["clamp=reasoning_effort"] if effort == "minimal" else [])


@pytest.mark.parametrize(
    ("facts", "reasoning", "thinking", "changes"),
    [
        ({"thinking": "adaptive"}, ReasoningOptions(effort="none"), {"type": "disabled"}, []),
        (
            {"thinking": "adaptive", "can_disable_thinking": False},
            ReasoningOptions(effort="none"),
            None,
            ["drop=reasoning_effort"],
        ),
        ({"thinking": "none"}, ReasoningOptions(effort="high"), None, ["drop=reasoning_effort"]),
        ({"thinking": "none"}, ReasoningOptions(effort="none"), None, []),
        (
            {"thinking": "adaptive"},
            ReasoningOptions(budget=9000),
            {"type": "adaptive"},
            ["lower=reasoning_effort"],
        ),
        ({"thinking": "both"}, ReasoningOptions(budget=2000), {"type": "enabled", "budget_tokens": 2000}, []),
        (
            {"thinking": "manual"},
            ReasoningOptions(mode="adaptive"),
            {"type": "enabled", "budget_tokens": 4096},
            ["lower=reasoning_effort", "clamp=reasoning_effort"],
        ),
        ({"thinking": "adaptive"}, ReasoningOptions(mode="between_tools"), {"type": "between_tools"}, []),
        ({"thinking": "manual"}, ReasoningOptions(mode="between_tools"), None, ["drop=reasoning_effort"]),
        (
            {"thinking": "manual"},
            ReasoningOptions(budget=500),
            {"type": "enabled", "budget_tokens": 1024},
            ["clamp=reasoning_effort"],
        ),
        ({"thinking": "manual"}, ReasoningOptions(budget=0), {"type": "disabled"}, []),
        ({"thinking": "manual"}, ReasoningOptions(show="omitted"), None, []),
        (
            {"thinking": "adaptive"},
            ReasoningOptions(effort="low", show="omitted"),
            {"type": "adaptive", "display": "omitted"},
            [],
        ),
        (
            {"thinking": "adaptive"},
            ReasoningOptions(effort="low", show="detailed"),
            {"type": "adaptive", "display": "summarized"},
            ["lower=reasoning.summary"],
        ),
    ],
)
def test_thinking_is_said_as_the_model_understands_it(
    facts: Any, reasoning: ReasoningOptions, thinking: Any, changes: list[str]
) -> None:
    body, written = _sent(_call(reasoning=reasoning), _with(**facts))
    assert body.get("thinking") == thinking
    assert _changes(written) == changes


@pytest.mark.parametrize("max_tokens", [1, 1024, 1025, 1500, 2048, 8192, None])
@pytest.mark.parametrize("effort", ["minimal", "medium", "max"])
def test_a_budget_always_fits_below_max_tokens(max_tokens: int | None, effort: Any) -> None:
    body, written = _sent(_call(reasoning=ReasoningOptions(effort=effort), max_tokens=max_tokens))
    assert body["max_tokens"] == (max_tokens or 8192)
    if body["max_tokens"] <= 1024:
        assert body["thinking"] == {"type": "disabled"}
        assert _changes(written) == ["drop=reasoning_effort"]
    else:
        assert 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]


def test_manual_thinking_is_off_where_the_turn_in_hand_has_none() -> None:
    messages = (
        _user("Go"),
        _assistant("Ok", ToolCallPart("c1", "clock", "")),
        _tool(ToolResultPart("c1", ())),
    )
    call = _call(messages=messages, tools=(CLOCK,), reasoning=ReasoningOptions(effort="low"))
    body, written = _sent(call)
    assert body["thinking"] == {"type": "disabled"}
    assert _changes(written) == ["drop=reasoning_effort"]
    assert _sent(call, _with(thinking="adaptive"))[0]["thinking"] == {"type": "adaptive"}
    with_thoughts = (messages[0], _assistant(SEALED, ToolCallPart("c1", "clock", "")), messages[2])
    kept = msgspec.structs.replace(call, messages=with_thoughts)
    assert _sent(kept)[0]["thinking"]["type"] == "enabled"
    answered = msgspec.structs.replace(call, messages=(*messages, _assistant("Noon."), _user("And now?")))
    assert _sent(answered)[0]["thinking"]["type"] == "enabled"


def test_a_begun_answer_is_continued_without_thinking() -> None:
    body, written = _sent(
        _call(messages=(_user("Hi"), _assistant("Well")), reasoning=ReasoningOptions(effort="low"))
    )
    assert body["thinking"] == {"type": "disabled"}
    assert _changes(written) == ["drop=reasoning_effort"]


def test_effort_alone_turns_no_thinking_on_for_a_client_of_the_dialect() -> None:
    body, _ = _sent(
        _call(reasoning=ReasoningOptions(effort="high"), dialect="anthropic_messages"),
        _with(thinking="adaptive"),
    )
    assert "thinking" not in body
    assert body["output_config"] == {"effort": "high"}


# --- sampling, caching, identity


def test_sampling_is_sent_in_the_older_version_and_temperature_is_at_most_one() -> None:
    body, written = _sent(_call(sampling=Sampling(temperature=1.7, top_p=0.9, top_k=4, stop=("END", " \n"))))
    assert (body["temperature"], body["top_p"], body["top_k"]) == (1.0, 0.9, 4)
    assert body["stop_sequences"] == ["END"]
    assert _changes(written) == ["clamp=temperature", "drop=stop"]


@pytest.mark.parametrize("attempt", [NEWER, _with(sampling=False)])
def test_where_no_sampling_is_taken_each_parameter_is_named(attempt: Attempt) -> None:
    body, written = _sent(
        _call(sampling=Sampling(temperature=1.7, top_p=0.9, top_k=4, stop=("END",))), attempt
    )
    assert not body.keys() & {"temperature", "top_p", "top_k"}
    assert body["stop_sequences"] == ["END"]
    assert _changes(written) == ["drop=temperature", "drop=top_p", "drop=top_k"]


def test_top_p_yields_to_temperature_where_the_model_takes_one_alone() -> None:
    attempt = _with(temperature_and_top_p=False)
    body, written = _sent(_call(sampling=Sampling(temperature=0.5, top_p=0.9)), attempt)
    assert "top_p" not in body
    assert _changes(written) == ["drop=top_p"]
    assert _sent(_call(sampling=Sampling(top_p=0.9)), attempt)[0]["top_p"] == 0.9


def test_thinking_leaves_no_other_sampling() -> None:
    reasoning = ReasoningOptions(effort="low")
    body, written = _sent(_call(sampling=Sampling(temperature=0.5, top_p=0.5, top_k=4), reasoning=reasoning))
    assert not body.keys() & {"temperature", "top_p", "top_k"}
    assert _changes(written) == ["drop=temperature", "drop=top_p", "drop=top_k"]
    body, written = _sent(_call(sampling=Sampling(temperature=1, top_p=0.99), reasoning=reasoning))
    assert (body["temperature"], body["top_p"]) == (1, 0.99)


def test_what_has_no_word_here_is_named_and_what_says_nothing_is_not() -> None:
    raw = msgspec.Raw(b'{"1":2}')
    sampling = Sampling(
        min_p=0.1,
        seed=0,
        presence_penalty=1,
        frequency_penalty=0,
        logit_bias=raw,
        logprobs=True,
        top_logprobs=2,
    )
    extra = {
        "store": msgspec.Raw(b"true"),
        "modalities": msgspec.Raw(b"null"),
        "background": msgspec.Raw(b"false"),
    }
    _, written = _sent(_call(sampling=sampling, verbosity="low", cache_key="k", metadata=raw, extra=extra))
    assert sorted(_changes(written)) == sorted(
        f"drop={name}"
        for name in "min_p seed presence_penalty logit_bias logprobs top_logprobs verbosity prompt_cache_key metadata store".split()
    )


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "background"])
def test_state_kept_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        write_request(_call(extra={name: msgspec.Raw(b'"x"')}), ATTEMPT)
    assert caught.value.param == name


def test_several_choices_are_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        write_request(_call(sampling=Sampling(n=2)), ATTEMPT)
    assert caught.value.param == "n"


@pytest.mark.parametrize(
    ("tier", "sent"),
    [(None, None), ("auto", "auto"), ("default", "standard_only"), ("flex", None), ("priority", None)],
)
def test_user_and_tier_have_their_places(tier: str | None, sent: str | None) -> None:
    body, written = _sent(_call(user="u1", tier=tier, stream=True))
    assert body["metadata"] == {"user_id": "u1"}
    assert body["stream"] is True
    assert body.get("service_tier") == sent
    assert _changes(written) == (["drop=service_tier"] if tier in {"flex", "priority"} else [])


def _marked(
    ttl: str | None, *, dialect: str = "openai_chat", top: bool = False, result: int = 0
) -> ChatRequest:
    cache = CacheBreakpoint(ttl)
    return _call(
        messages=(
            Message("system", (TextPart("S", cache=cache),)),
            _user(TextPart("U", cache=cache)),
            _assistant(ToolCallPart("c1", "clock", "")),
            _tool(
                ToolResultPart("c1", tuple(TextPart("R", cache=cache) for _ in range(result)), cache=cache)
            ),
        ),
        tools=(Tool("clock", cache=cache),),
        dialect=dialect,
        cache=cache if top else None,
    )


@pytest.mark.parametrize(
    ("ttl", "control", "changes"),
    [
        (None, {"type": "ephemeral"}, 0),
        ("5m", {"type": "ephemeral", "ttl": "5m"}, 0),
        ("1h", {"type": "ephemeral", "ttl": "1h"}, 0),
        ("30m", {"type": "ephemeral", "ttl": "5m"}, 4),
        ("12h", {"type": "ephemeral", "ttl": "1h"}, 4),
        ("1y", {"type": "ephemeral"}, 4),
    ],
)
def test_every_cache_marker_is_sent_with_its_lifetime(ttl: str | None, control: Any, changes: int) -> None:
    body, written = _sent(_marked(ttl))
    blocks = [
        body["tools"][0],
        body["system"][0],
        body["messages"][0]["content"][0],
        body["messages"][2]["content"][0],
    ]
    assert [block["cache_control"] for block in blocks] == [control] * 4
    assert len(written.changes) == changes


def test_the_earliest_markers_yield_where_there_are_more_than_four() -> None:
    body, written = _sent(_marked(None, top=True, result=1))
    marker = {"type": "ephemeral"}
    assert body["cache_control"] == marker
    assert "cache_control" not in body["tools"][0]
    assert "cache_control" not in body["system"][0]
    (result,) = body["messages"][2]["content"]
    assert result["cache_control"] == result["content"][0]["cache_control"] == marker
    assert written.body.count(b"cache_control") == 4
    assert _changes(written) == ["drop=tools[0].cache_control", "drop=messages[0].content[0].cache_control"]
    body, _ = _sent(_marked(None, top=True, result=4))
    assert "cache_control" not in body["messages"][2]["content"][0]["content"][0]


def test_citations_stay_within_the_dialect_and_the_version() -> None:
    raw = msgspec.Raw(
        b'[{"type":"char_location","cited_text":"a","document_index":0,"document_title":null,"start_char_index":0,"end_char_index":1}]'
    )
    own, other = (
        TextPart("a", annotations=raw, annotations_of="anthropic_messages"),
        TextPart("b", annotations=raw, annotations_of="openai_chat"),
    )
    call = _call(messages=(_user(own), _assistant(own, other), _user("x")))
    body, written = _sent(call)
    assert "citations" in body["messages"][0]["content"][0]
    assert ["citations" in block for block in body["messages"][1]["content"]] == [True, False]
    assert _changes(written) == ["drop=messages[1].content[1].annotations"]
    body, written = _sent(call, NEWER)
    assert "citations" not in body["messages"][0]["content"][0]
    assert "drop=messages[0].content[0].annotations" in _changes(written)


def test_names_namespaces_and_members_without_a_place_are_named() -> None:
    messages = (
        Message("user", (TextPart("Hi"),), name="Ada", path="input[3]", extra={"odd": msgspec.Raw(b"1")}),
        _assistant(
            RefusalPart("No."), ToolCallPart("c1", "clock", "", namespace="n", extra={"x": msgspec.Raw(b"1")})
        ),
        _tool(ToolResultPart("c1", ())),
    )
    tools = (Tool("clock", namespace="n", extra={"x": msgspec.Raw(b"1")}),)
    _, written = _sent(_call(messages=messages, tools=tools))
    assert _changes(written) == [
        "drop=tools[0].namespace",
        "drop=tools[0].x",
        "drop=input[3].name",
        "drop=input[3].odd",
        "lower=messages[1].content[0]",
        "drop=messages[1].content[1].namespace",
        "drop=messages[1].content[1].x",
    ]


def test_a_service_that_refuses_a_member_is_not_sent_it() -> None:
    attempt = msgspec.structs.replace(ATTEMPT, quirks=Quirks(refuses=("service_tier", "metadata")))
    body, written = _sent(_call(user="u1", tier="auto"), attempt)
    assert not body.keys() & {"service_tier", "metadata"}
    assert _changes(written) == ["drop=service_tier", "drop=metadata"]
