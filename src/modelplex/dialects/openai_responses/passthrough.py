"""Looking on while a Responses answer passes untouched, streamed or whole.

Above it stands openai_responses; below it the vocabulary. Most events are deltas, of which one
small decode tells all that is asked. Bytes are forwarded as they came, whole events at a time.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.request import RawRequest
from modelplex.dialects.core.estimate import sealed_characters
from modelplex.dialects.core.json import MALFORMED, decode_mended, mend, parses
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.core.sse import IDLE_CAP, LINE_CAP, SseReader, stalled
from modelplex.dialects.dialect import ObservedResponse
from modelplex.dialects.openai_chat.errors import error_inside
from modelplex.dialects.openai_chat.passthrough import ENDED_EARLY
from modelplex.dialects.openai_responses.usage import read_usage

_SILENT_ITEMS = frozenset({"message", "reasoning"})
"""Items whose beginning is no output: their first delta is."""
_BEGIN = frozenset({"response.created", "response.in_progress", "response.queued"})
_END = frozenset({"response.completed", "response.incomplete"})
_BROKEN = frozenset({"response.failed", "response.cancelled", "error"})
_SILENT = frozenset({"response.content_part.added", "response.reasoning_summary_part.added", "keepalive", ""})

_blank_line = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


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


class _Told(msgspec.Struct, gc=False):
    type: str = ""
    delta: Any = None
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None


class _Flat(msgspec.Struct):
    message: str | None = None
    code: str | None = None
    param: str | None = None


_decode = msgspec.json.Decoder(_Told).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_flat = msgspec.json.Decoder(_Flat).decode


class ResponsesObserver:
    """dialects/dialect.py's Watch. The end mark is response.completed or response.incomplete."""

    __slots__ = (
        "_carry",
        "_characters",
        "_finish",
        "_idle",
        "_model",
        "_response",
        "_seals",
        "_stopped",
        "error_forwarded",
        "failed",
        "has_output",
        "quota",
    )

    def __init__(self) -> None:
        self.has_output = False
        self.failed: ModelplexError | None = None
        self.error_forwarded = False
        self.quota = Quota()
        self._idle = 0
        self._carry = bytearray()
        self._model: str | None = None
        self._finish: str | None = None
        self._response: _Response | None = None
        self._characters = 0
        self._seals: dict[str, None] = {}
        self._stopped = False

    def __repr__(self) -> str:
        return f"<ResponsesWatch finish={self._finish} failed={self.failed!r}>"

    @property
    def seen(self) -> ObservedResponse:
        usage = None if self._response is None else read_usage(self._response.usage)
        # The counts stand in the last event alone.
        return ObservedResponse(
            self._model,
            self._finish,
            usage,
            self.failed,
            tuple(self._seals),
            self._characters,
            self._characters,
        )

    def feed(self, data: bytes) -> bytes:
        if self._stopped:
            return b""
        if self._carry:
            self._carry += data
            if len(self._carry) > LINE_CAP:
                self._stop(
                    UpstreamBroken(f"The provider's stream has an event of more than {LINE_CAP} bytes.")
                )
                return b""
            # Three bytes back: a blank line may have been cut between any two of its four.
            if not _blank_line.search(self._carry, max(0, len(self._carry) - len(data) - 3)):
                return b""
            data = bytes(self._carry)
            self._carry.clear()
        if b"\r" in data:
            blocks: list[bytes] = []
            start = 0
            for found in _blank_line.finditer(data):
                blocks.append(data[start : found.end()])
                start = found.end()
            self._carry += data[start:]
            return self._pass(data[:start], blocks)
        if not data.endswith(b"\n\n"):
            end = data.rfind(b"\n\n") + 2
            if end == 1:
                self._carry += data
                return b""
            self._carry += data[end:]
            data = data[:end]
        return self._pass(data, [block + b"\n\n" for block in data[:-2].split(b"\n\n")])

    def end(self) -> bytes:
        if self._stopped:
            return b""
        rest = bytes(self._carry)
        self._carry.clear()
        if rest.strip():
            # The last blank line is missing: the event is made whole, since only whole events
            # leave.
            rest = self._pass(rest + b"\n\n", [rest + b"\n\n"])
        if self._finish is None and not self._stopped:
            self._stop(UpstreamBroken(ENDED_EARLY + "no response.completed came."))
        return rest

    def _pass(self, whole: bytes, blocks: list[bytes]) -> bytes:
        """What of these events may leave: `whole` itself where that is all of them."""
        for n, block in enumerate(blocks):
            start = block.find(b"data: ")
            if start < 0 or block.find(b"\n", start) != len(block) - 2 or b"\r" in block:
                self._observe_odd_block(block)
            else:
                self._observe(block[start + 6 : -2])
            if self._stopped:
                left = blocks[: n + 1] if self.error_forwarded else blocks[:n]
                return whole if len(left) == len(blocks) else b"".join(left)
        return whole

    def _observe_odd_block(self, block: bytes) -> None:
        """An event of other lines than a name and its data, or none at all."""
        events = SseReader().feed(block) if b"data" in block else []
        self._idle = 0 if any(event.data for event in events) else self._idle + len(block)
        if self._idle > IDLE_CAP:
            self._stop(stalled())
        for event in events:
            self._observe(event.data)

    def _keep_seal(self, seal: str) -> None:
        if seal not in self._seals:
            self.quota.take_entry(seal)
            self._seals[seal] = None

    def _stop(self, error: ModelplexError) -> None:
        self.failed = error
        self._stopped = True

    def _observe(self, data: bytes) -> None:
        """Looks at one event's data."""
        try:
            told = _decode(data)
        except MALFORMED:
            self._observe_odd(data)
            return
        kind = told.type
        if kind.endswith(".delta"):
            self.has_output = True
            if told.delta.__class__ is str:
                self._characters += len(told.delta)
        elif told.item is not None:
            self._observe_item(kind, told.item)
        elif told.response is not None or kind in _BROKEN or told.error:
            self._observe_response(told, data)
        elif kind not in _SILENT:
            self.has_output = True

    def _observe_item(self, kind: str, item: _Item) -> None:
        if kind != "response.output_item.done":
            self.has_output = self.has_output or item.type not in _SILENT_ITEMS
            return
        self.has_output = True
        if item.encrypted_content:
            self._keep_seal(item.encrypted_content)
            self._characters += sealed_characters(item.encrypted_content)
        if _is_half(item):
            self._stop(UpstreamBroken("The provider ended a tool call whose arguments are not JSON."))

    def _observe_response(self, told: _Told, data: bytes) -> None:
        response = told.response or _Response()
        self._model = response.model or self._model
        if told.type in _BROKEN or told.error:
            self.error_forwarded = self.has_output
            self._response = response  # what failed is billed as well
            error = told.error or response.error
            if not error:
                flat = decode_mended(data, _decode_flat) or _Flat()
                message = flat.message or f"It says {told.type}."
                error = {"message": message, "code": flat.code, "param": flat.param}
            self._stop(error_inside(error, body=data))
        elif told.type in _END:
            seen = _seen(response)
            self._response = response
            self._finish = seen.finish
            for seal in seen.seals:
                self._keep_seal(seal)
            self.has_output = self.has_output or bool(response.output)
        elif told.type not in _BEGIN:
            self.has_output = True

    def _observe_odd(self, data: bytes) -> None:
        """Not JSON, JSON that no strict reader takes, or a shape that we do not know."""
        if not data.strip() or data.strip() == b"[DONE]":
            return
        mended = mend(data)
        if mended is None:
            self._stop(UpstreamBroken("The provider's stream holds something that is not JSON."))
        elif decode_mended(mended, _decode) is not None:
            self._observe(mended)
        else:
            # Not understood, and therefore not judged: it passes, as an untouched stream should.
            self.has_output = True


def _is_half(item: _Item) -> bool:
    arguments = item.arguments
    return (
        item.type == "function_call"
        and item.status != "incomplete"
        and isinstance(arguments, str)
        and bool(arguments.strip())
        and not parses(arguments)
    )


def _seen(response: _Response) -> ObservedResponse:
    """What a response object holds. Its word for the end is why it is incomplete, else
    its status.
    """
    items = response.output or []
    details = response.incomplete_details
    reason = details.reason if details is not None else None
    return ObservedResponse(
        response.model,
        reason or response.status or "completed",
        seals=tuple(item.encrypted_content for item in items if item.encrypted_content),
    )


def watch(ask: RawRequest, *, withhold_usage: bool) -> ResponsesObserver:
    """Looks on while a stream passes. Usage is in the last event, asked for or not: there is none
    to withhold.
    """
    del ask, withhold_usage
    return ResponsesObserver()


def look(body: bytes) -> ObservedResponse:
    """A whole answer: what is in it, and why it is none."""
    response = decode_mended(body, _decode_response)
    if response is None:
        broken = "The provider answered with something that is not an answer in the Responses form."
        return ObservedResponse(error=UpstreamBroken(broken))
    if response.error:
        return ObservedResponse(response.model, error=error_inside(response.error, body=body))
    usage = read_usage(response.usage)
    if response.output is None or response.status in {"failed", "cancelled"}:
        said = response.status or "without output"
        return ObservedResponse(
            response.model, usage=usage, error=UpstreamBroken(f"The provider's answer is {said}.")
        )
    error: ModelplexError | None = None
    if response.status != "incomplete" and any(_is_half(item) for item in response.output):
        error = UpstreamBroken("The provider ended a tool call whose arguments are not JSON.")
    seen = msgspec.structs.replace(_seen(response), usage=usage, error=error)
    length = _length(body) if usage is None else 0
    return msgspec.structs.replace(seen, characters=length)


class _Text(msgspec.Struct):
    text: Any = None
    refusal: Any = None


class _Said(msgspec.Struct):
    content: list[_Text] | None = None
    summary: list[_Text] | None = None
    arguments: Any = None
    input: Any = None


class _Output(msgspec.Struct):
    output: list[_Said] | None = None


_decode_output = msgspec.json.Decoder(_Output).decode


def _length(body: bytes) -> int:
    """Characters of what an answer says."""
    told = decode_mended(body, _decode_output) or _Output()
    texts: list[Any] = []
    for item in told.output or ():
        texts += [item.arguments, item.input]
        for piece in (*(item.content or ()), *(item.summary or ())):
            texts += [piece.text, piece.refusal]
    return sum(len(text) for text in texts if isinstance(text, str))
