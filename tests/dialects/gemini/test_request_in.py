"""Gemini requests, read."""

import json
from typing import Any

import httpx2
import msgspec
import pytest
from google.genai import types

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    AudioPart,
    DocumentPart,
    EmbeddingRequest,
    ForeignPart,
    HostedTool,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
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
from modelplex.dialects.openai_chat.prompts import MAX_INPUTS
from tests.dialects.gemini.peer import (
    make_ask,
    make_call,
    model,
    official_client,
    sent,
    user,
)

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days_ahead": {"type": "integer"}},
    "required": ["city"],
}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}


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
    assert [call.messages[0].path for call in (read, other)] == ["systemInstruction", "system_instruction"]
    system = msgspec.structs.replace(other.messages[0], path="systemInstruction")
    messages = (system, *other.messages[1:])
    assert read == msgspec.structs.replace(other, messages=messages, paths=read.paths)
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
    assert list(read.extra) == ["functionResponse.scheduling"]


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


def test_an_enveloped_seal_is_opened_whichever_alphabet_a_client_writes_it_in() -> None:
    state = OpaqueState("anthropic-claude-v1", "~~~???>>>", "anthropic", "k9", "claude")
    from modelplex.dialects.gemini.json import as_signature, read_signature

    written = as_signature(state)
    assert read_signature(written) == state
    assert read_signature(written.replace("-", "+").replace("_", "/")) == state
    assert read_signature(wrap(state)).format == "google-gemini-v1", "only what official clients can carry"
