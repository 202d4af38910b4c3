"""Between Gemini and the other forms, in every direction: what the official clients' types say of
it.
"""

import json
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai import types
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from modelplex.core.errors import Unsupported
from modelplex.core.events import Event, ResponseFailed
from modelplex.core.request import (
    Attempt,
    ChatRequest,
    HostedTool,
    ModelFacts,
    OpaqueState,
    ProviderRequest,
    ToolChoice,
)
from modelplex.dialects.gemini import dialect as gemini
from modelplex.dialects.gemini.json import as_signature
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.registry import provider_dialect, write_request
from tests.dialects.gemini.peer import (
    ATTEMPT,
    chat_call,
    make_call,
    model,
    read_by_official_client,
    sent,
    user,
    write_stream,
)
from tests.dialects.openai_chat import peer as openai_chat_peer

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts"
NOTHING = ProviderRequest(body=b"")
OPENAI = Attempt(provider="openai", model="gpt-6", dialect="openai_chat", account="k2")
ANTHROPIC = Attempt(
    provider="anthropic",
    model="claude-sonnet-4-5",
    dialect="anthropic_messages",
    account="k3",
    facts=ModelFacts(max_output=64000),
)
FAILING = {"broken_off", "overloaded_inside_200", "error_after_output", "malformed_call", "empty"}
GEMINI_STREAMS = sorted(path.parent.name for path in (TRANSCRIPTS / "gemini").glob("*/stream.sse"))
WEATHER: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def _events(case: str, *, piece: int, dialect: str = "gemini") -> list[Event]:
    attempt = {"gemini": ATTEMPT, "openai_chat": OPENAI, "anthropic_messages": ANTHROPIC}[dialect]
    written = NOTHING
    if (file := TRANSCRIPTS / dialect / case / "written.json").exists():
        given: dict[str, Any] = json.loads(file.read_text())
        written = ProviderRequest(
            b"", aliases=given.get("aliases", {}), free=frozenset(given.get("free", ()))
        )
    reader = provider_dialect(dialect).reader(attempt, written)
    data = (TRANSCRIPTS / dialect / case / "stream.sse").read_bytes()
    events: list[Event] = []
    for start in range(0, len(data), piece):
        events += reader.feed(data[start : start + piece])
    return [*events, *reader.end()]


def _changes(written: ProviderRequest) -> list[tuple[str, str]]:
    return [(change.op, change.path) for change in written.changes]


# --- from OpenAI's chat form to Gemini and back


def test_a_chat_request_with_tools_image_and_schema_becomes_a_gemini_request() -> None:
    call = chat_call(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "Who is this?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,aGVsbG8=", "detail": "low"},
                    },
                    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    {
                        "type": "file",
                        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": "Looking.",
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city":"Bern"}'},
                    },
                    {"id": "b", "type": "function", "function": {"name": "9.lives", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "b", "content": "nine"},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
            {"role": "system", "content": "Now answer."},
            {"role": "user", "content": "So?"},
        ],
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "description": "W",
                    "parameters": WEATHER,
                    "strict": True,
                },
            },
            {
                "type": "function",
                "function": {"name": "9.lives", "parameters": {"type": "object", "properties": {}}},
            },
        ],
        tool_choice={"type": "function", "function": {"name": "9.lives"}},
        parallel_tool_calls=False,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": WEATHER, "strict": True},
        },
        max_completion_tokens=500,
        temperature=1.5,
        top_p=0.9,
        stop=["END"],
        seed=7,
        presence_penalty=0.5,
        n=2,
        logprobs=True,
        top_logprobs=3,
        logit_bias={"1": 2},
        user="u1",
        reasoning_effort="high",
        stream=True,
    )
    body, written = sent(call)
    lives = next(iter(written.aliases))
    assert lives.startswith("_9_lives_"), "a name may not begin with a digit there"
    assert written.aliases[lives] == "9.lives"
    assert body == {
        "contents": [
            user(
                "Who is this?",
                {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}},
                {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
                {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}},
            ),
            model(
                "Looking.",
                {
                    "functionCall": {"id": "a", "name": "get_weather", "args": {"city": "Bern"}},
                    "thoughtSignature": "skip_thought_signature_validator",
                },
                {"functionCall": {"id": "b", "name": lives, "args": {}}},
            ),
            user(
                {"functionResponse": {"id": "a", "name": "get_weather", "response": {"output": "rain"}}},
                {"functionResponse": {"id": "b", "name": lives, "response": {"output": "nine"}}},
            ),
            user("[System note, not written by the user]\nNow answer.", "So?"),
        ],
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "get_weather", "description": "W", "parametersJsonSchema": WEATHER},
                    {"name": lives},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [lives]}},
        "generationConfig": {
            "maxOutputTokens": 500,
            "temperature": 1.5,
            "topP": 0.9,
            "seed": 7,
            "presencePenalty": 0.5,
            "stopSequences": ["END"],
            "candidateCount": 2,
            "responseLogprobs": True,
            "logprobs": 3,
            "responseMimeType": "application/json",
            "responseJsonSchema": WEATHER,
            "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True},
        },
    }
    assert sorted(_changes(written)) == [
        ("add", "messages[3]"),
        ("drop", "logit_bias"),
        ("drop", "messages[2].content[1].image_url.detail"),
        ("drop", "messages[2].content[3].file.filename"),
        ("drop", "messages[2].name"),
        ("drop", "parallel_tool_calls"),
        ("drop", "tools[0].function.strict"),
        ("drop", "user"),
        ("lower", "messages[6]"),
        ("rename", "tools[1].function.name"),
    ]
    assert all(change.reason for change in written.changes)


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("none", {"mode": "NONE"}),
        ("auto", {"mode": "AUTO"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "f"}}],
                },
            },
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_every_form_of_choice_has_its_own(choice: Any, config: dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "fg"]
    body, _ = sent(chat_call([{"role": "user", "content": "x"}], tools=tools, tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": config}


def test_a_failed_tool_and_a_picture_in_a_result_are_said() -> None:
    call = make_call(
        user("Go"),
        model({"functionCall": {"name": "f", "id": "a"}}, {"functionCall": {"name": "f", "id": "b"}}),
        user(
            {"functionResponse": {"name": "f", "id": "a", "response": {"error": "broke"}}},
            {
                "functionResponse": {
                    "name": "f",
                    "id": "b",
                    "response": {"output": "see"},
                    "parts": [{"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}],
                }
            },
        ),
    )
    body, _ = sent(msgspec.structs.replace(call, dialect="openai_chat"))
    failed, seen = (part["functionResponse"] for part in body["contents"][2]["parts"])
    assert failed["response"] == {"error": "broke"}
    assert seen["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}]
    chat = json.loads(write_request(call, OPENAI).body)["messages"]
    assert chat[2]["content"] == "[tool error] broke"
    assert chat[4]["content"][0]["image_url"] == {"url": "data:image/png;base64,aGVsbG8="}
    native = json.loads(write_request(call, ANTHROPIC).body)["messages"][2]["content"]
    assert [block.get("is_error", False) for block in native] == [True, False]
    assert native[1]["content"][1]["type"] == "image"


def test_a_free_form_tool_is_wrapped_and_raised_back() -> None:
    tools = [{"type": "custom", "custom": {"name": "patch", "description": "P"}}]
    body, written = sent(chat_call([{"role": "user", "content": "x"}], tools=tools))
    (declared,) = body["tools"][0]["functionDeclarations"]
    assert list(declared["parametersJsonSchema"]["properties"]) == ["input"]
    assert written.free == {"patch"}


# OpenAI's own chunk types have no free-form tools.
@pytest.mark.parametrize(
    "case", [case for case in GEMINI_STREAMS if case not in FAILING | {"free_and_aliased"}]
)
@pytest.mark.parametrize("piece", [1, 100_000])
def test_a_gemini_stream_is_accepted_by_openais_client(case: str, piece: int) -> None:
    call = chat_call(
        [{"role": "user", "content": "x"}], stream=True, stream_options={"include_usage": True}, logprobs=True
    )
    stream = openai_chat_peer.write_stream(_events(case, piece=piece), call)
    assert stream.endswith(b"data: [DONE]\n\n")
    answer = openai_chat_peer.accepted_by_the_official_client(stream)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    whole, _ = openai_chat.write_response(_events(case, piece=9), call, id="i", created=1, model="m")
    assert json.loads(whole)["choices"][0]["finish_reason"] == answer.choices[0].finish_reason


@pytest.mark.parametrize("case", sorted(FAILING))
def test_a_broken_gemini_stream_is_never_told_as_a_finished_answer(case: str) -> None:
    events = _events(case, piece=7)
    assert isinstance(events[-1], ResponseFailed)
    stream = openai_chat_peer.write_stream(events, chat_call([{"role": "user", "content": "x"}], stream=True))
    assert b"[DONE]" not in stream
    assert b'"finish_reason":"' not in stream


def test_an_openai_client_gets_thoughts_text_and_calls() -> None:
    call = chat_call([{"role": "user", "content": "x"}], stream=True)
    answer = openai_chat_peer.accepted_by_the_official_client(
        openai_chat_peer.write_stream(_events("thought_text_two_calls", piece=11), call)
    )
    message = answer.choices[0].message
    assert message.content == "Ich schaue nach. 🌦"
    assert (message.model_extra or {})["reasoning_content"] == "**Planning**\n\nTwo places, two tools."
    calls = [tool.to_dict() for tool in message.tool_calls or ()]
    assert [cast("dict[str, Any]", tool["function"])["name"] for tool in calls] == ["get_weather", "get_time"]
    assert [cast("dict[str, Any]", tool["function"])["arguments"] for tool in calls] == [
        '{"city": "Zürich", "days": 3}',
        "{}",
    ]
    assert answer.choices[0].finish_reason == "tool_calls"


def _as_openai_message(case: str, *, streamed: bool) -> dict[str, Any]:
    """The assistant message that an OpenAI client keeps of this answer."""
    call = chat_call([{"role": "user", "content": "x"}], stream=streamed)
    events = _events(case, piece=13)
    if not streamed:
        body, _ = openai_chat.write_response(events, call, id="i", created=1, model="m")
        return cast("dict[str, Any]", json.loads(body)["choices"][0]["message"])
    stream = openai_chat_peer.write_stream(events, call)
    message = openai_chat_peer.accepted_by_the_official_client(stream).choices[0].message
    return message.model_dump(mode="json", exclude_none=True)


SIGNED: list[tuple[str, list[dict[str, Any]]]] = [
    (
        "thought_text_two_calls",
        [
            {"text": "Ich schaue nach. 🌦"},
            {
                "functionCall": {
                    "id": "call_0",
                    "name": "get_weather",
                    "args": {"city": "Zürich", "days": 3},
                },
                "thoughtSignature": "EuYBCuMBAb4+9vv/",
            },
            {"functionCall": {"id": "call_1", "name": "get_time", "args": {}}},
        ],
    ),
    (
        "signature_on_a_part_of_its_own",
        [{"text": "Four."}, {"text": "", "thoughtSignature": "CsIBAXLI2nx/abc="}],
    ),
    ("signature_on_text", [{"text": "Four.", "thoughtSignature": "CsIBAXLI2nx/text"}]),
    (
        "signed_thought",
        [{"text": "Hm.", "thought": True, "thoughtSignature": "CsThought+w="}, {"text": "Yes."}],
    ),
    (
        "ids_given",
        [
            {
                "functionCall": {"id": "fc_8a1", "name": "get_time", "args": {"zone": "UTC"}},
                "thoughtSignature": "c2ln",
            },
            {"functionCall": {"id": "fc_8a2", "name": "get_time", "args": {"zone": "CET"}}},
        ],
    ),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("case", "parts"), SIGNED)
def test_a_signature_returns_on_the_same_part_through_an_openai_client(
    case: str, parts: list[dict[str, Any]], *, streamed: bool
) -> None:
    message = _as_openai_message(case, streamed=streamed)
    results = [
        {"role": "tool", "tool_call_id": tool["id"], "content": "ok"}
        for tool in message.get("tool_calls", ())
    ]
    body, written = sent(
        chat_call([{"role": "user", "content": "x"}, message, *results, {"role": "user", "content": "y"}])
    )
    assert body["contents"][1]["parts"] == parts
    assert ("add", "messages[1]") not in _changes(written)


# --- from Gemini's form to the others and back


def _gemini_request() -> ChatRequest:
    return make_call(
        user("Look", {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}),
        model(
            {"functionCall": {"name": "get_weather", "args": {"city": "Bern"}}},
            {"functionCall": {"name": "get_time"}},
        ),
        user(
            {"functionResponse": {"name": "get_time", "response": {"output": "noon"}}},
            {"functionResponse": {"name": "get_weather", "response": {"sky": "grey"}}},
            {"text": "So?"},
        ),
        systemInstruction={"parts": [{"text": "Be brief."}]},
        tools=[
            {
                "functionDeclarations": [
                    {
                        "name": "get_weather",
                        "description": "W",
                        "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
                    },
                    {"name": "get_time"},
                ]
            }
        ],
        toolConfig={"functionCallingConfig": {"mode": "AUTO"}},
        generationConfig={
            "maxOutputTokens": 500,
            "temperature": 0.5,
            "stopSequences": ["END"],
            "thinkingConfig": {"thinkingBudget": 0},
        },
        safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
    )


def test_a_gemini_request_becomes_a_chat_request() -> None:
    written = write_request(_gemini_request(), OPENAI)
    body: dict[str, Any] = json.loads(written.body)
    types_: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
    types_.validate_python(body)
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]
    assert body["messages"][2]["tool_calls"] == [
        {
            "id": "call_0",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'},
        },
        {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
    ]
    assert {message["tool_call_id"]: message["content"] for message in body["messages"][3:5]} == {
        "call_1": "noon",
        "call_0": '{"sky": "grey"}',
    }
    assert body["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "properties": {"city": {"type": "string"}},
    }
    assert (body["reasoning_effort"], body["tool_choice"]) == ("none", "auto")
    assert _changes(written) == [("drop", "safetySettings")]


def test_a_gemini_request_becomes_an_anthropic_request() -> None:
    written = write_request(_gemini_request(), ANTHROPIC)
    body: dict[str, Any] = json.loads(written.body)
    types_: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
    types_.validate_python({name: value for name, value in body.items() if name != "temperature"})
    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    results = body["messages"][2]["content"]
    assert [block["type"] for block in results] == ["tool_result", "tool_result", "text"]
    assert [block.get("tool_use_id") for block in results[:2]] == ["call_0", "call_1"]
    assert body["thinking"] == {"type": "disabled"}
    assert _changes(written) == [("drop", "safetySettings")]


def _replayed(chunks: list[types.GenerateContentResponse]) -> list[dict[str, Any]]:
    """The contents that Google's client keeps of a stream in a chat: one for each chunk."""
    contents = [(chunk.candidates or [])[0].content for chunk in chunks if chunk.candidates]
    return [
        content.model_dump(mode="json", exclude_none=True, by_alias=True) for content in contents if content
    ]


CHAT_STREAMS = [
    "text",
    "tools_parallel",
    "vllm_text_and_tool_in_one_chunk",
    "deepseek_reasoning_and_tool",
    "refusal",
]
ANTHROPIC_STREAMS = [
    "thinking_text_two_tools",
    "redacted_thinking",
    "whole_call_in_one_delta",
    "stop_sequence",
    "context_full",
    "paused_turn",
    "refusal",
    "thinking_omitted",
]


@pytest.mark.parametrize(
    ("dialect", "case"),
    [
        *(("openai_chat", case) for case in CHAT_STREAMS),
        *(("anthropic_messages", case) for case in ANTHROPIC_STREAMS),
    ],
)
def test_the_streams_of_others_are_read_by_googles_client(dialect: str, case: str) -> None:
    events = _events(case, piece=17, dialect=dialect)
    call = make_call(user("x"), stream=True)
    chunks = read_by_official_client(write_stream(events, call))
    finished = [c.finish_reason for chunk in chunks for c in chunk.candidates or () if c.finish_reason]
    assert len(finished) == 1
    body, _ = gemini.write_response(events, call, id="i", created=1, model="m")
    whole = types.GenerateContentResponse.model_validate_json(body)
    assert "".join(chunk.text or "" for chunk in chunks) == (whole.text or "")
    streamed = [part.function_call for chunk in chunks for part in chunk.parts or () if part.function_call]
    assert streamed == [part.function_call for part in whole.parts or () if part.function_call]


@pytest.mark.parametrize("case", ["thinking_text_two_tools", "redacted_thinking", "thinking_omitted"])
def test_anthropics_thinking_comes_back_byte_for_byte_through_a_gemini_client(case: str) -> None:
    events = _events(case, piece=23, dialect="anthropic_messages")
    kept = _replayed(read_by_official_client(write_stream(events, make_call(user("x"), stream=True))))
    results = [
        {"functionResponse": {"name": part["functionCall"]["name"], "response": {"output": "ok"}}}
        for content in kept
        for part in content.get("parts", [])
        if "functionCall" in part
    ]
    call = make_call(user("x"), *kept, user(*results) if results else user("y"))
    body = json.loads(write_request(call, ANTHROPIC).body)
    sent_back = [block for block in body["messages"][1]["content"] if "thinking" in block["type"]]
    chat = chat_call([{"role": "user", "content": "x"}])
    answer, _ = openai_chat.write_response(events, chat, id="i", created=1, model="m")
    message = json.loads(answer)["choices"][0]["message"]
    details = [
        {"role": "tool", "tool_call_id": t["id"], "content": "ok"} for t in message.get("tool_calls", ())
    ]
    other = chat_call([{"role": "user", "content": "x"}, message, *details, {"role": "user", "content": "y"}])
    expected = json.loads(write_request(other, ANTHROPIC).body)
    assert sent_back == [block for block in expected["messages"][1]["content"] if "thinking" in block["type"]]
    assert sent_back


def test_a_gemini_clients_seals_of_another_account_are_pinned() -> None:
    signature = as_signature(OpaqueState("anthropic-claude-v1", "x", "anthropic", "elsewhere"))
    call = make_call(
        user("x"), model({"text": "t", "thought": True, "thoughtSignature": signature}, "Hi"), user("y")
    )
    (thinking, _) = call.messages[1].parts
    assert getattr(thinking, "state", None) == OpaqueState(
        "anthropic-claude-v1", "x", "anthropic", "elsewhere"
    )


def test_a_hosted_tool_is_left_out_elsewhere_and_named() -> None:
    call = make_call(user("x"), tools=[{"googleSearch": {}}])
    assert _changes(write_request(call, OPENAI)) == [("drop", "tools[0].googleSearch")]
    assert _changes(write_request(call, ANTHROPIC)) == [("drop", "tools[0].googleSearch")]
    run_by_the_client = make_call(user("x"), tools=[{"computerUse": {"environment": "ENVIRONMENT_BROWSER"}}])
    with pytest.raises(Unsupported) as refused:
        write_request(run_by_the_client, OPENAI)
    assert refused.value.param == "tools[0].computerUse"


def test_a_tool_that_another_provider_runs_is_left_out_and_named() -> None:
    hosted = HostedTool(
        "openai_responses", "web_search", msgspec.Raw(b'{"type":"web_search"}'), path="tools[0]"
    )
    call = msgspec.structs.replace(chat_call([{"role": "user", "content": "x"}]), tools=(hosted,))
    body, written = sent(call)
    assert "tools" not in body
    assert _changes(written) == [("drop", "tools[0]")]
    with pytest.raises(Unsupported):
        sent(msgspec.structs.replace(call, choice=ToolChoice("required")))
    with pytest.raises(Unsupported):
        sent(msgspec.structs.replace(call, choice=ToolChoice("named", ("web_search",))))


def test_a_conversation_that_google_keeps_goes_nowhere_else() -> None:
    call = make_call(user("x"), cachedContent="cachedContents/1")
    assert sent(call)[0]["cachedContent"] == "cachedContents/1"
    for attempt in (OPENAI, ANTHROPIC):
        with pytest.raises(Unsupported) as refused:
            write_request(call, attempt)
        assert refused.value.param == "cachedContent"


def test_a_search_that_is_asked_for_by_an_empty_object_is_named_as_lost() -> None:
    call = chat_call([{"role": "user", "content": "x"}], web_search_options={}, prediction=None)
    assert _changes(sent(call)[1]) == [("drop", "web_search_options")]
