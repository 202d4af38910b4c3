"""Reads Responses API responses, streamed or whole, into events.

Each item is read once, from its deltas, its done events or the final output (response_items_in.py).
Items that only this API has become MediaOutput. Imports the error format of openai_chat, and no
other dialect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Event, Reason, ResponseEnded, ResponseStarted, UsageReported
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.core.broken_responses import ENDED_EARLY
from modelplex.dialects.core.json import MALFORMED, as_object, as_text, decode_mended
from modelplex.dialects.core.response_reader import SseResponseReader, finish_reason
from modelplex.dialects.openai_chat.errors import error_inside
from modelplex.dialects.openai_responses.response_items_in import ItemIndexes, ItemReader, OutputItem, as_json
from modelplex.dialects.openai_responses.usage import read_usage

INCOMPLETE: dict[str | None, Reason] = {
    "max_output_tokens": "length",
    "max_messages": "length",
    "content_filter": "filter",
    "steered": "paused",
}
"""Why a response is incomplete. One without a reason hit a limit."""
_NO_RESPONSE = frozenset({"queued", "in_progress", "failed", "cancelled"})
"""Statuses of a whole response that has no output to read."""


class _Details(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    id: str | int | None = None
    model: str | None = None
    created_at: int | float | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None
    incomplete_details: _Details | None = None
    service_tier: str | None = None


class _Event(msgspec.Struct, gc=False):
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


_decode = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_item = msgspec.json.Decoder(OutputItem).decode
_decode_any = msgspec.json.Decoder().decode


class ResponsesReader(SseResponseReader):
    """ResponseReader of Responses streams. The end mark is `response.completed` or
    `response.incomplete`.
    """

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        super().__init__()
        self._items = ItemReader(self._out, attempt, written)
        self._indexes = ItemIndexes(self.quota)
        self._has_started = False

    def __repr__(self) -> str:
        return f"<ResponsesReader {self._out!r}, {self._items!r}>"

    def read_whole(self, body: bytes) -> list[Event]:
        """The events of a response that is not streamed."""
        return self._out.read(lambda: self._read_body(body))

    def _read_body(self, body: bytes) -> None:
        response = decode_mended(body, _decode_response)
        if response is None:
            raise UpstreamBroken("The provider's response is not one of the Responses API.")
        if response.error:
            raise error_inside(response.error)
        if response.output is None or response.status in _NO_RESPONSE:
            raise UpstreamBroken(f"The provider's response is {response.status or 'without output'}.")
        self._read_terminal(response)

    def _read_end(self) -> None:
        raise UpstreamBroken(ENDED_EARLY + "no response.completed came.")

    def _read_event(self, data: bytes, name: str) -> None:
        del name
        try:
            event = _decode(data)
        except MALFORMED:
            if data.strip() in {b"", b"[DONE]"}:
                return
            mended = decode_mended(data, _decode)
            if mended is None:
                raise UpstreamBroken(
                    "The provider's stream holds something that is not an event of the Responses API."
                ) from None
            event = mended
        match event.type:
            case "response.output_text.delta":
                place = (self._index(event), "text", event.content_index or 0)
                self._items.add_text(place, event.delta or "", event.logprobs)
            case "response.created" | "response.in_progress" | "response.queued":
                self._start(event.response or _Response())
            case "response.output_item.added" | "response.output_item.done":
                self._read_item(event)
            case "response.completed" | "response.incomplete":
                response = event.response or _Response()
                status = response.status or event.type.removeprefix("response.")
                self._read_terminal(msgspec.structs.replace(response, status=status))
            case "response.failed" | "response.cancelled":
                error = event.response.error if event.response is not None else None
                raise error_inside(error or {"message": f"The event is {event.type}."})
            case "error":
                raise error_inside(event.error or _flat_error(data))
            case "" if event.error:
                raise error_inside(event.error)
            case _:
                self._read_piece(event)
        if not self._has_started and self._out.events:
            # Some servers send no `response.created`.
            self._has_started = True
            self._out.events.insert(0, ResponseStarted())

    def _start(self, response: _Response) -> None:
        if self._has_started:
            return
        self._has_started = True
        self._out.events.append(
            ResponseStarted(
                id=as_text(response.id) or "",
                model=response.model or "",
                created=int(response.created_at or 0),
                tier=response.service_tier,
            )
        )

    def _index(self, event: _Event) -> int:
        return self._indexes.of_event(event.output_index, event.item_id)

    def _read_piece(self, event: _Event) -> None:
        """Read a delta, or the done event of content that came without any."""
        items, index, position = self._items, self._index(event), event.content_index or 0
        match event.type:
            case "response.output_text.done":
                items.add_whole_text((index, "text", position), event.text, event.logprobs)
            case "response.output_text.annotation.added":
                items.add_citation((index, "text", position), event.annotation)
            case "response.refusal.delta":
                items.add_refusal((index, "refusal", position), event.delta or "")
            case "response.refusal.done":
                items.add_whole_refusal((index, "refusal", position), event.refusal)
            case "response.reasoning_summary_text.delta":
                items.add_reasoning((index, "summary", event.summary_index or 0), event.delta or "")
            case "response.reasoning_summary_text.done":
                items.add_whole_reasoning((index, "summary", event.summary_index or 0), event.text)
            case "response.reasoning_text.delta" | "response.reasoning.delta":
                items.add_reasoning((index, "reasoning", position), event.delta or "")
            case "response.reasoning_text.done":
                items.add_whole_reasoning((index, "reasoning", position), event.text)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                items.add_arguments(index, event.delta or "")
            case "response.function_call_arguments.done":
                items.add_whole_arguments(index, as_json(event.arguments))
            case "response.custom_tool_call_input.done":
                items.add_whole_arguments(index, event.input or "")
            case _:
                pass

    def _read_item(self, event: _Event) -> None:
        item = decode_mended(bytes(event.item), _decode_item)
        if item is None:
            return
        index = self._indexes.of_event(event.output_index, item.id, item.call_id)
        if event.type == "response.output_item.added":
            self._items.begin(index, item)
        else:
            self._items.read(index, item, event.item)

    def _read_terminal(self, response: _Response) -> None:
        """Read the final response: what was not read of its items, usage and reason."""
        self._start(response)
        self._read_final(response.output or [])
        usage = read_usage(response.usage)
        if usage is not None:
            self._out.events.append(UsageReported(usage))
        reason: Reason = "stop"
        if response.status == "incomplete":
            details = response.incomplete_details
            reason = INCOMPLETE.get(details.reason if details is not None else None, "length")
        calls = self._items.finish(cut=reason != "stop")
        self._out.is_over = True
        reason = finish_reason(reason, calls=calls, refused=self._items.refused)
        self._out.events.append(ResponseEnded(reason))

    def _read_final(self, output: list[msgspec.Raw]) -> None:
        """Read the final output. Some servers give its items other ids than those of the stream, or
        none: what was read of them is not read again.
        """
        items = [decode_mended(bytes(raw), _decode_item) for raw in output]
        named = [None if item is None else self._indexes.find(item.id, item.call_id) for item in items]
        taken = {index for index in named if index is not None}
        for position, (raw, item, known) in enumerate(zip(output, items, named, strict=True)):
            if item is not None:
                index = known
                if index is None:
                    index = self._items.index_of_final(position, item, taken=taken)
                    taken.add(index)
                self._items.read(index, item, raw)


def _flat_error(data: bytes) -> object:
    """The error event holds its members itself (docs/reference/wire-formats.md#responses)."""
    members = as_object(decode_mended(data, _decode_any)) or {}
    return {name: members.get(name) for name in ("message", "code", "param")}


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """The events of a whole response. The last is ResponseFailed for what is no response:
    incomplete JSON, an error inside a 200, no output, or a response that was never finished.
    """
    return ResponsesReader(attempt, written).read_whole(body)
