"""Reads chat completions responses, streamed or whole, into events.

A whole response is read as one chunk whose deltas are its messages. The variants of compatible
servers (docs/reference/wire-formats.md#openai-compatible-servers) are accepted from every provider:
no id, one id for several calls, usage in any chunk, `stop` after tool calls. Imports no other
dialect.
"""

from __future__ import annotations

from typing import Any

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
from modelplex.dialects.core.json import as_list, as_object, as_text, decode_mended, encode, is_given, parses
from modelplex.dialects.core.passthrough import ENDED_EARLY
from modelplex.dialects.core.quota import Quota, choice_of
from modelplex.dialects.core.sse import SseReader
from modelplex.dialects.openai_chat.errors import error_inside
from modelplex.dialects.openai_chat.passthrough import GEMINI, google_signature
from modelplex.dialects.openai_chat.usage import read_usage

DIALECT = "openai_chat"

_REASONS: dict[str, Reason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "context",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "filter",
}
"""With Mistral's `model_length`, and what some servers leave of the model's own words. An unknown
word is a natural end.
"""

_BROKEN = frozenset({"error", "network_error", "abort"})
"""Finish words of compatible servers that say that the answer is none."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class _Custom(msgspec.Struct):
    name: str | None = None
    input: str | None = None


class _ToolDelta(msgspec.Struct):
    index: int | None = None
    id: str | int | None = None
    function: _Function | None = None
    custom: _Custom | None = None
    extra_content: Any = None


class _Detail(msgspec.Struct):
    type: str = "reasoning.text"
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None
    id: str | None = None
    index: int | None = None


class _Delta(msgspec.Struct):
    content: Any = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[_Detail] | None = None
    tool_calls: list[_ToolDelta] | None = None
    function_call: _Function | None = None
    audio: Any = None
    images: Any = None
    annotations: list[msgspec.Raw] | None = None
    extra_content: Any = None


class _Logprobs(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()


class _Choice(msgspec.Struct):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Chunk(msgspec.Struct):
    id: str | int | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class _Tool:
    """One call as far as it has come."""

    __slots__ = (
        "as_text",
        "checked",
        "closed",
        "free",
        "given",
        "id",
        "name",
        "open",
        "part",
        "pieces",
        "state",
        "wrapped",
    )

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.given = ""
        """The id as the provider gave it."""
        self.name = ""
        self.part = -1
        self.pieces: list[str] = []
        self.free = False
        self.wrapped = False
        self.as_text = False
        self.open = False
        self.closed = False
        self.checked = 0
        """Pieces when it was last looked at whether the arguments are whole, and were not."""
        self.state: OpaqueState | None = None


class _Progress:
    """One choice as far as it has come."""

    __slots__ = ("choice", "ended", "fresh", "kind", "last", "part", "refused", "silent", "tools")

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.part = -1
        self.kind: tuple[str, object] = ("", None)
        """What the open part is, so that a run of one kind is one part."""
        self.tools: dict[int, _Tool] = {}
        self.last: _Tool | None = None
        self.fresh: dict[int, _Tool] = {}
        """Calls that came on since another one began, by their parts."""
        self.silent = True
        """Nothing readable was said in the open part."""
        self.refused = False
        self.ended = False


class ChatReader:
    """dialects/dialect.py's Reader. Parts are numbered over the whole answer, all choices
    together.
    """

    def __init__(self, attempt: Attempt, written: ProviderRequest) -> None:
        self._attempt = attempt
        self._written = written
        self.quota = Quota()
        self._sse = SseReader()
        self._choices: dict[int, _Progress] = {}
        self._parts = 0
        self._calls = 0
        self._began = False
        self._over = False
        self._events: list[Event] = []

    def __repr__(self) -> str:
        ended = sum(choice.ended for choice in self._choices.values())
        return f"<ChatReader {ended} of {len(self._choices)} choices ended, {self._parts} parts, over={self._over}>"

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
            self._read_end("no finish reason came." if self._choices else "it held no answer.")
        return self._taken()

    def read_whole(self, body: bytes) -> list[Event]:
        """The events of an answer that is not streamed."""
        answer = decode_mended(body, _decode)
        if answer is None:
            self._fail(
                UpstreamBroken("The provider answered with something that is not an answer in OpenAI's form.")
            )
        elif answer.error:
            self._fail_with(answer.error, body)
        elif not answer.choices:
            self._fail(UpstreamBroken("The provider's answer has no choices."))
        else:
            self._read_chunk(answer)
            for choice in list(self._choices.values()):
                if not choice.ended and not self._over:
                    self._finish(choice, "stop")  # it is whole, and says no more of why it ended
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _read_data(self, data: bytes) -> None:
        stripped = data.strip()
        if not stripped:
            return
        if stripped == b"[DONE]":
            self._read_end("it said [DONE] without a finish reason.")
            self._over = True
            return
        chunk = decode_mended(data, _decode)
        if chunk is None:
            self._fail(
                UpstreamBroken("The provider's stream holds something that is not a chunk in OpenAI's form.")
            )
        elif chunk.error:
            self._fail_with(chunk.error, data)
        else:
            self._read_chunk(chunk)

    def _read_end(self, why: str) -> None:
        if not self._choices or not all(choice.ended for choice in self._choices.values()):
            self._fail(UpstreamBroken(ENDED_EARLY + why))

    def _fail_with(self, error: object, body: bytes) -> None:
        self._over = True
        self._events.append(ResponseFailed(error_inside(error, body=body)))

    def _fail(self, error: UpstreamBroken) -> None:
        self._over = True
        self._events.append(ResponseFailed(error))

    # --- one chunk ---

    def _read_chunk(self, chunk: _Chunk) -> None:
        usage = read_usage(chunk.usage)
        if not self._began and (chunk.choices or usage):
            # Azure's first chunk has filter results only, and neither id nor model.
            self._began = True
            self._events.append(
                ResponseStarted(
                    id=as_text(chunk.id) or "",
                    model=chunk.model or "",
                    created=int(chunk.created or 0),
                    tier=chunk.service_tier,
                    fingerprint=chunk.system_fingerprint,
                )
            )
        for given in chunk.choices or ():
            choice = self._choice(choice_of(given.index))
            delta = given.delta or given.message
            if delta is not None:
                self._read_delta(choice, delta, given.logprobs)
            if given.finish_reason is not None and not choice.ended:
                self._finish(choice, given.finish_reason)
            if self._over:
                return
        if usage is not None:
            self._events.append(UsageReported(usage))

    def _choice(self, index: int) -> _Progress:
        choice = self._choices.get(index)
        if choice is None:
            self.quota.take_entry()
            choice = self._choices[index] = _Progress(index)
        return choice

    def _read_delta(self, choice: _Progress, delta: _Delta, logprobs: _Logprobs | None) -> None:
        self._read_reasoning(choice, delta)
        content = delta.content
        odds = _odds(logprobs)
        if isinstance(content, str):
            if content or odds is not None:
                part = self._part(choice, "text")
                self._events.append(TextDelta(part, content, choice.choice, odds))
        elif content is not None:
            self._read_content_list(choice, content)
        if delta.refusal:
            choice.refused = True
            self._events.append(RefusalDelta(self._part(choice, "refusal"), delta.refusal, choice.choice))
        for annotation in delta.annotations or ():
            cited = CitationAdded(
                self._part(choice, "text"), msgspec.Raw(bytes(annotation)), DIALECT, choice.choice
            )
            self._events.append(cited)
        for name, made in (("audio", delta.audio), ("images", delta.images)):
            if made:
                raw = msgspec.Raw(encode({name: made}))
                self._events.append(MediaOutput(self._part(choice, name), raw, DIALECT, choice.choice))
        signature = google_signature(delta.extra_content)
        if signature:
            sealed = OpaqueStateReceived(
                self._part(choice, "signature"), self._opaque_state(GEMINI, signature, None), choice.choice
            )
            self._events.append(msgspec.structs.replace(sealed, redacted=True))
        for call in delta.tool_calls or ():
            self._read_tool_delta(choice, call)
        if delta.function_call is not None:
            self._read_tool_delta(choice, _ToolDelta(index=-1, function=delta.function_call))

    def _read_content_list(self, choice: _Progress, content: object) -> None:
        """Content as parts: OpenAI's text parts, and Mistral's {"type": "thinking", "thinking":
        [{"type": "text", ...}]}.
        """
        for each in as_list(content):
            part = as_object(each) or {}
            text = as_text(part.get("text"))
            if text:
                self._events.append(TextDelta(self._part(choice, "text"), text, choice.choice))
            for thought in as_list(part.get("thinking")):
                said = as_text((as_object(thought) or {}).get("text"))
                if said:
                    self._events.append(ReasoningDelta(self._part(choice, "thinking"), said, choice.choice))

    def _part(self, choice: _Progress, kind: str, which: object = None) -> int:
        """The number of the open part of this kind; a new one where another kind was open."""
        if choice.kind != (kind, which):
            self._close(choice)
            choice.kind = (kind, which)
            choice.part = self._next_part()
            choice.silent = True
        return choice.part

    def _next_part(self) -> int:
        self.quota.take_entry()
        self._parts += 1
        return self._parts - 1

    def _close(self, choice: _Progress) -> None:
        """Close what is open and not a call: another part begins, or the choice ends."""
        if choice.kind[0]:
            self._events.append(PartEnded(choice.part, choice.choice))
            choice.kind = ("", None)

    # --- reasoning ---

    def _read_reasoning(self, choice: _Progress, delta: _Delta) -> None:
        """`reasoning_details` is authoritative; of `reasoning_content` and `reasoning` in one delta
        one is enough (R43).
        """
        told = False
        for detail in delta.reasoning_details or ():
            told = self._read_detail(choice, detail) or told
        if told:
            return
        text = delta.reasoning_content or delta.reasoning
        if text:
            which = choice.kind[1] if choice.kind[0] == "thinking" else None
            choice.silent = False
            self._events.append(ReasoningDelta(self._part(choice, "thinking", which), text, choice.choice))

    def _read_detail(self, choice: _Progress, detail: _Detail) -> bool:
        """True where the detail held text, so that the same text beside it is not read again."""
        text = detail.summary or detail.text
        secret = detail.signature or detail.data
        if not text and not secret:
            return False
        summary = bool(detail.summary)
        if detail.index is None and choice.kind[0] == "thinking":
            part = choice.part
        elif not text and detail.data and choice.kind == ("thinking", detail.index):
            # Encrypted reasoning is a part of its own unless it belongs to the summary before it.
            part = choice.part
        else:
            part = self._part(choice, "thinking", detail.index)
        if text:
            choice.silent = False
            self._events.append(ReasoningDelta(part, text, choice.choice, summary))
        if secret:
            state = self._opaque_state(detail.format or "unknown", secret, detail.id)
            redacted = detail.type == "reasoning.encrypted" and choice.silent
            self._events.append(OpaqueStateReceived(part, state, choice.choice, redacted))
        return bool(text)

    def _opaque_state(self, format_: str, secret: str, id_: str | None) -> OpaqueState:
        made_by = self._attempt
        return OpaqueState(
            format_, secret, provider=made_by.provider, account=made_by.account, model=made_by.model, id=id_
        )

    # --- calls ---

    def _read_tool_delta(self, choice: _Progress, delta: _ToolDelta) -> None:
        tool = self._tool_for(choice, delta)
        if delta.custom is not None:
            tool.free = True
        name = (delta.custom.name if delta.custom is not None else None) or (
            delta.function.name if delta.function is not None else None
        )
        if name and not tool.open:
            tool.name = name
        signature = google_signature(delta.extra_content)
        if signature:
            tool.state = self._opaque_state(GEMINI, signature, None)
        if tool.name and not tool.open:
            self._open(choice, tool)
        if tool.open and tool.state is not None and not tool.as_text:
            self._events.append(OpaqueStateReceived(tool.part, tool.state, choice.choice))
            tool.state = None
        text = _arguments(delta)
        if text:
            self.quota.take_text(text)
            tool.pieces.append(text)
            if tool.open and not tool.closed:
                choice.fresh[tool.part] = tool
            if tool.open and not tool.wrapped and not tool.closed:
                self._add_arguments(choice, tool, text)

    def _tool_for(self, choice: _Progress, delta: _ToolDelta) -> _Tool:
        """The call that a delta continues, or a new one. Some servers leave out the index, some
        send 0 for all calls with an id each.
        """
        given = as_text(delta.id) or ""
        names_one = delta.custom is not None or (delta.function is not None and bool(delta.function.name))
        tool = choice.last if delta.index is None else choice.tools.get(delta.index)
        is_other = tool is not None and bool(given) and bool(tool.given) and given != tool.given and names_one
        if tool is None or is_other or (delta.index is None and not given and names_one and tool.open):
            self._close(choice)
            self._close_whole_calls(choice)
            self.quota.take_entry(given)
            tool = _Tool(given or f"call_{self._calls}")
            self._calls += 1
            index = delta.index if delta.index is not None else len(choice.tools)
            if index in choice.tools:
                # The earlier call of this index is complete; it is kept under a number that no
                # server uses.
                choice.tools[-2 - len(choice.tools)] = choice.tools.pop(index)
            choice.tools[index] = tool
        if given:
            tool.given = tool.given or given
            if not tool.open:
                tool.id = given
        choice.last = tool
        return tool

    def _open(self, choice: _Progress, tool: _Tool) -> None:
        tool.open = True
        tool.part = self._next_part()
        tool.wrapped = tool.name in self._written.free
        tool.as_text = tool.name == self._written.answer_tool
        held = "".join(tool.pieces)
        choice.fresh[tool.part] = tool
        if not tool.as_text:
            name = self._written.aliases.get(tool.name, tool.name)
            self._events.append(
                ToolCallStarted(tool.part, tool.id, name, choice.choice, free=tool.free or tool.wrapped)
            )
        if held and not tool.wrapped:
            self._add_arguments(choice, tool, held)

    def _add_arguments(self, choice: _Progress, tool: _Tool, text: str) -> None:
        if tool.as_text:
            self._events.append(TextDelta(tool.part, text, choice.choice))
        else:
            self._events.append(ToolArgumentsDelta(tool.part, text, choice.choice))

    def _close_whole_calls(self, choice: _Progress) -> None:
        """A call whose arguments are a whole object can hold no more; a writer that has one open
        part need not wait for the end.
        """
        fresh, choice.fresh = choice.fresh, {}
        for tool in fresh.values():
            # One that was looked at in vain is looked at again when it is twice as long: not at
            # each of its pieces.
            if tool.closed or tool.free or tool.wrapped or len(tool.pieces) < 2 * tool.checked:
                continue
            if not tool.pieces or not tool.pieces[-1].rstrip().endswith("}"):
                continue
            if parses("".join(tool.pieces)):
                self._close_call(choice, tool)
            else:
                tool.checked = len(tool.pieces)

    def _close_call(self, choice: _Progress, tool: _Tool) -> None:
        if not tool.closed:
            tool.closed = True
            self._events.append(PartEnded(tool.part, choice.choice))

    def _finish(self, choice: _Progress, word: str) -> None:
        choice.ended = True
        self._close(choice)
        reason = _REASONS.get(word, "stop")
        if word in _BROKEN:
            self._fail(UpstreamBroken(f"The provider ended its answer with {word!r}."))
            return
        whole = True
        calls = False
        for tool in choice.tools.values():
            if not tool.open:
                self._fail(UpstreamBroken("The provider called a tool without a name."))
                return
            whole = self._finish_tool(choice, tool, cut=reason in {"length", "context", "filter"}) and whole
            calls = calls or not tool.as_text
            if self._over:
                return
        if calls and whole and reason in {"stop", "length", "tool_calls"}:
            # Calls end the turn, whatever the word, unless the limit was hit inside their arguments
            # (docs/reference/translation.md#finish-reasons).
            reason = "tool_calls"
        elif reason == "tool_calls":
            reason = "stop"
        elif reason == "stop" and choice.refused:
            reason = "refusal"
        self._events.append(ResponseEnded(reason, choice.choice))

    def _finish_tool(self, choice: _Progress, tool: _Tool, *, cut: bool) -> bool:
        """Completes one call. False where its arguments are half, which is only borne where a limit
        `cut` them.
        """
        text = "".join(tool.pieces)
        if tool.wrapped:
            text = _unwrapped(text)
            if text:
                self._events.append(ToolArgumentsDelta(tool.part, text, choice.choice))
        elif tool.free:
            pass
        elif not text.strip():
            if cut:
                return False
            if not text and not tool.as_text:
                self._events.append(ToolArgumentsDelta(tool.part, "{}", choice.choice))
        elif not parses(text):
            if not cut:
                self._fail(UpstreamBroken("The provider ended a tool call whose arguments are not JSON."))
            return False
        self._close_call(choice, tool)
        return True


def _odds(logprobs: _Logprobs | None) -> msgspec.Raw | None:
    if logprobs is None or not is_given(logprobs.content) or bytes(logprobs.content) == b"[]":
        return None
    return logprobs.content


def _arguments(delta: _ToolDelta) -> str:
    """The text of a piece of arguments. Some servers send an object instead of its JSON text."""
    if delta.custom is not None:
        return delta.custom.input or ""
    given = delta.function.arguments if delta.function is not None else None
    if given is None:
        return ""
    return given if isinstance(given, str) else encode(given).decode()


def _unwrapped(text: str) -> str:
    """A free-form tool's text out of the object {"input": text} that it was asked for in; anything
    else is the text itself.
    """
    wrapper = decode_mended(text.encode("utf-8", "surrogatepass"), msgspec.json.Decoder().decode)
    inner = (as_object(wrapper) or {}).get("input")
    return inner if isinstance(inner, str) else text


def reader(attempt: Attempt, written: ProviderRequest) -> ChatReader:
    return ChatReader(attempt, written)


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    """A whole answer. What is none gives a Failed: half a JSON, an error object inside a 200, no
    choices.
    """
    return ChatReader(attempt, written).read_whole(body)
