"""Writes events as a Responses API response, streamed or whole.

The order of events is that of docs/reference/wire-formats.md#responses, which OpenAI's client
libraries rely on: events are numbered, and each item keeps its place and its id from its first
event to the final output. A whole response is the last event of its stream. Imports no other
dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

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
from modelplex.core.request import Change, ChatRequest, HostedTool, OpaqueState
from modelplex.dialects.core import sse
from modelplex.dialects.core.broken_responses import ended_early
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.response_writer import lost_media, refusal_explanation, web_citation
from modelplex.dialects.core.tool_names import qualified
from modelplex.dialects.dialect import StoredContext
from modelplex.dialects.openai_responses.constants import DIALECT, OF_CALL, STATE_FORMAT
from modelplex.dialects.openai_responses.response_object import ResponseObject

PREFIX = "resp_"
INCOMPLETE: dict[Reason, str | None] = {
    "stop": None,
    "stop_sequence": None,
    "tool_calls": None,
    "length": "max_output_tokens",
    "context": "max_output_tokens",
    "paused": "max_output_tokens",
    "refusal": "content_filter",
    "filter": "content_filter",
}
"""docs/reference/translation.md#finish-reasons: why an answer is incomplete, None where it is
complete.
"""

_decode_any = msgspec.json.Decoder().decode

_Written = dict[str, Any]


class _Item:
    """One output item as far as it has come. `item` is what is told of it; `texts` are the pieces
    of its open part.
    """

    __slots__ = ("delta", "index", "item", "kind", "odds", "open", "part", "place", "texts")

    def __init__(self, index: int, item: _Written, kind: str) -> None:
        self.index = index
        self.item = item
        self.kind = kind
        """"message", "reasoning", "call" or "custom"."""
        self.texts: list[str] = []
        self.odds: list[Any] = []
        self.part: _Written | None = None
        """The open part of a message or of a summary."""
        self.place = -1
        """The part's index."""
        self.delta = b""
        """All of a delta event but its number and its text."""
        self.open = True


class ResponsesWriter:
    """dialects/dialect.py's Writer. An answer has one choice here; nothing of others is written."""

    media_type = "text/event-stream"

    def __init__(
        self, call: ChatRequest, *, id_: str, created: int, model: str, kept: StoredContext | None = None
    ) -> None:
        self.changes: list[Change] = []
        self._call = call
        self._id = id_
        self._created = created
        self._model = model
        self._kept = kept or StoredContext()
        self._object: ResponseObject | None = None
        self._tier: str | None = None
        self._usage: Usage | None = None
        self._number = 0
        self._output: list[_Item | _Written | msgspec.Raw] = []
        self._parts: dict[int, _Item] = {}
        """The item that a part of the answer is in."""
        self._message: _Item | None = None
        self._thinking: _Item | None = None
        self._refused = False
        self._ended: ResponseEnded | None = None
        self._over = False
        self._named = {
            qualified(tool.namespace, tool.name): (tool.namespace, tool.name)
            for tool in call.tools
            if not isinstance(tool, HostedTool) and tool.namespace is not None
        }

    def __repr__(self) -> str:
        open_ = [item.kind for item in self._parts.values() if item.open]
        return f"<ResponsesWriter {self._number} events, {len(self._output)} items, open {open_}, over={self._over}>"

    def send(self, event: Event) -> bytes:
        if self._over:
            return b""
        match event:
            case ResponseStarted():
                return self._begin(event)
            case ResponseFailed():
                return self.fail(event.error)
            case UsageReported():
                self._usage = event.usage
                return b""
            case _ if event.choice:
                return b""
            case _:
                begun = b"" if self._object is not None else self._begin(ResponseStarted())
                return begun + self._write(event)

    def _write(self, event: ContentEvent | PartEnded | ResponseEnded) -> bytes:
        match event:
            case TextDelta():
                return self._write_text(event)
            case RefusalDelta():
                self._refused = True
                return self._refuse(event.part, event.text)
            case ReasoningDelta():
                return self._write_reasoning(event.part, event.text)
            case OpaqueStateReceived():
                return self._write_opaque_state(event)
            case ToolCallStarted():
                return self._call_tool(event)
            case ToolArgumentsDelta():
                return self._write_arguments(event.part, event.text)
            case CitationAdded():
                return self._write_citation(event)
            case MediaOutput():
                return self._write_media(event)
            case PartEnded():
                return self._close_part(event.part)
            case ResponseEnded():
                self._ended = event
                return b""
            case _:
                assert_never(event)

    def ping(self) -> bytes:
        """A comment: clients read every data event as one of theirs (R50)."""
        return sse.comment(b"ping")

    def end(self) -> bytes:
        if self._over:
            return b""
        if self._ended is None:
            return self.fail(ended_early())
        out, status = self._close_all()
        self._over = True
        return out + self._event(f"response.{status}", b'"response":' + self._response(status))

    def whole(self) -> bytes:
        """The response object, once everything was sent."""
        _, status = self._close_all()
        return self._response(status)

    def fail(self, error: ModelplexError) -> bytes:
        """The in-stream error, with all that came before it. Nothing may follow it."""
        begun = b"" if self._object is not None else self._begin(ResponseStarted())
        for item in self._output:
            if isinstance(item, _Item) and item.open:
                self._settle(item, "incomplete")
        self._over = True
        response = self._response("failed", error=error)
        return begun + self._event("response.failed", b'"response":' + response)

    # --- the frame ---

    def _event(self, kind: str, members: bytes) -> bytes:
        """One event: `members` are its members but for its type and its number."""
        self._number += 1
        name = kind.encode()
        return b'event: %s\ndata: {"type":"%s","sequence_number":%d,%s}\n\n' % (
            name,
            name,
            self._number - 1,
            members,
        )

    def _item_event(self, kind: str, item: _Item, **members: Any) -> bytes:
        placed = {"item_id": item.item["id"], "output_index": item.index, **members}
        return self._event(kind, encode(placed)[1:-1])

    def _begin(self, event: ResponseStarted) -> bytes:
        if self._object is not None:
            return b""
        id_ = event.id if event.id.startswith(PREFIX) else self._id
        id_ = id_ if id_.startswith(PREFIX) else PREFIX + id_
        self._object = ResponseObject(
            self._call, id=id_, created=event.created or self._created, kept=self._kept
        )
        self._model = event.model or self._model
        self._tier = event.tier
        self._usage = event.usage or self._usage
        response = b'"response":' + self._object.write("in_progress", model=self._model, output=[])
        return self._event("response.created", response) + self._event("response.in_progress", response)

    def _response(self, status: str, *, error: ModelplexError | None = None) -> bytes:
        assert self._object is not None
        reason = None
        if status == "incomplete" and self._ended is not None:
            reason = INCOMPLETE[self._ended.reason]
        return self._object.write(
            status,
            model=self._model,
            output=[item.item if isinstance(item, _Item) else item for item in self._output],
            usage=self._usage,
            tier=self._tier,
            error=error,
            reason=reason,
        )

    # --- items ---

    def _add(self, prefix: str, kind: str, members: _Written) -> tuple[_Item, bytes]:
        index = len(self._output)
        assert self._object is not None
        id_ = f"{prefix}_{self._object.id.removeprefix(PREFIX)}_{index}"
        told = {"id": id_, **members}
        if kind != "custom":  # the one item that has no status
            told["status"] = "in_progress"
        item = _Item(index, told, kind)
        self._output.append(item)
        return item, self._tell_item("added", item.index, item.item)

    def _tell_item(self, what: str, index: int, item: object) -> bytes:
        members = encode({"output_index": index, "item": item})[1:-1]
        return self._event(f"response.output_item.{what}", members)

    def _settle(self, item: _Item, status: str) -> None:
        """The item as it will be told for good: what its open part held is in it."""
        item.open = False
        if "status" in item.item:
            item.item["status"] = status
        text = "".join(item.texts)
        if item.kind == "call":
            item.item["arguments"] = text
        elif item.kind == "custom":
            item.item["input"] = text
        else:
            self._settle_part(item, text)

    def _settle_part(self, item: _Item, text: str) -> None:
        part = item.part
        if part is None:
            return
        part["refusal" if part["type"] == "refusal" else "text"] = text
        if item.odds:
            part["logprobs"] = item.odds
        item.part = None
        item.texts, item.odds = [], []

    def _close_part(self, part: int) -> bytes:
        item = self._parts.get(part)
        if item is None or not item.open:
            return b""
        if item.kind == "message":
            return self._end_part(item)  # more text may follow in the same message
        if item.kind == "call" and not item.texts:
            return b""  # only the end tells whether there are none, or the limit was hit before them (R25)
        return self._close(item)

    def _close(self, item: _Item, status: str = "completed") -> bytes:
        """The end of an item. A call that was cut has no done event of its arguments: they are not
        done (R25).
        """
        if not item.open:
            return b""
        out = b""
        if item.kind in {"call", "custom"}:
            if status == "completed":
                if item.kind == "call" and not item.texts:
                    out += self._delta(item, "{}")
                told = {"arguments" if item.kind == "call" else "input": "".join(item.texts)}
                out += self._item_event(_DONE[item.kind], item, **told)
        else:
            out += self._end_part(item)
        self._settle(item, status)
        if item is self._message:
            self._message = None
        if item is self._thinking:
            self._thinking = None
        return out + self._tell_item("done", item.index, item.item)

    def _close_all(self) -> tuple[bytes, str]:
        """The end of every item, and the status of it all."""
        ended = self._ended or ResponseEnded("stop")
        out = b"" if self._object is not None else self._begin(ResponseStarted())
        explanation = refusal_explanation(ended)
        if explanation and not self._refused:
            out += self._refuse(-1, explanation)
        if ended.reason == "paused":
            lowered = "a paused turn is told as max_output_tokens"
            self.changes.append(Change("lower", "incomplete_details.reason", lowered))
        reason = INCOMPLETE[ended.reason]
        if ended.reason == "refusal" and self._refused and ended.detail is None:
            reason = None  # told in the model's own words, in a part of its own
            self._ended = ResponseEnded("stop")
        still_open = [item for item in self._output if isinstance(item, _Item) and item.open]
        for item in still_open:
            is_cut = reason is not None and (
                item is still_open[-1] or (item.kind == "call" and not item.texts)
            )
            out += self._close(item, "incomplete" if is_cut else "completed")
        return out, "completed" if reason is None else "incomplete"

    # --- text ---

    def _text_part(self, part: int, kind: str) -> tuple[_Item, bytes]:
        """The open part of the open message that this part of the answer is, begun where
        it is not.
        """
        item = self._parts.get(part)
        if item is not None and item.open and item.part is not None and item.part["type"] == kind:
            return item, b""
        out = b"" if self._thinking is None else self._close(self._thinking)
        item = self._message
        if item is None:
            members = {"type": "message", "role": "assistant", "content": list[Any]()}
            item, added = self._add("msg", "message", members)
            self._message = item
            out += added
        out += self._end_part(item)
        self._parts[part] = item
        item.place += 1
        if kind == "refusal":
            item.part = {"type": "refusal", "refusal": ""}
        else:
            item.part = {
                "type": "output_text",
                "text": "",
                "annotations": list[Any](),
                "logprobs": list[Any](),
            }
        out += self._item_event("response.content_part.added", item, content_index=item.place, part=item.part)
        item.item["content"].append(item.part)
        placed = {"item_id": item.item["id"], "output_index": item.index, "content_index": item.place}
        item.delta = encode(placed)[1:-1]
        return item, out

    def _end_part(self, item: _Item) -> bytes:
        part = item.part
        if part is None:
            return b""
        if item.kind == "reasoning":
            return self._end_summary(item)
        odds = item.odds
        self._settle_part(item, "".join(item.texts))
        place = item.place
        if part["type"] == "refusal":
            out = self._item_event(
                "response.refusal.done", item, content_index=place, refusal=part["refusal"]
            )
        else:
            told = {"text": part["text"], "logprobs": odds}
            out = self._item_event("response.output_text.done", item, content_index=place, **told)
        return out + self._item_event("response.content_part.done", item, content_index=place, part=part)

    def _write_text(self, event: TextDelta) -> bytes:
        if not event.text and event.logprobs is None:
            return b""
        item, out = self._text_part(event.part, "output_text")
        item.texts.append(event.text)
        odds = b"[]"
        if event.logprobs is not None:
            told = _odds(event.logprobs)
            item.odds += told
            odds = encode(told)
        # Nearly all events are these, so the frame is not encoded anew.
        self._number += 1
        return out + (
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":%d,%s,"delta":%s,"logprobs":%s}\n\n'
            % (self._number - 1, item.delta, encode(event.text), odds)
        )

    def _refuse(self, part: int, text: str) -> bytes:
        if not text:
            return b""
        item, out = self._text_part(part, "refusal")
        item.texts.append(text)
        return out + self._event("response.refusal.delta", item.delta + b',"delta":' + encode(text))

    def _write_citation(self, event: CitationAdded) -> bytes:
        annotation = _annotation(event)
        if annotation is None:
            reason = "a citation that is not of a web page has no form here"
            self.changes.append(Change("drop", "output[].content[].annotations", reason))
            return b""
        item, out = self._text_part(event.part, "output_text")
        assert item.part is not None
        item.part["annotations"].append(annotation)
        told = {"annotation_index": len(item.part["annotations"]) - 1, "annotation": annotation}
        return out + self._item_event(
            "response.output_text.annotation.added", item, content_index=item.place, **told
        )

    # --- reasoning ---

    def _reason(self, part: int) -> tuple[_Item, bytes]:
        """The open reasoning item of this part. A part of another kind closed the one before: late
        state begins another.
        """
        item = self._parts.get(part)
        if item is not None and item.open and item.kind == "reasoning":
            return item, b""
        out = b"" if self._message is None else self._close(self._message)
        if self._thinking is not None:
            out += self._close(self._thinking)
        item, added = self._add("rs", "reasoning", {"type": "reasoning", "summary": list[Any]()})
        self._parts[part] = self._thinking = item
        return item, out + added

    def _summarize(self, item: _Item) -> bytes:
        """A summary holds what can be read, be it the reasoning itself or a summary of it
        (docs/reference/translation.md#reasoning-and-opaque-state).
        """
        if item.part is not None:
            return b""
        item.part = {"type": "summary_text", "text": ""}
        out = self._item_event("response.reasoning_summary_part.added", item, summary_index=0, part=item.part)
        item.item["summary"].append(item.part)
        placed = {"item_id": item.item["id"], "output_index": item.index, "summary_index": 0}
        item.delta = encode(placed)[1:-1]
        return out

    def _write_reasoning(self, part: int, text: str) -> bytes:
        if not text:
            return b""
        item, out = self._reason(part)
        out += self._summarize(item)
        item.texts.append(text)
        return out + self._event(
            "response.reasoning_summary_text.delta", item.delta + b',"delta":' + encode(text)
        )

    def _end_summary(self, item: _Item) -> bytes:
        part = item.part
        assert part is not None
        self._settle_part(item, "".join(item.texts))
        text = self._item_event(
            "response.reasoning_summary_text.done", item, summary_index=0, text=part["text"]
        )
        return text + self._item_event(
            "response.reasoning_summary_part.done", item, summary_index=0, part=part
        )

    def _write_opaque_state(self, event: OpaqueStateReceived) -> bytes:
        item = self._parts.get(event.part)
        if item is not None and item.kind in {"call", "custom"}:
            return self._sign(item.item["call_id"], event.state)
        item, out = self._reason(event.part)
        if item.part is None and not event.redacted and event.state.format != STATE_FORMAT:
            out += self._summarize(item)  # empty: there was a text, which the provider left out
        item.item["encrypted_content"] = wrap(event.state)
        return out

    def _sign(self, call_id: str, state: OpaqueState) -> bytes:
        """A signature of a call, in a reasoning item of its own that names the call: calls have no
        place for it.
        """
        item, out = self._add("rs", "reasoning", {"type": "reasoning", "summary": list[Any]()})
        item.item["encrypted_content"] = wrap(msgspec.structs.replace(state, id=OF_CALL + call_id))
        return out + self._close(item)

    # --- calls ---

    def _call_tool(self, event: ToolCallStarted) -> bytes:
        out = b"" if self._message is None else self._close(self._message)
        if self._thinking is not None:
            out += self._close(self._thinking)
        namespace, name = self._named.get(event.name, (event.namespace, event.name))
        members: _Written = {"call_id": event.id, "name": name}
        if namespace is not None:
            members["namespace"] = namespace
        if event.free:
            members = {"type": "custom_tool_call", **members, "input": ""}
            item, added = self._add("ctc", "custom", members)
        else:
            members = {"type": "function_call", **members, "arguments": ""}
            item, added = self._add("fc", "call", members)
        self._parts[event.part] = item
        item.delta = encode({"item_id": item.item["id"], "output_index": item.index})[1:-1]
        return out + added

    def _write_arguments(self, part: int, text: str) -> bytes:
        item = self._parts[part]
        return self._delta(item, text) if item.open else b""

    def _delta(self, item: _Item, text: str) -> bytes:
        item.texts.append(text)
        return self._event(_DELTA[item.kind], item.delta + b',"delta":' + encode(text))

    # --- the rest ---

    def _write_media(self, event: MediaOutput) -> bytes:
        """An item of this form's own passes as it is; it is whole."""
        if event.dialect != DIALECT:
            self.changes.append(lost_media("output[]"))
            return b""
        out = b"" if self._message is None else self._close(self._message)
        if self._thinking is not None:
            out += self._close(self._thinking)
        self._output.append(event.raw)
        index = len(self._output) - 1
        return out + self._tell_item("added", index, event.raw) + self._tell_item("done", index, event.raw)


_DELTA = {
    "call": "response.function_call_arguments.delta",
    "custom": "response.custom_tool_call_input.delta",
}
_DONE = {
    "call": "response.function_call_arguments.done",
    "custom": "response.custom_tool_call_input.done",
}


def write_response(
    events: Sequence[Event],
    call: ChatRequest,
    *,
    id_: str,
    created: int,
    model: str,
    kept: StoredContext | None = None,
) -> tuple[bytes, list[Change]]:
    """A whole answer. Raises the error of a Failed."""
    writer = ResponsesWriter(call, id_=id_, created=created, model=model, kept=kept)
    for event in events:
        if isinstance(event, ResponseFailed):
            raise event.error
        writer.send(event)
    return writer.whole(), writer.changes


def _annotation(event: CitationAdded) -> msgspec.Raw | None:
    """This dialect's own annotation unchanged; of other dialects, a citation of a web page."""
    if event.dialect == DIALECT:
        return event.raw
    page = web_citation(event)
    return None if page is None else msgspec.Raw(encode({"type": "url_citation", **page}))


class _Odd(msgspec.Struct):
    token: str = ""
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[_Odd] | None = None


_decode_odds = msgspec.json.Decoder(list[_Odd]).decode


def _odds(raw: msgspec.Raw) -> list[_Written]:
    """Entries in chat's form, where `bytes` may be null; here it may not."""
    return [
        {**_odd(entry), "top_logprobs": [_odd(other) for other in entry.top_logprobs or ()]}
        for entry in _decode_odds(raw)
    ]


def _odd(entry: _Odd) -> _Written:
    told = list(entry.token.encode("utf-8", "replace")) if entry.bytes is None else entry.bytes
    return {"token": entry.token, "logprob": entry.logprob or 0.0, "bytes": told}
