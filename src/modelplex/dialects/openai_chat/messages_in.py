"""The messages of a chat completions request, read into the vocabulary.

Above it stands _openai_chat_read; below it the vocabulary. Roles, content parts, tool calls and
their results, and reasoning that is sent back (docs/reference/wire-formats.md#chat-completions and
#openai-compatible-servers), in the order in which a model makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    AudioPart,
    CacheBreakpoint,
    DocumentPart,
    FileReference,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.envelope import unwrap
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import convert_member, decode_member
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.openai_chat.passthrough import GEMINI, google_signature

DIALECT = "openai_chat"

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}
_MESSAGE_MEMBERS = frozenset(
    "role content name tool_calls function_call tool_call_id refusal audio "
    "reasoning reasoning_content reasoning_details annotations".split()
)
MAX_DATA_HEAD = 1_024
"""Characters of a data: URL before its data: a media type of at most 255 (RFC 4288), and a few
parameters.
"""
DEFAULT_TTL = "30m"
"""How long a `prompt_cache_breakpoint` lives that does not say it. Being set, it tells such a
marker from a `cache_control`.
"""


class ChatCacheControl(msgspec.Struct):
    type: str = "ephemeral"
    ttl: str | None = None


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    cache_control: ChatCacheControl | None = None
    prompt_cache_breakpoint: ChatCacheControl | None = None


class _ImageUrl(msgspec.Struct):
    url: str
    detail: str | None = None


class _InputAudio(msgspec.Struct):
    data: str
    format: str


class _File(msgspec.Struct):
    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | None = None


class _Custom(msgspec.Struct):
    name: str
    input: str = ""


class _ToolCall(msgspec.Struct):
    id: str | None = None
    type: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None
    extra_content: Any = None
    cache_control: ChatCacheControl | None = None


class _Detail(msgspec.Struct):
    type: str = "reasoning.text"
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None
    id: str | None = None
    index: int | None = None


class _AudioId(msgspec.Struct):
    id: str


class _Message(msgspec.Struct):
    role: str
    content: str | list[msgspec.Raw] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    audio: _AudioId | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[_Detail] | None = None
    annotations: msgspec.Raw = msgspec.Raw()
    extra_content: Any = None


def read_cache(
    control: ChatCacheControl | None, breakpoint_: ChatCacheControl | None
) -> CacheBreakpoint | None:
    if breakpoint_ is not None:
        return CacheBreakpoint(breakpoint_.ttl or DEFAULT_TTL)
    return None if control is None else CacheBreakpoint(control.ttl)


# --- messages -------------------------------------------------------------------------------------


def read_messages(raw: msgspec.Raw) -> tuple[Message, ...]:
    given = decode_member(raw, list[_Message], path="messages")
    whole = decode_member(raw, list[dict[str, msgspec.Raw]], path="messages")
    messages: list[Message] = []
    last_call: dict[str, str] = {}
    """Of the old form, which has no ids: the id that was made for the latest call of each function.
    """
    for n, (message, members) in enumerate(zip(given, whole, strict=True)):
        path = f"messages[{n}]"
        if message.role in {"tool", "function"}:
            messages.append(Message("tool", (_read_result(message, last_call, path=path),), path=path))
            continue
        role = _ROLES.get(message.role)
        if role is None:
            raise BadRequest(f"'{path}.role' is {message.role!r}, which is no role.", param=f"{path}.role")
        extra = {name: value for name, value in members.items() if name not in _MESSAGE_MEMBERS}
        parts = _read_content(message, path=path)
        if role == "assistant":
            if google_signature(message.extra_content):
                del extra["extra_content"]  # state has its maker, and members ride along to anybody
            if message.function_call is not None:
                last_call[message.function_call.name] = f"call_{n}"
            parts = _read_assistant(message, parts, number=n, path=path)
        messages.append(Message(role, tuple(parts), name=message.name, path=path, extra=extra))
    return tuple(joined_results(messages))


def _read_result(message: _Message, last_call: dict[str, str], *, path: str) -> ToolResultPart:
    parts = tuple(_read_content(message, path=path))
    if message.role == "function":
        if message.name is None or message.name not in last_call:
            raise BadRequest(f"'{path}.name' names no function that was called before.", param=f"{path}.name")
        return ToolResultPart(last_call[message.name], parts, name=message.name)
    if message.tool_call_id is None:
        raise BadRequest(f"'{path}.tool_call_id' is missing.", param=f"{path}.tool_call_id")
    return ToolResultPart(message.tool_call_id, parts, name=message.name)


def _read_assistant(message: _Message, parts: list[Part], *, number: int, path: str) -> list[Part]:
    """The parts in the order in which a model makes them: thinking, text, refusal, calls."""
    if is_given(message.annotations) and parts and isinstance(parts[0], TextPart):
        parts[0] = msgspec.structs.replace(parts[0], annotations=message.annotations, annotations_of=DIALECT)
    whole: list[Part] = [*_read_thinking(message), *parts]
    signature = google_signature(message.extra_content)
    if signature:
        whole.insert(0, ReasoningPart("", _opaque_state(GEMINI, signature, None), redacted=True))
    if message.refusal:
        whole.append(RefusalPart(message.refusal))
    if message.audio is not None:
        whole.append(AudioPart("", "", id=message.audio.id))
    for n, call in enumerate(message.tool_calls or ()):
        whole.append(_read_tool_call(call, path=f"{path}.tool_calls[{n}]"))
    if message.function_call is not None:
        old = message.function_call
        whole.append(ToolCallPart(f"call_{number}", old.name, _arguments(old.arguments)))
    return whole


def _arguments(text: str | None) -> str:
    return text if text and text.strip() else "{}"


def _read_tool_call(call: _ToolCall, *, path: str) -> ToolCallPart:
    if call.id is None:
        raise BadRequest(f"'{path}.id' is missing.", param=f"{path}.id")
    cache = read_cache(call.cache_control, None)
    if call.custom is not None:
        return ToolCallPart(call.id, call.custom.name, call.custom.input, free=True, cache=cache)
    if call.function is None:
        raise BadRequest(f"'{path}.function' is missing.", param=f"{path}.function")
    signature = google_signature(call.extra_content)
    return ToolCallPart(
        call.id,
        call.function.name,
        _arguments(call.function.arguments),
        cache=cache,
        state=_opaque_state(GEMINI, signature, None) if signature else None,
    )


def _opaque_state(format_: str | None, data: str, id_: str | None) -> OpaqueState:
    """What was sealed here is opened; what comes from elsewhere keeps its secret, and its origin is
    not known.
    """
    return unwrap(data) or OpaqueState(format_ or "unknown", data, id=id_)


def _read_thinking(message: _Message) -> list[ReasoningPart]:
    """`reasoning_details` is authoritative, else `reasoning_content`, else `reasoning`
    (docs/reference/translation.md#reasoning-and-opaque-state).
    """
    if not message.reasoning_details:
        text = message.reasoning_content or message.reasoning
        return [ReasoningPart(text)] if text else []
    pieces: list[list[_Detail]] = []
    for detail in message.reasoning_details:
        # Clients that keep a stream's details send them back in pieces: the same index is the same
        # detail.
        last = pieces[-1][0] if pieces else None
        if (
            last is not None
            and detail.index is not None
            and (detail.index, detail.type) == (last.index, last.type)
        ):
            pieces[-1].append(detail)
        else:
            pieces.append([detail])
    return [thinking for run in pieces if (thinking := _thinking(_joined(run))) is not None]


def _joined(pieces: list[_Detail]) -> _Detail:
    """One detail of its pieces. Of a signature the last word counts, of a format and an id the
    first.
    """
    if len(pieces) == 1:
        return pieces[0]
    return _Detail(
        type=pieces[0].type,
        text=_text_of(piece.text for piece in pieces),
        summary=_text_of(piece.summary for piece in pieces),
        signature=next((piece.signature for piece in reversed(pieces) if piece.signature), None),
        data=_text_of(piece.data for piece in pieces),
        format=next((piece.format for piece in pieces if piece.format), None),
        id=next((piece.id for piece in pieces if piece.id), None),
        index=pieces[0].index,
    )


def _text_of(pieces: Iterable[str | None]) -> str | None:
    """The pieces as one text; None where there is none."""
    said = [piece for piece in pieces if piece is not None]
    return "".join(said) if said else None


def _thinking(detail: _Detail) -> ReasoningPart | None:
    secret = detail.signature or detail.data
    state = _opaque_state(detail.format, secret, detail.id) if secret else None
    if detail.type == "reasoning.summary" or (detail.summary and not detail.text):
        return ReasoningPart(detail.summary or "", state, summary=True)
    if detail.text:
        return ReasoningPart(detail.text, state)
    if state is None:
        return None
    # A signature without text belongs to thinking that the provider did not show; encrypted data
    # has never had any.
    return ReasoningPart("", state, redacted=detail.type == "reasoning.encrypted")


# --- content --------------------------------------------------------------------------------------


def _read_content(message: _Message, *, path: str) -> list[Part]:
    content = message.content
    if content is None:
        return []
    if isinstance(content, str):
        # An assistant's "" beside its calls says nothing.
        return [TextPart(content)] if content or not (message.tool_calls or message.function_call) else []
    return [_read_part(raw, path=f"{path}.content[{n}]") for n, raw in enumerate(content)]


def _read_part(raw: msgspec.Raw, *, path: str) -> Part:
    part = decode_member(raw, _Part, path=path)
    read = _PARTS.get(part.type)
    return ForeignPart(DIALECT, part.type, raw) if read is None else read(part, path)


def _read_text(part: _Part, path: str) -> Part:
    if part.text is None:
        raise BadRequest(f"'{path}.text' is missing.", param=f"{path}.text")
    return TextPart(part.text, read_cache(part.cache_control, part.prompt_cache_breakpoint))


def _read_refusal(part: _Part, path: str) -> Part:
    del path
    return RefusalPart(part.refusal or "")


def _read_image(part: _Part, path: str) -> Part:
    path = f"{path}.image_url"
    if isinstance(part.image_url, str):  # not the documented form, but one that clients use
        image = _ImageUrl(part.image_url)
    else:
        image = convert_member(part.image_url, _ImageUrl, path=path)
    cache = read_cache(part.cache_control, part.prompt_cache_breakpoint)
    return ImagePart(read_url(image.url, path=path), detail=image.detail, cache=cache)


def _read_audio(part: _Part, path: str) -> Part:
    audio = convert_member(part.input_audio, _InputAudio, path=f"{path}.input_audio")
    return AudioPart(audio.data, audio.format)


def _read_file(part: _Part, path: str) -> Part:
    file = convert_member(part.file, _File, path=f"{path}.file")
    cache = read_cache(part.cache_control, part.prompt_cache_breakpoint)
    source: Source
    if file.file_id is not None:
        source = FileReference(file.file_id)
    elif file.file_data is None:
        raise BadRequest(f"'{path}.file' has neither `file_data` nor `file_id`.", param=f"{path}.file")
    elif file.file_data.startswith(("data:", "http://", "https://")):
        source = read_url(file.file_data, path=f"{path}.file.file_data")
    else:
        source = InlineData("application/pdf", file.file_data)
    return DocumentPart(source, filename=file.filename, cache=cache)


_PARTS: dict[str, Callable[[_Part, str], Part]] = {
    "text": _read_text,
    "refusal": _read_refusal,
    "image_url": _read_image,
    "input_audio": _read_audio,
    "file": _read_file,
}


def read_url(url: str, *, path: str) -> InlineData | UrlReference:
    """An address, or the bytes that a `data:` URL holds (RFC 2397)."""
    if url.startswith(("http://", "https://")):
        return UrlReference(url)
    comma = url.find(",", 0, MAX_DATA_HEAD)
    head, data = url[: max(0, comma)], url[comma + 1 :]
    if not head.startswith("data:"):
        raise BadRequest(f"'{path}' must be an http, https or data URL.", param=path)
    media_type, *options = head[5:].split(";")
    media_type = media_type or "text/plain"
    if "base64" in options:
        return InlineData(media_type, data)
    from base64 import b64encode
    from urllib.parse import unquote_to_bytes

    return InlineData(media_type, b64encode(unquote_to_bytes(data)).decode("ascii"))
