"""Responses of Converse and ConverseStream, read into events. botocore reads each stream too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.core.errors import OVERFLOW, BadRequest, ModelplexError, RateLimited, UpstreamBroken
from modelplex.core.events import (
    CitationAdded,
    Event,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    ReasoningDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import OpaqueState, ProviderRequest
from modelplex.dialects.bedrock_converse.messages_out import STATE_FORMAT
from modelplex.dialects.bedrock_converse.response_in import ConverseStreamReader, read_response
from tests.dialects.bedrock_converse.converse_model import (
    USAGE,
    event,
    exception,
    message,
    read_by_botocore,
    text_stream,
    whole,
)
from tests.dialects.bedrock_converse.writing import CLAUDE, attempt

PLAIN = ProviderRequest(b"")
COUNTED = UsageReported(Usage(fresh=3, output=2))
END = ResponseEnded("stop")


def stream(*pieces: bytes, written: ProviderRequest = PLAIN, size: int = 0) -> list[Event]:
    """The events of a stream that ends after these pieces."""
    data = b"".join(pieces)
    reader = ConverseStreamReader(attempt(), written)
    step = size or max(len(data), 1)
    events = [found for at in range(0, len(data), step) for found in reader.feed(data[at : at + step])]
    return events + reader.end()


def blocks(*events: tuple[str, dict[str, Any]], reason: str = "end_turn", **stop: Any) -> bytes:
    """A whole stream of these events, which botocore must be able to read."""
    data = b"".join(
        [
            event("messageStart", {"role": "assistant"}),
            *(event(name, payload) for name, payload in events),
            event("messageStop", {"stopReason": reason, **stop}),
            event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 9}}),
        ]
    )
    assert len(read_by_botocore(data)) == len(events) + 3
    return data


def start(index: int, **given: Any) -> tuple[str, dict[str, Any]]:
    return "contentBlockStart", {"start": given, "contentBlockIndex": index}


def delta(index: int, **given: Any) -> tuple[str, dict[str, Any]]:
    return "contentBlockDelta", {"delta": given, "contentBlockIndex": index}


def stop(index: int) -> tuple[str, dict[str, Any]]:
    return "contentBlockStop", {"contentBlockIndex": index}


def full(*content: Any, written: ProviderRequest = PLAIN, **more: Any) -> list[Event]:
    return read_response(json.dumps(whole(*content, **more)).encode(), attempt(), written)


def failure(events: list[Event]) -> ModelplexError:
    last = events[-1]
    assert isinstance(last, ResponseFailed)
    assert not any(isinstance(each, ResponseEnded) for each in events)
    return last.error


def state(data: str) -> OpaqueState:
    return OpaqueState(STATE_FORMAT, data, provider="aws", account="acct", model=CLAUDE)


@pytest.mark.parametrize("size", [1, 3, 50, 0])
def test_a_text_however_it_is_cut(size: int) -> None:
    assert stream(*text_stream("Hel", "", "lo"), size=size) == [
        ResponseStarted(model=CLAUDE),
        TextDelta(0, "Hel"),
        TextDelta(0, "lo"),
        PartEnded(0),
        COUNTED,
        END,
    ]


def test_a_whole_text() -> None:
    assert full({"text": "Hello"}) == [
        ResponseStarted(model=CLAUDE),
        TextDelta(0, "Hello"),
        PartEnded(0),
        COUNTED,
        END,
    ]


def test_streamed_calls_and_whole_ones() -> None:
    calls = ProviderRequest(b"", aliases={"a_b_1": "a.b"})
    streamed = stream(
        blocks(
            start(0, toolUse={"toolUseId": "t1", "name": "a_b_1"}),
            delta(0, toolUse={"input": '{"at"'}),
            delta(0, toolUse={"input": ""}),
            delta(0, toolUse={"input": ": 1}"}),
            stop(0),
            start(1, toolUse={"toolUseId": "t2", "name": "bare"}),
            stop(1),
            reason="tool_use",
        ),
        written=calls,
    )
    assert streamed[1:] == [
        ToolCallStarted(0, "t1", "a.b"),
        ToolArgumentsDelta(0, '{"at"'),
        ToolArgumentsDelta(0, ": 1}"),
        PartEnded(0),
        ToolCallStarted(1, "t2", "bare"),
        COUNTED,
        ToolArgumentsDelta(1, "{}"),
        PartEnded(1),
        ResponseEnded("tool_calls"),
    ]
    given = full(
        {"toolUse": {"toolUseId": "t1", "name": "a_b_1", "input": {"at": 1}}},
        reason="tool_use",
        written=calls,
    )
    assert given[1:-2] == [
        ToolCallStarted(0, "t1", "a.b"),
        ToolArgumentsDelta(0, '{"at": 1}'),
        PartEnded(0),
    ]


def test_a_call_that_the_limit_cut_does_not_end_whole() -> None:
    cut = stream(
        blocks(
            start(0, toolUse={"toolUseId": "t1", "name": "look"}),
            delta(0, toolUse={"input": '{"at'}),
            stop(0),
            reason="max_tokens",
        )
    )
    assert PartEnded(0) not in cut
    assert cut[-1] == ResponseEnded("length")


def test_free_text_and_answers_are_unwrapped() -> None:
    wrapped = ProviderRequest(b"", free=frozenset({"edit"}), answer_tool="answer")
    events = full(
        {"toolUse": {"toolUseId": "t1", "name": "edit", "input": {"input": "text"}}},
        written=wrapped,
        reason="tool_use",
    )
    assert events[1:3] == [ToolCallStarted(0, "t1", "edit", free=True), ToolArgumentsDelta(0, "text")]
    events = full(
        {"toolUse": {"toolUseId": "t1", "name": "answer", "input": {"at": 1}}},
        written=wrapped,
        reason="tool_use",
    )
    assert events[1] == TextDelta(0, '{"at": 1}')
    assert events[-1] == END


def test_reasoning_is_read_with_its_signature() -> None:
    streamed = stream(
        blocks(
            delta(0, reasoningContent={"text": "Hm"}),
            delta(0, reasoningContent={"text": "."}),
            delta(0, reasoningContent={"signature": "c2"}),
            delta(0, reasoningContent={"signature": "ln"}),
            stop(0),
            delta(1, reasoningContent={"redactedContent": "cmVk"}),
            delta(1, reasoningContent={"redactedContent": "YWN0"}),
            stop(1),
            delta(2, text="So."),
            stop(2),
        )
    )
    assert streamed[1:-2] == [
        ReasoningDelta(0, "Hm"),
        ReasoningDelta(0, "."),
        OpaqueStateReceived(0, state("c2ln")),
        PartEnded(0),
        OpaqueStateReceived(1, state("cmVkYWN0"), redacted=True),
        PartEnded(1),
        TextDelta(2, "So."),
        PartEnded(2),
    ]
    given = full(
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
        {"reasoningContent": {"reasoningText": {"text": "Unsigned."}}},
    )
    assert given[1:-2] == [
        ReasoningDelta(0, "Hm."),
        OpaqueStateReceived(0, state("c2ln")),
        PartEnded(0),
        OpaqueStateReceived(1, state("cmVk"), redacted=True),
        PartEnded(1),
        ReasoningDelta(2, "Unsigned."),
        PartEnded(2),
    ]


def test_citations_are_read() -> None:
    cited = {"title": "A", "location": {"web": {"url": "https://a.example"}}}
    events = stream(blocks(delta(0, text="x"), delta(0, citation=cited), stop(0)))
    (found,) = [each for each in events if isinstance(each, CitationAdded)]
    assert json.loads(bytes(found.raw)) == cited
    events = full({"citationsContent": {"content": [{"text": "x"}], "citations": [cited]}})
    assert events[1] == TextDelta(0, "x")
    assert isinstance(events[2], CitationAdded)


def test_other_blocks_are_media() -> None:
    image = {"image": {"format": "png", "source": {"bytes": "AAAA"}}}
    events = full(image)
    assert isinstance(events[1], MediaOutput)
    assert json.loads(bytes(events[1].raw)) == image
    events = stream(
        blocks(
            start(0, image={"format": "png"}),
            delta(0, image={"source": {"bytes": "AAAA"}}),
            stop(0),
            start(1, toolUse={"toolUseId": "s", "name": "nova_grounding", "type": "server_tool_use"}),
            delta(1, toolUse={"input": "{}"}),
            stop(1),
        )
    )
    assert [type(each).__name__ for each in events[1:5]] == ["MediaOutput", "PartEnded"] * 2


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop_sequence"),
        ("guardrail_intervened", "filter"),
        ("content_filtered", "filter"),
        ("model_context_window_exceeded", "context"),
        ("a new one", "stop"),
    ],
)
def test_reasons(reason: str, expected: Any) -> None:
    assert stream(*text_stream("x", reason=reason))[-1] == ResponseEnded(expected)
    assert full({"text": "x"}, reason=reason)[-1] == ResponseEnded(expected)


def test_every_reason_of_the_service_model_has_a_row() -> None:
    from modelplex.dialects.bedrock_converse.response_in import MALFORMED_OUTPUT, REASONS
    from tests.dialects.bedrock_converse.converse_model import operation

    listed = operation(stream=False).output_shape.members["stopReason"].enum
    assert set(listed) == set(REASONS) | MALFORMED_OUTPUT


def test_the_stop_sequence_is_told() -> None:
    events = stream(
        blocks(
            delta(0, text="x"),
            stop(0),
            reason="stop_sequence",
            additionalModelResponseFields={"stop_sequence": "END"},
        )
    )
    assert events[-1] == ResponseEnded("stop_sequence", sequence="END")
    events = full({"text": "x"}, reason="stop_sequence", additionalModelResponseFields={"stop_sequence": 7})
    assert events[-1] == ResponseEnded("stop_sequence")


def test_cached_tokens_are_counted() -> None:
    usage = {**USAGE, "totalTokens": 11, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 2}
    counted = UsageReported(Usage(fresh=3, output=2, cache_read=4, cache_write=2))
    assert counted in stream(*text_stream("x", usage=usage))
    assert counted in full({"text": "x"}, usage=usage)


# --- broken responses


@pytest.mark.parametrize("kept", range(1, 5))
def test_a_stream_that_ends_early_is_not_whole(kept: int) -> None:
    pieces = text_stream("x")
    error = failure(stream(*pieces[:kept] if kept < 4 else pieces[:3]))
    assert type(error) is UpstreamBroken
    assert "no messageStop came" in error.message


def test_a_stream_that_ends_within_a_message_is_not_whole() -> None:
    data = b"".join(text_stream("x"))
    for cut in range(1, len(data)):
        events = stream(data[:-cut])
        if isinstance(events[-1], ResponseEnded):
            # It ends behind messageStop: all that is missing is the usage.
            assert data[:-cut] == b"".join(text_stream("x")[:-1])
        else:
            failure(events)


def test_usage_may_be_missing() -> None:
    assert stream(*text_stream("x")[:-1])[-2:] == [PartEnded(0), END]


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_malformed_output_is_an_error(reason: str) -> None:
    assert reason in failure(stream(*text_stream("x", reason=reason))).message
    assert reason in failure(full({"text": "x"}, reason=reason)).message


@pytest.mark.parametrize(
    ("name", "text", "kind", "code"),
    [
        ("throttlingException", "Too many requests", RateLimited, "rate_limit_exceeded"),
        ("modelStreamErrorException", "failed", UpstreamBroken, "upstream_error"),
        ("validationException", "Input is too long for requested model.", BadRequest, OVERFLOW),
    ],
)
def test_an_exception_ends_a_stream(name: str, text: str, kind: type[ModelplexError], code: str) -> None:
    pieces = text_stream("x")
    error = failure(stream(pieces[0], pieces[1], exception(name, text), *pieces[2:]))
    assert (type(error), error.code) == (kind, code)


def test_an_error_message_ends_a_stream() -> None:
    sent = message(b"", message_type="error", error_code="InternalError", error_message="It broke")
    assert "InternalError It broke" in failure(stream(*text_stream("x")[:2], sent)).message


def test_an_event_that_nobody_knows_is_skipped() -> None:
    pieces = text_stream("x")
    assert stream(pieces[0], event("aNewOne", {"a": 1}), *pieces[1:]) == stream(*pieces)


def test_a_wrong_checksum_ends_a_stream() -> None:
    pieces = text_stream("x")
    assert "checksum" in failure(stream(pieces[0], pieces[1][:-1] + b"\0", *pieces[2:])).message


def test_nothing_is_read_after_the_end() -> None:
    reader = ConverseStreamReader(attempt(), PLAIN)
    reader.feed(b"".join(text_stream("x")))
    assert reader.feed(b"".join(text_stream("y"))) == []
    assert reader.end() == []
    assert "over=True" in repr(reader)


def test_a_call_without_a_beginning_is_an_error() -> None:
    events = stream(event("messageStart", {"role": "assistant"}), event(*delta(0, toolUse={"input": "{}"})))
    assert "did not begin" in failure(events).message


def test_redacted_content_that_is_not_base64_is_an_error() -> None:
    pieces = [event(*delta(0, reasoningContent={"redactedContent": each})) for each in ("a", "b")]
    assert "base64" in failure(stream(*pieces, event(*stop(0)))).message


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"output":{}}', b"[]", b'{"output":{"message":{"content":[{"text":1}]}}}']
)
def test_a_body_that_is_no_response_is_an_error(body: bytes) -> None:
    assert type(failure(read_response(body, attempt(), PLAIN))) is UpstreamBroken


def test_a_whole_response_without_a_reason_is_not_whole() -> None:
    assert "no reason" in failure(full({"text": "x"}, reason=None)).message
