"""Every member of Converse in AWS's service model has a decision: it is written or read, which is
seen here, or it is listed with the reason why not. A new botocore with another member fails here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from modelplex.core.events import Event, ResponseFailed
from modelplex.core.request import (
    AudioPart,
    CacheBreakpoint,
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    ProviderRequest,
    ReasoningOptions,
    ReasoningPart,
    ResponseFormat,
    Sampling,
    SearchResultPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from modelplex.dialects.bedrock_converse.messages_out import STATE_FORMAT
from modelplex.dialects.bedrock_converse.response_in import ConverseStreamReader, read_response
from modelplex.providers.request_body import with_added
from modelplex.providers.types import TYPES
from tests.dialects.bedrock_converse.converse_model import event, exception, faults, members, operation
from tests.dialects.bedrock_converse.writing import ADAPTIVE, CLAUDE, attempt, request, write

IN_THE_PATH = "it is in the path"
GUARDED = "marks for a guardrail what it looks at: nothing of a client's request says that"
S3 = "an address in the owner's S3 that the service would fetch"
VIDEO = "no client's form has videos"
RUN_BY_AWS = "a tool that the service runs is the owner's choice, and no client's form has it"
LOADED = "tools are sent with the request"
OF_RESPONSES = "in responses alone"
NOT_WRITTEN = {
    "ConverseRequest.modelId": IN_THE_PATH,
    "ConverseStreamRequest.modelId": IN_THE_PATH,
    "ConverseRequest.promptVariables": "of prompts that the service stores",
    "ConverseStreamRequest.promptVariables": "of prompts that the service stores",
    "PromptVariableValues.text": "of prompts that the service stores",
    "SystemContentBlock.guardContent": GUARDED,
    "ContentBlock.guardContent": GUARDED,
    "GuardrailConverseContentBlock.text": GUARDED,
    "GuardrailConverseContentBlock.image": GUARDED,
    "GuardrailConverseTextBlock.text": GUARDED,
    "GuardrailConverseTextBlock.qualifiers": GUARDED,
    "GuardrailConverseImageBlock.format": GUARDED,
    "GuardrailConverseImageBlock.source": GUARDED,
    "GuardrailConverseImageSource.bytes": GUARDED,
    "ImageSource.s3Location": S3,
    "DocumentSource.s3Location": S3,
    "AudioSource.s3Location": S3,
    "VideoSource.s3Location": S3,
    "S3Location.uri": S3,
    "S3Location.bucketOwner": S3,
    "ContentBlock.video": VIDEO,
    "ToolResultContentBlock.video": VIDEO,
    "VideoBlock.format": VIDEO,
    "VideoBlock.source": VIDEO,
    "VideoSource.bytes": VIDEO,
    "ImageBlock.error": OF_RESPONSES,
    "AudioBlock.error": OF_RESPONSES,
    "ErrorBlock.message": OF_RESPONSES,
    "DocumentSource.text": "documents are sent as bytes, which every format has",
    "DocumentSource.content": "documents are sent as bytes, which every format has",
    "DocumentContentBlock.text": "documents are sent as bytes, which every format has",
    "ToolUseBlock.type": RUN_BY_AWS,
    "ToolResultBlock.type": RUN_BY_AWS,
    "Tool.systemTool": RUN_BY_AWS,
    "SystemTool.name": RUN_BY_AWS,
    "ToolResultContentBlock.json": "a client's result is text, whatever it holds",
    "ContentBlock.citationsContent": "citations of earlier answers are left out, and reported",
    "ContentBlock.toolAddition": LOADED,
    "ContentBlock.toolRemoval": LOADED,
    "ToolAdditionBlock.tool": LOADED,
    "ToolRemovalBlock.tool": LOADED,
    "ToolReference.type": LOADED,
    "ToolReference.name": LOADED,
    "ToolReference.serverName": LOADED,
    "ToolChoice.auto": "what happens without a choice",
}
OF_CITATIONS = frozenset(
    "CitationsContentBlock CitationGeneratedContent Citation CitationSourceContent CitationLocation WebLocation "
    "DocumentCharLocation DocumentPageLocation DocumentChunkLocation SearchResultLocation".split()
)
"""Shapes below ContentBlock.citationsContent, which is not written."""

BY_THE_OWNER: dict[str, Any] = {
    "guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1", "trace": "enabled", "streamProcessingMode": "async"},
    "serviceTier": {"type": "flex"},
    "performanceConfig": {"latency": "optimized"},
    "requestMetadata": {"team": "a"},
    "projectIdentifier": "p1",
    "additionalModelRequestFields": {"top_k": 7},
}  # fmt: skip
"""Members of `body` in the config."""
PNG, PDF = InlineData("image/png", "iVBORw0KGgo="), InlineData("application/pdf", "JVBERi0xLjc=")
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{},"additionalProperties":false}')


def bodies(*, stream: bool) -> Iterator[dict[str, Any]]:
    """Requests that together have every member that is written."""
    signed = OpaqueState(STATE_FORMAT, "c2ln", provider="aws", account="acct", model=CLAUDE)
    result = (
        TextPart("x"),
        ImagePart(PNG),
        DocumentPart(PDF),
        SearchResultPart("s", "t", ("x",), citations=True),
    )
    conversation = (
        Message("system", (TextPart("Be brief.", cache=CacheBreakpoint("1h")),)),
        Message(
            "user",
            (
                TextPart("Hi", cache=CacheBreakpoint()),
                ImagePart(PNG),
                DocumentPart(PDF, context="c", citations=True),
                AudioPart("AAAA", "mp3"),
                SearchResultPart("s", "t", ("x",)),
            ),
        ),
        Message(
            "assistant",
            (
                ReasoningPart("Hm.", state=signed),
                ReasoningPart("", state=signed, redacted=True),
                ToolCallPart("a", "look", "{}"),
            ),
        ),
        Message("tool", (ToolResultPart("a", result, is_error=True),)),
    )
    tool = Tool("look", "Looks.", SCHEMA, strict=True, cache=CacheBreakpoint())
    for choice in (ToolChoice("required"), ToolChoice("named", ("look",))):
        yield write(
            request(
                *conversation,
                stream=stream,
                tools=(tool,),
                choice=choice,
                max_tokens=9,
                sampling=Sampling(temperature=1, top_k=1, stop=("END",)),
                format=ResponseFormat("schema", SCHEMA, name="n", description="d"),
            ),
            attempt(),
        )[0]
    yield write(
        request(Message("user", (TextPart("Hi"),)), stream=stream, reasoning=ReasoningOptions(effort="low")),
        attempt(ADAPTIVE),
    )[0]
    yield write(
        request(Message("user", (TextPart("Hi"),)), stream=stream, sampling=Sampling(top_p=0.5)), attempt()
    )[0]


def present(value: Any, shape: Any) -> set[str]:
    """The members of the service model that a value has."""
    if shape.type_name == "list":
        return {name for each in value for name in present(each, shape.member)}
    if shape.type_name == "map":
        return {name for each in value.values() for name in present(each, shape.value)}
    if shape.type_name != "structure" or getattr(shape, "is_document_type", False):
        return set()
    found: set[str] = set()
    for name, each in value.items():
        found |= {f"{shape.name}.{name}"} | present(each, shape.members[name])
    return found


def test_every_member_of_a_request_is_written_or_listed() -> None:
    known: set[str] = set()
    written: set[str] = set()
    row = TYPES["bedrock-converse"]
    assert set(row.added) == set(BY_THE_OWNER)
    for stream in (True, False):
        shape = operation(stream=stream).input_shape
        known |= members(shape)
        left_out = () if stream else row.added_to_streams
        least = b'{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}'
        owners = with_added(least, BY_THE_OWNER, left_out=left_out)
        assert faults(owners, stream=stream) == []
        written |= present(json.loads(owners), shape)
        for body in bodies(stream=stream):
            written |= present(body, shape)
    known = {name for name in known if name.partition(".")[0] not in OF_CITATIONS}
    assert known - written - set(NOT_WRITTEN) == set()
    assert written & set(NOT_WRITTEN) == set()
    assert set(NOT_WRITTEN) <= known


# --- responses

IMAGE = {"format": "png", "source": {"bytes": "AAAA"}, "error": {"message": "m"}}
CITATION = {
    "title": "t",
    "source": "s",
    "sourceContent": [{"text": "x"}],
    "location": {"web": {"url": "u", "domain": "d"}},
}
USAGE = {
    "inputTokens": 3,
    "outputTokens": 2,
    "totalTokens": 50,
    "cacheReadInputTokens": 4,
    "cacheWriteInputTokens": 9,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 5}],
}
WHOLE = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"text": "x"},
                {"toolUse": {"toolUseId": "t", "name": "n", "input": {"a": 1}}},
                {"toolUse": {"toolUseId": "t", "name": "n", "input": {"a": 1}, "type": "server_tool_use"}},
                {"reasoningContent": {"reasoningText": {"text": "r", "signature": "s"}}},
                {"reasoningContent": {"redactedContent": "cmVk"}},
                {"citationsContent": {"content": [{"text": "c"}], "citations": [CITATION]}},
                {"image": IMAGE},
            ],
        }
    },
    "stopReason": "end_turn",
    "usage": USAGE,
}
STOPPED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "x"}]}},
    "stopReason": "stop_sequence",
    "usage": {"inputTokens": 3, "outputTokens": 40, "totalTokens": 5},
    "additionalModelResponseFields": {"stop_sequence": "END"},
}
STREAM: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"text": "x"}, "contentBlockIndex": 4}),
    ("contentBlockDelta", {"delta": {"citation": CITATION}, "contentBlockIndex": 4}),
    ("contentBlockStop", {"contentBlockIndex": 4}),
    ("contentBlockStart", {"start": {"toolUse": {"toolUseId": "t", "name": "n"}}, "contentBlockIndex": 1}),
    ("contentBlockDelta", {"delta": {"toolUse": {"input": "{}"}}, "contentBlockIndex": 1}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("contentBlockStart", {"start": {"toolUse": {"toolUseId": "t", "name": "n", "type": "server_tool_use"}}, "contentBlockIndex": 2}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    ("contentBlockStart", {"start": {"toolResult": {"toolUseId": "t", "type": "y", "status": "success"}}, "contentBlockIndex": 3}),
    ("contentBlockDelta", {"delta": {"toolResult": [{"text": "x"}, {"json": {"a": 1}}]}, "contentBlockIndex": 3}),
    ("contentBlockStop", {"contentBlockIndex": 3}),
    ("contentBlockDelta", {"delta": {"reasoningContent": {"text": "r"}}, "contentBlockIndex": 5}),
    ("contentBlockDelta", {"delta": {"reasoningContent": {"signature": "s"}}, "contentBlockIndex": 5}),
    ("contentBlockDelta", {"delta": {"reasoningContent": {"redactedContent": "cmVk"}}, "contentBlockIndex": 6}),
    ("contentBlockStart", {"start": {"image": {"format": "png"}}, "contentBlockIndex": 7}),
    ("contentBlockDelta", {"delta": {"image": {"source": {"bytes": "AAAA"}, "error": {"message": "m"}}}, "contentBlockIndex": 7}),
    ("contentBlockStop", {"contentBlockIndex": 7}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": USAGE}),
]  # fmt: skip
STOPPED_STREAM: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"text": "x"}, "contentBlockIndex": 0}),
    (
        "messageStop",
        {"stopReason": "stop_sequence", "additionalModelResponseFields": {"stop_sequence": "END"}},
    ),
]
"""Responses that together have every member that is read."""
ROLE = "it is always the assistant's"
METRIC = "the gateway measures time itself"
TRACE = (
    "what a guardrail or a router found is for the account's owner; the reason of the end says that it acted"
)
TIER = "of the account's owner, who configured it"
INPUT = "a block of requests alone"
NOT_READ = {
    "Message.role": ROLE,
    "MessageStartEvent.role": ROLE,
    "ConverseResponse.metrics": METRIC,
    "ConverseStreamMetadataEvent.metrics": METRIC,
    "ConverseMetrics.latencyMs": METRIC,
    "ConverseStreamMetrics.latencyMs": METRIC,
    "ConverseResponse.trace": TRACE,
    "ConverseStreamMetadataEvent.trace": TRACE,
    "ConverseResponse.performanceConfig": TIER,
    "ConverseStreamMetadataEvent.performanceConfig": TIER,
    "PerformanceConfiguration.latency": TIER,
    "ConverseResponse.serviceTier": TIER,
    "ConverseStreamMetadataEvent.serviceTier": TIER,
    "ServiceTier.type": TIER,
    "ModelStreamErrorException.originalStatusCode": "the exception's own message is told",
    "ModelStreamErrorException.originalMessage": "the exception's own message is told",
}
IN_MEDIA = frozenset(
    "ImageBlock ImageSource ErrorBlock DocumentBlock DocumentSource DocumentContentBlock VideoBlock VideoSource AudioBlock "
    "AudioSource S3Location CitationsConfig SearchResultBlock SearchResultContentBlock ToolResultBlock ToolResultContentBlock "
    "GuardrailConverseContentBlock GuardrailConverseTextBlock GuardrailConverseImageBlock GuardrailConverseImageSource CachePointBlock "
    "ToolAdditionBlock ToolRemovalBlock ToolReference".split()
)
"""Shapes of blocks that are no text, reasoning or call: such a block is kept whole, as an output in
this dialect's form, which writers report as lost.
"""
TRACES = ("Guardrail", "Converse", "PromptRouter", "AppliedGuardrail")


def _whole_events(body: Any) -> Any:
    return read_response(json.dumps(body).encode(), attempt(), ProviderRequest(b""))


def _stream_events(events: list[tuple[str, Any]]) -> Any:
    reader = ConverseStreamReader(attempt(), ProviderRequest(b""))
    return [found for name, payload in events for found in reader.feed(event(name, payload))] + reader.end()


def _without(value: Any, shape: Any) -> Iterator[tuple[str, Any]]:
    """The value without one of its members, for each of them, with the member's name."""
    if shape.type_name == "list":
        for n, each in enumerate(value):
            for name, changed in _without(each, shape.member):
                yield name, [*value[:n], changed, *value[n + 1 :]]
    elif shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        for member, each in value.items():
            yield f"{shape.name}.{member}", {name: other for name, other in value.items() if name != member}
            for name, changed in _without(each, shape.members[member]):
                yield name, {**value, member: changed}


def _told(found: Sequence[Event]) -> list[str]:
    """The events as texts, with what is undecoded in them."""
    return [
        repr(each.error)
        if isinstance(each, ResponseFailed)
        else f"{type(each).__name__} {msgspec.json.encode(each).decode()}"
        for each in found
    ]


def read_members() -> set[str]:
    """The members without which a response is another one."""
    read: set[str] = set()
    shape = operation(stream=False).output_shape
    for sample in (WHOLE, STOPPED):
        usual = _told(_whole_events(sample))
        read |= {name for name, changed in _without(sample, shape) if _told(_whole_events(changed)) != usual}
    events = operation(stream=True).output_shape.members["stream"].members
    for given in (STREAM, STOPPED_STREAM):
        usual = _told(_stream_events(given))
        for n, (kind, payload) in enumerate(given):
            before, after = given[:n], given[n + 1 :]
            if _told(_stream_events([*before, *after])) != usual:
                read.add(f"ConverseStreamOutput.{kind}")
            for name, changed in _without(payload, events[kind]):
                if _told(_stream_events([*before, (kind, changed), *after])) != usual:
                    read.add(name)
    for name in events:
        if name.endswith("Exception"):
            reader = ConverseStreamReader(attempt(), ProviderRequest(b""))
            if "told so" in _told(reader.feed(exception(name, "told so")))[0]:
                read |= {f"ConverseStreamOutput.{name}", f"{events[name].name}.message"}
    return read


def test_every_member_of_a_response_is_read_or_listed() -> None:
    known = {"ConverseStreamOutput.messageStart"}
    for stream in (True, False):
        known |= members(operation(stream=stream).output_shape)
    shapes = {name.partition(".")[0] for name in known}
    traced = {
        shape
        for shape in shapes
        if shape.startswith(TRACES)
        and (shape.startswith("Guardrail") or "Trace" in shape or "Details" in shape)
    }
    known = {name for name in known if name.partition(".")[0] not in IN_MEDIA | traced}
    kept_whole = {name for name in known if name.startswith("ContentBlock.")} - {
        f"ContentBlock.{name}" for name in ("text", "toolUse", "reasoningContent", "citationsContent")
    }
    read = read_members()
    assert known - read - kept_whole - set(NOT_READ) == {"ConverseStreamResponse.stream"} | {
        name for name in known if name.partition(".")[0].endswith("Location") and name not in read
    }
    assert read & set(NOT_READ) == set()
    assert set(NOT_READ) <= known
