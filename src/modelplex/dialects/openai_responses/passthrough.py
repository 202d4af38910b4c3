"""Observer of Responses API responses that pass unchanged, streamed or whole.

Most events are deltas; each is decoded once, into the few members that decide something. Imports
the error format of openai_chat, and no other dialect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.core.broken_responses import ENDED_EARLY
from modelplex.dialects.core.estimate import hidden_characters
from modelplex.dialects.core.json import MALFORMED, decode_mended
from modelplex.dialects.core.passthrough import SseObserver
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.openai_chat.errors import error_inside
from modelplex.dialects.openai_responses.usage import read_usage

_SILENT_ITEMS = frozenset({"message", "reasoning"})
"""Items whose start is no output; their first delta is."""
_BEGIN = frozenset({"response.created", "response.in_progress", "response.queued"})
_END = frozenset({"response.completed", "response.incomplete"})
_BROKEN = frozenset({"response.failed", "response.cancelled", "error"})
_SILENT = frozenset({"response.content_part.added", "response.reasoning_summary_part.added", "keepalive", ""})


class _Item(msgspec.Struct, gc=False):
    type: str = "message"
    arguments: Any = None
    encrypted_content: str | None = None
    status: str | None = None


class _Details(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    model: str | None = None
    status: str | None = None
    output: list[_Item] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None
    incomplete_details: _Details | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: Any = None
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None


class _Flat(msgspec.Struct, gc=False):
    message: str | None = None
    code: str | None = None
    param: str | None = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_flat = msgspec.json.Decoder(_Flat).decode


class ResponsesObserver(SseObserver):
    """PassthroughObserver of Responses streams. The end mark is `response.completed` or
    `response.incomplete`.
    """

    __slots__ = ("_usage_object",)

    def __init__(self) -> None:
        super().__init__()
        self._usage_object: msgspec.Raw | None = None
        """`usage` of the last event."""

    def _usage(self) -> Usage | None:
        return None if self._usage_object is None else read_usage(self._usage_object)

    def _judge_end(self) -> None:
        if self._finish is None:
            self._fail(UpstreamBroken(ENDED_EARLY + "no response.completed came."))

    def _read_event(self, data: bytes, name: bytes) -> bool:
        try:
            event = _decode(data)
        except MALFORMED:
            if not data.strip() or data.strip() == b"[DONE]":
                return True
            return self._read_mended(data, name, decode=_decode)
        kind = event.type
        if kind.endswith(".delta"):
            self.has_output = True
            if event.delta.__class__ is str:
                self._characters += len(event.delta)
        elif event.item is not None:
            return self._read_item(kind, event.item)
        elif event.response is not None or kind in _BROKEN or event.error:
            return self._read_response(event, data)
        elif kind not in _SILENT:
            self.has_output = True
        return True

    def _read_item(self, kind: str, item: _Item) -> bool:
        if kind != "response.output_item.done":
            self.has_output = self.has_output or item.type not in _SILENT_ITEMS
            return True
        self.has_output = True
        if item.encrypted_content:
            self._keep_state(item.encrypted_content)
            self._characters += hidden_characters(item.encrypted_content)
        return True

    def _read_response(self, event: _Event, data: bytes) -> bool:
        response = event.response or _Response()
        self._model = response.model or self._model
        if event.type in _BROKEN or event.error:
            self._keep_usage(response)  # a failed response is billed as well
            error = event.error or response.error or _flat_error(event.type, data)
            return self._fail(error_inside(error), forwarded=self.has_output)
        if event.type in _END:
            self._keep_usage(response)
            self._finish = _finish(response)
            for state in _states(response):
                self._keep_state(state)
            self.has_output = self.has_output or bool(response.output)
        elif event.type not in _BEGIN:
            self.has_output = True
        return True

    def _keep_usage(self, response: _Response) -> None:
        self._usage_object = response.usage
        self._counted_at = self._characters

    def _keep_state(self, state: str) -> None:
        if state not in self._opaque_states:
            self.quota.take_entry(state)
            self._opaque_states[state] = state


def _flat_error(kind: str, data: bytes) -> dict[str, str | None]:
    """An error whose members are those of the event itself."""
    flat = decode_mended(data, _decode_flat) or _Flat()
    return {"message": flat.message or f"The event is {kind}.", "code": flat.code, "param": flat.param}


def _finish(response: _Response) -> str:
    """The reason why a response is incomplete, else its status."""
    details = response.incomplete_details
    return (details and details.reason) or response.status or "completed"


def _states(response: _Response) -> tuple[str, ...]:
    return tuple(item.encrypted_content for item in response.output or () if item.encrypted_content)


def observer(raw_request: RawRequest, *, withhold_usage: bool) -> ResponsesObserver:
    """An observer of the response. Usage is in the last event of every stream, so that none is
    withheld.
    """
    del raw_request, withhold_usage
    return ResponsesObserver()


def observe(body: bytes) -> ObservedResponse:
    """Reads a whole response."""
    response = decode_mended(body, _decode_response)
    if response is None:
        broken = "The provider answered with something that is not an answer in the Responses form."
        return ObservedResponse(error=UpstreamBroken(broken))
    if response.error:
        return ObservedResponse(response.model, error=error_inside(response.error))
    usage = read_usage(response.usage)
    if response.output is None or response.status in {"failed", "cancelled"}:
        state = response.status or "without output"
        return ObservedResponse(
            response.model, usage=usage, error=UpstreamBroken(f"The provider's answer is {state}.")
        )
    length = _length(body) if usage is None else 0
    return ObservedResponse(response.model, _finish(response), usage, None, _states(response), length)


class _Text(msgspec.Struct, gc=False):
    text: Any = None
    refusal: Any = None


class _OutputItem(msgspec.Struct, gc=False):
    content: list[_Text] | None = None
    summary: list[_Text] | None = None
    arguments: Any = None
    input: Any = None


class _Output(msgspec.Struct, gc=False):
    output: list[_OutputItem] | None = None


_decode_output = msgspec.json.Decoder(_Output).decode


def _length(body: bytes) -> int:
    """Characters of text, reasoning and arguments in a whole response."""
    answer = decode_mended(body, _decode_output) or _Output()
    texts: list[Any] = []
    for item in answer.output or ():
        texts += [item.arguments, item.input]
        for piece in (*(item.content or ()), *(item.summary or ())):
            texts += [piece.text, piece.refusal]
    return sum(len(text) for text in texts if isinstance(text, str))
