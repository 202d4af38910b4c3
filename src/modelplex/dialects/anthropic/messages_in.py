"""Reads `system` and `messages` of a Messages request: roles, content blocks, results and earlier
thinking, in their order (docs/reference/wire-formats.md#messages).

Blocks that only this dialect has stay unread. Opaque state of another provider comes in an
envelope; a signature without one is Anthropic's, and its account is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    COMMON_NAMES,
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
    PlainText,
    ReasoningPart,
    SearchResultPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolReferencePart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.anthropic.messages_out import DIALECT, STATE_FORMAT
from modelplex.dialects.anthropic.tool_call_ids import given_id
from modelplex.dialects.core.envelope import MARK, unwrap
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.media import media_type_of
from modelplex.dialects.core.members import decode_each, decode_member, decode_open

SUMMARIES = frozenset({"openai-responses-v1"})
"""Formats of opaque state whose text is a summary, which this dialect does not mark as one."""

_TEXT = COMMON_NAMES | {"annotations": "citations"}
_SIGNED = {"state": "signature"}
_REDACTED = {"state": "data"}
_TOOL_USE = COMMON_NAMES | {"arguments": "input"}
"""What the members of a part are called here, for Place."""


class AnthropicCacheControl(msgspec.Struct, gc=False):
    type: str = "ephemeral"
    ttl: str | None = None


class _CacheControl(AnthropicCacheControl, forbid_unknown_fields=True):
    pass


class _Block(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A block of any kind, with the members of all kinds."""

    type: str
    text: str | None = None
    cache_control: _CacheControl | None = None
    citations: msgspec.Raw = ABSENT
    source: msgspec.Raw = ABSENT
    title: str | None = None
    context: str | None = None
    content: msgspec.Raw = ABSENT
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = ABSENT
    tool_use_id: str | None = None
    tool_name: str | None = None
    is_error: bool | None = None
    caller: msgspec.Raw = ABSENT
    toolset_name: msgspec.Raw = ABSENT


class _Source(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: msgspec.Raw = ABSENT


class _ResultText(msgspec.Struct, gc=False):
    text: str | None = None


class _Citations(msgspec.Struct, gc=False):
    enabled: bool = False


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str | list[msgspec.Raw] | None = None


def read_cache(control: AnthropicCacheControl | None) -> CacheBreakpoint | None:
    return None if control is None else CacheBreakpoint(control.ttl)


# --- turns ----------------------------------------------------------------------------------------


def read_system(raw: msgspec.Raw | None) -> tuple[Message, ...]:
    """`system`: a string, or text blocks. An empty one says nothing."""
    if raw is None:
        return ()
    parts = _content(_decode_content(raw, "system"), Place("system"))
    for part in parts:
        if not isinstance(part, TextPart):
            raise BadRequest(f"'{part.at}' is no text block.", param=str(part.at))
    return (Message("system", parts, path="system"),) if parts else ()


def read_messages(raw: msgspec.Raw) -> tuple[Message, ...]:
    """`messages`. The results in a user's message become a message of their own before the rest of
    it, where they must stand anyway.
    """
    messages: list[Message] = []
    for n, (message, extra) in enumerate(decode_each(raw, _Message, path="messages")):
        path = f"messages[{n}]"
        if message.content is None:
            raise BadRequest(f"'{path}.content' is missing.", param=f"{path}.content")
        parts = _content(message.content, Place(path, ".content"))
        match message.role:
            case "user":
                messages += _user(parts, extra, path=path)
            case "assistant":
                messages.append(Message("assistant", _with_signatures(parts), path=path, extra=extra))
            case "system":
                messages.append(Message("system", parts, path=path, extra=extra))
            case role:
                raise BadRequest(
                    f"'{path}.role' is {role!r}: it must be user, assistant or system.", param=f"{path}.role"
                )
    if not messages:
        raise BadRequest("'messages' is empty: at least one message is needed.", param="messages")
    return tuple(messages)


def _user(parts: tuple[Part, ...], extra: Mapping[str, msgspec.Raw], *, path: str) -> list[Message]:
    results = tuple(part for part in parts if isinstance(part, ToolResultPart))
    if not results:
        return [Message("user", parts, path=path, extra=extra)]
    rest = tuple(part for part in parts if not isinstance(part, ToolResultPart))
    after = [Message("user", rest, path=path)] if rest else []
    return [Message("tool", results, path=path, extra=extra), *after]


def _with_signatures(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The turn with each signature back on the call that it was taken from, which its block names
    (see `response_out`).
    """
    if not any(isinstance(part, ReasoningPart) and part.redacted for part in parts):
        return parts
    calls = {part.id for part in parts if isinstance(part, ToolCallPart)}
    states: dict[str, OpaqueState] = {}
    kept: list[Part] = []
    for part in parts:
        state = part.state if isinstance(part, ReasoningPart) and part.redacted else None
        if state is not None and state.id in calls and state.format != STATE_FORMAT:
            states[state.id or ""] = msgspec.structs.replace(state, id=None)
        else:
            kept.append(part)
    if not states:
        return parts
    return tuple(
        msgspec.structs.replace(part, state=states.get(part.id)) if isinstance(part, ToolCallPart) else part
        for part in kept
    )


# --- blocks ---------------------------------------------------------------------------------------


def _decode_content(raw: msgspec.Raw, path: str) -> str | list[msgspec.Raw]:
    if bytes(raw).startswith(b'"'):
        return decode_member(raw, str, path=path)
    return decode_member(raw, list[msgspec.Raw], path=path)


def _content(content: str | list[msgspec.Raw], place: Place) -> tuple[Part, ...]:
    """The parts of a string or of blocks, which stand at `place`."""
    if isinstance(content, str):
        return (TextPart(content, at=place),) if content else ()
    parent, step = place.parent, place.step
    return tuple(_block(block, Place(parent, step, n)) for n, block in enumerate(content))


def _block(raw: msgspec.Raw, place: Place) -> Part:
    block, extra = decode_open(raw, _Block, path=place)
    read = _BLOCKS.get(block.type)
    part = read(block, place, extra) if read is not None else None
    return ForeignPart(DIALECT, block.type, raw, at=place) if part is None else part


def _needed(value: str | None, place: Place, member: str) -> str:
    if value is None:
        raise BadRequest(f"'{place}.{member}' is missing.", param=f"{place}.{member}")
    return value


def _named(place: Place, names: Mapping[str, str]) -> Place:
    return Place(place.parent, place.step, place.index, names)


def _text(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    text = _needed(block.text, place, "text")
    cache = read_cache(block.cache_control)
    if not is_given(block.citations):
        return TextPart(text, cache, at=place, extra=extra)
    return TextPart(text, cache, block.citations, DIALECT, at=_named(place, _TEXT), extra=extra)


def _thinking(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    text = _needed(block.thinking, place, "thinking")
    state = _opaque_state(block.signature or "")
    is_summary = state is not None and state.format in SUMMARIES
    return ReasoningPart(text, state, summary=is_summary, at=_named(place, _SIGNED), extra=extra)


def _redacted(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    state = _opaque_state(_needed(block.data, place, "data"))
    return ReasoningPart("", state, redacted=True, at=_named(place, _REDACTED), extra=extra)


def _opaque_state(text: str) -> OpaqueState | None:
    """State of another provider from its envelope, or Anthropic's; None for a damaged envelope."""
    if not text.startswith(MARK):
        return OpaqueState(STATE_FORMAT, text) if text else None
    state = unwrap(text)
    return state if state is not None and state.data else None


def _tool_use(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    input_ = block.input if is_given(block.input) else msgspec.Raw(b"{}")
    if not bytes(input_).startswith(b"{"):
        decode_member(input_, dict[str, msgspec.Raw], path=f"{place}.input")
    return ToolCallPart(
        given_id(_needed(block.id, place, "id")),
        _needed(block.name, place, "name"),
        bytes(input_).decode(),
        cache=read_cache(block.cache_control),
        at=_named(place, _TOOL_USE),
        extra=_with_own(block, extra),
    )


def _with_own(block: _Block, extra: Mapping[str, msgspec.Raw]) -> Mapping[str, msgspec.Raw]:
    """The unread members with those that only this dialect's calls and results have."""
    for name, value in (("caller", block.caller), ("toolset_name", block.toolset_name)):
        if is_given(value):
            extra = {**extra, name: value}
    return extra


def _tool_result(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    content = block.content
    inside = Place(place, ".content")
    parts = _content(_decode_content(content, str(inside)), inside) if is_given(content) else ()
    for part in parts:
        if isinstance(part, ToolCallPart | ToolResultPart | ReasoningPart):
            raise BadRequest(f"'{part.at}' cannot be part of a tool's result.", param=str(part.at))
    return ToolResultPart(
        given_id(_needed(block.tool_use_id, place, "tool_use_id")),
        parts,
        is_error=block.is_error or False,
        cache=read_cache(block.cache_control),
        at=place,
        extra=_with_own(block, extra),
    )


def _tool_reference(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    name = _needed(block.tool_name, place, "tool_name")
    return ToolReferencePart(name, read_cache(block.cache_control), at=place, extra=extra)


def _search_result(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    source = decode_member(block.source, str, path=f"{place}.source") if is_given(block.source) else None
    texts = decode_member(block.content, list[_ResultText], path=f"{place}.content")
    return SearchResultPart(
        _needed(source, place, "source"),
        _needed(block.title, place, "title"),
        tuple(_needed(text.text, Place(place, ".content", n), "text") for n, text in enumerate(texts)),
        citations=_cites(block, place),
        cache=read_cache(block.cache_control),
        at=place,
        extra=extra,
    )


def _cites(block: _Block, place: Place) -> bool:
    if not is_given(block.citations):
        return False
    return decode_member(block.citations, _Citations, path=f"{place}.citations").enabled


def _image(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    source, extra = _source(block, place, extra)
    read = _read_source(source, f"{place}.source")
    return ImagePart(read, cache=read_cache(block.cache_control), at=place, extra=extra)


def _document(block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part | None:
    """None for one of blocks that are not all text: no other dialect has such a document."""
    source, extra = _source(block, place, extra)
    where = Place(place, ".source")
    read: Source | PlainText | None
    match source.type:
        case "text":
            read = PlainText(_needed(source.data, where, "data"))
        case "content":
            read = _as_text(source, Place(where, ".content"))
        case _:
            read = _read_source(source, str(where))
    if read is None:
        return None
    return DocumentPart(
        read,
        title=block.title,
        context=block.context,
        citations=_cites(block, place),
        cache=read_cache(block.cache_control),
        at=place,
        extra=extra,
    )


def _as_text(source: _Source, place: Place) -> PlainText | None:
    parts = _content(_decode_content(source.content, str(place)), place)
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return PlainText("\n\n".join(texts)) if len(texts) == len(parts) else None


def _source(
    block: _Block, place: Place, extra: Mapping[str, msgspec.Raw]
) -> tuple[_Source, Mapping[str, msgspec.Raw]]:
    """The source, and the block's unread members with those of the source."""
    if not is_given(block.source):
        raise BadRequest(f"'{place}.source' is missing.", param=f"{place}.source")
    source, rest = decode_open(block.source, _Source, path=Place(place, ".source"))
    return source, {**extra, **{f"source.{name}": raw for name, raw in rest.items()}} if rest else extra


def _read_source(source: _Source, path: str) -> Source:
    place = Place(path)
    match source.type:
        case "base64":
            media_type = _needed(source.media_type, place, "media_type")
            data = _needed(source.data, place, "data")
            return InlineData(media_type_of(media_type, data), data)
        case "url":
            url = _needed(source.url, place, "url")
            if not url[:8].lower().startswith(("http://", "https://")):
                raise BadRequest(f"'{path}.url' must be an http or https URL.", param=f"{path}.url")
            return UrlReference(url)
        case "file":
            return FileReference(_needed(source.file_id, place, "file_id"))
        case kind:
            raise BadRequest(f"'{path}.type' is {kind!r}, which is no source.", param=f"{path}.type")


_BLOCKS: dict[str, Callable[[_Block, Place, Mapping[str, msgspec.Raw]], Part | None]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "tool_reference": _tool_reference,
}
