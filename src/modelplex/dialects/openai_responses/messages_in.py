"""The input of a Responses request, read into the vocabulary: a flat list of items into turns.

Above it stands _openai_responses_read; below it the vocabulary. A run of what a model makes
(reasoning, messages, calls) is one turn of the assistant, a run of outputs is one turn of the
tools, in the order in which they stand. Items that only this form has ride along unread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    AudioPart,
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
)
from modelplex.dialects.core.envelope import unwrap
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import convert_member, decode_member
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.openai_chat.messages_in import ChatCacheControl, read_cache, read_url
from modelplex.dialects.openai_responses.constants import COMPACTED, DIALECT, OF_CALL, STATE_FORMAT

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}
_MESSAGE_MEMBERS = frozenset("type role content id status phase".split())
_CALL_MEMBERS = frozenset("type id call_id name namespace arguments input status".split())
_OUTPUT_MEMBERS = frozenset("type id call_id output status name".split())
_PLAIN_FILES = (".txt", ".md", ".csv", ".json", ".html", ".xml", ".log")
"""Names of files whose bare base64 is text; of everything else it is taken for a PDF, the one kind
that OpenAI documents.
"""


class _Kind(msgspec.Struct):
    type: str | None = None
    role: str | None = None
    id: str | None = None


class _MessageItem(msgspec.Struct):
    role: str
    content: str | list[msgspec.Raw] | None = None
    id: str | None = None
    phase: str | None = None


class _CallItem(msgspec.Struct):
    call_id: str
    name: str
    arguments: str | None = None
    input: str = ""
    namespace: str | None = None


class _OutputItem(msgspec.Struct):
    call_id: str
    output: str | list[msgspec.Raw] | None = None
    name: str | None = None


class _ReasoningText(msgspec.Struct):
    text: str = ""


class _ReasoningItem(msgspec.Struct):
    id: str | None = None
    summary: list[_ReasoningText] | None = None
    content: list[_ReasoningText] | None = None
    encrypted_content: str | None = None


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: msgspec.Raw = msgspec.Raw()
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: Any = None
    prompt_cache_breakpoint: ChatCacheControl | None = None


class _InputAudio(msgspec.Struct):
    data: str
    format: str


def read_input(raw: msgspec.Raw) -> list[Message]:
    """The conversation. Raises BadRequest with `param` like "input[2].content[0].image_url"."""
    if bytes(raw).lstrip().startswith(b'"'):
        text = decode_member(raw, str, path="input")
        return [Message("user", (TextPart(text),), path="input")]
    reading = _Reading()
    for n, item in enumerate(decode_member(raw, list[msgspec.Raw], path="input")):
        reading.read(item, path=f"input[{n}]")
    return reading.finished()


class _Reading:
    """One input as far as it was read. What the model made is held until something else follows."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._made: list[Part] = []
        self._says = self._calls = False
        """Whether what was made so far holds text, and whether it holds a call."""
        self._extra: dict[str, msgspec.Raw] = {}
        self._head = Message("assistant", ())

    def finished(self) -> list[Message]:
        self._flush()
        return list(joined_results(self._messages))

    def read(self, raw: msgspec.Raw, *, path: str) -> None:
        kind = decode_member(raw, _Kind, path=path)
        type_ = kind.type or ("message" if kind.role is not None else "item_reference")
        match type_:
            case "message":
                self._read_message(raw, path=path)
            case "function_call" | "custom_tool_call":
                self._make(_read_call(raw, free=type_ == "custom_tool_call", path=path), path=path)
            case "function_call_output" | "custom_tool_call_output":
                self._read_output(raw, free=type_ == "custom_tool_call_output", path=path)
            case "reasoning":
                self._make(_read_reasoning(raw, path=path), path=path)
            case "compaction":
                item = decode_member(raw, _ReasoningItem, path=path)
                state = OpaqueState(COMPACTED, item.encrypted_content or "", id=item.id)
                self._make(ReasoningPart("", state, redacted=True), path=path)
            case _ if type_.endswith(("_call", "_list_tools", "_request", "program")):
                self._make(ForeignPart(DIALECT, type_, raw), path=path)
            case _:
                self._flush()
                self._messages.append(Message("user", (ForeignPart(DIALECT, type_, raw),), path=path))

    def _make(self, part: Part, *, path: str) -> None:
        if not self._made:
            self._head = Message("assistant", (), path=path)
            self._says = self._calls = False
            self._extra = {}
        self._says = self._says or isinstance(part, TextPart | RefusalPart)
        self._calls = self._calls or isinstance(part, ToolCallPart)
        self._made.append(part)

    def _flush(self) -> None:
        if self._made:
            parts = tuple(_with_signatures(self._made))
            self._messages.append(msgspec.structs.replace(self._head, parts=parts, extra=self._extra))
            self._made = []

    def _read_message(self, raw: msgspec.Raw, *, path: str) -> None:
        item = decode_member(raw, _MessageItem, path=path)
        role = _ROLES.get(item.role)
        if role is None:
            raise BadRequest(f"'{path}.role' is {item.role!r}, which is no role.", param=f"{path}.role")
        parts = read_content(item.content, path=f"{path}.content")
        members = decode_member(raw, dict[str, msgspec.Raw], path=path)
        extra = {n: v for n, v in members.items() if n not in _MESSAGE_MEMBERS and is_given(v)}
        if role != "assistant":
            self._flush()
            self._messages.append(Message(role, tuple(parts), path=path, extra=extra))
            return
        if self._made and self._says and not self._calls:
            self._flush()  # two messages in a row are two, unless calls that are still open stand between
        first = not self._made
        for part in parts or [TextPart("")]:
            self._make(part, path=path)
        self._head = msgspec.structs.replace(
            self._head,
            path=path if first else self._head.path,
            id=self._head.id or item.id,
            phase=self._head.phase or item.phase,
        )
        self._extra |= extra

    def _read_output(self, raw: msgspec.Raw, *, free: bool, path: str) -> None:
        item = decode_member(raw, _OutputItem, path=path)
        members = decode_member(raw, dict[str, msgspec.Raw], path=path)
        result = ToolResultPart(
            item.call_id,
            tuple(read_content(item.output, path=f"{path}.output")),
            name=item.name,
            free=free,
            extra={n: v for n, v in members.items() if n not in _OUTPUT_MEMBERS and is_given(v)},
        )
        self._flush()
        self._messages.append(Message("tool", (result,), path=path))


def _read_call(raw: msgspec.Raw, *, free: bool, path: str) -> ToolCallPart:
    item = decode_member(raw, _CallItem, path=path)
    members = decode_member(raw, dict[str, msgspec.Raw], path=path)
    arguments = item.arguments if item.arguments and item.arguments.strip() else "{}"
    return ToolCallPart(
        item.call_id,
        item.name,
        item.input if free else arguments,
        free=free,
        namespace=item.namespace,
        extra={n: v for n, v in members.items() if n not in _CALL_MEMBERS and is_given(v)},
    )


def _read_reasoning(raw: msgspec.Raw, *, path: str) -> ReasoningPart:
    """A readable content is the reasoning itself, and says more than its summary. An item without
    either was never readable; one whose summary is empty text was, and its text was left out.
    """
    item = decode_member(raw, _ReasoningItem, path=path)
    secret = item.encrypted_content
    state = None
    if secret:
        state = unwrap(secret) or OpaqueState(STATE_FORMAT, secret, id=item.id)
    if item.content:
        return ReasoningPart("".join(part.text for part in item.content), state)
    text = "\n\n".join(part.text for part in item.summary or ())
    is_ours = state is not None and state.format != STATE_FORMAT
    return ReasoningPart(
        text, state, redacted=state is not None and not item.summary, summary=bool(text) and not is_ours
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


def read_content(content: str | list[msgspec.Raw] | None, *, path: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [TextPart(content)] if content else []
    return [_read_part(raw, path=f"{path}[{n}]") for n, raw in enumerate(content)]


def _read_part(raw: msgspec.Raw, *, path: str) -> Part:
    part = decode_member(raw, _Part, path=path)
    read = _PARTS.get(part.type)
    return ForeignPart(DIALECT, part.type, raw) if read is None else read(part, path)


def _read_text(part: _Part, path: str) -> Part:
    if part.text is None:
        raise BadRequest(f"'{path}.text' is missing.", param=f"{path}.text")
    cache = read_cache(None, part.prompt_cache_breakpoint)
    if not is_given(part.annotations) or bytes(part.annotations) == b"[]":
        return TextPart(part.text, cache)
    return TextPart(part.text, cache, annotations=part.annotations, annotations_of=DIALECT)


def _read_refusal(part: _Part, path: str) -> Part:
    del path
    return RefusalPart(part.refusal or "")


def _read_image(part: _Part, path: str) -> Part:
    cache = read_cache(None, part.prompt_cache_breakpoint)
    if part.file_id is not None:
        return ImagePart(FileReference(part.file_id), part.detail, cache)
    if part.image_url is None:
        raise BadRequest(f"'{path}' has neither `image_url` nor `file_id`.", param=f"{path}.image_url")
    return ImagePart(read_url(part.image_url, path=f"{path}.image_url"), part.detail, cache)


def _read_file(part: _Part, path: str) -> Part:
    source: Source
    if part.file_id is not None:
        source = FileReference(part.file_id)
    elif part.file_url is not None:
        source = read_url(part.file_url, path=f"{path}.file_url")
    elif part.file_data is None:
        raise BadRequest(
            f"'{path}' has none of `file_data`, `file_url` and `file_id`.", param=f"{path}.file_data"
        )
    elif part.file_data.startswith(("data:", "http://", "https://")):
        source = read_url(part.file_data, path=f"{path}.file_data")
    else:
        is_plain = (part.filename or "").lower().endswith(_PLAIN_FILES)
        source = InlineData("text/plain" if is_plain else "application/pdf", part.file_data)
    return DocumentPart(source, filename=part.filename, cache=read_cache(None, part.prompt_cache_breakpoint))


def _read_audio(part: _Part, path: str) -> Part:
    audio = convert_member(part.input_audio, _InputAudio, path=f"{path}.input_audio")
    return AudioPart(audio.data, audio.format)


_PARTS: dict[str, Callable[[_Part, str], Part]] = {
    "input_text": _read_text,
    "output_text": _read_text,
    "text": _read_text,
    "refusal": _read_refusal,
    "input_image": _read_image,
    "input_file": _read_file,
    "input_audio": _read_audio,
}
