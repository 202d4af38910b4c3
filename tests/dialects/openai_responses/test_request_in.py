"""Requests of Responses clients, read; and put after the items of earlier ones."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from modelplex.core.errors import BadRequest
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
    OpaqueState,
    ProviderRequest,
    ReasoningOptions,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.openai_responses import dialect as openai_responses
from modelplex.dialects.registry import write_request
from tests.dialects.openai_responses.peer import ATTEMPT, make_ask, make_call

_REQUEST: TypeAdapter[Any] = TypeAdapter(response_create_params.ResponseCreateParamsNonStreaming)
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
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
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
    assert openai_responses.wants_storing(make_ask())
    assert openai_responses.wants_storing(make_ask(store=True))
    assert not openai_responses.wants_storing(make_ask(store=False))


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
