"""The conversation, in Ollama's messages: what `ollama.request_out` puts into /api/chat as
`messages`.

Below it the vocabulary. What cannot be said is refused by its path or named as a loss.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from modelplex.core.errors import (
    BadRequest,
    Unsupported,
)
from modelplex.core.request import (
    AudioPart,
    Change,
    DocumentPart,
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
    ToolResultPart,
)
from modelplex.dialects.core.surrogates import mended_text
from modelplex.dialects.core.tool_names import ToolAliases


class OllamaFunction(msgspec.Struct, omit_defaults=True):
    name: str
    description: str = ""
    parameters: msgspec.Raw | None = None
    arguments: msgspec.Raw | None = None


class OllamaToolCall(msgspec.Struct):
    id: str
    function: OllamaFunction


class OllamaMessage(msgspec.Struct, omit_defaults=True):
    role: str
    content: str | None = None
    thinking: str = ""
    images: tuple[str, ...] = ()
    tool_calls: tuple[OllamaToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


_ERROR_PREFIX = "[tool error] "


class OllamaLosses:
    """Adds what the messages lose to the changes in `found`."""

    def __init__(self, found: list[Change], *, native: bool = False) -> None:
        self.found = found
        self.names = ToolAliases(found, native=native)

    def drop(self, path: str, reason: str) -> None:
        self.found.append(Change("drop", path, reason))

    def lower(self, path: str, reason: str) -> None:
        self.found.append(Change("lower", path, reason))

    def clamp(self, path: str, reason: str) -> None:
        self.found.append(Change("clamp", path, reason))


def turns(messages: Sequence[Message], losses: OllamaLosses) -> Iterator[OllamaMessage]:
    """Each message as Ollama's. `open_calls` are the calls of the last assistant turn that still
    want a result.
    """
    open_calls: dict[str, str] = {}
    order: dict[str, int] = {}
    for message in messages:
        if message.name is not None:
            losses.drop(f"{message.path}.name", "Ollama's messages have no name")
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        for result in sorted(results, key=lambda result: order.get(result.id, 0)):
            if result.id not in open_calls:
                raise BadRequest(
                    f"The result for call {result.id!r} follows no such call.", param=message.path
                )
            yield _result(result, name=open_calls.pop(result.id), path=message.path, losses=losses)
        rest = [
            (index, part) for index, part in enumerate(message.parts) if not isinstance(part, ToolResultPart)
        ]
        if not rest and (results or message.role == "tool"):
            continue
        if message.role in {"user", "assistant"}:
            _refuse_unanswered(open_calls, path=message.path)
        turn = _turn(message, rest, losses)
        if turn.tool_calls:
            open_calls = {made.id: made.function.name for made in turn.tool_calls}
            order = {id_: n for n, id_ in enumerate(open_calls)}
        yield turn
    _refuse_unanswered(open_calls, path=messages[-1].path if messages else "messages")


def _refuse_unanswered(open_calls: Mapping[str, str], *, path: str) -> None:
    if open_calls:
        ids = ", ".join(open_calls)
        raise BadRequest(
            f"Every tool call needs a result before the dialogue goes on; missing: {ids}.", param=path
        )


def _turn(message: Message, parts: Sequence[tuple[int, Part]], losses: OllamaLosses) -> OllamaMessage:
    texts: list[str] = []
    thinking: list[str] = []
    images: list[str] = []
    calls: list[OllamaToolCall] = []
    for index, part in parts:
        path = f"{message.path}.content[{index}]"
        match part:
            case ReasoningPart():
                if part.text:
                    thinking.append(part.text)
                if part.state is not None or part.redacted:
                    losses.drop(path, "sealed reasoning is of use to its maker only")
            case ToolCallPart():
                calls.append(_made_call(part, path=f"{message.path}.tool_calls[{len(calls)}]", losses=losses))
            case ImagePart():
                images.append(_image(part, path=path, losses=losses))
            case _:
                texts.append(_text(part, path=path, losses=losses))
    return OllamaMessage(
        role="system" if message.role == "developer" else message.role,
        content="\n\n".join(texts),
        thinking="\n\n".join(thinking),
        images=tuple(images),
        tool_calls=tuple(calls),
    )


def _result(result: ToolResultPart, *, name: str, path: str, losses: OllamaLosses) -> OllamaMessage:
    for member in result.extra:
        losses.drop(f"{path}.{member}", "Ollama's results have no such field")
    if result.cache is not None:
        losses.drop(path, "cache breakpoint: Ollama caches prefixes by itself")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(result.parts):
        inside = f"{path}.content[{index}]"
        if isinstance(part, ImagePart):
            images.append(_image(part, path=inside, losses=losses))
        else:
            texts.append(_text(part, path=inside, losses=losses))
    return OllamaMessage(
        role="tool",
        content=(_ERROR_PREFIX if result.is_error else "") + "\n\n".join(texts),
        images=tuple(images),
        tool_name=name,
        tool_call_id=result.id,
    )


def _made_call(call: ToolCallPart, *, path: str, losses: OllamaLosses) -> OllamaToolCall:
    for member in call.extra:
        losses.drop(f"{path}.{member}", "Ollama's calls have no such field")
    name = losses.names.sent(call.name, path=f"{path}.name")
    if call.state is not None:
        losses.drop(path, "sealed reasoning is of use to its maker only")
    if call.cache is not None:
        losses.drop(path, "cache breakpoint: Ollama caches prefixes by itself")
    if call.free:
        arguments = msgspec.json.encode({"input": call.arguments})
    else:
        arguments = _object(call.arguments, path=path, losses=losses)
    return OllamaToolCall(call.id, OllamaFunction(name, arguments=msgspec.Raw(arguments)))


def _object(arguments: str, *, path: str, losses: OllamaLosses) -> bytes:
    """The arguments as a JSON object, their bytes untouched where they are one."""
    text = mended_text(arguments).strip() or "{}"
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        losses.lower(path, "arguments that are no JSON object are sent as {`_raw`: text}")
        return msgspec.json.encode({"_raw": arguments})
    return text.encode()


def _image(image: ImagePart, *, path: str, losses: OllamaLosses) -> str:
    """Bare base64. Ollama fetches nothing, and neither do we without being told to."""
    if image.detail not in {None, "auto"}:
        losses.drop(f"{path}.detail", "Ollama has no such field")
    if image.cache is not None:
        losses.drop(path, "cache breakpoint: Ollama caches prefixes by itself")
    if not isinstance(image.source, InlineData):
        raise Unsupported("Ollama takes images as data, not as a URL or a file id.", param=path)
    return image.source.data


def _text(part: Part, *, path: str, losses: OllamaLosses) -> str:
    """What can be said in words; the rest is refused by its path."""
    if isinstance(part, TextPart | DocumentPart | SearchResultPart) and part.cache is not None:
        losses.drop(path, "cache breakpoint: Ollama caches prefixes by itself")
    if isinstance(part, DocumentPart | SearchResultPart) and part.citations:
        losses.drop(f"{path}.citations", "Ollama cites nothing")
    match part:
        case TextPart():
            if part.annotations is not None:
                losses.drop(f"{path}.annotations", "Ollama's texts carry none")
            return part.text
        case RefusalPart():
            losses.lower(path, "a refusal is sent as plain text")
            return part.text
        case DocumentPart():
            head = (part.title or part.filename, part.context)
            return "\n\n".join(text for text in (*head, _document(part, path=path)) if text)
        case SearchResultPart():
            return "\n\n".join((f"{part.title}\n{part.source}", *part.texts))
        case AudioPart():
            raise Unsupported("Ollama takes no audio.", param=path)
        case ForeignPart():
            raise Unsupported(f"Ollama has no {part.type!r}.", param=path)
        case ImagePart() | ReasoningPart() | ToolCallPart() | ToolResultPart():
            raise Unsupported(f"Ollama takes no {type(part).__name__} in this place.", param=path)


def _document(document: DocumentPart, *, path: str) -> str:
    match document.source:
        case PlainText(text):
            return text
        case InlineData(media_type, data) if media_type.startswith("text/"):
            try:
                return base64.b64decode(data, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError) as error:
                raise BadRequest(f"The document is not base64 of UTF-8 text: {error}", param=path) from None
        case _:
            raise Unsupported("Ollama reads documents as plain text only.", param=path)
