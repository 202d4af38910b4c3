"""Writes the messages of a ChatRequest as `messages` of Ollama's /api/chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    Change,
    DocumentPart,
    FileReference,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    Part,
    PlainText,
    ReasoningPart,
    RefusalPart,
    SearchResultPart,
    TextPart,
    ToolCallPart,
    ToolReferencePart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.call_arguments import as_object
from modelplex.dialects.core.losses import Losses
from modelplex.dialects.core.media import ERROR_MARK, decode_text, document_text, search_text
from modelplex.dialects.core.tool_names import ToolAliases

_SEPARATOR = "\n\n"


class OllamaFunction(msgspec.Struct, omit_defaults=True, gc=False):
    name: str
    description: str = ""
    parameters: msgspec.Raw | None = None
    arguments: msgspec.Raw | None = None


class OllamaToolCall(msgspec.Struct, gc=False):
    id: str
    function: OllamaFunction


class OllamaMessage(msgspec.Struct, omit_defaults=True, gc=False):
    role: str
    content: str | None = None
    thinking: str = ""
    images: tuple[str, ...] = ()
    tool_calls: tuple[OllamaToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


class OllamaLosses(Losses):
    """The report of one request, and its tool names."""

    reasons: ClassVar[Mapping[str, str]] = {
        "annotations": "Ollama's texts have no citations",
        "cache": "Ollama caches prefixes by itself",
        "citations": "Ollama has no citations",
        "detail": "Ollama has no such field",
        "name": "Ollama's messages have no name",
        "state": "sealed reasoning is of use to its maker only",
    }

    def __init__(self, changes: list[Change], attempt: Attempt, *, native: bool = False) -> None:
        self.names = ToolAliases(changes, native=native)
        super().__init__(changes, attempt, native=native, name_of=self.names.sent)


def turns(messages: Sequence[Message], losses: OllamaLosses) -> Iterator[OllamaMessage]:
    """Each message in Ollama's form, results in the order of their calls. Raises BadRequest where
    calls and results do not match.
    """
    open_calls: dict[str, ToolCallPart] = {}
    order: dict[str, int] = {}
    for message in messages:
        if members := losses.members(message):
            losses.settle(message, members)
        if message.role == "tool":
            results = [part for part in message.parts if isinstance(part, ToolResultPart)]
            for result in sorted(results, key=lambda result: order.get(result.id, 0)):
                if result.id not in open_calls:
                    raise BadRequest(
                        f"The result for call {result.id!r} follows no such call.", param=str(result.at)
                    )
                call = open_calls.pop(result.id)
                yield _result(result, name=losses.tool_name(call), losses=losses)
            if len(results) == len(message.parts):
                continue
        elif open_calls and message.role in {"user", "assistant"}:
            raise _unanswered(open_calls)
        yield _turn(message, losses)
        if message.role == "assistant":
            open_calls = {part.id: part for part in message.parts if isinstance(part, ToolCallPart)}
            order = {id_: n for n, id_ in enumerate(open_calls)}
    if open_calls:
        raise _unanswered(open_calls)


def _unanswered(open_calls: Mapping[str, ToolCallPart]) -> BadRequest:
    return BadRequest(
        f"Every tool call needs a result before the dialogue goes on; missing: {', '.join(open_calls)}.",
        param=str(next(iter(open_calls.values())).at),
    )


def _turn(message: Message, losses: OllamaLosses) -> OllamaMessage:
    texts: list[str] = []
    thinking: list[str] = []
    images: list[str] = []
    calls: list[OllamaToolCall] = []
    for part in message.parts:
        members = losses.members(part)
        match part:
            case ToolResultPart() if message.role == "tool":
                continue  # written before the message
            case ReasoningPart():
                if part.text:
                    thinking.append(part.text)
            case ToolCallPart():
                calls.append(_tool_call(part, losses))
            case ImagePart():
                images.append(_image(part))
            case _:
                texts += _text(part, members, losses)
        if members:
            losses.settle(part, members)
    return OllamaMessage(
        role="system" if message.role == "developer" else message.role,
        content=_SEPARATOR.join(texts),
        thinking=_SEPARATOR.join(thinking),
        images=tuple(images),
        tool_calls=tuple(calls),
    )


def _result(result: ToolResultPart, *, name: str, losses: OllamaLosses) -> OllamaMessage:
    texts: list[str] = []
    images: list[str] = []
    for part in result.parts:
        inside = losses.members(part)
        if isinstance(part, ImagePart):
            images.append(_image(part))
        else:
            texts += _text(part, inside, losses)
        if inside:
            losses.settle(part, inside)
    members = losses.members(result)
    mark = ERROR_MARK if members.pop("is_error", False) else ""
    if members:
        losses.settle(result, members)
    return OllamaMessage(
        role="tool",
        content=mark + _SEPARATOR.join(texts),
        images=tuple(images),
        tool_name=name,
        tool_call_id=result.id,
    )


def _tool_call(call: ToolCallPart, losses: OllamaLosses) -> OllamaToolCall:
    function = OllamaFunction(losses.tool_name(call), arguments=as_object(call, losses))
    return OllamaToolCall(call.id, function)


def _image(image: ImagePart) -> str:
    """Bare base64: neither Ollama nor the gateway fetches an address."""
    if not isinstance(image.source, InlineData):
        raise Unsupported("Ollama takes images as data, not as a URL or a file id.", param=str(image.at))
    return image.source.data


def _text(part: Part, members: dict[str, Any], losses: OllamaLosses) -> list[str]:
    """The part as text, without the members that are popped. Raises Unsupported for other parts."""
    match part:
        case TextPart():
            return [part.text]
        case RefusalPart():
            losses.lower(part.at, "a refusal is sent as plain text")
            return [part.text]
        case DocumentPart():
            return [document_text(_document(part), members, separator=_SEPARATOR)]
        case SearchResultPart():
            return [search_text(part, separator=_SEPARATOR)]
        case AudioPart():
            raise Unsupported("Ollama takes no audio.", param=str(part.at))
        case ForeignPart():
            raise Unsupported(f"Ollama has no {part.type!r}.", param=str(part.at))
        case ImagePart() | ReasoningPart() | ToolCallPart() | ToolResultPart() | ToolReferencePart():
            raise Unsupported(f"Ollama takes no {type(part).__name__} in this place.", param=str(part.at))
        case _:
            return losses.drop_unknown(part)


def _document(document: DocumentPart) -> str:
    match document.source:
        case PlainText(text):
            return text
        case InlineData(media_type) as source if media_type.startswith("text/"):
            return decode_text(source, document.at)
        case InlineData() | UrlReference() | FileReference():
            raise Unsupported("Ollama reads documents as plain text only.", param=str(document.at))
