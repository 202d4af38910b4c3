"""Writes the output items of a Responses API stream.

Events are numbered, and each item keeps its index and its id from its first event to the final
output (docs/reference/wire-formats.md#responses). One message or reasoning item is open at a time;
calls may be open beside it. Imports no other dialect.
"""

from __future__ import annotations

from typing import Any, Literal, assert_never

import msgspec

from modelplex.core.events import (
    CitationAdded,
    ContentEvent,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from modelplex.core.request import AnyTool, Change, OpaqueState
from modelplex.dialects.core.envelope import wrap
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.response_writer import lost_media, web_citation
from modelplex.dialects.openai_responses.client_tools import SLIP, ClientTool, ClientTools
from modelplex.dialects.openai_responses.compaction import compaction_item
from modelplex.dialects.openai_responses.constants import DIALECT, OF_CALL, STATE_FORMAT
from modelplex.dialects.openai_responses.tools import flat_names

_Json = dict[str, Any]
ItemKind = Literal["message", "reasoning", "call", "custom", "typed"]
_CALLS = frozenset[ItemKind]({"call", "custom", "typed"})
_DELTA: dict[ItemKind, str] = {
    "call": "response.function_call_arguments.delta",
    "custom": "response.custom_tool_call_input.delta",
}
_DONE: dict[ItemKind, str] = {
    "call": "response.function_call_arguments.done",
    "custom": "response.custom_tool_call_input.done",
}
_PREFIXES: dict[ItemKind, str] = {
    "message": "msg",
    "reasoning": "rs",
    "call": "fc",
    "custom": "ctc",
}


class WrittenItem:
    """One output item. `members` is the item as it was written; `texts` are the pieces of its open
    part, or of a call's arguments. `tool` is that of a typed call.
    """

    __slots__ = (
        "delta",
        "index",
        "is_open",
        "kind",
        "members",
        "part",
        "position",
        "texts",
        "tokens",
        "tool",
    )

    def __init__(self, index: int, members: _Json, kind: ItemKind, *, tool: ClientTool | None = None) -> None:
        self.index = index
        self.members = members
        self.kind: ItemKind = kind
        self.tool = tool
        self.texts: list[str] = []
        self.tokens: list[Any] = []
        """Log probabilities of the open part."""
        self.part: _Json | None = None
        """The open part of a message or of a summary."""
        self.position = -1
        """The index of that part."""
        self.delta = b""
        """The members of a delta event, without its text."""
        self.is_open = True

    def __repr__(self) -> str:
        return f"<WrittenItem {self.index} {self.kind}, open={self.is_open}>"

    def place(self, **members: int) -> None:
        """Set the members that all delta events of the open part have in common."""
        placed = {"item_id": self.members["id"], "output_index": self.index, **members}
        self.delta = encode(placed)[1:-1]

    def settle(self, status: str) -> list[Change]:
        """Give the item its final members. Returns what the model's arguments lost."""
        self.is_open = False
        if "status" in self.members:
            is_cut = status == "incomplete" and self.tool is not None
            self.members["status"] = self.tool.cut if is_cut and self.tool is not None else status
        if self.kind == "call":
            self.members["arguments"] = "".join(self.texts)
        elif self.kind == "custom":
            self.members["input"] = "".join(self.texts)
        elif self.tool is not None:
            filled = self.tool.fill("".join(self.texts))
            self.members |= filled or {}
            return [] if filled else [Change("lower", f"output[{self.index}]", SLIP)]
        else:
            self.settle_part()
        return []

    def settle_part(self) -> None:
        """Give the open part its final text, and close it."""
        part = self.part
        if part is None:
            return
        part["refusal" if part["type"] == "refusal" else "text"] = "".join(self.texts)
        if self.tokens:
            part["logprobs"] = self.tokens
        self.part = None
        self.texts, self.tokens = [], []


_Added = tuple[WrittenItem, bytes]
"""An item and the events that begin it."""


class EventNumbering:
    """Writes single events, which are numbered from 0."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def event(self, kind: str, members: bytes) -> bytes:
        """One event. `members` is the inside of its JSON object, without type and number."""
        self.count += 1
        name = kind.encode()
        return b'event: %s\ndata: {"type":"%s","sequence_number":%d,%s}\n\n' % (
            name,
            name,
            self.count - 1,
            members,
        )

    def item_event(self, kind: str, item: WrittenItem, **members: Any) -> bytes:
        placed = {"item_id": item.members["id"], "output_index": item.index, **members}
        return self.event(kind, encode(placed)[1:-1])

    def whole_item_event(self, what: Literal["added", "done"], index: int, item: object) -> bytes:
        members = encode({"output_index": index, "item": item})[1:-1]
        return self.event(f"response.output_item.{what}", members)


class ItemWriter:
    """The items of one response, and their events. `response_id` is without its prefix."""

    def __init__(
        self,
        events: EventNumbering,
        *,
        response_id: str,
        tools: tuple[AnyTool, ...],
        changes: list[Change],
    ) -> None:
        self.items: list[WrittenItem | msgspec.Raw] = []
        self.refused = False
        self._events = events
        self._response_id = response_id
        self._changes = changes
        self._by_part: dict[int, WrittenItem] = {}
        """The item that a part of the response is in."""
        self._open: WrittenItem | None = None
        """The open message or reasoning item."""
        self._in_namespaces = {sent: key for key, sent in flat_names(tools).items()}
        self._typed = ClientTools(tools).offered
        """The tools of the client by name whose calls are items of their own type."""

    def __repr__(self) -> str:
        return f"<ItemWriter {len(self.items)} items, open {[item.kind for item in self.open_items]}>"

    @property
    def open_items(self) -> list[WrittenItem]:
        return [item for item in self.items if isinstance(item, WrittenItem) and item.is_open]

    @property
    def output(self) -> list[_Json | msgspec.Raw]:
        return [item.members if isinstance(item, WrittenItem) else item for item in self.items]

    def write(self, event: ContentEvent | PartEnded) -> bytes:
        match event:
            case TextDelta():
                return self._write_text(event)
            case RefusalDelta():
                self.refused = True
                return self.write_refusal(event.part, event.text)
            case ReasoningDelta():
                return self._write_reasoning(event.part, event.text)
            case OpaqueStateReceived():
                return self._write_opaque_state(event)
            case ToolCallStarted():
                return self._begin_call(event)
            case ToolArgumentsDelta():
                item = self._by_part[event.part]
                return self._write_arguments(item, event.text) if item.is_open else b""
            case CitationAdded():
                return self._write_citation(event)
            case MediaOutput():
                return self._write_media(event)
            case PartEnded():
                return self._end_part_of(event.part)
            case _:
                assert_never(event)

    def close_all(self, *, cut: bool) -> bytes:
        """Close every item. `cut`: the response is incomplete, and so are its last open item and
        calls without arguments.
        """
        items, out = self.open_items, b""
        for item in items:
            is_cut = cut and (item is items[-1] or (item.kind in {"call", "typed"} and not item.texts))
            out += self._close(item, "incomplete" if is_cut else "completed")
        return out

    # --- items ---

    def _add(self, kind: ItemKind, members: _Json, tool: ClientTool | None = None) -> _Added:
        index = len(self.items)
        prefix = _PREFIXES[kind] if tool is None else tool.prefix
        members = {"id": f"{prefix}_{self._response_id}_{index}", **members}
        if kind != "custom":  # the one item that has no status
            members["status"] = "in_progress"
        item = WrittenItem(index, members, kind, tool=tool)
        self.items.append(item)
        return item, self._events.whole_item_event("added", index, members)

    def _close_open(self) -> bytes:
        return b"" if self._open is None else self._close(self._open)

    def _close(self, item: WrittenItem, status: str = "completed") -> bytes:
        """Close an item. A call that was cut has no done event of its arguments: they are not done
        (R25).
        """
        if not item.is_open:
            return b""
        out = b""
        if item.kind not in _CALLS:
            out += self._end_part(item)
        elif status == "completed" and item.kind != "typed":
            if item.kind == "call" and not item.texts:
                out += self._write_arguments(item, "{}")
            name = "arguments" if item.kind == "call" else "input"
            out += self._events.item_event(_DONE[item.kind], item, **{name: "".join(item.texts)})
        self._changes += item.settle(status)
        if item is self._open:
            self._open = None
        return out + self._events.whole_item_event("done", item.index, item.members)

    def _end_part_of(self, part: int) -> bytes:
        item = self._by_part.get(part)
        if item is None or not item.is_open:
            return b""
        if item.kind == "message":
            return self._end_part(item)  # more text may follow in the same message
        if item.kind in {"call", "typed"} and not item.texts:
            return b""  # the end tells whether it has none, or a limit was hit before them (R25)
        return self._close(item)

    def _end_part(self, item: WrittenItem) -> bytes:
        part, tokens = item.part, item.tokens
        if part is None:
            return b""
        item.settle_part()
        event = self._events.item_event
        if item.kind == "reasoning":
            text = event("response.reasoning_summary_text.done", item, summary_index=0, text=part["text"])
            return text + event("response.reasoning_summary_part.done", item, summary_index=0, part=part)
        at = item.position
        if part["type"] == "refusal":
            out = event("response.refusal.done", item, content_index=at, refusal=part["refusal"])
        else:
            members = {"text": part["text"], "logprobs": tokens}
            out = event("response.output_text.done", item, content_index=at, **members)
        return out + event("response.content_part.done", item, content_index=at, part=part)

    # --- text ---

    def _text_part(self, part: int, kind: Literal["output_text", "refusal"]) -> tuple[WrittenItem, bytes]:
        """The message with this part open; begins either where needed."""
        item = self._by_part.get(part)
        if item is not None and item.is_open and item.part is not None and item.part["type"] == kind:
            return item, b""
        out = b""
        if self._open is None or self._open.kind != "message":
            out = self._close_open()
            members = {"type": "message", "role": "assistant", "content": list[Any]()}
            self._open, added = self._add("message", members)
            out += added
        item = self._open
        out += self._end_part(item)
        self._by_part[part] = item
        item.position += 1
        item.part = {"type": "refusal", "refusal": ""}
        if kind == "output_text":
            item.part = {"type": kind, "text": "", "annotations": list[Any](), "logprobs": list[Any]()}
        at = item.position
        out += self._events.item_event("response.content_part.added", item, content_index=at, part=item.part)
        item.members["content"].append(item.part)
        item.place(content_index=at)
        return item, out

    def _write_text(self, event: TextDelta) -> bytes:
        if not event.text and event.logprobs is None:
            return b""
        item, out = self._text_part(event.part, "output_text")
        item.texts.append(event.text)
        tokens = b"[]"
        if event.logprobs is not None:
            read = _tokens(event.logprobs)
            item.tokens += read
            tokens = encode(read)
        # Nearly all events are these, so that the frame is not encoded anew.
        number = self._events.count
        self._events.count = number + 1
        return out + (
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":%d,%s,"delta":%s,"logprobs":%s}\n\n'
            % (number, item.delta, encode(event.text), tokens)
        )

    def write_refusal(self, part: int, text: str) -> bytes:
        if not text:
            return b""
        item, out = self._text_part(part, "refusal")
        item.texts.append(text)
        return out + self._events.event("response.refusal.delta", item.delta + b',"delta":' + encode(text))

    def _write_citation(self, event: CitationAdded) -> bytes:
        annotation = _annotation(event)
        if annotation is None:
            reason = "a citation that is not of a web page has no form here"
            self._changes.append(Change("drop", "output[].content[].annotations", reason))
            return b""
        item, out = self._text_part(event.part, "output_text")
        assert item.part is not None
        annotations = item.part["annotations"]
        annotations.append(annotation)
        return out + self._events.item_event(
            "response.output_text.annotation.added",
            item,
            content_index=item.position,
            annotation_index=len(annotations) - 1,
            annotation=annotation,
        )

    # --- reasoning ---

    def _reasoning(self, part: int) -> tuple[WrittenItem, bytes]:
        """The open reasoning item of this part. Output of another kind closed the item before: late
        opaque state begins another.
        """
        item = self._by_part.get(part)
        if item is not None and item.is_open and item.kind == "reasoning":
            return item, b""
        out = self._close_open()
        item, added = self._add("reasoning", {"type": "reasoning", "summary": list[Any]()})
        self._by_part[part] = self._open = item
        return item, out + added

    def _begin_summary(self, item: WrittenItem) -> bytes:
        """Readable text is written as a summary, be it the reasoning itself or a summary of it
        (docs/reference/translation.md#reasoning-and-opaque-state).
        """
        if item.part is not None:
            return b""
        item.part = {"type": "summary_text", "text": ""}
        out = self._events.item_event(
            "response.reasoning_summary_part.added", item, summary_index=0, part=item.part
        )
        item.members["summary"].append(item.part)
        item.place(summary_index=0)
        return out

    def _write_reasoning(self, part: int, text: str) -> bytes:
        if not text:
            return b""
        item, out = self._reasoning(part)
        out += self._begin_summary(item)
        item.texts.append(text)
        delta = item.delta + b',"delta":' + encode(text)
        return out + self._events.event("response.reasoning_summary_text.delta", delta)

    def _write_opaque_state(self, event: OpaqueStateReceived) -> bytes:
        item = self._by_part.get(event.part)
        if item is not None and item.kind in _CALLS:
            return self._write_state_of_call(item.members["call_id"], event.state)
        item, out = self._reasoning(event.part)
        if item.part is None and not event.redacted and event.state.format != STATE_FORMAT:
            out += self._begin_summary(item)  # empty: the provider left the text out
        item.members["encrypted_content"] = wrap(event.state)
        return out

    def _write_state_of_call(self, call_id: str, state: OpaqueState) -> bytes:
        """The signature of a call, which has no member for it: a reasoning item that names the
        call.
        """
        item, out = self._add("reasoning", {"type": "reasoning", "summary": list[Any]()})
        item.members["encrypted_content"] = wrap(msgspec.structs.replace(state, id=OF_CALL + call_id))
        return out + self._close(item)

    # --- calls and media ---

    def _begin_call(self, event: ToolCallStarted) -> bytes:
        out = self._close_open()
        if (tool := self._typed.get(event.name)) is not None:
            called = {"type": tool.call, "call_id": event.id, **tool.empty}
            item, added = self._add("typed", called, tool)
            self._by_part[event.part] = item
            return out + added
        namespace, name = self._in_namespaces.get(event.name, (event.namespace, event.name))
        members: _Json = {"call_id": event.id, "name": name}
        if namespace is not None:
            members["namespace"] = namespace
        if event.free:
            item, added = self._add("custom", {"type": "custom_tool_call", **members, "input": ""})
        else:
            item, added = self._add("call", {"type": "function_call", **members, "arguments": ""})
        self._by_part[event.part] = item
        item.place()
        return out + added

    def _write_arguments(self, item: WrittenItem, text: str) -> bytes:
        item.texts.append(text)
        if item.kind == "typed":
            return b""  # its arguments are an object, which is sent whole
        return self._events.event(_DELTA[item.kind], item.delta + b',"delta":' + encode(text))

    def write_compaction(self, summary: str) -> bytes:
        """The one item of a response that compacts the conversation."""
        return self._write_whole(msgspec.Raw(encode(compaction_item(self._response_id, summary))))

    def _write_media(self, event: MediaOutput) -> bytes:
        """An item of this dialect is whole, and passes unchanged."""
        if event.dialect != DIALECT:
            self._changes.append(lost_media("output[]"))
            return b""
        return self._write_whole(event.raw)

    def _write_whole(self, raw: msgspec.Raw) -> bytes:
        out = self._close_open()
        index = len(self.items)
        self.items.append(raw)
        added = self._events.whole_item_event("added", index, raw)
        return out + added + self._events.whole_item_event("done", index, raw)


def _annotation(event: CitationAdded) -> msgspec.Raw | None:
    """This dialect's own annotation unchanged; of other dialects, a citation of a web page."""
    if event.dialect == DIALECT:
        return event.raw
    page = web_citation(event)
    return None if page is None else msgspec.Raw(encode({"type": "url_citation", **page}))


class _Token(msgspec.Struct, gc=False):
    token: str = ""
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[_Token] | None = None


_decode_tokens = msgspec.json.Decoder(list[_Token]).decode


def _tokens(raw: msgspec.Raw) -> list[_Json]:
    """Log probabilities in chat's form, where `bytes` may be null; here it may not."""
    return [
        {**_entry(token), "top_logprobs": [_entry(other) for other in token.top_logprobs or ()]}
        for token in _decode_tokens(raw)
    ]


def _entry(token: _Token) -> _Json:
    given = list(token.token.encode("utf-8", "replace")) if token.bytes is None else token.bytes
    return {"token": token.token, "logprob": token.logprob or 0.0, "bytes": given}
