"""The conversation of a Gemini request, read into the vocabulary.

Above it stands `gemini.request_in`; below it the vocabulary. Three things are put right here that
other dialects do not leave open:

- a client that keeps a stream's chunks sends an answer back in pieces, several `model` contents and
  many short parts: they become one turn again;
- calls and results may have no ids: a made one joins them, by name and order, as the service itself
  does;
- a signature may sit on any part: a thought's and a call's become theirs, any other a thinking part
  of its own that remembers its place.
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    AudioPart,
    DocumentPart,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.core.pending_calls import PendingCalls
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.gemini.json import (
    DIALECT,
    ON_ITS_OWN,
    ON_TEXT,
    REDACTED,
    members_of,
    read,
    read_list,
    read_signature,
    standard,
)

AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
"""What OpenAI calls the kinds of sound that it takes; any other goes by its subtype."""
KEPT_THERE = ("https://generativelanguage.googleapis.com/", "gs://")
"""Where the service keeps files. Any other http address is one that it would fetch."""
_RESULT_MEMBERS = frozenset({"id", "name", "response", "parts"})


class _Content(msgspec.Struct):
    role: str | None = None
    parts: msgspec.Raw = ABSENT


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: msgspec.Raw = ABSENT
    function_response: msgspec.Raw = ABSENT
    inline_data: msgspec.Raw = ABSENT
    file_data: msgspec.Raw = ABSENT


class _Call(msgspec.Struct):
    name: str
    id: str | None = None
    args: msgspec.Raw = ABSENT


class _Result(msgspec.Struct):
    name: str | None = None
    id: str | None = None
    response: msgspec.Raw = ABSENT
    parts: msgspec.Raw = ABSENT


class _Blob(msgspec.Struct, rename="camel"):
    data: str
    mime_type: str = "application/octet-stream"
    display_name: str | None = None


class _File(msgspec.Struct, rename="camel"):
    file_uri: str
    mime_type: str | None = None


_FLAGS = frozenset({"thought", "thoughtSignature"})


def read_instructions(raw: msgspec.Raw) -> Message | None:
    """`systemInstruction`: a content whose role says nothing."""
    path = "systemInstruction"
    content = read(raw, _Content, path=path)
    parts = [
        part
        for n, each in enumerate(_listed(content.parts, path=path))
        if (part := _said(each, path=f"{path}.parts[{n}]")) is not None
    ]
    return Message("system", tuple(parts), path=path) if parts else None


def _listed(parts: msgspec.Raw, *, path: str) -> list[msgspec.Raw]:
    return read_list(parts, path=f"{path}.parts") if is_given(parts) else []


class Dialogue:
    """Reads `contents`, in order."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._turn: list[Part] = []
        self._turn_at = ""
        self._open: PendingCalls[str] = PendingCalls()
        """Ids of calls that want a result."""
        self._pieces: list[str] = []
        """Of the text or thought that the turn ends with: joined once, when something else follows.
        """
        self._ids: set[str] = set()
        self._made = 0

    def __repr__(self) -> str:
        return f"<Dialogue {len(self.messages)} messages, {self._open!r}>"

    def read(self, contents: msgspec.Raw) -> list[Message]:
        """Raises BadRequest with `param` like "contents[2].parts[0]"."""
        for n, raw in enumerate(read_list(contents, path="contents")):
            path = f"contents[{n}]"
            content = read(raw, _Content, path=path)
            parts = _listed(content.parts, path=path)
            match content.role:
                case "model":
                    self._turn_at = self._turn_at or path
                    for i, part in enumerate(parts):
                        self._answered(part, path=f"{path}.parts[{i}]")
                case "user" | "function" | None | "":
                    self._end_turn()
                    self._asked(parts, path=path)
                case "system":
                    self._end_turn()
                    said = [_said(part, path=f"{path}.parts[{i}]") for i, part in enumerate(parts)]
                    self._append(Message("system", tuple(part for part in said if part), path=path))
                case other:
                    raise BadRequest(
                        f'\'{path}.role\' is {other!r}; it must be "user" or "model".', param=f"{path}.role"
                    )
        self._end_turn()
        self.messages = list(joined_results(self.messages))
        return self.messages

    def _append(self, message: Message) -> None:
        if message.parts:
            self.messages.append(message)

    def _end_turn(self) -> None:
        self._settle()
        if self._turn_at:
            self._append(Message("assistant", tuple(self._turn), path=self._turn_at))
            self._turn, self._turn_at = [], ""

    # --- what the model said

    def _add(self, part: Part) -> None:
        self._settle()
        self._turn.append(part)
        self._pieces = [part.text] if isinstance(part, TextPart | ReasoningPart) else []

    def _settle(self) -> None:
        last = self._turn[-1] if self._turn else None
        if len(self._pieces) > 1 and isinstance(last, TextPart | ReasoningPart):
            self._turn[-1] = msgspec.structs.replace(last, text="".join(self._pieces))
        self._pieces = []

    def _answered(self, raw: msgspec.Raw, *, path: str) -> None:
        part = read(raw, _Part, path=path)
        state = read_signature(part.thought_signature) if part.thought_signature else None
        if is_given(part.function_call):
            self._add(self._call(part.function_call, state, path=f"{path}.functionCall"))
        elif part.thought:
            self._thought(part.text or "", state)
        elif part.text is not None:
            self._text(part.text, state)
        elif state is not None and not members_of(raw, path=path).keys() - _FLAGS:
            self._text("", state)
        else:
            # What a model makes beside text and calls (an image, code that it ran) goes back to
            # where it was made, whole.
            self._add(_foreign(raw, path=path))

    def _thought(self, text: str, state: OpaqueState | None) -> None:
        """Pieces of one thought are one thought; its signature ends it."""
        last = self._turn[-1] if self._turn else None
        if isinstance(last, ReasoningPart) and last.state is None:
            self._pieces.append(text)
            if state is not None:
                self._turn[-1] = msgspec.structs.replace(last, state=state)
        elif text or state is not None:
            self._add(_thinking(text, state))

    def _text(self, text: str, state: OpaqueState | None) -> None:
        last = self._turn[-1] if self._turn else None
        if isinstance(last, TextPart):
            self._pieces.append(text)
        elif text:
            self._add(TextPart(text))
        if state is not None:
            place = state.id or (ON_TEXT if text else ON_ITS_OWN)
            self._add(_thinking("", msgspec.structs.replace(state, id=place)))

    def _call(self, raw: msgspec.Raw, state: OpaqueState | None, *, path: str) -> ToolCallPart:
        call = read(raw, _Call, path=path)
        if is_given(call.args):
            decode_member(call.args, dict[str, msgspec.Raw], path=f"{path}.args")
        id_ = call.id or self._new_id()
        self._ids.add(id_)
        self._open.add(id_, call.name, id_)
        arguments = bytes(call.args).decode() if is_given(call.args) else "{}"
        return ToolCallPart(id_, call.name, arguments, state=state)

    def _new_id(self) -> str:
        while (made := f"call_{self._made}") in self._ids:
            self._made += 1
        self._made += 1
        return made

    # --- what the user and the tools said

    def _asked(self, parts: list[msgspec.Raw], *, path: str) -> None:
        results: list[Part] = []
        said: list[Part] = []
        for n, raw in enumerate(parts):
            place = f"{path}.parts[{n}]"
            part = read(raw, _Part, path=place)
            if is_given(part.function_response):
                results.append(self._result(part.function_response, path=f"{place}.functionResponse"))
            elif (found := _said(raw, path=place, part=part)) is not None:
                said.append(found)
        self._append(Message("tool", tuple(results), path=path))
        self._append(Message("user", tuple(said), path=path))

    def _result(self, raw: msgspec.Raw, *, path: str) -> ToolResultPart:
        result = read(raw, _Result, path=path)
        id_ = self._call_of(result, path=path)
        parts, is_error = _response(result.response, path=f"{path}.response")
        for n, each in enumerate(_listed(result.parts, path=path)):
            if (part := _said(each, path=f"{path}.parts[{n}]")) is not None:
                parts.append(part)
        rest = {
            name: value for name, value in members_of(raw, path=path).items() if name not in _RESULT_MEMBERS
        }
        return ToolResultPart(id_, tuple(parts), is_error=is_error, name=result.name, extra=rest)

    def _call_of(self, result: _Result, *, path: str) -> str:
        """The call that this result is of: by its id, else the first open one of its name."""
        id_ = self._open.take(result.id, result.name)
        if id_ is not None:
            return id_
        if result.id:
            return result.id  # a result of no call: writers refuse it, by its id
        raise BadRequest(f"'{path}' has no `id`, and no call of {result.name!r} wants a result.", param=path)


def _thinking(text: str, state: OpaqueState | None) -> ReasoningPart:
    if state is None:
        return ReasoningPart(text, summary=True)
    is_redacted = state.id == REDACTED or (not text and state.format == "openai-responses-v1")
    if state.id == REDACTED:
        state = msgspec.structs.replace(state, id=None)
    return ReasoningPart(
        text, state, redacted=is_redacted, summary=bool(text) and state.format != "anthropic-claude-v1"
    )


def _response(raw: msgspec.Raw, *, path: str) -> tuple[list[Part], bool]:
    """What a tool gave: its text where it is one, under the two names that the service gives a
    meaning to, else the object as JSON.
    """
    if not is_given(raw):
        return [], False
    members = decode_member(raw, dict[str, msgspec.Raw], path=path)
    if len(members) == 1:
        ((name, value),) = members.items()
        is_text = bytes(value).startswith(b'"')
        if name == "error":
            return [
                TextPart(decode_member(value, str, path=path) if is_text else bytes(value).decode())
            ], True
        if name == "output" and is_text:
            text = decode_member(value, str, path=path)
            return ([TextPart(text)] if text else []), False
    return ([TextPart(bytes(raw).decode())] if members else []), False


def _said(raw: msgspec.Raw, *, path: str, part: _Part | None = None) -> Part | None:
    """One part of a user's content, of instructions or of a result; None where it says nothing.
    `part` is the same, where it was read before.
    """
    part = part or read(raw, _Part, path=path)
    if is_given(part.inline_data):
        return _inline(part.inline_data, raw, path=f"{path}.inlineData")
    if is_given(part.file_data):
        return _file(part.file_data, raw, path=f"{path}.fileData")
    if part.text is not None:
        return TextPart(part.text) if part.text else None
    if is_given(part.function_call):
        raise BadRequest(f"'{path}': a call stands in a content that is not the model's.", param=path)
    return _foreign(raw, path=path)


def _inline(blob_raw: msgspec.Raw, whole: msgspec.Raw, *, path: str) -> Part:
    blob = read(blob_raw, _Blob, path=path)
    data = standard(blob.data)
    kind, _, subtype = blob.mime_type.partition("/")
    if kind == "image":
        return ImagePart(InlineData(blob.mime_type, data))
    if kind == "audio":
        return AudioPart(data, AUDIO.get(blob.mime_type, subtype))
    if kind == "video":
        return ForeignPart(DIALECT, blob.mime_type, whole)
    return DocumentPart(InlineData(blob.mime_type, data), filename=blob.display_name)


def _file(file_raw: msgspec.Raw, whole: msgspec.Raw, *, path: str) -> Part:
    file = read(file_raw, _File, path=path)
    kind = (file.mime_type or "").partition("/")[0]
    is_fetched = file.file_uri.startswith(("http://", "https://")) and not file.file_uri.startswith(
        KEPT_THERE
    )
    if is_fetched and kind == "image":
        return ImagePart(UrlReference(file.file_uri))
    if is_fetched and kind in {"application", "text"}:
        return DocumentPart(UrlReference(file.file_uri))
    return ForeignPart(DIALECT, "fileData", whole)


def _foreign(raw: msgspec.Raw, *, path: str) -> ForeignPart:
    names = sorted(members_of(raw, path=path).keys() - _FLAGS)
    if not names:
        raise BadRequest(f"'{path}' says nothing.", param=path)
    return ForeignPart(DIALECT, names[0], raw)
