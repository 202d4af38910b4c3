"""Responses requests: what clients send, read; what providers get, written; and what leaves for
another dialect.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from modelplex.core.errors import BadRequest, ModelplexError, StatePinned, Unsupported
from modelplex.core.request import (
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
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.openai_chat.fields import FIELDS as CHAT_FIELDS
from modelplex.dialects.openai_responses import dialect as openai_responses
from modelplex.dialects.registry import write_request
from tests.dialects.openai_responses.peer import ATTEMPT, make_ask, make_call
from tests.dialects.sides import placed, usual_paths

_REQUEST: TypeAdapter[Any] = TypeAdapter(response_create_params.ResponseCreateParamsNonStreaming)

CUSTOM = msgspec.structs.replace(ATTEMPT, quirks=Quirks(custom_tools=True))
FOREIGN: dict[str, Any] = {
    "openai_chat": openai_chat,
    "anthropic_messages": anthropic,
    "ollama": ollama,
}
SEARCH = {"type": "web_search", "external_web_access": False}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
READ = {
    "type": "function",
    "name": "read",
    "description": "Read.",
    "parameters": {"type": "object"},
    "strict": False,
}
CODEX: dict[str, Any] = {
    "instructions": "You are Codex.",
    "tools": [
        {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False},
        {"type": "custom", "name": "apply_patch", "description": "Patch.", "format": GRAMMAR},
        SEARCH,
        {"type": "namespace", "name": "mcp__fs__", "description": "Files.", "tools": [READ]},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "text": {"verbosity": "low"},
    "client_metadata": {"x": "y"},
    "stream": True,
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {"role": "user", "content": "Fix it."},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA",
        },
        {
            "type": "message",
            "role": "assistant",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "read", "namespace": "mcp__fs__", "arguments": ""},
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [
                {"type": "input_text", "text": "ok"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            ],
        },
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
    ],
}


def sent(call: ChatRequest, attempt: Attempt = ATTEMPT) -> tuple[dict[str, Any], ProviderRequest]:
    """The body, which the official client's own type of a request takes as it is."""
    written = write_request(call, attempt)
    body: dict[str, Any] = json.loads(written.body)
    if call.dialect != "openai_responses":  # what came in this form goes on as it came, whatever it was
        _REQUEST.validate_python({name: value for name, value in body.items() if name != "stream"})
    return body, written


PATHS = usual_paths(CHAT_FIELDS)


def chat(**more: Any) -> ChatRequest:
    messages = more.pop("messages", (Message("user", (TextPart("Hi"),), path="messages[0]"),))
    tools = placed(more.pop("tools", ()))
    return ChatRequest(dialect="openai_chat", model="m", messages=messages, tools=tools, paths=PATHS, **more)


def refused(call: ChatRequest, attempt: Attempt = ATTEMPT) -> ModelplexError:
    with pytest.raises(ModelplexError) as caught:
        write_request(call, attempt)
    return caught.value


# --- read -----------------------------------------------------------------------------------------


def test_a_plain_text_is_what_the_user_says() -> None:
    assert make_call(input="Hi").messages == (Message("user", (TextPart("Hi"),), path="input"),)


def test_what_codex_sends_is_understood() -> None:
    call = make_call(**CODEX)
    assert [message.role for message in call.messages] == ["system", "developer", "user", "assistant", "tool"]
    assert call.messages[3].phase == "commentary"
    assert call.messages[3].parts == (
        ReasoningPart("Hm.", OpaqueState("openai-responses-v1", "gAAA", id="rs_1"), summary=True),
        TextPart("Looking."),
        ToolCallPart("c1", "read", "{}", namespace="mcp__fs__"),
        ToolCallPart("c2", "apply_patch", "*** Begin", free=True),
    )
    assert call.messages[4].parts == (
        ToolResultPart("c1", (TextPart("ok"), ImagePart(InlineData("image/png", "AAAA"), "low"))),
        ToolResultPart("c2", (TextPart("done"),), free=True),
    )
    shell, patch, search, read = call.tools
    assert isinstance(shell, Tool)
    assert isinstance(patch, FreeformTool)
    assert (patch.name, patch.description, patch.path) == ("apply_patch", "Patch.", "tools[1]")
    assert (patch.syntax, patch.definition) == ("lark", "start: x")
    assert isinstance(search, HostedTool)
    assert (search.dialect, search.type, json.loads(bytes(search.raw))) == (
        "openai_responses",
        "web_search",
        SEARCH,
    )
    assert isinstance(read, Tool)
    assert (read.name, read.namespace, call.namespaces) == ("read", "mcp__fs__", {"mcp__fs__": "Files."})
    assert (call.parallel, call.verbosity, call.cache_key) == (False, "low", "k")
    assert call.reasoning == ReasoningOptions(effort="medium", show="auto")


def test_parts_of_every_kind_are_read() -> None:
    parts = [
        {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}},
        {"type": "input_image", "image_url": "https://e.org/a.png"},
        {"type": "input_image", "file_id": "file-1", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        {"type": "input_file", "filename": "a.txt", "file_data": "AA=="},
        {"type": "input_file", "file_url": "https://e.org/a.pdf"},
        {"type": "input_file", "file_id": "file-2"},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "input_hologram"},
    ]
    *known, unknown = make_call(input=[{"role": "user", "content": parts}]).messages[0].parts
    assert known == [
        TextPart("a", CacheBreakpoint("12h")),
        ImagePart(UrlReference("https://e.org/a.png")),
        ImagePart(FileReference("file-1"), "auto"),
        DocumentPart(InlineData("application/pdf", "AA=="), filename="a.pdf"),
        DocumentPart(InlineData("text/plain", "AA=="), filename="a.txt"),
        DocumentPart(UrlReference("https://e.org/a.pdf")),
        DocumentPart(FileReference("file-2")),
        AudioPart("AA==", "wav"),
    ]
    assert isinstance(unknown, ForeignPart)


def test_a_refusal_and_annotations_of_earlier_answers_are_read() -> None:
    content = [
        {"type": "output_text", "text": "a", "annotations": [{"type": "file_path"}]},
        {"type": "refusal", "refusal": "No."},
    ]
    text, refusal = make_call(input=[{"role": "assistant", "content": content}]).messages[0].parts
    assert isinstance(text, TextPart)
    assert text.annotations_of == "openai_responses"
    assert refusal == RefusalPart("No.")


def test_messages_of_the_assistant_stay_apart_and_calls_stay_together() -> None:
    def says(text: str) -> dict[str, Any]:
        return {"role": "assistant", "content": text}

    def calls(id_: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": id_, "name": "f", "arguments": "{}"}

    messages = make_call(input=[says("a"), says("b"), calls("c"), says("d"), calls("e")]).messages
    assert [[type(part).__name__ for part in message.parts] for message in messages] == [
        ["TextPart"],
        ["TextPart", "ToolCallPart", "TextPart", "ToolCallPart"],
    ]


def test_a_sealed_state_of_another_provider_is_opened() -> None:
    state = OpaqueState("anthropic-claude-v1", "sig==", provider="anthropic", account="k1")
    item = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]}
    call = make_call(input=[{**item, "encrypted_content": wrap(state)}])
    assert call.messages[0].parts == (ReasoningPart("Hm.", state),)


def test_reasoning_that_can_be_read_says_more_than_its_summary() -> None:
    item = {
        "type": "reasoning",
        "id": "rs",
        "summary": [{"type": "summary_text", "text": "Short."}],
        "content": [{"type": "reasoning_text", "text": "Long."}],
    }
    assert make_call(input=[item]).messages[0].parts == (ReasoningPart("Long."),)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("named", ("f",))),
        ({"type": "custom", "name": "p"}, ToolChoice("named", ("p",))),
        ({"type": "web_search"}, ToolChoice("named", ("web_search",))),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
            },
            ToolChoice("subset", ("f", "web_search"), required=True),
        ),
    ],
)
def test_each_choice_is_read_and_goes_back_as_it_was(given: Any, read: ToolChoice) -> None:
    tools = [READ | {"name": "f"}, {"type": "custom", "name": "p"}, SEARCH]
    call = make_call(tools=tools, tool_choice=given)
    assert call.choice == read
    assert sent(call)[0]["tool_choice"] == given


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ({"type": "text"}, ResponseFormat("text")),
        ({"type": "json_object"}, ResponseFormat("json")),
    ],
)
def test_each_form_of_an_answer_is_read_and_goes_back_as_it_was(form: Any, read: ResponseFormat) -> None:
    call = make_call(text={"format": form})
    assert call.format == read
    assert sent(call)[0]["text"] == {"format": form}


def test_a_schema_is_read_and_goes_back_as_it_was() -> None:
    form = {"type": "json_schema", "name": "s", "description": "d", "schema": {"a": 1}, "strict": True}
    call = make_call(text={"format": form})
    assert call.format is not None
    assert (call.format.kind, call.format.name, call.format.strict) == ("schema", "s", True)
    assert sent(call)[0]["text"] == {"format": form}


def test_log_probabilities_are_asked_for_by_include() -> None:
    call = make_call(include=["message.output_text.logprobs"], top_logprobs=3)
    assert (call.sampling.logprobs, call.sampling.top_logprobs) == (True, 3)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}]},
            "tools[0].tools[0].name",
        ),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "s"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"max_output_tokens": "9"}, "max_output_tokens"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        make_call(**body)
    assert caught.value.param == param


# --- the same dialect -----------------------------------------------------------------------------


def test_what_codex_sends_goes_to_a_provider_of_the_same_form_as_it_came() -> None:
    body, written = sent(make_call(**CODEX))
    assert written.changes == ()
    said = {name: value for name, value in CODEX.items() if name != "input"}
    assert {name: body[name] for name in said} == said
    assert body["model"] == "m-up"
    given = json.loads(json.dumps(CODEX["input"]))
    given[1] = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]}
    given[4]["arguments"] = "{}"
    assert body["input"] == given


def test_items_that_only_this_form_has_go_back_to_the_last_byte() -> None:
    items = [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
        {"type": "local_shell_call_output", "id": "x", "output": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
    ]
    body, _ = sent(make_call(input=items))
    assert body["input"] == items


def test_members_without_a_place_ride_along() -> None:
    more = {
        "truncation": "auto",
        "max_tool_calls": 2,
        "prompt_cache_retention": "24h",
        "reasoning": {"effort": "low", "context": "all_turns"},
        "stream_options": {"include_obfuscation": False},
        "stream": True,
    }
    body, _ = sent(make_call(**more))
    assert {name: body[name] for name in more} == more


def test_nothing_is_kept_at_a_provider() -> None:
    assert sent(make_call())[0]["store"] is False
    assert sent(make_call(store=True))[0]["store"] is False
    assert sent(chat())[0]["store"] is False


# --- from other dialects --------------------------------------------------------------------------


def test_leading_instructions_stand_before_the_conversation_and_later_ones_in_it() -> None:
    messages = (
        Message("system", (TextPart("One."),), path="messages[0]"),
        Message("developer", (TextPart("Two."),), path="messages[1]"),
        Message("user", (TextPart("Hi"),), path="messages[2]"),
        Message("system", (TextPart("Three."),), path="messages[3]"),
    )
    body, _ = sent(chat(messages=messages))
    assert body["instructions"] == "One.\n\nTwo."
    assert [item["role"] for item in body["input"]] == ["user", "system"]


def test_a_conversation_of_another_form_becomes_items() -> None:
    state = OpaqueState("openai-responses-v1", "gAAA", provider="acme", account="k1", id="rs_1")
    messages = (
        Message(
            "user",
            (
                TextPart("Hi"),
                ImagePart(InlineData("image/png", "AA==")),
                SearchResultPart("e.org", "E", ("x",)),
            ),
        ),
        Message(
            "assistant",
            (
                ReasoningPart("Hm.", state, summary=True),
                TextPart("Looking."),
                ToolCallPart("c1", "f", "{}"),
                ToolCallPart("c2", "p", "*** x", free=True),
            ),
        ),
        Message("tool", (ToolResultPart("c1", (TextPart("No."),), is_error=True), ToolResultPart("c2", ()))),
        Message(
            "user",
            (DocumentPart(PlainText("text"), title="T"), DocumentPart(UrlReference("https://e.org/a.pdf"))),
        ),
    )
    body, _ = sent(chat(messages=messages, tools=(Tool("f"), FreeformTool("p"))), CUSTOM)
    assert body["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AA=="},
                {"type": "input_text", "text": "E (e.org)\nx"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA",
        },
        {
            "id": "msg_0",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
            "status": "completed",
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "*** x"},
        {"type": "function_call_output", "call_id": "c1", "output": "[tool error] No."},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": ""},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "T\ntext"},
                {"type": "input_file", "file_url": "https://e.org/a.pdf"},
            ],
        },
    ]
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["tools"][0] == {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }


def test_controls_of_another_form_are_said_in_this_ones_words() -> None:
    call = chat(
        max_tokens=9,
        sampling=Sampling(temperature=0.5, top_p=0.9, logprobs=True, top_logprobs=2),
        format=ResponseFormat("schema", msgspec.Raw(b'{"type":"object"}'), name="s", strict=True),
        verbosity="low",
        reasoning=ReasoningOptions(effort="high", show="summarized"),
        cache_key="k",
        user="u",
        tier="flex",
        metadata=msgspec.Raw(b'{"a":"b"}'),
        stream=True,
    )
    body, written = sent(call)
    assert written.changes == ()
    told: dict[str, Any] = {
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "stream": True,
    }
    told |= {"reasoning": {"effort": "high", "summary": "auto"}, "prompt_cache_key": "k"}
    told |= {"safety_identifier": "u", "service_tier": "flex", "metadata": {"a": "b"}}
    told |= {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]}
    schema = {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": True}
    told |= {"text": {"format": schema, "verbosity": "low"}}
    assert {name: body[name] for name in told} == told
    assert "stream_options" not in body


def test_what_this_form_has_no_words_for_is_named() -> None:
    call = chat(
        sampling=Sampling(top_k=3, seed=1, presence_penalty=0.5, stop=("x",)),
        reasoning=ReasoningOptions(budget=8192),
        extra={"modalities": msgspec.Raw(b'["text"]'), "store": msgspec.Raw(b"true")},
        cache=CacheBreakpoint("5m"),
    )
    body, written = sent(call)
    assert body["reasoning"] == {"effort": "medium"}
    assert [(change.op, change.path) for change in written.changes] == [
        ("lower", "reasoning.max_tokens"),
        ("drop", "top_k"),
        ("drop", "seed"),
        ("drop", "presence_penalty"),
        ("drop", "stop"),
        ("drop", "cache_control"),
        ("drop", "modalities"),
        ("drop", "store"),
    ]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (AudioPart("AA==", "wav"), "messages[0].content[0]"),
        (ImagePart(FileReference("f")), "messages[0].content[0]"),
        (DocumentPart(FileReference("f")), "messages[0].content[0]"),
        (ForeignPart("gemini", "x", msgspec.Raw(b"{}")), "messages[0].content[0]"),
    ],
)
def test_a_part_that_cannot_be_said_is_refused_by_its_place(part: Any, param: str) -> None:
    error = refused(chat(messages=(Message("user", (part,), path="messages[0]"),)))
    assert isinstance(error, Unsupported)
    assert error.param == param


def test_several_choices_and_calls_without_results_are_refused() -> None:
    assert refused(chat(sampling=Sampling(n=2))).param == "n"
    open_call = Message("assistant", (ToolCallPart("c1", "f", "{}"),), path="messages[0]")
    assert "'c1'" in refused(chat(messages=(open_call,))).message


def test_sealed_state_goes_to_its_maker_alone() -> None:
    other = OpaqueState("openai-responses-v1", "gAAA", provider="acme", account="k2")
    message = Message("assistant", (ReasoningPart("Hm.", other),), path="messages[0]")
    assert isinstance(refused(chat(messages=(message,))), StatePinned)
    unknown = msgspec.structs.replace(
        message, parts=(ReasoningPart("Hm.", OpaqueState("anthropic-claude-v1", "x")),)
    )
    body, written = sent(chat(messages=(unknown,)))
    assert body["input"] == []
    assert [change.op for change in written.changes] == ["drop", "drop"]


def test_a_long_name_is_replaced_wherever_it_stands_and_a_long_id_too() -> None:
    long, id_ = "a.tool.with.dots", "c" * 80
    messages = (
        Message("assistant", (ToolCallPart(id_, long, "{}"),)),
        Message("tool", (ToolResultPart(id_, (TextPart("x"),)),)),
    )
    body, written = sent(chat(messages=messages, tools=(Tool(long),), choice=ToolChoice("named", (long,))))
    (alias,) = written.aliases
    assert [body["tools"][0]["name"], body["tool_choice"]["name"], body["input"][0]["name"]] == [alias] * 3
    assert body["input"][0]["call_id"] == body["input"][1]["call_id"]
    assert len(body["input"][0]["call_id"]) <= 64


def test_a_free_tool_is_a_function_where_the_service_knows_functions_only() -> None:
    messages = (
        Message("assistant", (ToolCallPart("c", "p", "*** x", free=True),)),
        Message("tool", (ToolResultPart("c", (TextPart("y"),), free=True),)),
    )
    body, written = sent(chat(messages=messages, tools=(FreeformTool("p", "P.", "lark", "x"),)))
    assert body["tools"][0]["type"] == "function"
    assert [item["type"] for item in body["input"]] == ["function_call", "function_call_output"]
    assert json.loads(body["input"][0]["arguments"]) == {"input": "*** x"}
    assert written.free == {"p"}


def test_a_schema_is_a_forced_tool_where_the_model_has_none() -> None:
    attempt = msgspec.structs.replace(ATTEMPT, facts=ModelFacts(schema=False))
    form = ResponseFormat("schema", msgspec.Raw(b'{"type":"object"}'))
    body, written = sent(chat(format=form), attempt)
    assert written.answer_tool == body["tool_choice"]["name"]
    assert refused(chat(format=form, tools=(Tool("f"),)), attempt).param == "response_format"


def test_a_foreign_hosted_tool_stays_behind() -> None:
    tool = HostedTool("anthropic_messages", "web_search_20250305", msgspec.Raw(b"{}"), name="web_search")
    body, written = sent(chat(tools=(Tool("f"), tool)))
    assert [each["name"] for each in body["tools"]] == ["f"]
    assert [(change.op, change.path) for change in written.changes] == [("drop", "tools[1]")]
    assert refused(chat(tools=(tool,), choice=ToolChoice("named", ("web_search",)))).param == "tool_choice"
    assert refused(chat(tools=(tool,), choice=ToolChoice("required"))).param == "tool_choice"


# --- to other dialects ----------------------------------------------------------------------------


def left(dialect: str, **body: Any) -> tuple[dict[str, Any], ProviderRequest]:
    facts = ModelFacts(thinking="adaptive")
    attempt = Attempt(provider="other", model="m-up", dialect=dialect, account="k9", facts=facts)
    written: ProviderRequest = write_request(make_call(**body), attempt)
    return json.loads(written.body), written


def _names(body: dict[str, Any]) -> list[str]:
    inner = [tool.get("function") or tool.get("custom") or tool for tool in body["tools"]]
    return [tool["name"] for tool in inner]


@pytest.mark.parametrize("dialect", FOREIGN)
def test_a_turn_of_codex_runs_on_a_provider_of_any_form(dialect: str) -> None:
    body, written = left(dialect, **CODEX)
    assert _names(body) == ["shell", "apply_patch", "mcp__fs__read"]
    assert "mcp__fs__read" in json.dumps(body["messages"])
    changes = {(change.op, change.path) for change in written.changes}
    assert ("drop", "tools[2]") in changes
    assert ("rename", "tools[3]") in changes
    assert not {path for _, path in changes} & {"store", "include", "stream_options", "input[3].phase"}


@pytest.mark.parametrize("dialect", FOREIGN)
def test_a_hosted_tool_that_is_forced_or_that_the_client_runs_is_refused(dialect: str) -> None:
    for body, param in (
        ({"tools": [READ, SEARCH], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [READ, {"type": "local_shell"}]}, "tools[1]"),
    ):
        with pytest.raises(Unsupported) as caught:
            left(dialect, **body)
        assert caught.value.param == param


@pytest.mark.parametrize("dialect", FOREIGN)
def test_what_is_kept_elsewhere_is_refused(dialect: str) -> None:
    for body in (
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"background": True},
        {"prompt": {"id": "p"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "compaction", "encrypted_content": "gAAA"}]},
    ):
        with pytest.raises(Unsupported):
            left(dialect, **body)


@pytest.mark.parametrize("dialect", FOREIGN)
def test_a_record_of_an_earlier_search_is_left_out_and_named(dialect: str) -> None:
    search = {"type": "web_search_call", "id": "ws", "status": "completed"}
    said = {"role": "assistant", "content": "Sunny."}
    items = [{"role": "user", "content": "Hi"}, search, said, {"role": "user", "content": "And?"}]
    body, written = left(dialect, input=items)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert ("drop", "input[1]") in {(change.op, change.path) for change in written.changes}


def test_a_choice_among_tools_loses_those_that_stay_behind() -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "web_search"}, {"type": "function", "name": "read"}],
    }
    body, _ = left("openai_chat", tools=[READ, SEARCH], tool_choice=allowed)
    assert [tool["function"]["name"] for tool in body["tool_choice"]["allowed_tools"]["tools"]] == ["read"]
    only = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}
    with pytest.raises(Unsupported):
        left("openai_chat", tools=[READ, SEARCH], tool_choice=only)


def test_a_choice_of_a_tool_in_a_namespace_finds_it_outside() -> None:
    space = {"type": "namespace", "name": "fs", "description": "", "tools": [READ]}
    body, _ = left("openai_chat", tools=[space], tool_choice={"type": "function", "name": "read"})
    assert body["tool_choice"]["function"]["name"] == "fs__read"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"truncation": "auto"}, "truncation"),
        ({"truncation": "disabled"}, None),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"background": False}, None),
        ({"store": True}, None),
        ({"include": ["reasoning.encrypted_content"]}, None),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"reasoning": {"effort": "low", "context": "auto"}}, "reasoning.context"),
        ({"stream_options": {"include_obfuscation": False}}, None),
    ],
)
def test_members_that_say_nothing_elsewhere_go_in_silence_and_others_by_name(
    body: dict[str, Any], path: str | None
) -> None:
    _, written = left("openai_chat", **body)
    assert [change.path for change in written.changes] == ([] if path is None else [path])


# --- earlier answers ------------------------------------------------------------------------------


def test_earlier_items_stand_before_the_requests_own() -> None:
    ask = make_ask(input="And?", previous_response_id="resp_1", temperature=0.5)
    assert openai_responses.previous_response(ask) == "resp_1"
    first = openai_responses.input_items(make_ask(input="Hi"))
    answer = (
        b'{"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Yes."}]}]}'
    )
    merged = openai_responses.with_history(ask, [*first, *openai_responses.output_items(answer)])
    assert [m.role for m in openai_responses.read_call(merged).messages] == ["user", "assistant", "user"]
    assert "previous_response_id" not in json.loads(merged.body)
    assert json.loads(merged.body)["temperature"] == 0.5
    assert openai_responses.previous_response(merged) is None
    assert len(openai_responses.input_items(merged)) == 3


def test_an_answer_is_kept_unless_the_client_says_otherwise() -> None:
    assert openai_responses.wants_keeping(make_ask())
    assert openai_responses.wants_keeping(make_ask(store=True))
    assert not openai_responses.wants_keeping(make_ask(store=False))


@pytest.mark.parametrize(
    ("body", "keeps", "param"),
    [
        ({"previous_response_id": "resp_1"}, False, "previous_response_id"),
        ({"previous_response_id": "resp_1"}, True, None),
        ({"conversation": "c"}, True, "conversation"),
        ({"prompt": {"id": "p"}}, True, "prompt"),
        ({"background": True}, True, "background"),
        ({"background": False, "conversation": None, "store": True}, False, None),
    ],
)
def test_state_that_nobody_keeps_is_refused(body: dict[str, Any], keeps: bool, param: str | None) -> None:
    if param is None:
        openai_responses.check_state(make_ask(**body), keeps=keeps)
        return
    with pytest.raises(BadRequest) as caught:
        openai_responses.check_state(make_ask(**body), keeps=keeps)
    assert caught.value.param == param


def test_listed_items_have_names_and_content() -> None:
    items = [
        msgspec.Raw(b'{"role":"user","content":"Hi"}'),
        msgspec.Raw(b'{"type":"message","id":"msg_1","role":"assistant","content":[]}'),
    ]
    told = json.loads(openai_responses.write_item_list(items, response_id="resp_9"))
    assert [item["id"] for item in told["data"]] == ["message_9_0", "msg_1"]
    assert told["data"][0]["content"] == [{"type": "input_text", "text": "Hi"}]
    assert (told["object"], told["first_id"], told["last_id"], told["has_more"]) == (
        "list",
        "message_9_0",
        "msg_1",
        False,
    )


def test_small_answers_are_in_the_forms_words() -> None:
    assert json.loads(openai_responses.write_deleted("resp_1")) == {
        "id": "resp_1",
        "object": "response",
        "deleted": True,
    }
    assert json.loads(openai_responses.write_input_tokens(7)) == {
        "object": "response.input_tokens",
        "input_tokens": 7,
    }
