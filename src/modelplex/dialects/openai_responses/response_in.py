"""Reads Responses API responses, streamed or whole, into events.

Each item is read once: content that came in deltas is not read again from the item's done events or
the final output, and content that only these have is read from them
(docs/reference/translation.md#r5). Items that only this API has become MediaOutput. Imports the
error format of openai_chat, and no other dialect.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import (
    CitationAdded,
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
    UsageReported,
)
from modelplex.core.request import Attempt, OpaqueState, ProviderRequest
from modelplex.dialects.core.json import as_object, as_text, decode_mended, encode, parses
from modelplex.dialects.core.passthrough import ENDED_EARLY
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.sse import SseReader
from modelplex.dialects.openai_chat.errors import error_inside
from modelplex.dialects.openai_responses.constants import DIALECT, STATE_FORMAT
from modelplex.dialects.openai_responses.usage import read_usage

INCOMPLETE: dict[str | None, Reason] = {
    "max_output_tokens": "length",
    "max_messages": "length",
    "content_filter": "filter",
    "steered": "paused",
}
"""Why an answer is incomplete. One that does not say why was cut."""
BROKEN = frozenset({"failed", "cancelled"})
"""Statuses of an answer that is none."""
UNFINISHED = frozenset({"queued", "in_progress"})

_Place = tuple[int, str, int]
"""Of a part: the item's index, what it is, and its place in the item."""


class _Piece(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None
    logprobs: list[msgspec.Raw] | None = None


class _Item(msgspec.Struct):
    type: str = "message"
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Any = None
    input: str | None = None
    content: list[_Piece] | None = None
    summary: list[_Piece] | None = None
    encrypted_content: str | None = None
    status: str | None = None


class _Details(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    id: str | int | None = None
    model: str | None = None
    created_at: int | float | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None
    incomplete_details: _Details | None = None
    service_tier: str | None = None


class _Told(msgspec.Struct):
    """One event of a stream; `type` decides which members it has."""

    type: str = ""
    response: _Response | None = None
    item: msgspec.Raw = msgspec.Raw()
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: Any = None
    input: str | None = None
    annotation: msgspec.Raw = msgspec.Raw()
    logprobs: list[msgspec.Raw] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Told).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_item = msgspec.json.Decoder(_Item).decode


class _Call:
    """One call as far as it has come."""

    __slots__ = ("as_text", "closed", "cut", "free", "part", "pieces", "wrapped")

    def __init__(self, part: int) -> None:
        self.part = part
        self.pieces: list[str] = []
        self.free = False
        self.wrapped = False
        self.as_text = False
        self.closed = False
        self.cut = False
        """The provider says that it is not whole."""


class ResponsesReader:
    """dialects/dialect.py's Reader."""

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        self._attempt = attempt
        self._written = written
        self.quota = Quota()
        self._sse = SseReader()
        self._events: list[Event] = []
        self._parts: dict[_Place, int] = {}
        self._read: set[_Place] = set()
        """Parts of which something was told."""
        self._kinds_read: set[tuple[int, str]] = set()
        """The same by item and kind."""
        self._calls: dict[int, _Call] = {}
        self._done: set[int] = set()
        """Items that are complete."""
        self._indexes: dict[str, int] = {}
        """Where each item is, by its id and by its call's: the final output may number them
        otherwise.
        """
        self._places: set[int] = set()
        self._next = 0
        """The indexes that have a name, and the one behind the largest of them."""
        self._thoughts: dict[int, int] = {}
        """The open part of each reasoning item."""
        self._count = 0
        self._began = False
        self._refused = False
        self._over = False

    def __repr__(self) -> str:
        return f"<ResponsesReader {self._count} parts, {len(self._calls)} calls, over={self._over}>"

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        try:
            events = self._sse.feed(data)
        except UpstreamBroken as error:
            self._fail(error)
            return self._taken()
        for event in events:
            self._read_data(event.data)
            if self._over:
                break
        return self._taken()

    def end(self) -> list[Event]:
        for event in self._sse.end():
            if not self._over:
                self._read_data(event.data)
        if not self._over:
            self._fail(UpstreamBroken(ENDED_EARLY + "no response.completed came."))
        return self._taken()

    def read_whole(self, body: bytes) -> list[Event]:
        """The events of an answer that is not streamed."""
        answer = decode_mended(body, _decode_response)
        if answer is None:
            self._fail(
                UpstreamBroken(
                    "The provider answered with something that is not an answer in the Responses form."
                )
            )
        elif answer.error:
            self._fail_with(answer.error, body)
        elif answer.output is None or answer.status in UNFINISHED | BROKEN:
            self._fail(UpstreamBroken(f"The provider's answer is {answer.status or 'without output'}."))
        else:
            self._read_terminal(answer)
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _fail(self, error: UpstreamBroken) -> None:
        self._over = True
        self._events.append(ResponseFailed(error))

    def _fail_with(self, error: object, body: bytes) -> None:
        self._over = True
        self._events.append(ResponseFailed(error_inside(error, body=body)))

    # --- one event ---

    def _read_data(self, data: bytes) -> None:
        stripped = data.strip()
        if not stripped or stripped == b"[DONE]":
            return
        told = decode_mended(data, _decode)
        if told is None:
            self._fail(
                UpstreamBroken(
                    "The provider's stream holds something that is not an event of the Responses form."
                )
            )
            return
        match told.type:
            case "response.created" | "response.in_progress" | "response.queued":
                self._begin(told.response or _Response())
            case "response.output_item.added":
                self._read_added(told)
            case "response.output_item.done":
                self._read_done(told)
            case "response.completed" | "response.incomplete":
                response = told.response or _Response()
                status = response.status or told.type.removeprefix("response.")
                self._read_terminal(msgspec.structs.replace(response, status=status))
            case "response.failed" | "response.cancelled":
                response = told.response or _Response()
                self._fail_with(response.error or {"message": f"It says {told.type}."}, data)
            case "error":
                self._fail_with(told.error or _flat_error(data), data)
            case _ if told.error and not told.type:
                self._fail_with(told.error, data)
            case _:
                self._read_piece(told)

    def _begin(self, response: _Response) -> None:
        if self._began:
            return
        self._began = True
        self._events.append(
            ResponseStarted(
                id=as_text(response.id) or "",
                model=response.model or "",
                created=int(response.created_at or 0),
                tier=response.service_tier,
            )
        )

    def _read_piece(self, told: _Told) -> None:
        """Deltas, and the done events of what came without any."""
        index, place = self._index_of(told, told.item_id), told.content_index or 0
        match told.type:
            case "response.output_text.delta":
                self._add_text(index, place, told.delta or "", told.logprobs)
            case "response.output_text.done":
                self._say_rest((index, "text", place), told.text, told.logprobs)
            case "response.output_text.annotation.added":
                part = self._part((index, "text", place))
                self._events.append(CitationAdded(part, msgspec.Raw(bytes(told.annotation)), DIALECT))
            case "response.refusal.delta":
                self._refuse(index, place, told.delta or "")
            case "response.refusal.done":
                if (index, "refusal", place) not in self._read:
                    self._refuse(index, place, told.refusal or "")
            case "response.reasoning_summary_text.delta":
                self._add_reasoning((index, "summary", told.summary_index or 0), told.delta or "")
            case "response.reasoning_summary_text.done":
                self._think_rest((index, "summary", told.summary_index or 0), told.text)
            case "response.reasoning_text.delta" | "response.reasoning.delta":
                self._add_reasoning((index, "thought", place), told.delta or "")
            case "response.reasoning_text.done":
                self._think_rest((index, "thought", place), told.text)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                self._add_arguments(index, told.delta or "")
            case "response.function_call_arguments.done":
                self._argue_rest(index, _as_json(told.arguments))
            case "response.custom_tool_call_input.done":
                self._argue_rest(index, told.input or "")
            case _:
                pass

    # --- items ---

    def _read_added(self, told: _Told) -> None:
        item = decode_mended(bytes(told.item), _decode_item)
        if item is None:
            return
        index = self._index_of(told, item.id, item.call_id)
        if item.type in {"function_call", "custom_tool_call"} and item.name:
            self._open_call(index, item)

    def _read_done(self, told: _Told) -> None:
        item = decode_mended(bytes(told.item), _decode_item)
        if item is not None:
            self._read_item(self._index_of(told, item.id, item.call_id), item, told.item)

    def _index_of(self, told: _Told, *names: str | None) -> int:
        """Of the item that an event is about. Some servers leave out the index, so that its names
        tell it.
        """
        known = next((self._indexes[name] for name in names if name in self._indexes), None)
        index = told.output_index
        if index is None:
            index = known if known is not None else self._next
        self._name(index, *names)
        return index

    def _name(self, index: int, *names: str | None) -> None:
        for name in names:
            if name and name not in self._indexes:
                self.quota.take_entry(name)
                self._indexes[name] = index
                self._places.add(index)
                self._next = max(self._next, index + 1)

    def _read_item(self, index: int, item: _Item, raw: msgspec.Raw) -> None:
        """A whole item: what was not told of it yet."""
        if index in self._done:
            return
        self.quota.take_entry()
        self._done.add(index)
        match item.type:
            case "message":
                self._read_message(index, item)
            case "reasoning":
                self._read_reasoning(index, item)
            case "function_call" | "custom_tool_call":
                self._read_call(index, item)
            case _:
                self._events.append(MediaOutput(self._next_part(), msgspec.Raw(bytes(raw)), DIALECT))

    def _read_message(self, index: int, item: _Item) -> None:
        for place, piece in enumerate(item.content or ()):
            if piece.type == "refusal":
                if (index, "refusal", place) not in self._read:
                    self._refuse(index, place, piece.refusal or "")
                kind = "refusal"
            else:
                kind = "text"
                if (index, kind, place) not in self._read:
                    self._say_rest((index, kind, place), piece.text, piece.logprobs)
                    for annotation in piece.annotations or ():
                        part = self._part((index, kind, place))
                        self._events.append(CitationAdded(part, msgspec.Raw(bytes(annotation)), DIALECT))
            if (index, kind, place) in self._parts:
                self._events.append(PartEnded(self._parts[index, kind, place]))

    def _read_reasoning(self, index: int, item: _Item) -> None:
        for place, piece in enumerate(item.summary or ()):
            self._think_rest((index, "summary", place), piece.text)
        for place, piece in enumerate(item.content or ()):
            self._think_rest((index, "thought", place), piece.text)
        silent = index not in self._thoughts
        if item.encrypted_content:
            part = self._thought_part(index)
            state = OpaqueState(
                STATE_FORMAT,
                item.encrypted_content,
                provider=self._attempt.provider,
                account=self._attempt.account,
                model=self._attempt.model,
                id=item.id,
            )
            self._events.append(OpaqueStateReceived(part, state, redacted=silent))
        if index in self._thoughts:
            self._events.append(PartEnded(self._thoughts[index]))

    def _read_call(self, index: int, item: _Item) -> None:
        call = self._calls.get(index)
        if call is None:
            if not item.name:
                self._fail(UpstreamBroken("The provider called a tool without a name."))
                return
            call = self._open_call(index, item)
        call.cut = item.status == "incomplete"
        whole = (item.input or "") if item.type == "custom_tool_call" else _as_json(item.arguments)
        self._argue_rest(index, whole)
        text = "".join(call.pieces)
        if not call.cut and not call.wrapped and (call.free or parses(text or "{}")):
            self._close_call(call)

    def _open_call(self, index: int, item: _Item) -> _Call:
        call = self._calls.get(index)
        if call is not None:
            return call
        call = self._calls[index] = _Call(self._next_part())
        sent = item.name or ""
        call.free = item.type == "custom_tool_call"
        call.wrapped = sent in self._written.free and not call.free
        call.as_text = sent == self._written.answer_tool
        if not call.as_text:
            self._begin(_Response())
            self._events.append(
                ToolCallStarted(
                    call.part,
                    item.call_id or item.id or f"call_{len(self._calls) - 1}",
                    self._written.aliases.get(sent, sent),
                    free=call.free or call.wrapped,
                    namespace=item.namespace,
                )
            )
        return call

    # --- parts ---

    def _next_part(self) -> int:
        self._begin(_Response())
        self.quota.take_entry()
        self._count += 1
        return self._count - 1

    def _part(self, place: _Place) -> int:
        if place not in self._parts:
            self._parts[place] = self._next_part()
        self._mark_read(place)
        return self._parts[place]

    def _mark_read(self, place: _Place) -> None:
        if place not in self._read:
            self.quota.take_entry()
            self._read.add(place)
            self._kinds_read.add(place[:2])

    def _add_text(self, index: int, place: int, text: str, logprobs: list[msgspec.Raw] | None) -> None:
        odds = msgspec.Raw(encode([_odd(raw) for raw in logprobs])) if logprobs else None
        if text or odds is not None:
            self._events.append(TextDelta(self._part((index, "text", place)), text, logprobs=odds))

    def _say_rest(self, place: _Place, text: str | None, logprobs: list[msgspec.Raw] | None) -> None:
        if place not in self._read:
            self._add_text(place[0], place[2], text or "", logprobs)

    def _refuse(self, index: int, place: int, text: str) -> None:
        if text:
            self._refused = True
            self._events.append(RefusalDelta(self._part((index, "refusal", place)), text))

    def _thought_part(self, index: int) -> int:
        """One part for a whole reasoning item: its state is of all that it holds."""
        if index not in self._thoughts:
            self._thoughts[index] = self._next_part()
        return self._thoughts[index]

    def _add_reasoning(self, place: _Place, text: str) -> None:
        """The pieces of a summary are paragraphs; of a summary and the reasoning itself, what came
        first is told.
        """
        index, kind, _ = place
        other = "thought" if kind == "summary" else "summary"
        if not text or (index, other) in self._kinds_read:
            return
        if place not in self._read and (index, kind) in self._kinds_read:
            text = "\n\n" + text
        self._mark_read(place)
        self._events.append(ReasoningDelta(self._thought_part(index), text, summary=kind == "summary"))

    def _think_rest(self, place: _Place, text: str | None) -> None:
        if place not in self._read:
            self._add_reasoning(place, text or "")

    def _add_arguments(self, index: int, text: str) -> None:
        call = self._calls.get(index)
        if call is None or call.closed or not text:
            return
        self.quota.take_text(text)
        call.pieces.append(text)
        if call.as_text:
            self._events.append(TextDelta(call.part, text))
        elif not call.wrapped:
            self._events.append(ToolArgumentsDelta(call.part, text))

    def _argue_rest(self, index: int, whole: str) -> None:
        call = self._calls.get(index)
        if call is not None and not call.pieces:
            self._add_arguments(index, whole)

    def _close_call(self, call: _Call) -> None:
        if call.closed:
            return
        text = "".join(call.pieces)
        if call.wrapped:
            text = _unwrapped(text)
            if text:
                self._events.append(ToolArgumentsDelta(call.part, text))
        elif not text.strip() and not call.free and not call.as_text:
            self._events.append(ToolArgumentsDelta(call.part, "{}"))
        call.closed = True
        self._events.append(PartEnded(call.part))

    # --- the end ---

    def _read_final(self, position: int, item: _Item, raw: msgspec.Raw) -> None:
        """An item of the final output: the one of that name, else a new one unless the one at its
        place has no name.
        """
        names = [name for name in (item.id, item.call_id) if name]
        known = next((self._indexes[name] for name in names if name in self._indexes), None)
        if known is None:
            known = self._next if position in self._places else position
            self._name(known, *names)
        self._read_item(known, item, raw)

    def _read_terminal(self, response: _Response) -> None:
        self._begin(response)
        for index, raw in enumerate(response.output or ()):
            item = decode_mended(bytes(raw), _decode_item)
            if item is not None:
                self._read_final(index, item, raw)
        usage = read_usage(response.usage)
        if usage is not None:
            self._events.append(UsageReported(usage))
        if self._over:
            return
        details = response.incomplete_details
        reason: Reason = "stop"
        if response.status == "incomplete":
            reason = INCOMPLETE.get(details.reason if details is not None else None, "length")
        self._finish(reason)

    def _finish(self, reason: Reason) -> None:
        whole = True
        is_cut = reason != "stop"
        for call in self._calls.values():
            if call.closed:
                continue
            text = "".join(call.pieces)
            # Of a free text nobody can tell that it is half, but where it was still open when the
            # limit was hit.
            half = (
                call.cut
                or (is_cut and (call.free or not text.strip()))
                or not (call.free or parses(text or "{}"))
            )
            if not half:
                self._close_call(call)
            elif is_cut:
                whole = False
            else:
                self._fail(UpstreamBroken("The provider ended a tool call whose arguments are not JSON."))
                return
        calls = any(not call.as_text for call in self._calls.values())
        if calls and whole and reason in {"stop", "length"}:
            # Calls end the turn, unless the limit was hit inside their arguments
            # (docs/reference/translation.md#finish-reasons).
            reason = "tool_calls"
        elif reason == "stop" and self._refused:
            reason = "refusal"
        self._over = True
        self._events.append(ResponseEnded(reason))


def _as_json(arguments: object) -> str:
    """Arguments as text. Some servers send an object instead of its JSON text."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else encode(arguments).decode()


def _unwrapped(text: str) -> str:
    """A free-form tool's text out of the object {"input": text} that it was asked for in; anything
    else is the text itself.
    """
    wrapper = decode_mended(text.encode("utf-8", "surrogatepass"), msgspec.json.Decoder().decode)
    inner = (as_object(wrapper) or {}).get("input")
    return inner if isinstance(inner, str) else text


def _odd(raw: msgspec.Raw) -> dict[str, Any]:
    """An entry in chat's form, which has `bytes` in every place."""
    entry = cast("dict[str, Any]", msgspec.json.decode(raw))
    tops: list[dict[str, Any]] = entry.get("top_logprobs") or []
    return {"bytes": None, **entry, "top_logprobs": [{"bytes": None, **top} for top in tops]}


def _flat_error(data: bytes) -> object:
    """The error event holds its members itself (docs/reference/wire-formats.md#responses)."""
    members = as_object(decode_mended(data, msgspec.json.Decoder().decode)) or {}
    return {name: members.get(name) for name in ("message", "code", "param")}


def reader(attempt: Attempt, written: ProviderRequest) -> ResponsesReader:
    return ResponsesReader(attempt, written)


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """A whole answer. What is none gives a Failed: half a JSON, an error inside a 200, no output,
    or one that was never finished.
    """
    return ResponsesReader(attempt, written).read_whole(body)
