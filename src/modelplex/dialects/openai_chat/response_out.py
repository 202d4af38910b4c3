"""Writes events as a chat completions response, streamed or whole.

The order of chunks is that of docs/reference/wire-formats.md#chat-completions. OpenAI's client
libraries concatenate repeated strings and add repeated numbers, so that a member that names
something is written once. Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never, cast

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import (
    CitationAdded,
    ContentEvent,
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
from modelplex.core.request import Change, ChatRequest, OpaqueState
from modelplex.dialects.core import sse
from modelplex.dialects.core.broken_responses import ended_early
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.core.json import as_list, as_object, encode
from modelplex.dialects.core.response_writer import lost_media, refusal_explanation, web_citation
from modelplex.dialects.openai_chat.errors import error_object
from modelplex.dialects.openai_chat.usage import write_usage

DIALECT = "openai_chat"
DONE = b"data: [DONE]\n\n"

FINISH_REASONS: dict[Reason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context": "length",
    "tool_calls": "tool_calls",
    "refusal": "content_filter",
    "filter": "content_filter",
    "paused": "length",
}
"""By reason (docs/reference/translation.md#finish-reasons)."""

_TIERS = {"standard": "default"}
"""Anthropic's name of OpenAI's default tier."""

_decode_any = msgspec.json.Decoder().decode


class _Tool:
    __slots__ = ("argued", "free", "index")

    def __init__(self, index: int, *, free: bool) -> None:
        self.index = index
        self.free = free
        self.argued = False


class _Progress:
    """What was written of a choice."""

    __slots__ = ("annotations", "ended", "reasons", "refused", "summaries", "tools")

    def __init__(self) -> None:
        self.tools: dict[int, _Tool] = {}
        self.reasons: dict[int, int] = {}
        """The index in `reasoning_details` of each thinking part."""
        self.summaries: set[int] = set()
        self.annotations: list[msgspec.Raw] = []
        self.refused = False
        self.ended = False


class ChatWriter:
    """EventWriter (dialects/dialect.py) of chat completions."""

    media_type = "text/event-stream"

    def __init__(self, call: ChatRequest, *, id: str, created: int, model: str) -> None:
        self.changes: list[Change] = []
        self._call = call
        self._id = id
        self._created = created
        self._model = model
        self._choices: dict[int, _Progress] = {}
        self._usage: Usage | None = None
        self._failed = False
        self._head = b""
        self._tail = b',"usage":null}\n\n' if call.include_usage else b"}\n\n"

    def __repr__(self) -> str:
        ended = sum(progress.ended for progress in self._choices.values())
        return f"<ChatWriter {ended} of {len(self._choices)} choices ended, failed={self._failed}>"

    def send(self, event: Event) -> bytes:
        if self._failed:
            return b""
        if isinstance(event, TextDelta) and event.choice in self._choices:  # nearly all events
            return self._write_text(event)
        match event:
            case ResponseStarted():
                return self._begin(event)
            case ResponseFailed():
                self._failed = True
                return write_error_event(event.error)
            case UsageReported():
                self._usage = event.usage
                return b""
            case PartEnded():
                return b""
            case _:
                opened = b"" if event.choice in self._choices else self._open(event.choice)
                return opened + self._write(event, self._choices[event.choice])

    def _write(self, event: ContentEvent | ResponseEnded, progress: _Progress) -> bytes:
        match event:
            case TextDelta():
                return self._write_text(event)
            case RefusalDelta():
                progress.refused = True
                return self._chunk(event.choice, {"refusal": event.text})
            case ReasoningDelta():
                return self._write_reasoning(event, progress)
            case OpaqueStateReceived():
                return self._write_opaque_state(event, progress)
            case ToolCallStarted():
                return self._call_tool(event, progress)
            case ToolArgumentsDelta():
                return self._write_arguments(event, progress)
            case CitationAdded():
                self._write_citation(event, progress)
                return b""
            case MediaOutput():
                return self._write_media(event)
            case ResponseEnded():
                return self._end(event, progress)
            case _:
                assert_never(event)

    def ping(self) -> bytes:
        """A comment: clients read every data event as a chunk (R50)."""
        return sse.comment(b"ping")

    def end(self) -> bytes:
        if self._failed:
            return b""
        if not self._choices or not all(progress.ended for progress in self._choices.values()):
            self._failed = True
            return write_error_event(ended_early())
        if not self._call.include_usage or self._usage is None:
            return DONE
        return self._head + b'"choices":[],"usage":' + bytes(write_usage(self._usage)) + b"}\n\n" + DONE

    # --- chunks ---

    def _begin(self, event: ResponseStarted) -> bytes:
        if self._head:
            return b""
        head = {
            "id": event.id or self._id,
            "object": "chat.completion.chunk",
            "created": event.created or self._created,
            "model": event.model or self._model,
        }
        if event.tier is not None:
            head["service_tier"] = _TIERS.get(event.tier, event.tier)
        if event.fingerprint is not None:
            head["system_fingerprint"] = event.fingerprint
        self._usage = event.usage or self._usage
        self._head = b"data: " + encode(head)[:-1] + b","
        return self._open(0)

    def _open(self, choice: int) -> bytes:
        """The role chunk of the choice, and of those before it: clients keep choices in a list, by
        position.
        """
        out = b"" if self._head else self._begin(ResponseStarted())
        opened: list[bytes] = []
        for index in range(len(self._choices), choice + 1):
            self._choices[index] = _Progress()
            opened.append(self._chunk(index, {"role": "assistant", "content": ""}))
        return out + b"".join(opened)

    def _chunk(self, choice: int, delta: object, finish: str | None = None) -> bytes:
        choices = [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}]
        return self._head + b'"choices":' + encode(choices) + self._tail

    def _write_text(self, event: TextDelta) -> bytes:
        tokens = b"null"
        if event.logprobs is not None:
            tokens = b'{"content":' + bytes(event.logprobs) + b',"refusal":null}'
        elif not event.text:
            return b""
        # Nearly all chunks are these, so that the frame is not encoded anew.
        return b'%s"choices":[{"index":%d,"delta":{"content":%s},"logprobs":%s,"finish_reason":null}]%s' % (
            self._head,
            event.choice,
            encode(event.text),
            tokens,
            self._tail,
        )

    def _write_reasoning(self, event: ReasoningDelta, progress: _Progress) -> bytes:
        if not event.text:
            return b""
        index = progress.reasons.setdefault(event.part, len(progress.reasons))
        if event.summary:
            progress.summaries.add(event.part)
        detail = {**_reasoning(event.text, summary=event.summary), "index": index}
        return self._chunk(event.choice, {"reasoning_content": event.text, "reasoning_details": [detail]})

    def _write_opaque_state(self, event: OpaqueStateReceived, progress: _Progress) -> bytes:
        tool = progress.tools.get(event.part)
        if tool is not None:
            # Official clients assume that every delta of a call has its `function`.
            extra = {
                "index": tool.index,
                "function": {"arguments": ""},
                "extra_content": _google(event.state),
            }
            return self._chunk(event.choice, {"tool_calls": [extra]})
        fresh = event.part not in progress.reasons
        index = progress.reasons.setdefault(event.part, len(progress.reasons))
        detail = {**_state_detail(event, fresh=fresh), "index": index}
        if event.part in progress.summaries:
            detail["type"] = (
                "reasoning.summary"  # one detail has one type, or its pieces are not joined again
            )
        return self._chunk(event.choice, {"reasoning_details": [detail]})

    def _call_tool(self, event: ToolCallStarted, progress: _Progress) -> bytes:
        tool = progress.tools[event.part] = _Tool(len(progress.tools), free=event.free)
        if self._call.old_functions:
            return self._chunk(event.choice, {"function_call": {"name": event.name, "arguments": ""}})
        delta = {"index": tool.index, **_tool_call(event, arguments="")}
        return self._chunk(event.choice, {"tool_calls": [delta]})

    def _write_arguments(self, event: ToolArgumentsDelta, progress: _Progress) -> bytes:
        tool = progress.tools[event.part]
        tool.argued = True
        if self._call.old_functions:
            return self._chunk(event.choice, {"function_call": {"arguments": event.text}})
        if tool.free:
            return self._chunk(
                event.choice, {"tool_calls": [{"index": tool.index, "custom": {"input": event.text}}]}
            )
        return (
            b'%s"choices":[{"index":%d,"delta":{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]},"logprobs":null,"finish_reason":null}]%s'
            % (
                self._head,
                event.choice,
                tool.index,
                encode(event.text),
                self._tail,
            )
        )

    def _write_citation(self, event: CitationAdded, progress: _Progress) -> None:
        """Citations are written at the end: clients cannot join two lists of annotations."""
        annotation = _annotation(event)
        if annotation is None:
            self.changes.append(_LOST_CITATION)
        else:
            progress.annotations.append(annotation)

    def _write_media(self, event: MediaOutput) -> bytes:
        if event.dialect != DIALECT:
            self.changes.append(_LOST_MEDIA)
            return b""
        return self._chunk(event.choice, event.raw)

    def _end(self, event: ResponseEnded, progress: _Progress) -> bytes:
        out = b""
        for part, tool in progress.tools.items():
            if not tool.argued and not tool.free and event.reason == "tool_calls":
                out += self._write_arguments(ToolArgumentsDelta(part, "{}", event.choice), progress)
        if progress.annotations:
            out += self._chunk(event.choice, {"annotations": progress.annotations})
        explanation = refusal_explanation(event)
        if explanation and not progress.refused:
            out += self._chunk(event.choice, {"refusal": explanation})
        progress.ended = True
        reason = finish_reason(
            event, refused=progress.refused, old=self._call.old_functions, changes=self.changes
        )
        return out + self._chunk(event.choice, {}, reason)


_LOST_CITATION = Change(
    "drop", "choices[].message.annotations", "a citation that is not of a web page has no form here"
)
_LOST_MEDIA = lost_media("choices[].message")


def write_error_event(error: ModelplexError) -> bytes:
    """The in-stream error: a `data:` object with `error`
    (docs/reference/wire-formats.md#chat-completions). Nothing may follow it.
    """
    return sse.event(encode({"error": error_object(error)}))


def finish_reason(event: ResponseEnded, *, refused: bool, old: bool, changes: list[Change]) -> str:
    """The `finish_reason` (docs/reference/translation.md#finish-reasons). OpenAI ends a refusal in
    `message.refusal` with `stop`.
    """
    if event.reason == "paused":
        changes.append(Change("lower", "choices[].finish_reason", "a paused turn is sent as `length`"))
    if event.reason == "tool_calls" and old:
        return "function_call"
    if event.reason == "refusal" and refused and event.detail is None:
        return "stop"
    return FINISH_REASONS[event.reason]


def _reasoning(text: str, *, summary: bool) -> dict[str, Any]:
    if summary:
        return {"type": "reasoning.summary", "summary": text}
    return {"type": "reasoning.text", "text": text}


def _state_detail(event: OpaqueStateReceived, *, fresh: bool) -> dict[str, Any]:
    """The opaque state as a detail: a signature of the text, or encrypted reasoning without one."""
    named = {"format": event.state.format}
    if event.state.id is not None:
        named["id"] = event.state.id
    if event.redacted or (fresh and event.state.format == "openai-responses-v1"):
        return {"type": "reasoning.encrypted", "data": wrap(event.state), **named}
    return {"type": "reasoning.text", "signature": wrap(event.state), **named}


def _google(state: OpaqueState) -> dict[str, Any]:
    return {"google": {"thought_signature": wrap(state)}}


def _tool_call(event: ToolCallStarted, *, arguments: str) -> dict[str, Any]:
    if event.free:
        return {"id": event.id, "type": "custom", "custom": {"name": event.name, "input": arguments}}
    return {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": arguments}}


def _annotation(event: CitationAdded) -> msgspec.Raw | None:
    """OpenAI's own annotation unchanged; of other dialects, a citation of a web page."""
    if event.dialect == DIALECT:
        return event.raw
    page = web_citation(event)
    return None if page is None else msgspec.Raw(encode({"type": "url_citation", "url_citation": page}))


# --- whole responses ------------------------------------------------------------------------------


class _Whole:
    """One choice of a whole response."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.thoughts: list[str] = []
        self.details: dict[int, dict[str, Any]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.annotations: list[msgspec.Raw] = []
        self.tokens: list[msgspec.Raw] = []
        self.made: dict[str, Any] = {}
        self.ended: ResponseEnded | None = None


def write_response(
    events: Sequence[Event], call: ChatRequest, *, id: str, created: int, model: str
) -> tuple[bytes, list[Change]]:
    """A whole response. Raises the error of ResponseFailed."""
    started, usage = ResponseStarted(), None
    choices: dict[int, _Whole] = {}
    changes: list[Change] = []
    for event in events:
        match event:
            case ResponseStarted():
                started = event
                usage = event.usage or usage
            case UsageReported():
                usage = event.usage
            case ResponseFailed():
                raise event.error
            case PartEnded():
                pass
            case _:
                _collect(event, choices.setdefault(event.choice, _Whole()), changes)
    response: dict[str, Any] = {
        "id": started.id or id,
        "object": "chat.completion",
        "created": started.created or created,
        "model": started.model or model,
        "choices": [_write_choice(index, choices[index], call, changes) for index in sorted(choices)],
    }
    if usage is not None:
        response["usage"] = write_usage(usage)
    if started.tier is not None:
        response["service_tier"] = _TIERS.get(started.tier, started.tier)
    if started.fingerprint is not None:
        response["system_fingerprint"] = started.fingerprint
    return encode(response), changes


def _collect(event: ContentEvent | ResponseEnded, whole: _Whole, changes: list[Change]) -> None:
    match event:
        case TextDelta():
            whole.texts.append(event.text)
            if event.logprobs is not None:
                whole.tokens += msgspec.json.decode(event.logprobs, type=list[msgspec.Raw])
        case RefusalDelta():
            whole.refusals.append(event.text)
        case ReasoningDelta():
            whole.thoughts.append(event.text)
            detail = whole.details.setdefault(event.part, _reasoning("", summary=event.summary))
            name = "summary" if event.summary else "text"
            detail[name] = detail.get(name, "") + event.text
        case OpaqueStateReceived():
            if event.part in whole.calls:
                whole.calls[event.part]["extra_content"] = _google(event.state)
            else:
                fresh = event.part not in whole.details
                earlier = whole.details.setdefault(event.part, {})
                whole.details[event.part] = {**_state_detail(event, fresh=fresh), **earlier}
        case ToolCallStarted():
            whole.calls[event.part] = _tool_call(event, arguments="")
        case ToolArgumentsDelta():
            tool = whole.calls[event.part]
            kind, name = ("custom", "input") if tool["type"] == "custom" else ("function", "arguments")
            tool[kind][name] += event.text
        case CitationAdded():
            annotation = _annotation(event)
            if annotation is None:
                changes.append(_LOST_CITATION)
            else:
                whole.annotations.append(annotation)
        case MediaOutput():
            if event.dialect == DIALECT:
                _merge(whole.made, as_object(_decode_any(event.raw)) or {})
            else:
                changes.append(_LOST_MEDIA)
        case ResponseEnded():
            whole.ended = event
        case _:
            assert_never(event)


def _merge(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    """Join pieces of audio and images as a client of the stream does."""
    for name, value in piece.items():
        held = whole.get(name)
        inner, more = as_object(held), as_object(value)
        if inner is not None and more is not None:
            _merge(inner, more)
        elif isinstance(held, str) and isinstance(value, str) and name != "id":
            whole[name] = held + value
        elif isinstance(held, list) and isinstance(value, list):
            whole[name] = [*as_list(cast("object", held)), *as_list(cast("object", value))]
        else:
            whole[name] = value


def _write_choice(index: int, whole: _Whole, call: ChatRequest, changes: list[Change]) -> dict[str, Any]:
    ended = whole.ended or ResponseEnded("stop")
    text = "".join(whole.texts)
    refusal = "".join(whole.refusals) or refusal_explanation(ended)
    has_other = bool(whole.calls or refusal or whole.made)
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not has_other else None}
    message["refusal"] = refusal or None
    if whole.thoughts:
        message["reasoning_content"] = "".join(whole.thoughts)
    if whole.details:
        message["reasoning_details"] = [{**each, "index": n} for n, each in enumerate(whole.details.values())]
    if whole.annotations:
        message["annotations"] = whole.annotations
    calls = list(whole.calls.values())
    for each in calls:
        if each["type"] == "function" and not each["function"]["arguments"]:
            each["function"]["arguments"] = "{}"
    if calls and call.old_functions:
        message["function_call"] = calls[0].get("function")
    elif calls:
        message["tool_calls"] = calls
    message.update(whole.made)
    reason = finish_reason(ended, refused=bool(whole.refusals), old=call.old_functions, changes=changes)
    tokens = {"content": whole.tokens, "refusal": None} if whole.tokens else None
    return {"index": index, "message": message, "logprobs": tokens, "finish_reason": reason}
