"""Responses for Ollama's clients: lines, whole responses, errors and views."""

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
    OpaqueState,
    ProviderRequest,
    RawRequest,
)
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.ollama import dialect as ollama
from modelplex.dialects.raw_request import read_request

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts"

NOTHING = ProviderRequest(body=b"")

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


def test_arguments_that_are_no_json_are_handed_on_and_those_that_are_cut_are_never_a_call() -> None:
    cut: list[Event] = [ResponseStarted(), ToolCallStarted(0, "c", "a"), ToolArgumentsDelta(0, '{"x":')]
    lines = _lines([*cut, ResponseEnded("tool_calls")])
    assert lines[0]["message"]["tool_calls"][0]["function"]["arguments"] == {"_raw": '{"x":'}
    assert "error" in _lines(cut)[-1]
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


@pytest.mark.parametrize("generate", [False, True])
def test_a_text_has_the_same_line_however_it_is_written(*, generate: bool) -> None:
    """Text with log probabilities is encoded as a whole, other text into a frame."""
    asked = _generated(prompt="Hi") if generate else _call()
    writer = ollama.OllamaStreamWriter(asked, id="", created=0, model="m")
    assert writer.send(TextDelta(0, "")) == b"", "nothing before the first text"
    lines = [
        json.loads(writer.send(TextDelta(0, 'a"\u2028b', logprobs=logprobs)))
        for logprobs in (None, None, msgspec.Raw(b"[]"))
    ]
    assert lines[0] == lines[1]
    assert {**lines[1], "logprobs": []} == lines[2]
    assert b"\\u2028" in writer.send(TextDelta(0, "\u2028"))
