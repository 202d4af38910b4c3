"""Looking on while a Messages answer passes untouched, streamed or whole.

Above it stands `anthropic_messages`; below it the vocabulary. Nearly all of a stream is small
deltas, each an event of two lines: those are told by how they begin and decoded once, into the few
members that decide something. Bytes are forwarded as they came. The data of an event names its
type, so that the event's own line is only needed where the data has none.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.core.events import Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.anthropic.response_in import AnthropicErrorBody, error_of, read_usage
from modelplex.dialects.core.estimate import sealed_characters
from modelplex.dialects.core.json import MALFORMED, decode_mended, mend, parses
from modelplex.dialects.core.quota import PIECE, Quota, check_counts
from modelplex.dialects.core.sse import IDLE_CAP, LINE_CAP, SseReader, stalled
from modelplex.dialects.dialect import ObservedResponse

ENDED_EARLY = "The provider's stream ended before its end: "
HALF_ARGUMENTS = "The provider ended a tool call whose arguments are not JSON."
MAY_BE_CUT = frozenset({"max_tokens", "model_context_window_exceeded", "refusal", "pause_turn", "compaction"})
"""Stop reasons after which a call's arguments may be half."""
BARE = frozenset({"text", "thinking"})
"""Blocks whose beginning alone is no output."""

_blank_line = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
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
    """A block's delta, as its event's line says: nothing else is looked for."""

    index: int
    delta: _Delta


class _Whole(msgspec.Struct):
    content: list[_Block] | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: dict[str, msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_small = msgspec.json.Decoder(_Small).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode
_decode_error = msgspec.json.Decoder(AnthropicErrorBody).decode


def _usage(members: dict[str, msgspec.Raw]) -> Usage | None:
    return read_usage(members) if members else None


def _given(members: dict[str, msgspec.Raw] | None) -> dict[str, msgspec.Raw]:
    return {name: value for name, value in (members or {}).items() if bytes(value) != b"null"}


class AnthropicObserver:
    """dialects/dialect.py's Watch. The end mark is `message_stop`, after a `message_delta` that
    gave a reason.
    """

    __slots__ = (
        "_arguments",
        "_carry",
        "_characters",
        "_counted_at",
        "_finish",
        "_idle",
        "_is_broken",
        "_is_over",
        "_is_stopped",
        "_model",
        "_seals",
        "_shown_at",
        "_usage",
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
        self._arguments: dict[int, list[str]] = {}
        """The pieces of each open call's arguments, by its block."""
        self._characters = 0
        self._counted_at = 0
        self._shown_at = 0
        """What `_characters` was when the last block began: one that shows nothing until its seal
        has hidden thoughts.
        """
        self._finish: str | None = None
        self._is_broken = False
        self._is_over = False
        self._is_stopped = False
        self._model: str | None = None
        self._seals: dict[int, str] = {}
        self._usage: dict[str, msgspec.Raw] = {}

    def __repr__(self) -> str:
        return f"<MessagesWatch output={self.has_output} finish={self._finish} over={self._is_over} failed={self.failed!r}>"

    @property
    def seen(self) -> ObservedResponse:
        return ObservedResponse(
            self._model,
            self._finish,
            _usage(self._usage),
            self.failed,
            tuple(self._seals.values()),
            self._characters,
            self._counted_at,
        )

    def feed(self, data: bytes) -> bytes:
        if self._is_stopped:
            return b""
        if (
            data.startswith(_DELTA)
            and data.endswith(b"\n\n")
            and data.find(b"\n", _DATA_AT) == len(data) - 2
            and not self._carry
            and b"\r" not in data
        ):
            # One delta, all of it: what most chunks are.
            try:
                small = _decode_small(data[_DATA_AT:-2])
            except MALFORMED:
                return self._feed_any(data)
            self._fill(small.index, small.delta)
            return data
        return self._feed_any(data)

    def _feed_any(self, data: bytes) -> bytes:
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
        if b"\r" not in data:
            *blocks, rest = data.split(b"\n\n")
            self._carry += rest
            return self._pass([block + b"\n\n" for block in blocks])
        cut: list[bytes] = []
        start = 0
        for found in _blank_line.finditer(data):
            cut.append(data[start : found.end()])
            start = found.end()
        self._carry += data[start:]
        return self._pass(cut)

    def end(self) -> bytes:
        if self._is_stopped:
            return b""
        rest = bytes(self._carry)
        self._carry.clear()
        if rest.strip():
            rest = self._pass([rest + b"\n\n"])  # the last blank line is missing; only whole events leave
        if self.failed is None and not self._is_over:
            self._stop(UpstreamBroken(ENDED_EARLY + "no message_stop came."))
        return rest

    def _pass(self, blocks: list[bytes]) -> bytes:
        """What of these events may leave: all before one that stops the stream, and that one where
        an error may be told as it came.
        """
        passed: list[bytes] = []
        for block in blocks:
            named, is_plain, data = block[:-2].partition(b"\ndata: ")
            if named.startswith(b"event: ") and is_plain and b"\n" not in data and b"\r" not in block:
                self._observe(named[7:], data)
            else:
                self._observe_odd_block(block)
            if not self._is_stopped or self.error_forwarded:
                passed.append(block)
            if self._is_stopped:
                break
        return b"".join(passed)

    def _observe_odd_block(self, block: bytes) -> None:
        """An event of other lines than a name and its data, or none at all."""
        events = SseReader().feed(block) if b"data" in block else []
        self._idle = 0 if any(event.data for event in events) else self._idle + len(block)
        if self._idle > IDLE_CAP:
            self._stop(stalled())
        for event in events:
            self._observe(event.event.encode(), event.data)

    def _stop(self, error: ModelplexError) -> None:
        self.failed = error
        self._is_stopped = True

    # -- single events

    def _observe(self, name: bytes, data: bytes) -> None:
        try:
            event = _decode(data)
        except MALFORMED:
            self._observe_odd(name, data)
            return
        kind = event.type or name.decode("utf-8", "replace")
        if kind == "content_block_delta" and event.delta is not None:
            self._fill(event.index, event.delta)
        elif kind == "content_block_start" and event.content_block is not None:
            self._open(event.index, event.content_block)
        elif kind == "content_block_stop":
            self._close(event.index)
        elif kind == "message_start" and event.message is not None:
            self._model = event.message.model
            self._count(event.message.usage)
        elif kind == "message_delta":
            self._count(event.usage)
            if event.usage:
                self._counted_at = self._characters
            self._end_as(event.delta)
        elif kind == "message_stop":
            self._is_over = True
            if self._finish is None:
                self._stop(UpstreamBroken(ENDED_EARLY + "it gives no reason for it."))
        elif kind == "error":
            self._fail(data)

    def _count(self, members: dict[str, msgspec.Raw] | None) -> None:
        given = _given(members)
        self.quota.take(sum(map(len, given.values())) + PIECE * len(given))
        self._usage |= given
        check_counts(len(self._usage))

    def _open(self, index: int, block: _Block) -> None:
        if block.type not in BARE or block.text or block.thinking:
            self.has_output = True
        if block.type == "tool_use":
            self.quota.take_entry()
            self._arguments[index] = []
        sealed = block.signature or (block.data if block.type == "redacted_thinking" else None)
        if isinstance(sealed, str) and sealed:
            self.quota.take_entry(sealed)
            self._seals[index] = sealed
            self._characters += 0 if block.thinking else sealed_characters(sealed)
        self._shown_at = self._characters
        self._characters += len(block.text or "") + len(block.thinking or "")

    def _fill(self, index: int, delta: _Delta) -> None:
        text = delta.text or delta.thinking or delta.partial_json
        if text:
            self.has_output = True
            self._characters += len(text)
            if delta.partial_json and index in self._arguments:
                self.quota.take_text(text)
                self._arguments[index].append(text)
        elif delta.signature:
            self.has_output = True
            self.quota.take_entry(delta.signature)
            self._seals[index] = delta.signature
            if self._characters == self._shown_at:
                self._characters += sealed_characters(delta.signature)

    def _close(self, index: int) -> None:
        text = "".join(self._arguments.pop(index, ()))
        if text.strip() and not parses(text):
            self._is_broken = True

    def _end_as(self, delta: _Delta | None) -> None:
        if delta is None or delta.stop_reason is None:
            return
        self._finish = delta.stop_reason
        for index in list(self._arguments):
            self._close(index)
        if self._is_broken and self._finish not in MAY_BE_CUT:
            self._stop(UpstreamBroken(HALF_ARGUMENTS))

    def _fail(self, data: bytes) -> None:
        body = decode_mended(data, _decode_error)
        self.error_forwarded = self.has_output
        if body is None:
            self._stop(UpstreamBroken("The provider's stream ended with an error that is none in its form."))
        else:
            self._stop(error_of(body.error, body=data))

    def _observe_odd(self, name: bytes, data: bytes) -> None:
        """Not JSON, JSON that no strict reader takes, or a shape that we do not know."""
        if name == b"error":
            self._fail(data)
            return
        mended = mend(data)
        if mended is None:
            self._stop(UpstreamBroken("The provider's stream holds something that is not JSON."))
        elif mended != data and decode_mended(mended, _decode) is not None:
            self._observe(name, mended)
        else:
            # Not understood, and therefore not judged: it passes, as an untouched stream should.
            self.has_output = True


def watch(ask: RawRequest, *, withhold_usage: bool) -> AnthropicObserver:
    """Looks on while a stream passes. Nobody has to ask for usage in this form, so that none is
    withheld.
    """
    del ask, withhold_usage
    return AnthropicObserver()


def look(body: bytes) -> ObservedResponse:
    """A whole answer: what is in it, and why it is none."""
    answer = decode_mended(body, _decode_whole)
    if answer is None or answer.content is None:
        told = decode_mended(body, _decode_error)
        if told is not None:
            return ObservedResponse(error=error_of(told.error, body=body))
        return ObservedResponse(
            error=UpstreamBroken("The provider answered with something that is no message.")
        )
    usage = _usage(_given(answer.usage))
    error = None
    if answer.stop_reason is None:
        error = UpstreamBroken("The provider's answer gives no reason for its end.")
    length = sum(map(_characters, answer.content)) if usage is None else 0
    return ObservedResponse(
        answer.model, answer.stop_reason, usage, error, tuple(_seals(answer.content)), length
    )


def _seals(content: list[_Block]) -> list[str]:
    found = [block.data if block.type == "redacted_thinking" else block.signature for block in content]
    return [seal for seal in found if isinstance(seal, str) and seal]


def _characters(block: _Block) -> int:
    told = len(block.text or "") + len(block.thinking or "")
    return told + (len(msgspec.json.encode(block.input)) if block.type == "tool_use" else 0)
