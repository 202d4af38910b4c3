"""Reads `input` of a Responses request: a flat list of items, or one text.

Neighbouring items that a model makes (reasoning, messages, calls) become one message of the
assistant; neighbouring outputs become one message of tool results. Items that only this dialect has
stay unread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    COMMON_NAMES,
    NO_MEMBERS,
    AudioPart,
    CacheBreakpoint,
    DocumentPart,
    FileReference,
    ForeignPart,
    ImagePart,
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
)
from modelplex.dialects.core.envelope import unwrap
from modelplex.dialects.core.json import ABSENT, MALFORMED, is_given
from modelplex.dialects.core.members import convert_member, decode_member, decode_open
from modelplex.dialects.core.system_messages import SUMMED_UP
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.openai_chat.messages_in import ChatCacheControl, read_cache, read_file, read_url
from modelplex.dialects.openai_responses.constants import (
    COMPACTED,
    DIALECT,
    OF_CALL,
    STATE_FORMAT,
    SUMMARY,
)

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}
_CALLS = frozenset({"function_call", "custom_tool_call"})
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
_READ = _CALLS | _OUTPUTS | {"message", "reasoning", "compaction", "compaction_summary"}
"""Types of items that are read."""
_PART = COMMON_NAMES | {"cache": "prompt_cache_breakpoint"}
_CUSTOM_CALL = {"arguments": "input"}
_ENCRYPTED_STATE = {"state": "encrypted_content"}
"""What the members of a part are called here, for Place."""


class _Kind(msgspec.Struct, gc=False):
    type: str | None = None
    role: str | None = None
    id: str | None = None


class _ReasoningText(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str = ""
    type: str | None = None


class _Item(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An item of any type that is read, with the members of all of them."""

    type: str | None = None
    id: str | None = None
    status: str | None = None
    role: str | None = None
    content: str | list[msgspec.Raw] | None = None
    phase: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    namespace: str | None = None
    output: str | list[msgspec.Raw] | None = None
    summary: list[_ReasoningText] | None = None
    encrypted_content: str | None = None


class _CacheControl(ChatCacheControl, forbid_unknown_fields=True):
    mode: str | None = None


class _InputAudio(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    data: str
    format: str


class _Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: msgspec.Raw = ABSENT
    logprobs: msgspec.Raw = ABSENT
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: _InputAudio | None = None
    prompt_cache_breakpoint: _CacheControl | None = None


_decode_item = msgspec.json.Decoder(_Item).decode


def read_input(raw: msgspec.Raw) -> list[Message]:
    """The conversation. Raises BadRequest with `param` like "input[2].content[0].image_url"."""
    if bytes(raw).lstrip().startswith(b'"'):
        text = decode_member(raw, str, path="input")
        return [Message("user", (TextPart(text, at=Place("input")),), path="input")]
    reader = _InputReader()
    for n, item in enumerate(decode_member(raw, list[msgspec.Raw], path="input")):
        reader.read(item, path=f"input[{n}]")
    return reader.finish()


class _InputReader:
    """Reads item after item. What the model made is collected until another item follows."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._made: list[Part] = []
        self._has_text = self._has_calls = False
        """Of what was made so far."""
        self._start("")

    def _start(self, path: str) -> None:
        self._path = path
        self._id: str | None = None
        self._phase: str | None = None
        self._extra: dict[str, msgspec.Raw] = {}
        self._places: dict[str, str] = {}
        self._has_text = self._has_calls = False

    def finish(self) -> list[Message]:
        self._flush()
        return list(joined_results(self._messages))

    def read(self, raw: msgspec.Raw, *, path: str) -> None:
        item, extra = _decode(raw, path)
        type_ = item.type or ("message" if item.role is not None else "item_reference")
        match type_:
            case "message":
                self._read_message(item, extra, path=path)
            case "function_call" | "custom_tool_call":
                self._make(_read_call(item, extra, free=type_ == "custom_tool_call", path=path), path=path)
            case "function_call_output" | "custom_tool_call_output":
                free = type_ == "custom_tool_call_output"
                self._flush()
                self._messages.append(
                    Message("tool", (_read_output(item, extra, free=free, path=path),), path=path)
                )
            case "reasoning":
                self._make(_read_reasoning(item, extra, path=path), path=path)
            case "compaction" | "compaction_summary" if (
                summary := _read_summary(item.encrypted_content)
            ) is not None:
                self._flush()
                self._messages.append(Message("user", (TextPart(summary, at=Place(path)),), path=path))
            case "compaction" | "compaction_summary":
                state = OpaqueState(COMPACTED, item.encrypted_content or "", id=item.id)
                at = Place(path, members=_ENCRYPTED_STATE)
                self._make(ReasoningPart("", state, redacted=True, at=at, extra=extra), path=path)
            case _ if type_.endswith(("_call", "_list_tools", "_request", "program")):
                self._make(ForeignPart(DIALECT, type_, raw, at=Place(path)), path=path)
            case _:
                self._flush()
                part = ForeignPart(DIALECT, type_, raw, at=Place(path))
                self._messages.append(Message("user", (part,), path=path))

    def _make(self, part: Part, *, path: str) -> None:
        if not self._made:
            self._start(path)
        self._has_text = self._has_text or isinstance(part, TextPart | RefusalPart)
        self._has_calls = self._has_calls or isinstance(part, ToolCallPart)
        self._made.append(part)

    def _flush(self) -> None:
        if self._made:
            self._messages.append(
                Message(
                    "assistant",
                    tuple(_with_signatures(self._made)),
                    phase=self._phase,
                    id=self._id,
                    path=self._path,
                    extra=self._extra,
                    places=self._places,
                )
            )
            self._made = []

    def _read_message(self, item: _Item, extra: Mapping[str, msgspec.Raw], *, path: str) -> None:
        role = _ROLES.get(item.role or "")
        if role is None:
            raise BadRequest(f"'{path}.role' is {item.role!r}, which is no role.", param=f"{path}.role")
        parts = _read_content(item.content, path, ".content")
        given = {name: value for name, value in extra.items() if is_given(value)}
        if role != "assistant":
            self._flush()
            self._messages.append(Message(role, tuple(parts), path=path, extra=given))
            return
        if self._made and self._has_text and not self._has_calls:
            self._flush()  # two messages in a row are two, unless calls that are still open stand between
        for part in parts or [TextPart("", at=Place(path, ".content"))]:
            self._make(part, path=path)
        self._id = self._id or item.id
        if item.phase is not None and self._phase is None:
            self._phase = item.phase
            self._places["phase"] = f"{path}.phase"
        for name, value in given.items():
            place = f"{path}.{name}"
            key = name if name not in self._extra else place
            self._extra[key], self._places[key] = value, place


def _decode(raw: msgspec.Raw, path: str) -> tuple[_Item, Mapping[str, msgspec.Raw]]:
    """The item, and its members that are not read. Of a type that is not read, just the type."""
    try:
        return _decode_item(raw), NO_MEMBERS
    except MALFORMED:
        kind = decode_member(raw, _Kind, path=path)
        type_ = kind.type or ("message" if kind.role is not None else "item_reference")
        if type_ in _READ:
            return decode_open(raw, _Item, path=path)
        return _Item(type_), NO_MEMBERS


def _read_summary(encrypted: str | None) -> str | None:
    """The text of a `compaction` item that the gateway wrote; None for one of a provider."""
    state = unwrap(encrypted) if encrypted else None
    return SUMMED_UP + state.data if state is not None and state.format == SUMMARY else None


def _needed(value: str | None, path: str) -> str:
    if value is None:
        raise BadRequest(f"'{path}' is missing.", param=path)
    return value


def _read_output(item: _Item, extra: Mapping[str, msgspec.Raw], *, free: bool, path: str) -> ToolResultPart:
    return ToolResultPart(
        _needed(item.call_id, f"{path}.call_id"),
        tuple(_read_content(item.output, path, ".output")),
        name=item.name,
        free=free,
        at=Place(path),
        extra=extra,
    )


def _read_call(item: _Item, extra: Mapping[str, msgspec.Raw], *, free: bool, path: str) -> ToolCallPart:
    arguments = item.arguments if item.arguments and item.arguments.strip() else "{}"
    return ToolCallPart(
        _needed(item.call_id, f"{path}.call_id"),
        _needed(item.name, f"{path}.name"),
        (item.input or "") if free else arguments,
        free=free,
        namespace=item.namespace,
        at=Place(path, members=_CUSTOM_CALL) if free else Place(path),
        extra=extra,
    )


def _read_reasoning(item: _Item, extra: Mapping[str, msgspec.Raw], *, path: str) -> ReasoningPart:
    """`content` is the reasoning itself, `summary` a summary of it. An item without either was
    never readable; one whose summary is empty was, and its text was left out.
    """
    at = Place(path, members=_ENCRYPTED_STATE)
    secret = item.encrypted_content
    state = (unwrap(secret) or OpaqueState(STATE_FORMAT, secret, id=item.id)) if secret else None
    if item.content:
        content = convert_member(item.content, list[_ReasoningText], path=f"{path}.content")
        return ReasoningPart("".join(part.text for part in content), state, at=at, extra=extra)
    text = "\n\n".join(part.text for part in item.summary or ())
    is_ours = state is not None and state.format != STATE_FORMAT
    return ReasoningPart(
        text,
        state,
        redacted=state is not None and not item.summary,
        summary=bool(text) and not is_ours,
        at=at,
        extra=extra,
    )


def _with_signatures(parts: Sequence[Part]) -> list[Part]:
    """Gemini's signatures, back on the calls that they were made for (R16)."""
    signatures = {_signed(part): part.state for part in parts if isinstance(part, ReasoningPart)}
    if signatures.keys() <= {None}:
        return list(parts)
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, ToolCallPart) and (state := signatures.get(part.id)) is not None:
            kept.append(msgspec.structs.replace(part, state=msgspec.structs.replace(state, id=None)))
        elif not isinstance(part, ReasoningPart) or _signed(part) is None:
            kept.append(part)
    return kept


def _signed(part: ReasoningPart) -> str | None:
    """The id of the call that this is the signature of."""
    if part.state is None or part.state.id is None or not part.state.id.startswith(OF_CALL):
        return None
    return part.state.id.removeprefix(OF_CALL)


# --- content --------------------------------------------------------------------------------------


def _read_content(content: str | list[msgspec.Raw] | None, path: str, member: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [TextPart(content, at=Place(path, member))] if content else []
    return [_read_part(raw, Place(path, member, n, _PART)) for n, raw in enumerate(content)]


def _read_part(raw: msgspec.Raw, place: Place) -> Part:
    part, extra = decode_open(raw, _Part, path=place)
    read = _PARTS.get(part.type)
    return ForeignPart(DIALECT, part.type, raw, at=place) if read is None else read(part, place, extra)


def _cache(part: _Part) -> CacheBreakpoint | None:
    return read_cache(None, part.prompt_cache_breakpoint)


def _read_text(part: _Part, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    if part.text is None:
        raise BadRequest(f"'{place}.text' is missing.", param=f"{place}.text")
    if is_given(part.logprobs) and bytes(part.logprobs) != b"[]":
        extra = {**extra, "logprobs": part.logprobs}
    if not is_given(part.annotations) or bytes(part.annotations) == b"[]":
        return TextPart(part.text, _cache(part), at=place, extra=extra)
    return TextPart(part.text, _cache(part), part.annotations, DIALECT, at=place, extra=extra)


def _read_refusal(part: _Part, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    return RefusalPart(part.refusal or "", at=place, extra=extra)


def _read_image(part: _Part, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    source: Source
    if part.file_id is not None:
        source = FileReference(part.file_id)
    elif part.image_url is not None:
        source = read_url(part.image_url, path=f"{place}.image_url")
    else:
        raise BadRequest(f"'{place}' has neither `image_url` nor `file_id`.", param=f"{place}.image_url")
    return ImagePart(source, part.detail, _cache(part), at=place, extra=extra)


def _read_file(part: _Part, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    source: Source
    if part.file_id is not None:
        source = FileReference(part.file_id)
    elif part.file_url is not None:
        source = read_url(part.file_url, path=f"{place}.file_url")
    elif part.file_data is None:
        raise BadRequest(
            f"'{place}' has none of `file_data`, `file_url` and `file_id`.", param=f"{place}.file_data"
        )
    else:
        source = read_file(part.file_data, part.filename, path=f"{place}.file_data")
    return DocumentPart(source, filename=part.filename, cache=_cache(part), at=place, extra=extra)


def _read_audio(part: _Part, place: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    audio = part.input_audio
    if audio is None:
        raise BadRequest(f"'{place}.input_audio' is missing.", param=f"{place}.input_audio")
    return AudioPart(audio.data, audio.format, at=place, extra=extra)


_PARTS: dict[str, Callable[[_Part, Place, Mapping[str, msgspec.Raw]], Part]] = {
    "input_text": _read_text,
    "output_text": _read_text,
    "text": _read_text,
    "refusal": _read_refusal,
    "input_image": _read_image,
    "input_file": _read_file,
    "input_audio": _read_audio,
}
