"""Observer of Messages responses that pass unchanged, streamed or whole.

Nearly all events are small deltas of two lines, which are recognised by their first bytes and
decoded once, into the few members that decide something. The data of an event names its type; the
`event` line is used only where it does not. Imports no other dialect.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.events import Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.anthropic.errors import AnthropicErrorBody, error_of
from modelplex.dialects.anthropic.usage import UsageMembers
from modelplex.dialects.core.broken_responses import ENDED_EARLY
from modelplex.dialects.core.estimate import hidden_characters
from modelplex.dialects.core.json import MALFORMED, decode_mended
from modelplex.dialects.core.passthrough import SseObserver
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.dialect import ObservedResponse

BARE = frozenset({"text", "thinking"})
"""Blocks whose start alone is no output."""

_DELTA = b"event: content_block_delta\ndata: {"
_DATA_AT = len(_DELTA) - 1


class _Delta(msgspec.Struct, gc=False):
    """Of a block, or of the message."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: Any = None
    input: Any = None


class _Message(msgspec.Struct, gc=False):
    model: str | None = None
    usage: dict[str, msgspec.Raw] | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: dict[str, msgspec.Raw] | None = None


class _Small(msgspec.Struct, gc=False):
    """The data of an event that its `event` line names a block's delta."""

    index: int
    delta: _Delta


class _Whole(msgspec.Struct, gc=False):
    content: list[_Block] | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: dict[str, msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_small = msgspec.json.Decoder(_Small).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode
_decode_error = msgspec.json.Decoder(AnthropicErrorBody).decode


class AnthropicObserver(SseObserver):
    """PassthroughObserver of Messages streams. The end mark is `message_stop`, after a
    `message_delta` with a stop reason.
    """

    __slots__ = ("_counts", "_is_over", "_shown_at")

    def __init__(self) -> None:
        super().__init__()
        self._shown_at = 0
        """`_characters` at the start of the last block. A block without text before its signature
        has hidden reasoning.
        """
        self._is_over = False
        self._counts = UsageMembers(self.quota)

    def __repr__(self) -> str:
        return f"<AnthropicObserver output={self.has_output} finish={self._finish} over={self._is_over} failed={self.failed!r}>"

    def _usage(self) -> Usage | None:
        return self._counts.usage

    def _judge_end(self) -> None:
        if not self._is_over:
            self._fail(UpstreamBroken(ENDED_EARLY + "no message_stop came."))

    def feed(self, data: bytes) -> bytes:
        if (
            self.failed is None
            and data.startswith(_DELTA)
            and data.endswith(b"\n\n")
            and data.find(b"\n", _DATA_AT) == len(data) - 2
            and not self._carry
            and b"\r" not in data
        ):
            # Most chunks: one whole delta. It needs the smallest decoder only.
            try:
                small = _decode_small(data[_DATA_AT:-2])
            except MALFORMED:
                return self._feed_any(data)
            self._idle = 0
            self._read_delta(small.index, small.delta)
            return data
        return super().feed(data)

    def _read_event(self, data: bytes, name: bytes) -> bool:
        try:
            event = _decode(data)
        except MALFORMED:
            return (
                self._read_error(data) if name == b"error" else self._read_mended(data, name, decode=_decode)
            )
        kind = event.type or name.decode("utf-8", "replace")
        if kind == "content_block_delta" and event.delta is not None:
            self._read_delta(event.index, event.delta)
        elif kind == "content_block_start" and event.content_block is not None:
            self._open(event.index, event.content_block)
        elif kind == "message_start" and event.message is not None:
            self._model = event.message.model
            self._counts.merge(event.message.usage)
        elif kind == "message_delta":
            self._counts.merge(event.usage)
            if event.usage:
                self._counted_at = self._characters
            if event.delta is not None and event.delta.stop_reason is not None:
                self._finish = event.delta.stop_reason
        elif kind == "message_stop":
            self._is_over = True
            if self._finish is None:
                return self._fail(UpstreamBroken(ENDED_EARLY + "it gives no reason for it."))
        elif kind == "error":
            return self._read_error(data)
        return True

    def _open(self, index: int, block: _Block) -> None:
        if block.type not in BARE or block.text or block.thinking:
            self.has_output = True
        sealed = block.signature or (block.data if block.type == "redacted_thinking" else None)
        if isinstance(sealed, str) and sealed:
            self.quota.take_entry(sealed)
            self._opaque_states[index] = sealed
            self._characters += 0 if block.thinking else hidden_characters(sealed)
        self._shown_at = self._characters
        self._characters += len(block.text or "") + len(block.thinking or "")

    def _read_delta(self, index: int, delta: _Delta) -> None:
        text = delta.text or delta.thinking or delta.partial_json
        if text:
            self.has_output = True
            self._characters += len(text)
        elif delta.signature:
            self.has_output = True
            self.quota.take_entry(delta.signature)
            self._opaque_states[index] = delta.signature
            if self._characters == self._shown_at:
                self._characters += hidden_characters(delta.signature)

    def _read_error(self, data: bytes) -> bool:
        body = decode_mended(data, _decode_error)
        error: ModelplexError = (
            UpstreamBroken("The provider's stream ended with an error that is none in its form.")
            if body is None
            else error_of(body.error, body=data)
        )
        return self._fail(error, forwarded=self.has_output)


def observer(raw_request: RawRequest, *, withhold_usage: bool) -> AnthropicObserver:
    """An observer of the response. Usage is in every stream, so that none is withheld."""
    del raw_request, withhold_usage
    return AnthropicObserver()


def observe(body: bytes) -> ObservedResponse:
    """Reads a whole response."""
    answer = decode_mended(body, _decode_whole)
    if answer is None or answer.content is None:
        failure = decode_mended(body, _decode_error)
        if failure is not None:
            return ObservedResponse(error=error_of(failure.error, body=body))
        return ObservedResponse(
            error=UpstreamBroken("The provider answered with something that is no message.")
        )
    counts = UsageMembers(Quota())
    counts.merge(answer.usage)
    usage = counts.usage
    error = None
    if answer.stop_reason is None:
        error = UpstreamBroken("The provider's answer gives no reason for its end.")
    length = sum(map(_characters, answer.content)) if usage is None else 0
    return ObservedResponse(
        answer.model, answer.stop_reason, usage, error, tuple(_states(answer.content)), length
    )


def _states(content: list[_Block]) -> list[str]:
    found = [block.data if block.type == "redacted_thinking" else block.signature for block in content]
    return [state for state in found if isinstance(state, str) and state]


def _characters(block: _Block) -> int:
    shown = len(block.text or "") + len(block.thinking or "")
    return shown + (len(msgspec.json.encode(block.input)) if block.type == "tool_use" else 0)
