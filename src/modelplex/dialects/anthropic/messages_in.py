"""The conversation of a Messages request, read into the vocabulary.

Above it stands `anthropic.request_in`; below it the vocabulary. Roles, content blocks, results and
thinking that is sent back (docs/reference/wire-formats.md#messages), in their order. Blocks that
only this dialect understands ride along unread. What was sealed for another provider is opened
here; a signature that is in no envelope is Anthropic's own, and which account made it is not known.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    CacheBreakpoint,
    DocumentPart,
    FileReference,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    Part,
    PlainText,
    ReasoningPart,
    SearchResultPart,
    Source,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.anthropic.messages_out import DIALECT, STATE_FORMAT
from modelplex.dialects.anthropic.tool_call_ids import given_id
from modelplex.dialects.core.envelope import MARK, unwrap
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import decode_member

SUMMARIES = frozenset({"openai-responses-v1"})
"""Seals whose readable text is a summary of the reasoning, which this dialect has no word for."""

_MESSAGE_MEMBERS = frozenset({"role", "content"})
_ABSENT = msgspec.Raw()


class AnthropicCacheControl(msgspec.Struct):
    type: str = "ephemeral"
    ttl: str | None = None


class _Block(msgspec.Struct):
    """Any block: the members of all kinds, as far as they are read. What a kind needs is asked for
    where it is read.
    """

    type: str
    text: str | None = None
    cache_control: AnthropicCacheControl | None = None
    citations: msgspec.Raw = _ABSENT
    source: msgspec.Raw = _ABSENT
    title: str | None = None
    context: str | None = None
    content: msgspec.Raw = _ABSENT
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = _ABSENT
    tool_use_id: str | None = None
    is_error: bool | None = None
    caller: msgspec.Raw = _ABSENT
    toolset_name: msgspec.Raw = _ABSENT


class _Source(msgspec.Struct):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: msgspec.Raw = _ABSENT


class _Citations(msgspec.Struct):
    enabled: bool = False


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = _ABSENT


def read_cache(control: AnthropicCacheControl | None) -> CacheBreakpoint | None:
    return None if control is None else CacheBreakpoint(control.ttl)


# --- turns ----------------------------------------------------------------------------------------


def read_system(raw: msgspec.Raw | None) -> tuple[Message, ...]:
    """`system`: a string, or text blocks. An empty one says nothing."""
    if raw is None:
        return ()
    parts = _content(raw, path="system")
    for n, part in enumerate(parts):
        if not isinstance(part, TextPart):
            raise BadRequest(f"'system[{n}]' is no text block.", param=f"system[{n}]")
    return (Message("system", parts, path="system"),) if parts else ()


def read_messages(raw: msgspec.Raw) -> tuple[Message, ...]:
    """`messages`. The results of a user's turn become a message of their own before what else the
    user says, where they must stand anyway.
    """
    given = decode_member(raw, list[_Message], path="messages")
    whole = decode_member(raw, list[dict[str, msgspec.Raw]], path="messages")
    if not given:
        raise BadRequest("'messages' is empty: at least one message is needed.", param="messages")
    messages: list[Message] = []
    for n, (message, members) in enumerate(zip(given, whole, strict=True)):
        path = f"messages[{n}]"
        extra = {name: value for name, value in members.items() if name not in _MESSAGE_MEMBERS}
        if not is_given(message.content):
            raise BadRequest(f"'{path}.content' is missing.", param=f"{path}.content")
        parts = _content(message.content, path=f"{path}.content")
        match message.role:
            case "user":
                messages += _user(parts, extra, path=path)
            case "assistant":
                messages.append(Message("assistant", _resealed(parts), path=path, extra=extra))
            case "system":
                messages.append(Message("system", parts, path=path, extra=extra))
            case role:
                raise BadRequest(
                    f"'{path}.role' is {role!r}: it must be user, assistant or system.", param=f"{path}.role"
                )
    return tuple(messages)


def _user(parts: tuple[Part, ...], extra: dict[str, msgspec.Raw], *, path: str) -> list[Message]:
    results = tuple(part for part in parts if isinstance(part, ToolResultPart))
    if not results:
        return [Message("user", parts, path=path, extra=extra)]
    rest = tuple(part for part in parts if not isinstance(part, ToolResultPart))
    said = [Message("user", rest, path=path)] if rest else []
    return [Message("tool", results, path=path, extra=extra), *said]


def _resealed(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The turn with each signature back on the call that it was taken from: its block names that
    call (see the answer's writer).
    """
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


def _content(raw: msgspec.Raw, *, path: str) -> tuple[Part, ...]:
    """A string, or blocks."""
    if bytes(raw).startswith(b'"'):
        text = decode_member(raw, str, path=path)
        return (TextPart(text),) if text else ()
    blocks = decode_member(raw, list[msgspec.Raw], path=path)
    return tuple(_block(block, f"{path}[{n}]") for n, block in enumerate(blocks))


def _block(raw: msgspec.Raw, path: str) -> Part:
    block = decode_member(raw, _Block, path=path)
    read = _BLOCKS.get(block.type)
    part = read(block, path) if read is not None else None
    return ForeignPart(DIALECT, block.type, raw) if part is None else part


def _needed(value: str | None, path: str) -> str:
    if value is None:
        raise BadRequest(f"'{path}' is missing.", param=path)
    return value


def _text(block: _Block, path: str) -> Part:
    cited = block.citations if is_given(block.citations) else None
    return TextPart(
        _needed(block.text, f"{path}.text"),
        read_cache(block.cache_control),
        annotations=cited,
        annotations_of=None if cited is None else DIALECT,
    )


def _thinking(block: _Block, path: str) -> Part:
    text = _needed(block.thinking, f"{path}.thinking")
    state = _opaque_state(block.signature or "")
    return ReasoningPart(text, state, summary=state is not None and state.format in SUMMARIES)


def _redacted(block: _Block, path: str) -> Part:
    return ReasoningPart("", _opaque_state(_needed(block.data, f"{path}.data")), redacted=True)


def _opaque_state(text: str) -> OpaqueState | None:
    """What is in an envelope is another provider's, or nobody's; a damaged envelope states
    nothing.
    """
    if not text.startswith(MARK):
        return OpaqueState(STATE_FORMAT, text) if text else None
    state = unwrap(text)
    return state if state is not None and state.data else None


def _tool_use(block: _Block, path: str) -> Part:
    input_ = block.input if is_given(block.input) else msgspec.Raw(b"{}")
    decode_member(input_, dict[str, msgspec.Raw], path=f"{path}.input")
    return ToolCallPart(
        given_id(_needed(block.id, f"{path}.id")),
        _needed(block.name, f"{path}.name"),
        bytes(input_).decode(),
        cache=read_cache(block.cache_control),
        extra=_own(block),
    )


def _own(block: _Block) -> dict[str, msgspec.Raw]:
    members = {"caller": block.caller, "toolset_name": block.toolset_name}
    return {name: value for name, value in members.items() if is_given(value)}


def _tool_result(block: _Block, path: str) -> Part:
    content = block.content
    parts = _content(content, path=f"{path}.content") if is_given(content) else ()
    for n, part in enumerate(parts):
        if isinstance(part, ToolCallPart | ToolResultPart | ReasoningPart):
            place = f"{path}.content[{n}]"
            raise BadRequest(f"'{place}' cannot be part of a tool's result.", param=place)
    return ToolResultPart(
        given_id(_needed(block.tool_use_id, f"{path}.tool_use_id")),
        parts,
        is_error=block.is_error or False,
        cache=read_cache(block.cache_control),
        extra=_own(block),
    )


def _search_result(block: _Block, path: str) -> Part:
    source = decode_member(block.source, str, path=f"{path}.source") if is_given(block.source) else None
    texts = decode_member(block.content, list[_Block], path=f"{path}.content")
    return SearchResultPart(
        _needed(source, f"{path}.source"),
        _needed(block.title, f"{path}.title"),
        tuple(_needed(text.text, f"{path}.content[{n}].text") for n, text in enumerate(texts)),
        citations=_cites(block, path),
        cache=read_cache(block.cache_control),
    )


def _cites(block: _Block, path: str) -> bool:
    if not is_given(block.citations):
        return False
    return decode_member(block.citations, _Citations, path=f"{path}.citations").enabled


def _image(block: _Block, path: str) -> Part:
    source = _source(block, path)
    return ImagePart(_place(source, f"{path}.source"), cache=read_cache(block.cache_control))


def _document(block: _Block, path: str) -> Part | None:
    """None where it is made of blocks that are not all text: no other dialect has such a
    document.
    """
    source = _source(block, path)
    place = f"{path}.source"
    read: Source | PlainText | None
    match source.type:
        case "text":
            read = PlainText(_needed(source.data, f"{place}.data"))
        case "content":
            read = _as_text(source, place)
        case _:
            read = _place(source, place)
    if read is None:
        return None
    return DocumentPart(
        read,
        title=block.title,
        context=block.context,
        citations=_cites(block, path),
        cache=read_cache(block.cache_control),
    )


def _as_text(source: _Source, path: str) -> PlainText | None:
    parts = _content(source.content, path=f"{path}.content")
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return PlainText("\n\n".join(texts)) if len(texts) == len(parts) else None


def _source(block: _Block, path: str) -> _Source:
    if not is_given(block.source):
        raise BadRequest(f"'{path}.source' is missing.", param=f"{path}.source")
    return decode_member(block.source, _Source, path=f"{path}.source")


def _place(source: _Source, path: str) -> Source:
    match source.type:
        case "base64":
            media_type = _needed(source.media_type, f"{path}.media_type")
            return InlineData(media_type, _needed(source.data, f"{path}.data"))
        case "url":
            url = _needed(source.url, f"{path}.url")
            if not url.startswith(("http://", "https://")):
                raise BadRequest(f"'{path}.url' must be an http or https URL.", param=f"{path}.url")
            return UrlReference(url)
        case "file":
            return FileReference(_needed(source.file_id, f"{path}.file_id"))
        case kind:
            raise BadRequest(f"'{path}.type' is {kind!r}, which is no source.", param=f"{path}.type")


_BLOCKS: dict[str, Callable[[_Block, str], Part | None]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}
