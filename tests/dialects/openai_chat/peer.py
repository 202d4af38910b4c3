"""What the tests of OpenAI's dialects share: answers folded to what they say, and OpenAI's own
client library as the judge of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from modelplex.core.events import (
    CitationAdded,
    Event,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    ReasoningDelta,
    RefusalDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    UsageReported,
)
from modelplex.core.request import Attempt, ChatRequest, ProviderRequest, Quirks, RawRequest
from modelplex.dialects.core.sse import SseReader
from modelplex.dialects.openai_chat import dialect as openai_chat

TRANSCRIPTS = Path(__file__).parents[2] / "transcripts" / "openai_chat"
ATTEMPT = Attempt(provider="acme", model="m-up", dialect="openai_chat", account="k1")
PLAIN = ProviderRequest(b"{}")
CASES = sorted(path.name for path in TRANSCRIPTS.iterdir())
STREAMED = [name for name in CASES if (TRANSCRIPTS / name / "stream.sse").exists()]
WHOLE = [name for name in CASES if (TRANSCRIPTS / name / "response.json").exists()]


def transcript(case: str, name: str) -> bytes:
    return (TRANSCRIPTS / case / name).read_bytes()


def make_ask(body: dict[str, Any] | bytes, *, endpoint: Any = "chat/completions") -> RawRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    given: dict[str, Any] = json.loads(data)
    options: dict[str, Any] = given.get("stream_options") or {}
    return RawRequest(
        endpoint=endpoint,
        dialect="openai_chat",
        model=given.get("model", "m"),
        body=data,
        fields=fields,
        stream=bool(given.get("stream")),
        include_usage=bool(options.get("include_usage")),
    )


def make_call(**more: Any) -> ChatRequest:
    return openai_chat.read_call(
        make_ask({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **more})
    )


def attempt_with(**quirks: Any) -> Attempt:
    return msgspec.structs.replace(ATTEMPT, quirks=Quirks(**quirks))


def sse_bytes(*chunks: Any) -> bytes:
    """Chunks as a stream; a string is an event's data as it stands."""
    return b"".join(
        b"data: " + (chunk.encode() if isinstance(chunk, str) else json.dumps(chunk).encode()) + b"\n\n"
        for chunk in chunks
    )


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, *, index: int = 0, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def each_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


def read_stream(
    chunks: Iterable[bytes], written: ProviderRequest = PLAIN, attempt: Attempt = ATTEMPT
) -> list[Event]:
    reader = openai_chat.ChatReader(attempt, written)
    return [event for each in chunks for event in reader.feed(each)] + reader.end()


def fold(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """What was said, in order, with the pieces of a part joined; Closed and Began say nothing of
    it.
    """
    parts: dict[tuple[int, int], list[Any]] = {}
    ends: list[tuple[Any, ...]] = []
    usage: tuple[Any, ...] | None = None
    for event in events:
        match event:
            case ResponseStarted() | PartEnded():
                pass
            case TextDelta() | RefusalDelta():
                _join(parts, event, type(event).__name__, event.text)
            case ReasoningDelta():
                _join(parts, event, "Summary" if event.summary else "ReasoningDelta", event.text)
            case ToolCallStarted():
                parts[event.choice, event.part] = ["ToolCallStarted", event.id, event.name, event.free, ""]
            case ToolArgumentsDelta():
                parts[event.choice, event.part][4] += event.text
            case OpaqueStateReceived():
                parts.setdefault((event.choice, event.part), ["Redacted" if event.redacted else "Hidden"])
                parts[event.choice, event.part] += [event.state]
            case CitationAdded() | MediaOutput():
                parts.setdefault((event.choice, event.part), ["TextDelta", ""])
                parts[event.choice, event.part] += [json.loads(bytes(event.raw))]
            case UsageReported():
                counts = event.usage
                usage = ("usage", counts.fresh, counts.cache_read, counts.output, counts.reasoning)
            case ResponseEnded():
                ends.append(("ended", event.choice, event.reason))
            case ResponseFailed():
                ends.append(("failed", type(event.error).__name__, event.error.message))
    said = [(choice, *(tuple(parts[choice, part]))) for choice, part in sorted(parts)]
    return [*said, *sorted(ends, key=str), *([usage] if usage else [])]


def _join(
    parts: dict[tuple[int, int], list[Any]],
    event: TextDelta | RefusalDelta | ReasoningDelta,
    name: str,
    text: str,
) -> None:
    held = parts.setdefault((event.choice, event.part), [name, ""])
    assert held[0] == name, "one part is of one kind"
    held[1] += text


def write_stream(events: Iterable[Event], call: ChatRequest) -> bytes:
    writer = openai_chat.ChatWriter(call, id="chatcmpl-ours", created=7, model="asked-for")
    out = b"".join(writer.send(event) for event in events)
    return out + writer.end()


def chunks_of(stream: bytes) -> list[dict[str, Any]]:
    """The data objects of a client's stream, without [DONE]."""
    reader = SseReader()
    events = reader.feed(stream) + reader.end()
    assert all(event.event == "" for event in events), "chat streams name no events (R48)"
    return [json.loads(event.data) for event in events if event.data != b"[DONE]"]


def accepted_by_the_official_client(stream: bytes) -> ChatCompletion:
    """The answer as OpenAI's library puts it together; fails where a chunk is not of its types."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for each in chunks_of(stream):
        state.handle_chunk(ChatCompletionChunk.model_validate(each))
    # Not get_final_completion(), which raises for every answer that a limit or a filter cut.
    return state.current_completion_snapshot
