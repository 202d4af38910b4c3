"""Assembles the tool calls of one choice of a chat completions response.

Compatible servers leave out the index, send index 0 for all calls with an id each, or repeat id and
name in each delta (docs/reference/wire-formats.md#openai-compatible-servers). Imports no other
dialect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import OpaqueStateReceived, ToolCallStarted
from modelplex.core.request import Attempt, OpaqueState, ProviderRequest
from modelplex.dialects.core.json import as_text, encode, parses
from modelplex.dialects.core.response_reader import EventBuffer, opaque_state
from modelplex.dialects.core.streamed_calls import StreamedCall, close_calls
from modelplex.dialects.openai_chat.passthrough import GEMINI, google_signature


class FunctionDelta(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class CustomDelta(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """A piece of a call. `custom` is of a free-form tool."""

    index: int | None = None
    id: str | int | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None
    extra_content: Any = None

    @property
    def name(self) -> str:
        """The tool's name; "" where the piece has none."""
        return (self.custom and self.custom.name) or (self.function and self.function.name) or ""

    @property
    def text(self) -> str:
        """The piece of arguments. Some servers send an object instead of its JSON text."""
        if self.custom is not None:
            return self.custom.input or ""
        given = self.function.arguments if self.function is not None else None
        if given is None:
            return ""
        return given if isinstance(given, str) else encode(given).decode()


class _ToolCall:
    """One call. It is `call` once its name is known; what arrives before waits in `waiting`."""

    __slots__ = ("call", "checked", "given", "id", "is_free", "state", "waiting")

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.given = ""
        """The id as the provider gave it."""
        self.call: StreamedCall | None = None
        self.waiting: list[str] = []
        self.is_free = False
        self.state: OpaqueState | None = None
        self.checked = 0
        """The number of pieces when the arguments were last found incomplete."""


class ChoiceCalls:
    """The calls of one choice, by index. Events go to `out`."""

    __slots__ = ("_attempt", "_calls", "_choice", "_grown", "_last", "_out", "_written")

    def __init__(self, choice: int, out: EventBuffer, attempt: Attempt, written: ProviderRequest) -> None:
        self._choice = choice
        self._out = out
        self._attempt = attempt
        self._written = written
        self._calls: dict[int, _ToolCall] = {}
        self._last: _ToolCall | None = None
        self._grown: dict[int, _ToolCall] = {}
        """Calls with new pieces since another call began, by their parts."""

    def __repr__(self) -> str:
        return f"<ChoiceCalls {len(self._calls)} of choice {self._choice}>"

    def continued_by(self, delta: ToolCallDelta) -> _ToolCall | None:
        """The call that a delta continues, or None where it begins one."""
        given = as_text(delta.id) or ""
        call = self._last if delta.index is None else self._calls.get(delta.index)
        if call is None:
            return None
        if delta.name and (
            (given and call.given and given != call.given)
            or (delta.index is None and not given and call.call is not None)
        ):
            return None
        return call

    def begin(self, delta: ToolCallDelta, *, number: int) -> _ToolCall:
        """Begin a call, the response's `number`th."""
        self._close_whole()
        given = as_text(delta.id) or ""
        self._out.quota.take_entry(given)
        call = _ToolCall(given or f"call_{number}")
        index = delta.index if delta.index is not None else len(self._calls)
        if index in self._calls:
            # The earlier call of this index is complete. It is kept under a number that no server
            # uses.
            self._calls[-2 - len(self._calls)] = self._calls.pop(index)
        self._calls[index] = call
        return call

    def read(self, call: _ToolCall, delta: ToolCallDelta) -> None:
        """Read a delta of this call."""
        self._last = call
        given = as_text(delta.id)
        if given:
            call.given = call.given or given
            if call.call is None:
                call.id = given
        call.is_free = call.is_free or delta.custom is not None
        signature = google_signature(delta.extra_content)
        if signature:
            call.state = opaque_state(self._attempt, GEMINI, signature)
        if call.call is None and delta.name:
            self._start(call, delta.name)
        started = call.call
        if started is not None and call.state is not None and not started.as_text:
            self._out.events.append(OpaqueStateReceived(started.part, call.state, self._choice))
            call.state = None
        text = delta.text
        if not text:
            return
        self._out.quota.take_text(text)
        if started is None:
            call.waiting.append(text)
            return
        if not started.closed:
            self._grown[started.part] = call
        self._add(started, text)

    def _start(self, call: _ToolCall, name: str) -> None:
        part = self._out.next_part()
        started = call.call = StreamedCall(
            name, self._written, part=part, choice=self._choice, free=call.is_free
        )
        self._grown[part] = call
        if not started.as_text:
            free = started.free or started.wrapped
            client_name = self._written.aliases.get(name, name)
            self._out.events.append(ToolCallStarted(part, call.id, client_name, self._choice, free=free))
        if call.waiting:
            self._add(started, "".join(call.waiting))

    def _add(self, call: StreamedCall, text: str) -> None:
        event = call.add(text)
        if event is not None:
            self._out.events.append(event)

    def _close_whole(self) -> None:
        """Close the calls whose arguments are a whole object: they can hold no more. A writer that
        has one open part then need not wait for the end.
        """
        grown, self._grown = self._grown, {}
        for call in grown.values():
            started = call.call
            # A call that was checked is checked again when it is twice as long, not at each piece.
            if started is None or started.free or started.wrapped or len(started.pieces) < 2 * call.checked:
                continue
            if not started.pieces or not started.pieces[-1].rstrip().endswith("}"):
                continue
            if parses(started.text):
                self._out.events += started.close()
            else:
                call.checked = len(started.pieces)

    def finish(self, *, cut: bool) -> tuple[bool, bool]:
        """Close all calls. Returns whether there are calls of the client's tools, and whether all
        are whole. `cut`: an output limit ended the choice. Raises UpstreamBroken for a call without
        a name, or with arguments that are incomplete for no reason.
        """
        calls: list[StreamedCall] = []
        for call in self._calls.values():
            if call.call is None:
                raise UpstreamBroken("The provider called a tool without a name.")
            calls.append(call.call)
        events, are_whole = close_calls(calls, cut=cut)
        self._out.events += events
        return any(not call.as_text for call in calls), are_whole
