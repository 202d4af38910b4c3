"""Reads the output items of a Responses API response into events, each once.

Content that came in deltas is not read again from the item's done events or from the final output;
content that only these have is read from them (docs/reference/translation.md#r5). Imports no other
dialect.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, cast

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import (
    CitationAdded,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallStarted,
)
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.core.json import encode, parses
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.response_reader import EventBuffer, opaque_state
from modelplex.dialects.core.streamed_calls import StreamedCall, close_calls
from modelplex.dialects.openai_responses.constants import DIALECT, STATE_FORMAT

MAX_NAMES = 4
"""Names that are kept of one item: an item and its call have two. Some routers give an item another
id in each event (https://github.com/vercel/ai/issues/18548).
"""
Place = tuple[int, str, int]
"""Of a piece of content: the item's index, the kind of content, and its index in the item."""


class ContentPart(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None
    logprobs: list[msgspec.Raw] | None = None


class OutputItem(msgspec.Struct, gc=False):
    type: str = "message"
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Any = None
    input: str | None = None
    content: list[ContentPart] | None = None
    summary: list[ContentPart] | None = None
    encrypted_content: str | None = None
    status: str | None = None


class ItemIndexes:
    """The index of each item by its id and by its call's id. Some servers leave out the index in
    events, and the final output may be numbered differently.
    """

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._by_name: dict[str, int] = {}
        self._named: dict[int, int] = {}
        """Of each index, how many names it has."""
        self._next = 0
        """One more than the largest index of an item with a name."""

    def __repr__(self) -> str:
        return f"<ItemIndexes {len(self._by_name)} names>"

    def of_event(self, index: int | None, *names: str | None) -> int:
        """The index of the item that an event is about."""
        if index is None:
            found = self.find(*names)
            index = self._next if found is None else found
        self._name(index, *names)
        return index

    def find(self, *names: str | None) -> int | None:
        return next((self._by_name[name] for name in names if name and name in self._by_name), None)

    def _name(self, index: int, *names: str | None) -> None:
        for name in names:
            if name and name not in self._by_name and self._named.get(index, 0) < MAX_NAMES:
                self._quota.take_entry(name)
                self._by_name[name] = index
                self._named[index] = self._named.get(index, 0) + 1
                self._next = max(self._next, index + 1)


class ItemReader:
    """The items of one response. Events go to `out`."""

    def __init__(self, out: EventBuffer, attempt: Attempt, written: ProviderRequest) -> None:
        self.refused = False
        self._out = out
        self._attempt = attempt
        self._written = written
        self._parts: dict[Place, int] = {}
        self._read: set[Place] = set()
        """Content of which something was read."""
        self._kinds_read: set[tuple[int, str]] = set()
        """The same by item and kind."""
        self._calls: dict[int, StreamedCall] = {}
        self._complete: set[int] = set()
        """Items that were read whole."""
        self._reasoning: dict[int, int] = {}
        """The part of each reasoning item."""
        self._begun: dict[int, tuple[str, str]] = {}
        """The type of each item of the stream, and the name of its tool."""

    def __repr__(self) -> str:
        return f"<ItemReader {len(self._parts)} parts, {len(self._calls)} calls>"

    # --- pieces ---

    def add_text(self, place: Place, text: str, logprobs: list[msgspec.Raw] | None) -> None:
        tokens = msgspec.Raw(encode([_token(raw) for raw in logprobs])) if logprobs else None
        if text or tokens is not None:
            self._out.events.append(TextDelta(self._part(place), text, logprobs=tokens))

    def add_refusal(self, place: Place, text: str) -> None:
        if text:
            self.refused = True
            self._out.events.append(RefusalDelta(self._part(place), text))

    def add_citation(self, place: Place, annotation: msgspec.Raw) -> None:
        raw = msgspec.Raw(bytes(annotation))
        self._out.events.append(CitationAdded(self._part(place), raw, DIALECT))

    def add_reasoning(self, place: Place, text: str) -> None:
        """The pieces of a summary are paragraphs. Of a summary and the reasoning itself, the one
        that comes first is read.
        """
        index, kind, _ = place
        other = "reasoning" if kind == "summary" else "summary"
        if not text or (index, other) in self._kinds_read:
            return
        if place not in self._read and (index, kind) in self._kinds_read:
            text = "\n\n" + text
        self._mark_read(place)
        part = self._reasoning_part(index)
        self._out.events.append(ReasoningDelta(part, text, summary=kind == "summary"))

    def add_arguments(self, index: int, text: str) -> None:
        call = self._calls.get(index)
        if call is None or call.closed or not text:
            return
        self._out.quota.take_text(text)
        event = call.add(text)
        if event is not None:
            self._out.events.append(event)

    # --- content that came without deltas ---

    def add_whole_text(self, place: Place, text: str | None, logprobs: list[msgspec.Raw] | None) -> None:
        if place not in self._read:
            self.add_text(place, text or "", logprobs)

    def add_whole_refusal(self, place: Place, text: str | None) -> None:
        if place not in self._read:
            self.add_refusal(place, text or "")

    def add_whole_reasoning(self, place: Place, text: str | None) -> None:
        if place not in self._read:
            self.add_reasoning(place, text or "")

    def add_whole_arguments(self, index: int, text: str) -> None:
        call = self._calls.get(index)
        if call is not None and not call.pieces:
            self.add_arguments(index, text)

    # --- items ---

    def begin(self, index: int, item: OutputItem) -> None:
        """Read an item whose content follows."""
        self._begun[index] = item.type, item.name or ""
        if item.type in {"function_call", "custom_tool_call"} and item.name:
            self._begin_call(index, item)

    def read(self, index: int, item: OutputItem, raw: msgspec.Raw) -> None:
        """Read a whole item: what was not read of it yet. Raises UpstreamBroken for a call without
        a name.
        """
        if index in self._complete:
            return
        self._out.quota.take_entry()
        self._complete.add(index)
        self._begun[index] = item.type, item.name or ""
        match item.type:
            case "message":
                self._read_message(index, item)
            case "reasoning":
                self._read_reasoning(index, item)
            case "function_call" | "custom_tool_call":
                self._read_call(index, item)
            case _:
                self._out.events.append(MediaOutput(self._out.next_part(), msgspec.Raw(bytes(raw)), DIALECT))

    def index_of_final(self, position: int, item: OutputItem, *, taken: AbstractSet[int]) -> int:
        """The index of an item of the final output whose id the stream did not have: that of an
        item of its kind, at its position or the first that is not in `taken`, else a new one.
        """
        kind = item.type, item.name or ""
        alike = [index for index, begun in self._begun.items() if begun == kind and index not in taken]
        if alike:
            return position if position in alike else min(alike)
        return position if position not in self._begun else max(self._begun) + 1

    def _read_message(self, index: int, item: OutputItem) -> None:
        for position, content in enumerate(item.content or ()):
            if content.type == "refusal":
                place = (index, "refusal", position)
                self.add_whole_refusal(place, content.refusal)
            else:
                place = (index, "text", position)
                if place not in self._read:
                    self.add_text(place, content.text or "", content.logprobs)
                    for annotation in content.annotations or ():
                        self.add_citation(place, annotation)
            if place in self._parts:
                self._out.events.append(PartEnded(self._parts[place]))

    def _read_reasoning(self, index: int, item: OutputItem) -> None:
        for position, content in enumerate(item.summary or ()):
            self.add_whole_reasoning((index, "summary", position), content.text)
        for position, content in enumerate(item.content or ()):
            self.add_whole_reasoning((index, "reasoning", position), content.text)
        has_text = index in self._reasoning
        if item.encrypted_content:
            part = self._reasoning_part(index)
            state = opaque_state(self._attempt, STATE_FORMAT, item.encrypted_content, id=item.id)
            self._out.events.append(OpaqueStateReceived(part, state, redacted=not has_text))
        if index in self._reasoning:
            self._out.events.append(PartEnded(self._reasoning[index]))

    def _read_call(self, index: int, item: OutputItem) -> None:
        if index not in self._calls and not item.name:
            raise UpstreamBroken("The provider called a tool without a name.")
        call = self._begin_call(index, item)
        call.cut = item.status == "incomplete"
        self.add_whole_arguments(
            index, (item.input or "") if item.type == "custom_tool_call" else as_json(item.arguments)
        )
        if not call.cut and not call.wrapped and (call.free or parses(call.text or "{}")):
            self._out.events += call.close()

    def _begin_call(self, index: int, item: OutputItem) -> StreamedCall:
        call = self._calls.get(index)
        if call is not None:
            return call
        name = item.name or ""
        part, free = self._out.next_part(), item.type == "custom_tool_call"
        call = self._calls[index] = StreamedCall(name, self._written, part=part, free=free)
        if not call.as_text:
            self._out.events.append(
                ToolCallStarted(
                    part,
                    item.call_id or item.id or f"call_{len(self._calls) - 1}",
                    self._written.aliases.get(name, name),
                    free=free or call.wrapped,
                    namespace=item.namespace,
                )
            )
        return call

    def finish(self, *, cut: bool) -> bool:
        """Close all calls. Returns whether there are calls of the client's tools, all of them
        whole. `cut`: the response is incomplete. Raises UpstreamBroken for a call that is
        incomplete for no reason.
        """
        events, are_whole = close_calls(self._calls.values(), cut=cut)
        self._out.events += events
        return are_whole and any(not call.as_text for call in self._calls.values())

    # --- parts ---

    def _part(self, place: Place) -> int:
        if place not in self._parts:
            self._parts[place] = self._out.next_part()
            self._begun.setdefault(place[0], ("message", ""))
        if place not in self._read:
            self._mark_read(place)
        return self._parts[place]

    def _mark_read(self, place: Place) -> None:
        if place not in self._read:
            self._out.quota.take_entry()
            self._read.add(place)
            self._kinds_read.add(place[:2])

    def _reasoning_part(self, index: int) -> int:
        """One part for a whole reasoning item: its opaque state is of all that it holds."""
        if index not in self._reasoning:
            self._reasoning[index] = self._out.next_part()
            self._begun.setdefault(index, ("reasoning", ""))
        return self._reasoning[index]


def as_json(arguments: object) -> str:
    """Arguments as text. Some servers send an object instead of its JSON text."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else encode(arguments).decode()


def _token(raw: msgspec.Raw) -> dict[str, Any]:
    """An entry of log probabilities in chat's form, which has `bytes` everywhere."""
    entry = cast("dict[str, Any]", msgspec.json.decode(raw))
    tops: list[dict[str, Any]] = entry.get("top_logprobs") or []
    return {"bytes": None, **entry, "top_logprobs": [{"bytes": None, **top} for top in tops]}
