"""A stored call as messages: what the client sent and what it received, read by its dialect.

Pure. What a dialect cannot read is shown as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, cast

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.events import (
    Event,
    MediaOutput,
    ReasoningDelta,
    RefusalDelta,
    ResponseFailed,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from modelplex.core.request import (
    AnyTool,
    Attempt,
    AudioPart,
    ChatRequest,
    DocumentPart,
    Endpoint,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    Part,
    PlainText,
    ProviderRequest,
    ReasoningPart,
    RefusalPart,
    SearchResultPart,
    TextPart,
    ToolCallPart,
    ToolReferencePart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import DIALECTS, provider_dialect
from modelplex.records.store.rows import CallSummary

BlockKind = Literal["text", "reasoning", "tool_call", "tool_result", "other"]


class Block(msgspec.Struct, frozen=True):
    """A piece of a message. `name` is that of a tool, `id` that of its call; `text` are the
    arguments of a call, or the description of what is no text.
    """

    kind: BlockKind
    text: str
    name: str = ""
    id: str = ""
    is_error: bool = False


class Entry(msgspec.Struct, frozen=True):
    role: str
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        return "\n".join(block.text for block in self.blocks if block.kind == "text")


class ReadRequest(msgspec.Struct, frozen=True):
    entries: tuple[Entry, ...]
    tools: tuple[AnyTool, ...] = ()


def read_sent(call: CallSummary, body: bytes) -> ReadRequest:
    """The messages of a request."""
    try:
        request = _chat_request(call, body)
    except (ModelplexError, KeyError, RecursionError):
        request = None
    if request is None:
        return ReadRequest((Entry("request", (Block("text", body.decode("utf-8", "replace")),)),))
    return ReadRequest(tuple(map(_entry, request.messages)), request.tools)


def _chat_request(call: CallSummary, body: bytes) -> ChatRequest | None:
    client = DIALECTS[call.dialect].client
    if client is None:
        return None
    raw = read_request(
        body,
        endpoint=cast("Endpoint", call.endpoint),
        dialect=call.dialect,
        model=call.requested_model,
        stream=call.stream,
    )
    return client.read_call(raw)


def read_received(call: CallSummary, body: bytes) -> Entry:
    """The response of a call."""
    blocks = tuple(_blocks(_events(call, body)))
    return Entry("assistant", blocks or (Block("text", body.decode("utf-8", "replace")),))


def _events(call: CallSummary, body: bytes) -> list[Event]:
    attempt = Attempt(provider=call.provider, model=call.model, dialect=call.dialect)
    try:
        provider = provider_dialect(call.dialect)
        if not call.stream:
            return provider.read_response(body, attempt, ProviderRequest(b""))
        reader = provider.reader(attempt, ProviderRequest(b""))
        return [*reader.feed(body), *reader.end()]
    except (ModelplexError, KeyError, RecursionError):
        return []


def _blocks(events: Iterable[Event]) -> Iterator[Block]:
    """One for each part, in the order in which the parts began."""
    parts: dict[tuple[int, int], Block] = {}

    def add(choice: int, part: int, block: Block) -> None:
        before = parts.get((choice, part))
        text = block.text if before is None else before.text + block.text
        parts[choice, part] = msgspec.structs.replace(before or block, text=text)

    for event in events:
        match event:
            case TextDelta() | RefusalDelta():
                add(event.choice, event.part, Block("text", event.text))
            case ReasoningDelta():
                add(event.choice, event.part, Block("reasoning", event.text))
            case ToolCallStarted():
                add(event.choice, event.part, Block("tool_call", "", event.name, event.id))
            case ToolArgumentsDelta():
                add(event.choice, event.part, Block("tool_call", event.text))
            case MediaOutput():
                add(event.choice, event.part, Block("other", "[media]"))
            case ResponseFailed() if not parts:
                return
            case _:
                pass
    yield from parts.values()


# --- messages -------------------------------------------------------------------------------------


def _entry(message: Message) -> Entry:
    return Entry(message.role, tuple(map(_block, message.parts)))


def _block(part: Part) -> Block:
    match part:
        case TextPart() | RefusalPart():
            return Block("text", part.text)
        case ReasoningPart():
            return Block("reasoning", part.text or "[not readable]")
        case ToolCallPart():
            return Block("tool_call", part.arguments, part.name, part.id)
        case ToolResultPart():
            text = "\n".join(_block(each).text for each in part.parts)
            return Block("tool_result", text, part.name or "", part.id, part.is_error)
        case ImagePart():
            return Block("other", f"[image: {_source(part.source)}]")
        case AudioPart():
            return Block("other", f"[audio: {part.format}, {len(part.data) * 3 // 4} bytes]")
        case DocumentPart():
            if isinstance(part.source, PlainText):
                return Block("text", part.source.text)
            return Block("other", f"[document: {part.title or part.filename or _source(part.source)}]")
        case SearchResultPart():
            return Block("text", "\n".join([f"{part.title} ({part.source})", *part.texts]))
        case ToolReferencePart():
            return Block("other", f"[loads the tool {part.name}]")
        case ForeignPart():
            return Block("other", f"[{part.type}: {bytes(part.raw).decode('utf-8', 'replace')}]")


def _source(source: object) -> str:
    match source:
        case InlineData():
            return f"{source.media_type}, {len(source.data) * 3 // 4} bytes"
        case UrlReference():
            return source.url
        case _:
            return "a stored file"


# --- a run ----------------------------------------------------------------------------------------


def new_entries(entries: Sequence[Entry], *, before: int, answered: bool) -> list[Entry]:
    """What a turn adds to the conversation of the call before, whose request had `before` messages.
    Where the response before it is known (`answered`), its repetition is left out.
    """
    added = list(entries[before:])
    while answered and added and added[0].role == "assistant":
        added.pop(0)
    return added
