"""Ollama's form, toward clients: what they ask is understood, and what they get validates against
the official client's types.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from ollama._types import ChatResponse, EmbedResponse, GenerateResponse, ListResponse, ShowResponse

from modelplex.core.errors import (
    BadRequest,
    GatewayFault,
    ModelplexError,
    Overloaded,
    PolicyDenied,
    RateLimited,
    TooLarge,
    UnknownModel,
    Unsupported,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
    UpstreamTimeout,
)
from modelplex.core.events import (
    CitationAdded,
    EmbeddingResponse,
    Event,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    Reason,
    ReasoningDelta,
    RefusalDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import (
    Attempt,
    ChatRequest,
    CompletionRequest,
    HostedTool,
    ImagePart,
    InlineData,
    ModelFacts,
    OpaqueState,
    ProviderRequest,
    RawRequest,
    ReasoningOptions,
    ReasoningPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.dialect import PassthroughObserver
from modelplex.dialects.gemini import fields as gemini_fields
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.ollama import fields as ollama_fields
from modelplex.dialects.ollama.passthrough import OllamaObserver
from modelplex.dialects.openai_chat import fields as openai_chat_fields
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import write_request
from tests.dialects.sides import usual_paths

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts"
ATTEMPT = Attempt(provider="p", model="m", dialect="ollama")
NOTHING = ProviderRequest(body=b"")
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ARGUMENTS = '{"city":"Zürich"}'


def _ask(**fields: Any) -> RawRequest:
    return read_request(
        json.dumps({"model": "m", **fields}).encode(), endpoint="chat/completions", dialect="ollama"
    )


def _call(messages: Sequence[Any] = ({"role": "user", "content": "Hi"},), **more: Any) -> ChatRequest:
    return ollama.read_call(_ask(messages=list(messages), **more))


def _generated(**fields: Any) -> ChatRequest:
    made = ollama.read_generate(_ask(**fields))
    assert isinstance(made, ChatRequest)
    return made


def _lines(
    events: Sequence[Event], asked: ChatRequest | CompletionRequest | None = None
) -> list[dict[str, Any]]:
    writer = ollama.OllamaStreamWriter(asked or _call(), id="x", created=1_700_000_000, model="m")
    out = b"".join([*(writer.send(event) for event in events), writer.end()])
    assert out == b"" or out.endswith(b"\n")
    return [json.loads(line) for line in out.splitlines()]


def _whole(events: Sequence[Event], asked: ChatRequest | CompletionRequest | None = None) -> dict[str, Any]:
    body, _ = ollama.write_response(events, asked or _call(), id="x", created=1_700_000_000, model="m")
    return cast("dict[str, Any]", json.loads(body))


# --- what is asked


def test_a_chat_streams_unless_it_says_that_it_does_not() -> None:
    assert _call().stream
    assert _call(stream=True).stream
    assert not _call(stream=False).stream
    assert ollama.read_stream({})
    assert not ollama.read_stream({"stream": msgspec.Raw(b"false")})


def test_a_conversation_keeps_its_order_and_each_result_finds_its_call() -> None:
    call = _call(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look", "images": [PNG]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "Two of them.",
                "tool_calls": [
                    {"function": {"name": "weather", "arguments": {"city": "Zürich"}}},
                    {"function": {"name": "time", "arguments": {}}},
                ],
            },
            {"role": "tool", "tool_name": "time", "content": "noon"},
            {"role": "tool", "tool_name": "weather", "content": "sun"},
        ]
    )
    system, user, assistant, results = call.messages
    assert system.parts == (TextPart("Be brief."),)
    assert user.parts == (ImagePart(InlineData("image/png", PNG)), TextPart("Look"))
    thinking, weather, time = assistant.parts
    assert thinking == ReasoningPart("Two of them.")
    assert isinstance(weather, ToolCallPart)
    assert json.loads(weather.arguments) == {"city": "Zürich"}
    assert (weather.id, time) == ("call_0", ToolCallPart("call_1", "time", "{}"))
    assert results.parts == (
        ToolResultPart("call_1", (TextPart("noon"),), name="time"),
        ToolResultPart("call_0", (TextPart("sun"),), name="weather"),
    )


@pytest.mark.parametrize("target", ["openai_chat", "anthropic_messages"])
def test_a_result_that_names_neither_tool_nor_call_answers_the_first_that_waits(target: str) -> None:
    call = _call(
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": {}}}]},
            {"role": "tool", "content": "one"},
        ],
        tools=[{"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}],
    )
    written = write_request(call, Attempt(provider="p", model="m", dialect=target))
    assert b"call_0" in written.body
    assert not written.changes


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x", "tool_name": "a"},
        {"role": "robot", "content": "x"},
        {"role": "user", "content": "x", "images": ["data:image/png;base64," + PNG]},
        {"role": "user", "content": "x", "images": ["https://example.org/cat.png"]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "{}"}}]},
        {"role": "user", "content": 7},
    ],
)
def test_a_message_that_is_wrong_is_named(message: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        _call([message])
    assert (refused.value.param or "").startswith("messages[0]")


def test_controls_are_read_and_what_only_ollama_has_rides_along_by_its_path() -> None:
    call = _call(
        options={"num_predict": 9, "temperature": 0, "top_k": 4, "seed": 3, "stop": ["a"], "num_ctx": 4096},
        keep_alive="5m",
        format={"type": "object"},
        think="high",
        logprobs=True,
        top_logprobs=2,
        tools=[
            {
                "type": "function",
                "function": {"name": "a", "description": "A", "parameters": {"type": "object"}},
            },
            {"type": "web_search"},
        ],
    )
    assert call.max_tokens == 9
    assert (call.sampling.temperature, call.sampling.top_k, call.sampling.seed, call.sampling.stop) == (
        0,
        4,
        3,
        ("a",),
    )
    assert (call.sampling.logprobs, call.sampling.top_logprobs) == (True, 2)
    assert call.format == ResponseFormat("schema", schema=msgspec.Raw(b'{"type": "object"}'))
    assert call.reasoning == ReasoningOptions(effort="high")
    assert isinstance(call.tools[0], Tool)
    assert isinstance(call.tools[1], HostedTool)
    assert set(call.extra) == {"options.num_ctx", "keep_alive"}
    told = write_request(
        msgspec.structs.replace(call, tools=call.tools[:1]),
        Attempt(provider="p", model="m", dialect="openai_chat"),
    )
    assert {"options.num_ctx", "keep_alive"} <= {change.path for change in told.changes}


def test_what_rode_along_returns_to_ollama() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_ctx": 4096, "temperature": 0.5},
        "keep_alive": "5m",
        "stream": False,
    }
    written = write_request(ollama.read_call(_ask(**body)), ATTEMPT)
    assert json.loads(written.body) == body
    assert not written.changes


def test_a_loss_is_told_in_the_clients_own_words() -> None:
    attempt = msgspec.structs.replace(ATTEMPT, facts=ModelFacts(thinking="none"))
    told = {
        dialect: write_request(
            msgspec.structs.replace(_call(think="high"), dialect=dialect, paths=paths), attempt
        )
        .changes[0]
        .path
        for dialect, paths in (
            ("ollama", usual_paths(ollama_fields.FIELDS)),
            ("gemini", usual_paths(gemini_fields.FIELDS)),
            ("openai_chat", usual_paths(openai_chat_fields.FIELDS)),
        )
    }
    assert told == {
        "ollama": "think",
        "gemini": "generationConfig.thinkingConfig",
        "openai_chat": "reasoning_effort",
    }


@pytest.mark.parametrize("limit", [-1, -2, 0])
def test_a_limit_that_is_none_and_a_seed_that_is_any_are_not_said(limit: int) -> None:
    call = _call(options={"num_predict": limit, "seed": -1})
    assert (call.max_tokens, call.sampling.seed) == (None, None)


@pytest.mark.parametrize(
    ("think", "asked"),
    [
        (True, ReasoningOptions(mode="enabled")),
        (False, ReasoningOptions(effort="none")),
        ("max", ReasoningOptions(effort="max")),
    ],
)
def test_thinking_is_on_off_or_a_level(think: Any, asked: ReasoningOptions) -> None:
    assert _call(think=think).reasoning == asked


@pytest.mark.parametrize(
    ("field", "value"),
    [("think", "much"), ("format", "yaml"), ("options", 7), ("tools", {}), ("options", {"seed": "x"})],
)
def test_a_control_that_is_wrong_is_named(field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        _call(**{field: value})
    assert (refused.value.param or "").startswith(field)


@pytest.mark.parametrize("form", ["", None])
def test_no_format_is_free_text(form: str | None) -> None:
    assert _call(format=form).format is None
    assert _call(format="json").format == ResponseFormat("json")


def test_a_prompt_to_generate_is_a_conversation_of_one_turn() -> None:
    call = _generated(prompt="Hi", system="Be brief.", images=[PNG], options={"temperature": 1})
    assert [message.role for message in call.messages] == ["system", "user"]
    assert call.messages[1].parts == (ImagePart(InlineData("image/png", PNG)), TextPart("Hi"))
    assert (call.dialect, call.stream) == (ollama.GENERATE, True)


@pytest.mark.parametrize("more", [{"raw": True}, {"suffix": "}"}])
def test_a_raw_prompt_and_a_suffix_are_a_text_to_be_continued(more: dict[str, Any]) -> None:
    asked = ollama.read_generate(_ask(prompt="def f():", stream=False, **more))
    assert isinstance(asked, CompletionRequest)
    assert (asked.prompts, asked.suffix, asked.stream) == (("def f():",), more.get("suffix"), False)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"template": "{{.Prompt}}"}, Unsupported),
        ({"context": [1, 2]}, Unsupported),
        ({"suffix": "}", "images": [PNG]}, Unsupported),
        ({"suffix": "}", "system": "x"}, Unsupported),
        ({"raw": True, "system": "x"}, BadRequest),
        ({"raw": True, "template": "x"}, BadRequest),
        ({"images": ["nonsense"]}, BadRequest),
    ],
)
def test_what_generate_cannot_carry_over_is_refused_by_name(
    fields: dict[str, Any], error: type[ModelplexError]
) -> None:
    with pytest.raises(error) as refused:
        ollama.read_generate(_ask(prompt="Hi", **fields))
    assert (refused.value.param or "").split("[")[0] in fields


def test_an_empty_context_and_template_ask_for_nothing() -> None:
    assert (
        _generated(prompt="Hi", context=[], template="", suffix="", images=[], system="").messages[0].role
        == "user"
    )


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"messages": []}, "load"),
        ({}, "load"),
        ({"prompt": ""}, "load"),
        ({"keep_alive": 0}, "unload"),
        ({"prompt": "Hi"}, None),
        ({"messages": [{"role": "user", "content": "x"}]}, None),
        ({"prompt": "", "images": [PNG]}, None),
    ],
)
def test_a_body_that_only_loads_a_model_is_told_apart(fields: dict[str, Any], meant: str | None) -> None:
    assert ollama.read_load(_ask(**fields)) == meant


def test_a_model_that_was_to_be_loaded_is_said_to_be() -> None:
    chat = ollama.write_loaded("m", reason="load", generate=False, created=0)
    assert ChatResponse.model_validate_json(chat).done_reason == "load"
    assert GenerateResponse.model_validate_json(
        ollama.write_loaded("m", reason="unload", generate=True, created=0)
    ).done


def test_an_embedding_is_understood() -> None:
    one, two = (
        ollama.read_embed(_ask(input="a")),
        ollama.read_embed(_ask(input=["a", "b"], dimensions=3, truncate=True)),
    )
    assert (one.inputs, two.inputs, two.dimensions, set(two.extra)) == (("a",), ("a", "b"), 3, {"truncate"})
    assert json.loads(ollama.write_embedding(two, ATTEMPT).body)["truncate"] is True
    with pytest.raises(BadRequest):
        ollama.read_embed(_ask())


# --- what is answered

TURN: list[Event] = [
    ResponseStarted(model="big", created=1_700_000_000),
    ReasoningDelta(0, "Hm."),
    PartEnded(0),
    TextDelta(1, "Let me "),
    TextDelta(1, "see."),
    ToolCallStarted(2, "c1", "weather"),
    ToolCallStarted(3, "c2", "time"),
    ToolArgumentsDelta(2, ARGUMENTS[:6]),
    ToolArgumentsDelta(2, ARGUMENTS[6:]),
    PartEnded(2),
    ResponseEnded("tool_calls"),
    UsageReported(Usage(fresh=3, cache_read=4, output=9)),
]


def test_a_stream_is_lines_of_ollamas_form_with_each_call_whole_and_the_counts_last() -> None:
    lines = _lines(TURN)
    answers = [ChatResponse.model_validate(line) for line in lines]
    assert [answer.done for answer in answers] == [False] * 5 + [True]
    assert {answer.created_at for answer in answers} == {"2023-11-14T22:13:20Z"}
    assert "".join(answer.message.content or "" for answer in answers) == "Let me see."
    assert answers[0].message.thinking == "Hm."
    calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
    assert calls == [
        {"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Zürich"}}},
        {"id": "c2", "function": {"index": 1, "name": "time", "arguments": {}}},
    ]
    last = answers[-1]
    assert (last.model, last.done_reason, last.prompt_eval_count, last.eval_count) == ("big", "stop", 7, 9)


def test_a_whole_answer_is_the_streams_lines_joined() -> None:
    answer = ChatResponse.model_validate(_whole(TURN))
    assert (answer.message.role, answer.message.content, answer.message.thinking) == (
        "assistant",
        "Let me see.",
        "Hm.",
    )
    assert [call.function.name for call in answer.message.tool_calls or ()] == ["weather", "time"]
    assert (answer.done, answer.eval_count) == (True, 9)


def test_generate_is_answered_in_its_own_words() -> None:
    asked = _generated(prompt="Hi")
    events: list[Event] = [
        ResponseStarted(),
        ReasoningDelta(0, "Hm."),
        TextDelta(1, "A"),
        TextDelta(1, "B"),
        ResponseEnded("length"),
    ]
    lines = [GenerateResponse.model_validate(line) for line in _lines(events, asked)]
    assert [(line.response, line.thinking) for line in lines] == [
        ("", "Hm."),
        ("A", None),
        ("B", None),
        ("", None),
    ]
    assert "message" not in _lines(events, asked)[0]
    whole = GenerateResponse.model_validate(_whole(events, asked))
    assert (whole.response, whole.thinking, whole.done_reason) == ("AB", "Hm.", "length")


def test_log_probabilities_stand_beside_their_text() -> None:
    odds = [{"token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": []}]
    events: list[Event] = [
        ResponseStarted(),
        TextDelta(0, "A", logprobs=msgspec.Raw(msgspec.json.encode(odds))),
        ResponseEnded("stop"),
    ]
    assert _lines(events)[0]["logprobs"] == odds
    assert ChatResponse.model_validate(_whole(events)).logprobs is not None


@pytest.mark.parametrize(
    ("reason", "word", "reported"),
    [
        ("stop", "stop", False),
        ("stop_sequence", "stop", False),
        ("length", "length", False),
        ("context", "length", True),
        ("filter", "stop", True),
        ("refusal", "stop", True),
        ("paused", "length", True),
    ],
)
def test_a_reason_that_ollama_has_no_word_for_is_reported(
    reason: Reason, word: str, *, reported: bool
) -> None:
    writer = ollama.OllamaStreamWriter(_call(), id="", created=0, model="m")
    out = b"".join([writer.send(ResponseStarted()), writer.send(ResponseEnded(reason)), writer.end()])
    assert json.loads(out)["done_reason"] == word
    assert bool(writer.changes) is reported


def test_what_has_no_place_is_named() -> None:
    writer = ollama.OllamaStreamWriter(_call(), id="", created=0, model="m")
    state = OpaqueState("anthropic-claude-v1", "x")
    lost: list[Event] = [
        RefusalDelta(0, "No."),
        OpaqueStateReceived(1, state),
        CitationAdded(0, msgspec.Raw(b"{}"), "openai_chat"),
        MediaOutput(2, msgspec.Raw(b"{}"), "openai_chat"),
    ]
    out = b"".join(writer.send(event) for event in lost)
    assert json.loads(out)["message"]["content"] == "No."
    assert {change.op for change in writer.changes} == {"lower", "drop"}
    assert len(writer.changes) == 4


def test_a_refusals_explanation_is_told() -> None:
    detail = msgspec.Raw(b'{"explanation":"Not that."}')
    assert (
        _whole([ResponseStarted(), ResponseEnded("refusal", detail=detail)])["message"]["content"]
        == "Not that."
    )


def test_a_failure_is_an_error_line_and_nothing_follows() -> None:
    writer = ollama.OllamaStreamWriter(_call(), id="", created=0, model="m")
    out = writer.send(TextDelta(0, "A")) + writer.send(ResponseFailed(UpstreamBroken("It broke.")))
    assert json.loads(out.splitlines()[1]) == {"error": "It broke."}
    assert writer.send(ResponseEnded("stop")) + writer.end() == b""
    assert writer.ping() == b""


def test_an_answer_without_an_end_is_an_error() -> None:
    assert "error" in _lines([ResponseStarted(), TextDelta(0, "A")])[-1]
    with pytest.raises(UpstreamBroken):
        _whole([ResponseStarted(), TextDelta(0, "A")])


def test_arguments_that_are_cut_are_never_a_call() -> None:
    cut: list[Event] = [ResponseStarted(), ToolCallStarted(0, "c", "a"), ToolArgumentsDelta(0, '{"x":')]
    lines = _lines([*cut, ResponseEnded("tool_calls")])
    assert list(lines[-1]) == ["error"]
    by_limit = _lines([*cut, ResponseEnded("length")])
    assert [line["done_reason"] for line in by_limit] == ["length"]
    assert "tool_calls" not in by_limit[0]["message"]


def test_arguments_that_are_no_object_are_wrapped_and_reported() -> None:
    events: list[Event] = [
        ResponseStarted(),
        ToolCallStarted(0, "c", "a"),
        ToolArgumentsDelta(0, "[1]"),
        ResponseEnded("tool_calls"),
    ]
    writer = ollama.OllamaStreamWriter(_call(), id="", created=0, model="m")
    out = b"".join([*(writer.send(event) for event in events), writer.end()])
    assert json.loads(out.splitlines()[0])["message"]["tool_calls"][0]["function"]["arguments"] == {
        "_raw": "[1]"
    }
    assert [change.op for change in writer.changes] == ["lower"]


@pytest.mark.parametrize("case", sorted(path.name for path in (TRANSCRIPTS / "anthropic_messages").iterdir()))
@pytest.mark.parametrize("piece", [7, 100_000])
def test_every_anthropic_stream_is_lines_that_the_official_client_takes(case: str, piece: int) -> None:
    data = (TRANSCRIPTS / "anthropic_messages" / case / "stream.sse").read_bytes()
    reader = anthropic.AnthropicStreamReader(
        Attempt(provider="p", model="m", dialect="anthropic_messages"), NOTHING
    )
    events: list[Event] = []
    for start in range(0, len(data), piece):
        events += reader.feed(data[start : start + piece])
    events += reader.end()
    lines = _lines(events)
    assert ("error" in lines[-1]) is any(isinstance(event, ResponseFailed) for event in events)
    for line in lines:
        if "error" not in line:
            ChatResponse.model_validate(line)
    assert ("error" in lines[-1]) is any(
        isinstance(event, ResponseFailed) for event in events
    ) or "error" in lines[-1]
    if "error" not in lines[-1]:
        assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]


def test_vectors_are_floats() -> None:
    body = ollama.write_embedded(EmbeddingResponse("", ((0.5, 1.0), "AACAPw=="), Usage(fresh=3)), "m")
    answer = EmbedResponse.model_validate_json(body)
    assert [list(vector) for vector in answer.embeddings] == [[0.5, 1.0], [1.0]]
    assert (answer.model, answer.prompt_eval_count) == ("m", 3)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequest("x"), 400),
        (PolicyDenied("x"), 403),
        (UnknownModel("x"), 404),
        (TooLarge("x"), 413),
        (UpstreamAuth("x"), 502),
        (RateLimited("x"), 429),
        (Overloaded("x"), 503),
        (UpstreamTimeout("x"), 504),
        (GatewayFault("x"), 500),
    ],
)
def test_an_error_is_one_sentence_with_its_status(error: ModelplexError, status: int) -> None:
    told, body = ollama.write_error(error, request_id="r1")
    assert told == status
    assert json.loads(body)["error"].startswith("x")


def test_what_ollama_said_of_a_clients_fault_goes_on_as_it_came() -> None:
    own = b'{"error":"model \\"x\\" not found"}'
    assert ollama.write_error(ollama.read_error(404, {}, own), request_id="")[1] == own
    foreign = UnknownModel("No.", upstream=UpstreamReply(body=b'{"error":{"message":"secret"}}'))
    assert json.loads(ollama.write_error(foreign, request_id="")[1]) == {"error": "No."}


def test_models_a_model_and_a_version_are_told_in_ollamas_form() -> None:
    listed = ListResponse.model_validate_json(ollama.write_tags({"a": "", "b": "p"}))
    assert [model.model for model in listed.models] == ["a", "b"]
    assert [model.id for model in ollama.read_models(ollama.write_tags({"a": ""}))] == ["a"]
    assert "tools" in (ShowResponse.model_validate_json(ollama.write_show("a")).capabilities or ())
    assert json.loads(ollama.write_version()) == {"version": ollama.SPOKEN}


# --- what passes

STREAM = (TRANSCRIPTS / "ollama" / "thinking_text_tool" / "response.ndjson").read_bytes()


def _watched(data: bytes, *, piece: int) -> tuple[bytes, PassthroughObserver]:
    observer = ollama.observer(_ask(messages=[]), withhold_usage=False)
    out = b"".join(observer.feed(data[start : start + piece]) for start in range(0, len(data), piece))
    return out + observer.end(), observer


@pytest.mark.parametrize("piece", [1, 13, 100_000])
def test_a_stream_passes_byte_for_byte_and_is_seen(piece: int) -> None:
    out, observer = _watched(STREAM, piece=piece)
    assert out == STREAM
    assert observer.failed is None
    assert observer.has_output
    assert observer.observed.finish == "stop"
    assert observer.observed.usage is not None


def test_a_first_line_without_output_commits_to_nothing() -> None:
    observer = ollama.observer(_ask(messages=[]), withhold_usage=False)
    observer.feed(b'{"model":"m","message":{"role":"assistant","content":""},"done":false}\n')
    assert not observer.has_output
    observer.feed(
        b'{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"a"}}]}}\n'
    )
    assert observer.has_output


@pytest.mark.parametrize("piece", [3, 1000])
def test_a_line_that_has_no_end_is_not_kept_for_ever(piece: int) -> None:
    observer = OllamaObserver(limit=64)
    data = b'{"response":"' + b"x" * 80 + b'"}\n'
    for start in range(0, len(data), piece):
        assert observer.feed(data[start : start + piece]) == b""
    assert isinstance(observer.failed, UpstreamBroken)


@pytest.mark.parametrize("begun", [True, False])
def test_an_error_line_is_a_failure_and_goes_on_only_behind_output(*, begun: bool) -> None:
    said = b'{"model":"m","message":{"content":"A"},"done":false}\n' if begun else b""
    out, observer = _watched(said + b'{"error":"out of memory"}\n{"done":true}\n', piece=9)
    assert observer.failed is not None
    assert "out of memory" in observer.failed.message
    assert observer.error_forwarded is begun
    assert out == said + (b'{"error":"out of memory"}\n' if begun else b"")


@pytest.mark.parametrize("data", [b'{"message":{"content":"A"}}\n', b"", b"not json\n", b"[]\n"])
def test_a_stream_without_its_last_line_is_broken(data: bytes) -> None:
    _, observer = _watched(data, piece=100)
    assert isinstance(observer.failed, UpstreamBroken)


def test_an_answer_that_was_not_counted_tells_its_length() -> None:
    _, observer = _watched(b'{"response":"four"}\n{"response":"","done":true}\n', piece=5)
    assert (observer.observed.usage, observer.observed.characters, observer.observed.finish) == (
        None,
        4,
        "stop",
    )


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        (b'{"model":"m","message":{"content":"A"},"done":true,"done_reason":"stop","eval_count":2}', False),
        (b'{"model":"m","response":"A","done":true}', False),
        (b'{"model":"m","message":{"content":"A"},"done":false}', True),
        (b'{"error":"no"}', True),
        (b"{", True),
        (b"[]", True),
    ],
)
def test_a_whole_answer_is_looked_at(body: bytes, *, broken: bool) -> None:
    seen = ollama.observe(body)
    assert (seen.error is not None) is broken
    assert (seen.finish is None) is broken


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        (b'{"model":"m","embeddings":[[1]],"prompt_eval_count":2}', False),
        (b'{"error":"no"}', True),
        (b"{}", True),
        (b"x", True),
    ],
)
def test_vectors_are_looked_at(body: bytes, *, broken: bool) -> None:
    seen = ollama.observe_embeddings(body)
    assert (seen.error is not None) is broken
    assert (seen.usage is None) is broken
