"""Reads Anthropic Messages responses, streamed or whole, into events.

What the request writer changed (aliases, wrapped arguments, added tools) comes with the
ProviderRequest and is undone here. A whole response is read as a stream that opens each block with
all of its content. A call with empty input gets no ToolArgumentsDelta; each writer then writes "{}"
or {} (docs/reference/translation.md#tool-calls-and-results). Imports no other dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    Overloaded,
    RateLimited,
    TooLarge,
    UnknownModel,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
)
from modelplex.core.events import (
    CitationAdded,
    Event,
    Iteration,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    Reason,
    ReasoningDelta,
    ResponseEnded,
    ResponseFailed,
    ResponseStarted,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from modelplex.core.request import Attempt, OpaqueState, ProviderRequest
from modelplex.dialects.anthropic.messages_out import DIALECT, STATE_FORMAT
from modelplex.dialects.core.quota import PIECE, Quota, check_counts
from modelplex.dialects.core.sse import SseEvent, SseReader
from modelplex.dialects.core.surrogates import mended
from modelplex.dialects.core.usage import count

REASONS: dict[str, Reason] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "pause_turn": "paused",
    "compaction": "paused",
    "refusal": "refusal",
    "model_context_window_exceeded": "context",
}
"""`stop_reason` in the vocabulary's words (docs/reference/translation.md#finish-reasons). An
unknown one counts as a natural end.
"""
CUT: frozenset[Reason] = frozenset({"length", "context"})
OVERRULED: frozenset[Reason] = frozenset({"stop", "stop_sequence", "tool_calls"})
"""Reasons that say no more than that the model stopped: with a client tool's call among the output,
the call is the reason.
"""

TIERS = {"standard": "default"}
"""`usage.service_tier` in OpenAI's words; the others have the same name in both
(docs/reference/translation.md#caching-identity-and-tier).
"""

ERRORS: dict[str, type[ModelplexError]] = {
    "invalid_request_error": BadRequest,
    "authentication_error": UpstreamAuth,
    "billing_error": UpstreamAuth,
    "permission_error": UpstreamAuth,
    "not_found_error": UnknownModel,
    "conflict_error": UpstreamBroken,
    "request_too_large": TooLarge,
    "rate_limit_error": RateLimited,
    "api_error": UpstreamBroken,
    "timeout_error": UpstreamTimeout,
    "overloaded_error": Overloaded,
}
"""`error.type`: class (docs/reference/wire-formats.md#errors-and-retry-headers)."""
TOO_LONG = ("prompt is too long", "exceed context limit", "context window")
"""How the service says that the conversation does not fit; it gives no code of its own for it."""
OUR_ACCOUNT = ("credit balance is too low", "organization has been disabled")
"""These are told as invalid requests; they are no fault of the caller's."""


# --- what comes, as far as it is acted on ---------------------------------------------------------


ABSENT = msgspec.Raw(b"")
"""A member that is not there. (msgspec reads `Raw | None` as null alone.)"""


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    type: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: msgspec.Raw = ABSENT
    usage: dict[str, msgspec.Raw] | None = None


class _Block(msgspec.Struct):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: msgspec.Raw = ABSENT
    citations: list[msgspec.Raw] | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: msgspec.Raw = ABSENT


class _MessageStart(msgspec.Struct):
    message: _Message


class _BlockStart(msgspec.Struct):
    index: int
    content_block: msgspec.Raw


class _BlockDelta(msgspec.Struct):
    index: int
    delta: _Delta


class _BlockStop(msgspec.Struct):
    index: int


class _MessageDelta(msgspec.Struct):
    delta: _Message = msgspec.field(default_factory=_Message)
    usage: dict[str, msgspec.Raw] | None = None


class _MessageStop(msgspec.Struct):
    pass


class AnthropicErrorObject(msgspec.Struct):
    """`error` of an error body or event. `details.error_code` names the cause where there
    is one.
    """

    type: str = ""
    message: str = ""
    details: msgspec.Raw = ABSENT


class AnthropicErrorBody(msgspec.Struct):
    error: AnthropicErrorObject
    type: str | None = None


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Named(msgspec.Struct):
    type: str = ""


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Counts(msgspec.Struct):
    """Counts of a usage object, or of one entry of its `iterations`."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens: int | None = None


class _Iteration(_Counts):
    model: str | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: int | None = None


class _Tokens(_Counts):
    output_tokens_details: _OutputDetails | None = None
    iterations: list[_Iteration] | None = None
    server_tool_use: _ServerTools | None = None


class _Open(msgspec.Struct):
    """A block that has begun. `kind` is the word of this module: text, thinking, call, answer, free
    or other.
    """

    kind: str
    part: int
    start: _Block
    raw: msgspec.Raw
    pieces: list[str] = []
    is_told: bool = False
    is_broken: bool = False

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


# --- the machine ----------------------------------------------------------------------------------


class AnthropicResponse:
    """Blocks in, Events out. `open` and `close` for each block, `fill` between them; `finish` once,
    where the answer's own end mark stands.
    """

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        self._attempt = attempt
        self._written = written
        self.quota = Quota()
        self._open: dict[int, _Open] = {}
        self._parts = 0
        self._calls = 0
        self._has_broken_call = False
        self._ends_in_bare_call = False
        self._usage: dict[str, msgspec.Raw] = {}
        self._stop = _Message()

    def __repr__(self) -> str:
        return f"<Answer parts={self._parts} calls={self._calls} open={sorted(self._open)} stop={self._stop.stop_reason}>"

    def begin(self, message: _Message) -> list[Event]:
        usage = self._measure(message.usage)
        tier = self._tier()
        return [ResponseStarted(id=message.id or "", model=message.model or "", usage=usage, tier=tier)]

    def open(self, index: int, raw: msgspec.Raw) -> list[Event]:
        """A block begins, perhaps already full. Content that it brings is told at once, but for
        input, which deltas may replace.
        """
        self.quota.take_entry(bytes(raw))
        start = msgspec.json.decode(raw, type=_Block)
        block = self._open[index] = _Open(self._kind(start), self._parts, start, raw, [])
        self._parts += 1
        self._ends_in_bare_call = False
        events: list[Event] = []
        if block.kind in {"call", "free"}:
            events.append(self._called(block))
        given = _Delta(text=start.text, thinking=start.thinking, signature=start.signature or None)
        if block.kind == "redacted":
            events.append(self._sealed(block, start.data or "", redacted=True))
        elif block.kind in {"text", "thinking"}:
            events += self._filled(block, given)
            events += [CitationAdded(block.part, citation, DIALECT) for citation in start.citations or ()]
        block.is_told = bool(events)
        return events

    def fill(self, index: int, delta: _Delta) -> list[Event]:
        block = self._open.get(index)
        if block is None:
            raise UpstreamBroken(f"The provider's stream continues block {index}, which it did not begin.")
        events = self._filled(block, delta)
        block.is_told = block.is_told or bool(events)
        return events

    def close(self, index: int) -> list[Event]:
        block = self._open.pop(index, None)
        if block is None:
            return []
        events = self._completed(block)
        # A part that nobody heard of is not closed, and arguments that were cut off are not
        # complete.
        is_whole = (events or block.is_told) and not block.is_broken
        return [*events, PartEnded(block.part)] if is_whole else events

    def end_as(self, message: _Message, usage: dict[str, msgspec.Raw] | None) -> list[Event]:
        """What `message_delta` says; its usage is cumulative and overrides earlier counts."""
        stop = self._stop
        self._stop = _Message(
            stop_reason=message.stop_reason or stop.stop_reason,
            stop_sequence=message.stop_sequence or stop.stop_sequence,
            stop_details=message.stop_details if _real(message.stop_details) else stop.stop_details,
        )
        measured = self._measure(usage)
        return [] if usage is None or measured is None else [UsageReported(measured)]

    def finish(self) -> list[Event]:
        """The end, or a Failed where a call's arguments are no JSON object and no limit explains
        it.
        """
        events = [event for index in sorted(self._open) for event in self.close(index)]
        if self._stop.stop_reason is None:
            return [
                *events,
                ResponseFailed(UpstreamBroken("The provider's answer gives no reason for its end.")),
            ]
        reason = REASONS.get(self._stop.stop_reason, "stop")
        cut = self._has_broken_call or self._ends_in_bare_call
        if self._has_broken_call and reason not in CUT | {"refusal", "paused"}:
            broken = UpstreamBroken(
                "The provider's model wrote arguments of a tool call that are not a JSON object."
            )
            return [*events, ResponseFailed(broken)]
        if reason in OVERRULED or (reason in CUT and not cut):
            reason = "tool_calls" if self._calls else "stop" if reason == "tool_calls" else reason
        sequence = self._stop.stop_sequence if reason == "stop_sequence" else None
        detail = _real(self._stop.stop_details) if reason == "refusal" else None
        return [*events, ResponseEnded(reason, sequence=sequence, detail=detail)]

    # -- blocks

    def _kind(self, start: _Block) -> str:
        match start.type:
            case "text" | "thinking":
                return start.type
            case "redacted_thinking":
                return "redacted"
            case "tool_use" if start.name is not None and start.name == self._written.answer_tool:
                return "answer"
            case "tool_use":
                return "free" if start.name in self._written.free else "call"
            case _:
                return "other"

    def _called(self, block: _Open) -> ToolCallStarted:
        sent = block.start.name or ""
        id_ = block.start.id or f"call_{self._calls}"
        self._calls += 1
        name = self._written.aliases.get(sent, sent)
        return ToolCallStarted(block.part, id_, name, free=block.kind == "free")

    def _sealed(self, block: _Open, data: str, *, redacted: bool = False) -> OpaqueStateReceived:
        attempt = self._attempt
        state = OpaqueState(
            STATE_FORMAT, data, provider=attempt.provider, account=attempt.account, model=attempt.model
        )
        return OpaqueStateReceived(block.part, state, redacted=redacted)

    def _filled(self, block: _Open, delta: _Delta) -> list[Event]:
        """Deltas say themselves what they hold; those of a kind that is not known here are passed
        over.
        """
        events: list[Event] = []
        if delta.text:
            events.append(TextDelta(block.part, delta.text))
        if delta.thinking:
            events.append(ReasoningDelta(block.part, delta.thinking))
        if delta.signature:
            events.append(self._sealed(block, delta.signature))
        if (citation := _real(delta.citation)) is not None:
            events.append(CitationAdded(block.part, citation, DIALECT))
        if delta.partial_json:
            self.quota.take_text(delta.partial_json)
            block.pieces.append(delta.partial_json)
            if block.kind == "call":
                events.append(ToolArgumentsDelta(block.part, delta.partial_json))
            elif block.kind == "answer":
                events.append(TextDelta(block.part, delta.partial_json))
        return events

    def _completed(self, block: _Open) -> list[Event]:
        """What can only be told of a block once it is complete."""
        if block.kind in {"text", "thinking", "redacted"}:
            return []
        given = "" if block.pieces else _given_input(block.start)
        arguments = block.arguments or given
        if block.kind == "other":
            return [MediaOutput(block.part, _with_input(block), DIALECT)]
        input_ = _object(arguments or "{}")
        block.is_broken = input_ is None
        self._has_broken_call = self._has_broken_call or block.is_broken
        self._ends_in_bare_call = not arguments
        if block.kind == "answer":
            return [TextDelta(block.part, given or "{}")] if not block.pieces else []
        if block.kind == "free":
            text = _free_text(input_, arguments)
            return [ToolArgumentsDelta(block.part, text)] if text else []
        return [ToolArgumentsDelta(block.part, given)] if given else []

    # -- usage

    def _measure(self, usage: dict[str, msgspec.Raw] | None) -> Usage | None:
        """All that was counted so far, or None where nothing was."""
        if usage is None:
            return read_usage(self._usage) if self._usage else None
        self.quota.take(sum(map(len, usage.values())) + PIECE * len(usage))
        self._usage |= {name: value for name, value in usage.items() if _real(value) is not None}
        check_counts(len(self._usage))
        return read_usage(self._usage)

    def _tier(self) -> str | None:
        raw = self._usage.get("service_tier")
        tier = msgspec.json.decode(raw) if raw is not None else None
        return TIERS.get(tier, tier) if isinstance(tier, str) else None


def read_usage(members: dict[str, msgspec.Raw]) -> Usage:
    """What is billed; `raw` is the merged object. A member that has another shape than it should
    counts for nothing, and breaks no answer.
    """
    raw = msgspec.Raw(msgspec.json.encode(members))
    try:
        tokens = msgspec.json.decode(raw, type=_Tokens)
    except msgspec.ValidationError:
        tokens = _readable(members)
    details, tools = tokens.output_tokens_details, tokens.server_tool_use
    top, iterations = _iteration(tokens), tuple(_iteration(each) for each in tokens.iterations or ())
    billed = _billed(top, iterations)
    return Usage(
        fresh=billed.fresh,
        cache_read=billed.cache_read,
        cache_write=billed.cache_write,
        cache_write_1h=billed.cache_write_1h,
        output=billed.output,
        reasoning=count(details.thinking_tokens) if details is not None else 0,
        web_searches=count(tools.web_search_requests) if tools is not None else 0,
        iterations=iterations if len(iterations) > 1 and billed == _sum(iterations) else (),
        raw=raw,
        raw_of=DIALECT,
    )


def _readable(members: dict[str, msgspec.Raw]) -> _Tokens:
    tokens = _Tokens()
    for field in msgspec.structs.fields(_Tokens):
        if field.name in members:
            try:
                setattr(tokens, field.name, msgspec.json.decode(members[field.name], type=field.type))
            except msgspec.ValidationError:
                continue
    return tokens


def _iteration(counts: _Counts) -> Iteration:
    lives = counts.cache_creation or _CacheCreation()
    hour, minutes = count(lives.ephemeral_1h_input_tokens), count(lives.ephemeral_5m_input_tokens)
    written = counts.cache_creation_input_tokens
    return Iteration(
        model=(counts.model or "") if isinstance(counts, _Iteration) else "",
        fresh=count(counts.input_tokens),
        cache_read=count(counts.cache_read_input_tokens),
        cache_write=hour + minutes if written is None else count(written),
        cache_write_1h=hour,
        output=count(counts.output_tokens),
    )


def _sum(iterations: tuple[Iteration, ...]) -> Iteration:
    return Iteration(
        fresh=sum(one.fresh for one in iterations),
        cache_read=sum(one.cache_read for one in iterations),
        cache_write=sum(one.cache_write for one in iterations),
        cache_write_1h=sum(one.cache_write_1h for one in iterations),
        output=sum(one.output for one in iterations),
    )


def _billed(top: Iteration, iterations: tuple[Iteration, ...]) -> Iteration:
    """The top-level counts leave out what compaction and other models took; the sum of `iterations`
    is what is billed. https://platform.claude.com/docs/en/build-with-claude/compaction
    """
    each = _sum(iterations)
    return Iteration(
        fresh=max(top.fresh, each.fresh),
        cache_read=max(top.cache_read, each.cache_read),
        cache_write=max(top.cache_write, each.cache_write),
        cache_write_1h=max(top.cache_write_1h, each.cache_write_1h),
        output=max(top.output, each.output),
    )


def _real(raw: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(raw) in {b"", b"null"} else raw


def _given_input(start: _Block) -> str:
    """The input that a block brought with it, as JSON text; "" where it is empty, which is how
    every streamed call begins.
    """
    raw = _real(start.input)
    if raw is None:
        return ""
    text = bytes(raw).decode()
    return "" if text.replace(" ", "") == "{}" else text


def _object(text: str) -> dict[str, msgspec.Raw] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError):
        return None


def _free_text(input_: dict[str, msgspec.Raw] | None, arguments: str) -> str:
    """What stands in the wrapper's one member; the arguments as they are where the model wrote
    something else.
    """
    if not input_:
        return ""  # cut off, or empty
    if "input" not in input_:
        return arguments
    inner = msgspec.json.decode(input_["input"])
    return inner if isinstance(inner, str) else arguments


def _with_input(block: _Open) -> msgspec.Raw:
    """A hosted tool's block as it would stand in a whole answer."""
    input_ = _object(block.arguments) if block.pieces else None
    if input_ is None:
        return block.raw
    members: dict[str, Any] = msgspec.json.decode(block.raw, type=dict[str, msgspec.Raw])
    return msgspec.Raw(msgspec.json.encode({**members, "input": input_}))


# --- errors ---------------------------------------------------------------------------------------


PLAIN: dict[int, type[ModelplexError]] = {401: UpstreamAuth, 402: UpstreamAuth, 504: UpstreamTimeout}
"""Statuses that say enough, whatever the body calls it."""


def error_of(
    error: AnthropicErrorObject,
    *,
    kind: type[ModelplexError] | None = None,
    status: int | None = None,
    body: bytes | None = None,
    retry_after: float | None = None,
) -> ModelplexError:
    """The provider's error object in our tree. `kind` is what its HTTP status says, for types that
    are not known.
    """
    found = ERRORS.get(error.type) or kind or UpstreamBroken
    found = PLAIN.get(status or 0, found)
    lowered = error.message.lower()
    code = None
    if found is BadRequest and any(phrase in lowered for phrase in OUR_ACCOUNT):
        found = UpstreamAuth
    elif found is BadRequest and any(phrase in lowered for phrase in TOO_LONG):
        code = "context_length_exceeded"
    said = error.message or error.type or "no reason given"
    message = f"The provider rejected the gateway's key: {said}" if found is UpstreamAuth else said
    return found(
        message,
        code=code,
        upstream_status=status,
        upstream_type=error.type or None,
        upstream_code=_error_code(error.details),
        upstream_body=body,
        retry_after=retry_after,
    )


def _error_code(details: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(details, type=_Details).error_code
    except (msgspec.DecodeError, UnicodeError):
        return None  # absent, or of a shape that we do not know


# --- the two forms --------------------------------------------------------------------------------


_EVENTS: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(shape)
    for name, shape in {
        "message_start": _MessageStart,
        "content_block_start": _BlockStart,
        "content_block_delta": _BlockDelta,
        "content_block_stop": _BlockStop,
        "message_delta": _MessageDelta,
        "message_stop": _MessageStop,
        "error": AnthropicErrorBody,
    }.items()
}
"""Any other event is passed over: the service may add some (`ping` is one such)."""


class AnthropicStreamReader:
    """A streamed answer. Only `message_stop` is its end: without it EOF is a failure
    (docs/reference/translation.md#rules).
    """

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        self._sse = SseReader()
        self._answer = AnthropicResponse(attempt, written)
        self.quota = self._answer.quota
        self._is_over = False

    def __repr__(self) -> str:
        return f"<StreamReader over={self._is_over} {self._answer!r} {self._sse!r}>"

    def feed(self, data: bytes) -> list[Event]:
        return self._events(lambda: self._sse.feed(data))

    def end(self) -> list[Event]:
        events = self._events(self._sse.end)
        if not self._is_over:
            self._is_over = True
            events.append(ResponseFailed(UpstreamBroken("The provider's stream broke off before its end.")))
        return events

    def _events(self, arrive: Callable[[], list[SseEvent]]) -> list[Event]:
        if self._is_over:
            return []
        events: list[Event] = []
        try:
            for arrived in arrive():
                events += self._read(arrived)
                if self._is_over:
                    break
        except UpstreamBroken as error:
            self._is_over = True
            events.append(ResponseFailed(error))
        except (msgspec.DecodeError, UnicodeError) as error:
            self._is_over = True
            events.append(
                ResponseFailed(UpstreamBroken(f"The provider's stream is not what it should be: {error}"))
            )
        return events

    def _read(self, arrived: SseEvent) -> list[Event]:
        name, data = arrived.event, mended(arrived.data)
        if name not in _EVENTS:
            # Some servers leave the event line out; the data says the same. What neither names is
            # not for us.
            name = msgspec.json.decode(data, type=_Named).type if name in {"", "message"} else name
        decoder = _EVENTS.get(name)
        if decoder is None:
            return []
        match decoder.decode(data):
            case _BlockDelta(index=index, delta=delta):
                return self._answer.fill(index, delta)
            case _BlockStart(index=index, content_block=block):
                return self._answer.open(index, block)
            case _BlockStop(index=index):
                return self._answer.close(index)
            case _MessageStart(message=message):
                return self._answer.begin(message)
            case _MessageDelta(delta=delta, usage=usage):
                return self._answer.end_as(delta, usage)
            case AnthropicErrorBody(error=error):
                self._is_over = True
                return [ResponseFailed(error_of(error, body=data))]
            case _:
                self._is_over = True
                return self._answer.finish()


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """A whole answer; a Failed alone where it is none."""
    body = mended(body)
    try:
        message = msgspec.json.decode(body, type=_Message)
        if message.content is None:
            return [
                ResponseFailed(error_of(msgspec.json.decode(body, type=AnthropicErrorBody).error, body=body))
            ]
        return _whole(message, message.content, AnthropicResponse(attempt, written))
    except (msgspec.DecodeError, UnicodeError) as error:
        return [ResponseFailed(UpstreamBroken(f"The provider's answer is not what it should be: {error}"))]


def _whole(message: _Message, content: list[msgspec.Raw], answer: AnthropicResponse) -> list[Event]:
    events = answer.begin(message)
    for index, block in enumerate(content):
        events += answer.open(index, block)
        events += answer.close(index)
    events += answer.end_as(message, message.usage)
    return events + answer.finish()
