"""Gemini, what is asked: by clients, read into a Call; of providers, written from one."""

import json
from typing import Any

import httpx2
import msgspec
import pytest
from google.genai import types

from modelplex.core.errors import BadRequest, StatePinned, Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    ChatRequest,
    DocumentPart,
    Effort,
    EmbeddingRequest,
    ForeignPart,
    HostedTool,
    ImagePart,
    InlineData,
    Message,
    ModelFacts,
    OpaqueState,
    Quirks,
    RawRequest,
    ReasoningOptions,
    ReasoningPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.gemini import dialect as gemini
from modelplex.dialects.openai_chat.fields import FIELDS as CHAT_FIELDS
from modelplex.dialects.openai_chat.prompts import MAX_INPUTS
from tests.dialects.gemini.peer import (
    ATTEMPT,
    BUDGETED,
    chat_call,
    make_ask,
    make_call,
    model,
    official_client,
    sent,
    user,
)
from tests.dialects.sides import usual_paths

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days_ahead": {"type": "integer"}},
    "required": ["city"],
}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}


def _changes(written: Any) -> list[tuple[str, str]]:
    return [(change.op, change.path) for change in written.changes]


# --- what clients ask


def test_what_the_official_client_sends_is_understood() -> None:
    bodies: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        return httpx2.Response(200, json={"candidates": []})

    tool = types.Tool(
        function_declarations=[
            types.FunctionDeclaration(
                name="get_weather",
                description="Tells the weather",
                parameters=types.Schema(
                    type=types.Type.OBJECT,
                    properties={
                        "city": types.Schema(type=types.Type.STRING, nullable=True),
                        "days_ahead": types.Schema(type=types.Type.INTEGER, minimum=0),
                    },
                    required=["city"],
                ),
            )
        ]
    )
    client = official_client(answer)
    client.models.generate_content(
        model="gemini-3-pro",
        contents=[
            types.Content(
                role="user",
                parts=[types.Part(text="Look"), types.Part.from_bytes(data=b"hello", mime_type="image/png")],
            ),
            types.Content(
                role="model",
                parts=[
                    types.Part(
                        function_call=types.FunctionCall(name="get_weather", args={"city": "Bern"}),
                        thought_signature=b"sig?~",
                    )
                ],
            ),
            types.Content(
                role="user",
                parts=[types.Part.from_function_response(name="get_weather", response={"output": "rain"})],
            ),
        ],
        config=types.GenerateContentConfig(
            system_instruction="Be brief.",
            tools=[tool],
            tool_config=types.ToolConfig(
                function_calling_config=types.FunctionCallingConfig(
                    mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["get_weather"]
                )
            ),
            temperature=0.5,
            max_output_tokens=500,
            stop_sequences=["END"],
            thinking_config=types.ThinkingConfig(
                include_thoughts=True, thinking_level=types.ThinkingLevel.LOW
            ),
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        ),
    )
    call = gemini.read_call(make_ask(bodies[0]))
    assert call.messages == (
        Message("system", (TextPart("Be brief."),), path="systemInstruction"),
        Message(
            "user", (TextPart("Look"), ImagePart(InlineData("image/png", "aGVsbG8="))), path="contents[0]"
        ),
        Message(
            "assistant",
            (
                ToolCallPart(
                    "call_0",
                    "get_weather",
                    '{"city": "Bern"}',
                    state=OpaqueState("google-gemini-v1", "c2lnP34="),
                ),
            ),
            path="contents[1]",
        ),
        Message(
            "tool", (ToolResultPart("call_0", (TextPart("rain"),), name="get_weather"),), path="contents[2]"
        ),
    )
    (declared,) = call.tools
    assert isinstance(declared, Tool)
    assert declared.parameters is not None
    assert json.loads(bytes(declared.parameters)) == {
        "type": "object",
        "properties": {"city": {"type": ["string", "null"]}, "days_ahead": {"type": "integer", "minimum": 0}},
        "required": ["city"],
    }
    assert call.choice == ToolChoice("named", ("get_weather",))
    assert (call.sampling.temperature, call.sampling.stop, call.max_tokens) == (0.5, ("END",), 500)
    assert call.reasoning == ReasoningOptions(effort="low", show="summarized")


def test_both_spellings_of_every_member_are_read_and_the_users_own_names_are_kept() -> None:
    camel = {
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}, PICTURE]},
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "f", "args": {"my_arg": 1}}, "thoughtSignature": "c2ln"}],
            },
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"my_out": 2}}}]},
        ],
        "systemInstruction": {"parts": [{"text": "S"}]},
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": WEATHER}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"topP": 0.5, "maxOutputTokens": 9, "thinkingConfig": {"thinkingBudget": 512}},
        "safetySettings": [],
    }
    snake = {
        "contents": [
            {
                "role": "user",
                "parts": [{"text": "Hi"}, {"inline_data": {"mime_type": "image/png", "data": "aGVsbG8="}}],
            },
            {
                "role": "model",
                "parts": [
                    {"function_call": {"name": "f", "args": {"my_arg": 1}}, "thought_signature": "c2ln"}
                ],
            },
            {"role": "user", "parts": {"function_response": {"name": "f", "response": {"my_out": 2}}}},
        ],
        "system_instruction": {"parts": {"text": "S"}},
        "tools": {"function_declarations": {"name": "f", "parameters_json_schema": WEATHER}},
        "tool_config": {"function_calling_config": {"mode": "ANY"}},
        "generation_config": {
            "top_p": 0.5,
            "max_output_tokens": 9,
            "thinking_config": {"thinking_budget": 512},
        },
        "safety_settings": [],
    }
    read, other = gemini.read_call(make_ask(camel)), gemini.read_call(make_ask(snake))
    assert other.paths["max_tokens"] == "generation_config.max_output_tokens"
    assert read == msgspec.structs.replace(other, paths=read.paths)
    (result,) = read.messages[-1].parts
    assert result == ToolResultPart("call_0", (TextPart('{"my_out": 2}'),), name="f")
    assert list(read.extra) == ["safetySettings"]


def test_an_answer_that_comes_back_in_pieces_is_one_turn_again() -> None:
    call = make_call(
        user("Why?"),
        model({"text": "Let me ", "thought": True}),
        model({"text": "think.", "thought": True}),
        model({"text": "", "thought": True, "thoughtSignature": "c2ln"}),
        model("Be"),
        model("cause."),
        model({"functionCall": {"name": "f", "args": {}, "id": "a"}, "thoughtSignature": "b25l"}),
        model({"functionCall": {"name": "f", "args": {}, "id": "b"}}, {"text": ""}),
        user({"functionResponse": {"name": "f", "id": "b", "response": {"error": "no"}}}),
        user({"functionResponse": {"name": "f", "id": "a", "response": {}}}, "And now?"),
    )
    _, answer, results, question = call.messages
    assert answer.parts == (
        ReasoningPart("Let me think.", OpaqueState("google-gemini-v1", "c2ln"), summary=True),
        TextPart("Because."),
        ToolCallPart("a", "f", "{}", state=OpaqueState("google-gemini-v1", "b25l")),
        ToolCallPart("b", "f", "{}"),
    )
    assert results.parts == (
        ToolResultPart("b", (TextPart("no"),), is_error=True, name="f"),
        ToolResultPart("a", (), name="f"),
    )
    assert question.parts == (TextPart("And now?"),)


def test_results_without_ids_go_to_the_calls_of_their_name_in_order() -> None:
    call = make_call(
        user("Go"),
        model(
            {"functionCall": {"name": "f"}}, {"functionCall": {"name": "g"}}, {"functionCall": {"name": "f"}}
        ),
        {
            "role": "function",
            "parts": [
                {"functionResponse": {"name": "g", "response": {"output": "2"}}},
                {"functionResponse": {"name": "f", "response": {"output": "1"}}},
                {"functionResponse": {"name": "f", "response": {"output": "3"}}},
            ],
        },
        model({"functionCall": {"name": "f"}}),
        user({"functionResponse": {"name": "f", "response": {"output": "4"}}}),
    )
    made = [part.id for message in call.messages for part in message.parts if isinstance(part, ToolCallPart)]
    assert made == ["call_0", "call_1", "call_2", "call_3"]
    results = [
        part.id for message in call.messages for part in message.parts if isinstance(part, ToolResultPart)
    ]
    assert results == ["call_1", "call_0", "call_2", "call_3"]


def test_parts_of_every_kind_are_read() -> None:
    call = make_call(
        user(
            {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
            {"inlineData": {"mimeType": "audio/ogg", "data": "T2dn"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg==", "displayName": "a.pdf"}},
            {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
            {
                "fileData": {
                    "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x",
                    "mimeType": "image/png",
                }
            },
            {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
            {"fileData": {"fileUri": "https://example.com/a.pdf", "mimeType": "application/pdf"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK"}},
        )
    )
    parts = call.messages[0].parts
    assert parts[:3] == (
        AudioPart("UklGRg==", "wav"),
        AudioPart("T2dn", "ogg"),
        DocumentPart(InlineData("application/pdf", "JVBERg=="), filename="a.pdf"),
    )
    assert [type(part) for part in parts[3:]] == [
        ForeignPart,
        ForeignPart,
        ImagePart,
        DocumentPart,
        ForeignPart,
    ]
    assert [part.source for part in parts if isinstance(part, ImagePart)] == [
        UrlReference("https://example.com/a.png")
    ]


def test_a_result_may_hold_pictures() -> None:
    result = {"name": "f", "response": {"output": "see"}, "parts": [PICTURE], "scheduling": "SILENT"}
    call = make_call(user("Go"), model({"functionCall": {"name": "f"}}), user({"functionResponse": result}))
    (read,) = call.messages[-1].parts
    assert isinstance(read, ToolResultPart)
    assert read.parts == (TextPart("see"), ImagePart(InlineData("image/png", "aGVsbG8=")))
    assert list(read.extra) == ["scheduling"]


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({"mode": "AUTO"}, ToolChoice("auto")),
        ({}, ToolChoice("auto")),
        ({"mode": "NONE"}, ToolChoice("none")),
        ({"mode": "ANY"}, ToolChoice("required")),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, ToolChoice("named", ("f",))),
        (
            {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
            ToolChoice("subset", ("f", "g"), required=True),
        ),
        ({"mode": "VALIDATED"}, ToolChoice("auto")),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ToolChoice("subset", ("f",))),
    ],
)
def test_a_choice_is_read_and_goes_back_as_it_was(config: dict[str, Any], choice: ToolChoice) -> None:
    declared = [{"name": "f"}, {"name": "g"}]
    call = make_call(
        user("Go"), tools=[{"functionDeclarations": declared}], toolConfig={"functionCallingConfig": config}
    )
    assert call.choice == choice
    body, _ = sent(call)
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "AUTO", **config}


@pytest.mark.parametrize(
    ("config", "reasoning"),
    [
        ({"thinkingLevel": "HIGH"}, ReasoningOptions(effort="high")),
        ({"thinkingLevel": "minimal"}, ReasoningOptions(effort="minimal")),
        ({"thinkingBudget": 0}, ReasoningOptions(effort="none")),
        ({"thinkingBudget": -1}, ReasoningOptions(mode="adaptive")),
        ({"thinkingBudget": 4096, "includeThoughts": False}, ReasoningOptions(budget=4096, show="omitted")),
        ({"includeThoughts": True}, ReasoningOptions(show="summarized")),
    ],
)
def test_thinking_is_read(config: dict[str, Any], reasoning: ReasoningOptions) -> None:
    assert make_call(user("Go"), generationConfig={"thinkingConfig": config}).reasoning == reasoning


def test_schemas_and_formats_are_read() -> None:
    def formats(**config: Any) -> ResponseFormat | None:
        return make_call(user("Go"), generationConfig=config).format

    def schema(**config: Any) -> object:
        read = formats(responseMimeType="application/json", **config)
        assert read is not None
        assert read.kind == "schema"
        assert read.schema is not None
        return json.loads(bytes(read.schema))

    assert formats(responseMimeType="text/plain") is None
    assert formats(responseMimeType="application/json") == ResponseFormat("json")
    assert schema(responseJsonSchema=WEATHER) == WEATHER
    own = {
        "type": "OBJECT",
        "propertyOrdering": ["a"],
        "properties": {
            "a": {
                "type": "ARRAY",
                "minItems": "2",
                "items": {"type": "STRING", "enum": ["x"], "nullable": True},
            },
            "any_of": {"any_of": [{"type": "NUMBER"}, {"type": "NULL"}]},
        },
    }
    assert schema(responseSchema=own) == {
        "type": "object",
        "properties": {
            "a": {"type": "array", "minItems": 2, "items": {"type": ["string", "null"], "enum": ["x", None]}},
            "any_of": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        },
    }


def test_hosted_tools_are_kept_apart_and_go_back_as_they_came() -> None:
    tools: list[dict[str, Any]] = [
        {"googleSearch": {}},
        {"functionDeclarations": [{"name": "f"}]},
        {"codeExecution": {}, "url_context": {}},
    ]
    call = make_call(user("Go"), tools=tools)
    assert [tool.type for tool in call.tools if isinstance(tool, HostedTool)] == [
        "googleSearch",
        "codeExecution",
        "urlContext",
    ]
    body, _ = sent(call)
    assert body["tools"] == [
        {"functionDeclarations": [{"name": "f"}]},
        {"googleSearch": {}},
        {"codeExecution": {}},
        {"urlContext": {}},
    ]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "contents"),
    ({"contents": "Hi"}, "contents"),
    ({"contents": [{"role": "assistant", "parts": []}]}, "contents[0].role"),
    ({"contents": [user({})]}, "contents[0].parts[0]"),
    ({"contents": [user({"text": 5})]}, "contents[0].parts[0].text"),
    ({"contents": [user({"functionResponse": {"name": "f"}})]}, "contents[0].parts[0].functionResponse"),
    (
        {"contents": [model({"functionCall": {"name": "f", "args": [1]}})]},
        "contents[0].parts[0].functionCall.args",
    ),
    ({"contents": [user("x")], "generationConfig": {"topP": "high"}}, "generationConfig.topP"),
    (
        {"contents": [user("x")], "generationConfig": {"thinkingConfig": {"thinkingLevel": "HUGE"}}},
        "generationConfig.thinkingConfig.thinkingLevel",
    ),
    (
        {"contents": [user("x")], "toolConfig": {"functionCallingConfig": {"mode": "MAYBE"}}},
        "toolConfig.functionCallingConfig.mode",
    ),
    (
        {"contents": [user("x")], "tools": [{"functionDeclarations": [{}]}]},
        "tools[0].functionDeclarations[0]",
    ),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_what_is_wrong_is_named_by_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        gemini.read_call(make_ask(body))
    assert refused.value.param == param


def test_a_schema_without_a_floor_is_refused() -> None:
    schema: dict[str, Any] = {"type": "OBJECT"}
    for _ in range(200):
        schema = {"type": "ARRAY", "items": schema}
    with pytest.raises(BadRequest, match="nested"):
        make_call(user("Go"), tools=[{"functionDeclarations": [{"name": "f", "parameters": schema}]}])


def test_what_has_no_place_rides_along_to_gemini_and_is_named_by_its_path() -> None:
    call = make_call(
        user("Go"),
        cachedContent="cachedContents/1",
        safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        generationConfig={"mediaResolution": "MEDIA_RESOLUTION_LOW", "responseModalities": ["TEXT"]},
        toolConfig={"retrievalConfig": {"languageCode": "de"}},
    )
    assert sorted(call.extra) == [
        "cachedContent",
        "generationConfig.mediaResolution",
        "generationConfig.responseModalities",
        "safetySettings",
        "toolConfig.retrievalConfig",
    ]
    body, written = sent(call)
    assert body["generationConfig"] == {
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "responseModalities": ["TEXT"],
    }
    assert body["toolConfig"] == {"retrievalConfig": {"languageCode": "de"}}
    assert body["cachedContent"] == "cachedContents/1"
    assert written.changes == ()


def test_a_call_of_this_dialect_is_written_as_it_was_read() -> None:
    contents = [
        user("Look", PICTURE),
        model(
            {"text": "Hm.", "thought": True, "thoughtSignature": "dGg="},
            {"text": "Well.", "thoughtSignature": "dHg="},
            {
                "functionCall": {"id": "a", "name": "9 lives", "args": {"x_y": 1.50}},
                "thoughtSignature": "Y2E=",
            },
            {"functionCall": {"id": "b", "name": "g", "args": {}}},
        ),
        user(
            {"functionResponse": {"id": "a", "name": "9 lives", "response": {"n": 1}}},
            {"functionResponse": {"id": "b", "name": "g", "response": {"output": "ok"}, "parts": [PICTURE]}},
        ),
        model(
            "Done",
            {"executableCode": {"code": "1", "language": "PYTHON"}},
            {"text": "", "thoughtSignature": "ZW4="},
        ),
        user("Thanks"),
    ]
    system = {"parts": [{"text": "S"}]}
    body, written = sent(make_call(*contents, systemInstruction=system))
    expected = [
        *contents[:3],
        model("Done", {"text": "", "thoughtSignature": "ZW4="}, contents[3]["parts"][1]),
        contents[4],
    ]
    assert body == {"contents": expected, "systemInstruction": system}
    assert written.changes == ()


# --- what providers are asked


def test_levels_and_budgets_are_asked_for_as_the_model_has_them() -> None:
    def config(attempt: Attempt, **asked: Any) -> Any:
        body, written = sent(_replaced(reasoning=ReasoningOptions(**asked)), attempt)
        thinking = body.get("generationConfig", {}).get("thinkingConfig", {})
        return thinking.get("thinkingLevel", thinking.get("thinkingBudget")), _changes(written)

    efforts: list[Effort] = ["minimal", "low", "medium", "high", "xhigh", "max"]
    levels = [config(ATTEMPT, effort=effort)[0] for effort in efforts]
    assert levels == ["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH", "XHIGH"]
    budgets = [config(BUDGETED, effort=effort)[0] for effort in efforts]
    assert budgets == [1024, 2048, 8192, 16384, 24576, 24576]
    assert config(BUDGETED, effort="none") == (0, [])
    assert config(BUDGETED, budget=3000) == (3000, [])
    assert config(BUDGETED, mode="adaptive") == (-1, [])
    assert config(ATTEMPT, effort="none") == ("MINIMAL", [("clamp", "reasoning_effort")])
    assert config(ATTEMPT, budget=9000) == ("MEDIUM", [("lower", "reasoning.max_tokens")])
    assert config(ATTEMPT, mode="adaptive") == (None, [])
    some = _with_facts(levels=("low", "high"))
    assert config(some, effort="medium") == ("LOW", [("clamp", "reasoning_effort")])
    assert config(some, effort="minimal") == ("LOW", [("clamp", "reasoning_effort")])
    assert config(some, effort="max") == ("HIGH", [("clamp", "reasoning_effort")])
    assert config(_with_facts(thinking="none"), effort="high") == (None, [("drop", "reasoning_effort")])


def _with_facts(**facts: Any) -> Attempt:
    known: dict[str, Any] = {"thinking": "adaptive", "can_disable_thinking": False, **facts}
    return msgspec.structs.replace(ATTEMPT, facts=ModelFacts(**known))


def _replaced(**more: Any) -> ChatRequest:
    call = chat_call([{"role": "user", "content": "Hi"}])
    return msgspec.structs.replace(call, paths=usual_paths(CHAT_FIELDS), **more)


def test_thoughts_are_shown_to_who_asks_for_thinking() -> None:
    def shown(**asked: Any) -> Any:
        body, _ = sent(_replaced(reasoning=ReasoningOptions(**asked)))
        return body["generationConfig"]["thinkingConfig"].get("includeThoughts")

    assert shown(effort="low") is True
    assert shown(effort="low", show="omitted") is False
    assert "generationConfig" not in sent(_replaced())[0]


def _assistant(*parts: Any) -> ChatRequest:
    hello = Message("user", (TextPart("Hi"),), path="messages[0]")
    answer = Message("assistant", parts, path="messages[1]")
    return ChatRequest(
        dialect="openai_chat",
        model="m",
        messages=(hello, answer, msgspec.structs.replace(hello, path="messages[2]")),
    )


def test_a_signature_goes_back_on_the_text_that_it_sat_on_wherever_it_was_kept() -> None:
    on_text = ReasoningPart("", OpaqueState("google-gemini-v1", "dHg=", "google", "k1", id="text"))
    own = ReasoningPart("", OpaqueState("google-gemini-v1", "b3c=", "google", "k1", id="part"))
    for parts in ((on_text, TextPart("Four.")), (TextPart("Four."), on_text)):
        body, _ = sent(_assistant(*parts))
        assert body["contents"][1]["parts"] == [{"text": "Four.", "thoughtSignature": "dHg="}]
    for parts in ((own, TextPart("Four.")), (TextPart("Four."), own)):
        body, _ = sent(_assistant(*parts))
        assert body["contents"][1]["parts"] == [{"text": "Four."}, {"text": "", "thoughtSignature": "b3c="}]
    body, _ = sent(_assistant(own))
    assert body["contents"][1]["parts"] == [{"text": "", "thoughtSignature": "b3c="}]


def test_another_providers_sealed_state_never_leaves_for_this_one() -> None:
    for state in (
        OpaqueState("google-gemini-v1", "x", "elsewhere", "k1"),
        OpaqueState("google-gemini-v1", "x", "google", "k2"),
        OpaqueState("anthropic-claude-v1", "x", "anthropic", "k1"),
    ):
        with pytest.raises(StatePinned):
            sent(_assistant(ReasoningPart("t", state)))
        with pytest.raises(StatePinned):
            sent(_assistant(ToolCallPart("a", "f", "{}", state=state)))
    body, written = sent(
        _assistant(ReasoningPart("t", OpaqueState("unknown", "x")), ReasoningPart("plain"), TextPart("Hi"))
    )
    assert body["contents"][1]["parts"] == [{"text": "Hi"}]
    assert _changes(written) == [("drop", "messages[1].content[0]"), ("drop", "messages[1].content[1]")]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (ImagePart(UrlReference("https://example.com/a.png")), "address"),
        (DocumentPart(UrlReference("https://example.com/a.pdf")), "address"),
        (ForeignPart("anthropic_messages", "search_result", msgspec.Raw(b"{}")), "no words"),
        (AudioPart("", "wav", id="audio_1"), "kept at another"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_place(part: Any, told: str) -> None:
    call = ChatRequest(
        dialect="openai_chat",
        model="m",
        messages=(Message("user", (TextPart("x"), part), path="messages[0]"),),
    )
    with pytest.raises(Unsupported, match=told) as refused:
        sent(call)
    assert refused.value.param == "messages[0].content[1]"


def test_calls_and_results_that_do_not_match_are_refused_by_their_ids() -> None:
    called = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    with pytest.raises(BadRequest, match="calls without a result: a"):
        sent(chat_call([{"role": "user", "content": "x"}, called, {"role": "user", "content": "y"}]))
    with pytest.raises(BadRequest, match="results without a call: b"):
        sent(
            chat_call(
                [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "b", "content": "y"}]
            )
        )


def test_fields_that_the_service_refuses_are_left_out_and_named() -> None:
    attempt = msgspec.structs.replace(ATTEMPT, quirks=Quirks(refuses=("seed",)))
    body, written = sent(chat_call([{"role": "user", "content": "x"}], seed=1), attempt)
    assert "seed" not in body["generationConfig"]
    assert _changes(written) == [("drop", "seed")]


# --- vectors and counts


def test_embeddings_are_asked_for_in_one_batch() -> None:
    written = gemini.write_embedding(
        EmbeddingRequest(dialect="openai_embeddings", model="m", inputs=("a", "b"), dimensions=256), ATTEMPT
    )
    assert json.loads(written.body) == {
        "requests": [
            {
                "model": "models/gemini-3-pro",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 256,
            }
            for text in ("a", "b")
        ]
    }
    with pytest.raises(Unsupported):
        gemini.write_embedding(
            EmbeddingRequest(dialect="openai_embeddings", model="m", inputs=((1, 2),)), ATTEMPT
        )


def _embed(body: dict[str, Any]) -> tuple[RawRequest, EmbeddingRequest]:
    ask = msgspec.structs.replace(make_ask(body), endpoint="embed_content")
    return ask, gemini.read_embedding(ask)


def test_too_many_texts_to_embed_are_refused_by_their_number() -> None:
    one = {"content": {"parts": [{"text": "a"}]}}
    with pytest.raises(BadRequest, match=f"'requests' has {MAX_INPUTS + 1} entries"):
        _embed({"requests": [one] * (MAX_INPUTS + 1)})


def test_both_forms_of_asking_for_vectors_are_read_and_answered_in_kind() -> None:
    single, asked = _embed(
        {"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "output_dimensionality": 8, "taskType": "T"}
    )
    assert (asked.inputs, asked.dimensions, list(asked.extra)) == (("a\nb",), 8, ["taskType"])
    batch, many = _embed(
        {"requests": [{"model": "models/m", "content": {"parts": [{"text": text}]}} for text in "ab"]}
    )
    assert (many.inputs, many.dimensions, many.extra) == (("a", "b"), None, {})
    vectors = gemini.read_embedded(b'{"embeddings":[{"values":[1]},{"values":[2]}]}')
    assert json.loads(gemini.write_embedded(vectors, single))["embedding"] == {"values": [1.0]}
    assert json.loads(gemini.write_embedded(vectors, batch))["embeddings"] == [
        {"values": [1.0]},
        {"values": [2.0]},
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests": []},
        {"content": {"parts": [PICTURE]}},
        {"requests": [{"content": {"parts": [{"text": "a"}]}, "outputDimensionality": n} for n in (1, 2)]},
    ],
)
def test_what_asks_for_no_vectors_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises((BadRequest, Unsupported)):
        _embed(body)


def test_the_official_client_embeds_counts_and_lists() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith(":countTokens"):
            call = gemini.read_counting(make_ask(request.content))
            assert call.messages[0].parts == (TextPart("Hi"),)
            return httpx2.Response(200, content=gemini.write_count(31))
        if request.url.path.endswith("/models"):
            return httpx2.Response(200, content=gemini.write_models(["a", "b/c"]))
        ask = make_ask(request.content)
        assert gemini.read_embedding(ask).inputs == ("Hi", "Ho")
        vectors = gemini.read_embedded(b'{"embeddings":[{"values":[1]},{"values":[2]}]}')
        return httpx2.Response(200, content=gemini.write_embedded(vectors, ask))

    client = official_client(answer)
    assert client.models.count_tokens(model="gemini-3-pro", contents="Hi").total_tokens == 31
    assert [found.name for found in client.models.list()] == ["models/a", "models/b/c"]
    embedded = client.models.embed_content(model="gemini-embedding-001", contents=["Hi", "Ho"])
    assert [vector.values for vector in embedded.embeddings or ()] == [[1.0], [2.0]]


def test_the_length_of_the_whole_request_is_asked_for() -> None:
    written = gemini.write_counting(
        chat_call([{"role": "system", "content": "S"}, {"role": "user", "content": "x"}]), ATTEMPT
    )
    assert json.loads(written.body) == {
        "generateContentRequest": {
            "model": "models/gemini-3-pro",
            "contents": [{"role": "user", "parts": [{"text": "x"}]}],
            "systemInstruction": {"parts": [{"text": "S"}]},
        }
    }
    whole = {
        "generateContentRequest": {"contents": [user("x")], "system_instruction": {"parts": [{"text": "S"}]}}
    }
    assert len(gemini.read_counting(make_ask(whole)).messages) == 2


def test_an_enveloped_seal_is_opened_whichever_alphabet_a_client_writes_it_in() -> None:
    state = OpaqueState("anthropic-claude-v1", "~~~???>>>", "anthropic", "k9", "claude")
    from modelplex.dialects.gemini.json import as_signature, read_signature

    written = as_signature(state)
    assert read_signature(written) == state
    assert read_signature(written.replace("-", "+").replace("_", "/")) == state
    assert read_signature(wrap(state)).format == "google-gemini-v1", "only what official clients can carry"
