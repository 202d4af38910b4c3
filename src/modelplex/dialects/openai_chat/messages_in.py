"""Reads `messages` of a chat completions request: roles, content parts, tool calls, results and
earlier reasoning, in the order in which a model makes them
(docs/reference/wire-formats.md#chat-completions and #openai-compatible-servers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    COMMON_NAMES,
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
    Place,
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
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.media import media_type_of
from modelplex.dialects.core.members import decode_each, decode_open
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.openai_chat.passthrough import GEMINI, google_signature

DIALECT = "openai_chat"

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}
_TEXT = COMMON_NAMES | {"annotations": "/annotations"}
_IMAGE = COMMON_NAMES | {"detail": "image_url.detail"}
_FILE = COMMON_NAMES | {"filename": "file.filename"}
_STATE = {"state": "extra_content.google.thought_signature"}
_FUNCTION = COMMON_NAMES | _STATE | {"name": "function.name", "arguments": "function.arguments"}
_CUSTOM = COMMON_NAMES | _STATE | {"name": "custom.name", "arguments": "custom.input"}
_SIGNED = {"state": "signature"}
_ENCRYPTED = {"state": "data"}
_ALONE = {"state": ""}
"""What the members of a part are called here, for Place."""
MAX_DATA_HEAD = 1_024
"""Characters of a data: URL before its data: a media type of at most 255 (RFC 4288) and a few
parameters.
"""


class ChatCacheControl(msgspec.Struct, gc=False):
    type: str = "ephemeral"
    ttl: str | None = None


class _CacheControl(ChatCacheControl, forbid_unknown_fields=True):
    mode: str | None = None


class _ImageUrl(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    url: str
    detail: str | None = None


class _InputAudio(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    data: str
    format: str


class _File(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class _Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | _ImageUrl | None = None
    input_audio: _InputAudio | None = None
    file: _File | None = None
    cache_control: _CacheControl | None = None
    prompt_cache_breakpoint: _CacheControl | None = None


class _Function(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: str | None = None


class _Custom(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    input: str = ""


class _ToolCall(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: str | None = None
    type: str | None = None
    index: int | None = None  # of a stream's chunk; clients that join chunks keep it
    function: _Function | None = None
    custom: _Custom | None = None
    extra_content: Any = None
    cache_control: _CacheControl | None = None


class _Detail(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str = "reasoning.text"
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None
    id: str | None = None
    index: int | None = None


class _AudioId(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: str


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str | list[msgspec.Raw] | None = None
    name: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    audio: _AudioId | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[_Detail] | None = None
    annotations: msgspec.Raw = ABSENT
    extra_content: msgspec.Raw = ABSENT


def read_cache(
    control: ChatCacheControl | None, breakpoint_: ChatCacheControl | None
) -> CacheBreakpoint | None:
    if breakpoint_ is not None:
        return CacheBreakpoint(breakpoint_.ttl)
    return None if control is None else CacheBreakpoint(control.ttl)


# --- messages -------------------------------------------------------------------------------------


def read_messages(raw: msgspec.Raw) -> tuple[Message, ...]:
    messages: list[Message] = []
    last_call: dict[str, str] = {}
    """Of the old form, which has no ids: the id that was made for the latest call of each function.
    """
    for n, (message, extra) in enumerate(decode_each(raw, _Message, path="messages")):
        path = f"messages[{n}]"
        if message.role in {"tool", "function"}:
            result = _read_result(message, extra, last_call, path=path)
            messages.append(Message("tool", (result,), path=path))
            continue
        role = _ROLES.get(message.role)
        if role is None:
            raise BadRequest(f"'{path}.role' is {message.role!r}, which is no role.", param=f"{path}.role")
        parts = _read_content(message, path)
        if role == "assistant":
            if message.function_call is not None:
                last_call[message.function_call.name] = f"call_{n}"
            parts = _read_assistant(message, parts, number=n, path=path)
        rest = extra
        if is_given(message.extra_content) and not _signature(message):
            rest = {**extra, "extra_content": message.extra_content}
        messages.append(Message(role, tuple(parts), name=message.name, path=path, extra=rest))
    return tuple(joined_results(messages))


def _read_result(
    message: _Message, extra: Mapping[str, msgspec.Raw], last_call: dict[str, str], *, path: str
) -> ToolResultPart:
    id_ = message.tool_call_id
    if message.role == "function":
        if message.name is None or message.name not in last_call:
            raise BadRequest(f"'{path}.name' names no function that was called before.", param=f"{path}.name")
        id_ = last_call[message.name]
    if id_ is None:
        raise BadRequest(f"'{path}.tool_call_id' is missing.", param=f"{path}.tool_call_id")
    parts = tuple(_read_content(message, path))
    return ToolResultPart(id_, parts, name=message.name, at=Place(path), extra=extra)


def _read_assistant(message: _Message, parts: list[Part], *, number: int, path: str) -> list[Part]:
    """The parts in the order in which a model makes them: thinking, text, refusal, calls."""
    if is_given(message.annotations) and parts and isinstance(parts[0], TextPart):
        parts[0] = msgspec.structs.replace(parts[0], annotations=message.annotations, annotations_of=DIALECT)
    whole: list[Part] = [*_read_thinking(message, path), *parts]
    if signature := _signature(message):
        at = Place(path, f".{_STATE['state']}", members=_ALONE)
        whole.insert(0, ReasoningPart("", _opaque_state(GEMINI, signature, None), redacted=True, at=at))
    if message.refusal:
        whole.append(RefusalPart(message.refusal, at=Place(path, ".refusal")))
    if message.audio is not None:
        whole.append(AudioPart("", "", id=message.audio.id, at=Place(path, ".audio")))
    for n, call in enumerate(message.tool_calls or ()):
        whole.append(_read_tool_call(call, path, n))
    if message.function_call is not None:
        old = message.function_call
        at = Place(path, ".function_call")
        whole.append(ToolCallPart(f"call_{number}", old.name, _arguments(old.arguments), at=at))
    return whole


def _signature(message: _Message) -> str | None:
    extra = message.extra_content
    return google_signature(msgspec.json.decode(extra)) if is_given(extra) else None


def _arguments(text: str | None) -> str:
    return text if text and text.strip() else "{}"


def _read_tool_call(raw: msgspec.Raw, path: str, n: int) -> ToolCallPart:
    place = Place(path, ".tool_calls", n, _FUNCTION)
    call, extra = decode_open(raw, _ToolCall, path=place)
    if call.id is None:
        raise BadRequest(f"'{place}.id' is missing.", param=f"{place}.id")
    cache = read_cache(call.cache_control, None)
    if call.custom is not None:
        place = Place(path, ".tool_calls", n, _CUSTOM)
        custom = call.custom
        return ToolCallPart(call.id, custom.name, custom.input, free=True, cache=cache, at=place, extra=extra)
    if call.function is None:
        raise BadRequest(f"'{place}.function' is missing.", param=f"{place}.function")
    signature = google_signature(call.extra_content) if call.extra_content is not None else None
    return ToolCallPart(
        call.id,
        call.function.name,
        _arguments(call.function.arguments),
        cache=cache,
        state=_opaque_state(GEMINI, signature, None) if signature else None,
        at=place,
        extra=extra,
    )


def _opaque_state(format_: str | None, data: str, id_: str | None) -> OpaqueState:
    """State in an envelope of the gateway has its origin; of other state it is not known."""
    return unwrap(data) or OpaqueState(format_ or "unknown", data, id=id_)


def _read_thinking(message: _Message, path: str) -> list[ReasoningPart]:
    """`reasoning_details` is authoritative, else `reasoning_content`, else `reasoning`
    (docs/reference/translation.md#reasoning-and-opaque-state).
    """
    if not message.reasoning_details:
        text = message.reasoning_content or message.reasoning
        if not text:
            return []
        member = ".reasoning_content" if message.reasoning_content else ".reasoning"
        return [ReasoningPart(text, at=Place(path, member))]
    pieces: list[list[_Detail]] = []
    places: list[int] = []
    for n, detail in enumerate(message.reasoning_details):
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
            places.append(n)
    return [
        thinking
        for n, run in zip(places, pieces, strict=True)
        if (thinking := _thinking(_joined(run), path, n)) is not None
    ]


def _joined(pieces: list[_Detail]) -> _Detail:
    """One detail from its pieces: the last signature, the first format and id."""
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
    given = [piece for piece in pieces if piece is not None]
    return "".join(given) if given else None


def _thinking(detail: _Detail, path: str, n: int) -> ReasoningPart | None:
    secret = detail.signature or detail.data
    state = _opaque_state(detail.format, secret, detail.id) if secret else None
    at = Place(path, ".reasoning_details", n, _SIGNED if detail.signature else _ENCRYPTED)
    if detail.type == "reasoning.summary" or (detail.summary and not detail.text):
        return ReasoningPart(detail.summary or "", state, summary=True, at=at)
    if detail.text:
        return ReasoningPart(detail.text, state, at=at)
    if state is None:
        return None
    # A signature without text belongs to thinking that the provider did not show; encrypted data
    # has never had any.
    return ReasoningPart("", state, redacted=detail.type == "reasoning.encrypted", at=at)


# --- content --------------------------------------------------------------------------------------


def _read_content(message: _Message, path: str) -> list[Part]:
    content = message.content
    if content is None:
        return []
    if isinstance(content, str):
        # An assistant's "" beside its calls says nothing.
        if not content and (message.tool_calls or message.function_call):
            return []
        return [TextPart(content, at=Place(path, ".content", -1, _TEXT))]
    return [_read_part(raw, path, n) for n, raw in enumerate(content)]


def _read_part(raw: msgspec.Raw, path: str, n: int) -> Part:
    part, extra = decode_open(raw, _Part, path=Place(path, ".content", n))
    read = _PARTS.get(part.type)
    if read is None:
        return ForeignPart(DIALECT, part.type, raw, at=Place(path, ".content", n))
    return read(part, path, n, extra)


def _read_text(part: _Part, path: str, n: int, extra: Mapping[str, msgspec.Raw]) -> Part:
    cache, names = _read_cache(part, _TEXT)
    place = Place(path, ".content", n, names)
    if part.text is None:
        raise BadRequest(f"'{place}.text' is missing.", param=f"{place}.text")
    return TextPart(part.text, cache, at=place, extra=extra)


def _read_refusal(part: _Part, path: str, n: int, extra: Mapping[str, msgspec.Raw]) -> Part:
    return RefusalPart(part.refusal or "", at=Place(path, ".content", n), extra=extra)


def _read_image(part: _Part, path: str, n: int, extra: Mapping[str, msgspec.Raw]) -> Part:
    cache, names = _read_cache(part, _IMAGE)
    place = Place(path, ".content", n, names)
    where = f"{place}.image_url"
    image = part.image_url
    if image is None:
        raise BadRequest(f"'{where}' is missing.", param=where)
    if isinstance(image, str):  # not the documented form, but one that clients use
        image = _ImageUrl(image)
    url = read_url(image.url, path=where)
    return ImagePart(url, detail=image.detail, cache=cache, at=place, extra=extra)


def _read_audio(part: _Part, path: str, n: int, extra: Mapping[str, msgspec.Raw]) -> Part:
    place = Place(path, ".content", n)
    audio = part.input_audio
    if audio is None:
        raise BadRequest(f"'{place}.input_audio' is missing.", param=f"{place}.input_audio")
    return AudioPart(audio.data, audio.format, at=place, extra=extra)


def _read_file(part: _Part, path: str, n: int, extra: Mapping[str, msgspec.Raw]) -> Part:
    cache, names = _read_cache(part, _FILE)
    place = Place(path, ".content", n, names)
    file = part.file or _File()
    source: Source
    if file.file_id is not None:
        source = FileReference(file.file_id)
    elif file.file_data is None:
        raise BadRequest(f"'{place}.file' has neither `file_data` nor `file_id`.", param=f"{place}.file")
    else:
        source = read_file(file.file_data, file.filename, path=f"{place}.file.file_data")
    return DocumentPart(source, filename=file.filename, cache=cache, at=place, extra=extra)


def _read_cache(part: _Part, names: Mapping[str, str]) -> tuple[CacheBreakpoint | None, Mapping[str, str]]:
    """The cache breakpoint, and the names with that of the member that has it."""
    if part.prompt_cache_breakpoint is not None:
        names = {**names, "cache": "prompt_cache_breakpoint"}
    return read_cache(part.cache_control, part.prompt_cache_breakpoint), names


_PARTS: dict[str, Callable[[_Part, str, int, Mapping[str, msgspec.Raw]], Part]] = {
    "text": _read_text,
    "refusal": _read_refusal,
    "image_url": _read_image,
    "input_audio": _read_audio,
    "file": _read_file,
}


_SCHEMES = ("data:", "http://", "https://")


def is_url(text: str) -> bool:
    """Whether a text is one of the URLs that `read_url` reads, and not bytes in base64."""
    return text[:8].lower().startswith(_SCHEMES)


def read_file(data: str, filename: str | None, *, path: str) -> InlineData | UrlReference:
    """A file by its address, as a `data:` URL, or as bare base64, which is a PDF where neither its
    name nor its bytes tell something else.
    """
    if not is_url(data):
        kind = media_type_of("", data, filename=filename)
        return InlineData("application/pdf" if kind == "application/octet-stream" else kind, data)
    source = read_url(data, path=path)
    if isinstance(source, UrlReference):
        return source
    return InlineData(media_type_of(source.media_type, source.data, filename=filename), source.data)


def read_url(url: str, *, path: str) -> InlineData | UrlReference:
    """An address, or the bytes that a `data:` URL holds (RFC 2397). Scheme, type and `base64` are
    of either case.
    """
    if url[:8].lower().startswith(_SCHEMES[1:]):
        return UrlReference(url)
    comma = url.find(",", 0, MAX_DATA_HEAD)
    head, data = url[: max(0, comma)], url[comma + 1 :]
    if head[:5].lower() != "data:":
        raise BadRequest(f"'{path}' must be an http, https or data URL.", param=path)
    media_type, *options = head[5:].lower().split(";")
    media_type = media_type or "text/plain"
    if "base64" in options:
        return InlineData(media_type_of(media_type, data), data)
    from base64 import b64encode
    from urllib.parse import unquote_to_bytes

    return InlineData(media_type, b64encode(unquote_to_bytes(data)).decode("ascii"))
