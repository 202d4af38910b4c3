"""Reads `systemInstruction` and `contents` of a Gemini request.

Three things that other dialects do not leave open are settled here:

- a client that keeps a stream's chunks sends a response back in pieces, as several `model` contents
  and many short parts: they become one message again;
- calls and results may have no ids: a generated one joins them, by name and order, as the service
  itself does;
- a signature may be on any part: that of a thought or call stays with it, any other becomes a
  ReasoningPart that records its place.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    NO_MEMBERS,
    AudioPart,
    DocumentPart,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    Part,
    Place,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.media import media_type_of
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.core.pending_calls import PendingCalls
from modelplex.dialects.core.tool_results import joined_results
from modelplex.dialects.gemini.json import (
    DIALECT,
    ON_ITS_OWN,
    ON_TEXT,
    REDACTED,
    is_snake_case,
    members_of,
    read,
    read_list,
    read_open,
    read_signature,
    spelling,
    standard,
)

AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
"""OpenAI's names of the audio formats that it takes; any other format is called by its subtype."""
KEPT_THERE = ("https://generativelanguage.googleapis.com/", "gs://")
"""Addresses of files that the service keeps. It would fetch any other http address."""
_SIGNED = {"state": "thoughtSignature"}
_ALONE = {"state": ""}
_CALL = {
    "state": "thoughtSignature",
    "name": "functionCall.name",
    "arguments": "functionCall.args",
    "id": "functionCall.id",
}
_RESULT = {"is_error": "functionResponse.response.error", "name": "functionResponse.name"}
_BLOB = {"filename": "inlineData.displayName"}
"""What the members of a part are called here, for Place."""


class _Content(msgspec.Struct, gc=False):
    role: str | None = None
    parts: msgspec.Raw = ABSENT


class _Part(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: msgspec.Raw = ABSENT
    function_response: msgspec.Raw = ABSENT
    inline_data: msgspec.Raw = ABSENT
    file_data: msgspec.Raw = ABSENT


class _Call(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    id: str | None = None
    args: msgspec.Raw = ABSENT


class _Result(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str | None = None
    id: str | None = None
    response: msgspec.Raw = ABSENT
    parts: msgspec.Raw = ABSENT


class _Blob(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    data: str
    mime_type: str = "application/octet-stream"
    display_name: str | None = None


class _File(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    file_uri: str
    mime_type: str | None = None


_FLAGS = frozenset({"thought", "thoughtSignature"})


def read_instructions(raw: msgspec.Raw, *, path: str) -> Message | None:
    """`systemInstruction`, a content whose role says nothing. `path` is its member as spelt."""
    parts = _user_parts(read(raw, _Content, path=path), path)
    return Message("system", parts, path=path) if parts else None


def _listed(content: _Content, path: str) -> list[tuple[msgspec.Raw, Place]]:
    """The parts of a content and their places: a list, or one object."""
    return list_places(content.parts, Place(path, ".parts")) if is_given(content.parts) else []


def list_places(raw: msgspec.Raw, place: Place) -> list[tuple[msgspec.Raw, Place]]:
    """The entries of a list, or the one object that stands for a list of one."""
    entries = read_list(raw, path=place)
    if len(entries) == 1 and entries[0] is raw:
        return [(raw, place)]
    parent, step = place.parent, place.step
    return [(entry, Place(parent, step, n)) for n, entry in enumerate(entries)]


def _user_parts(content: _Content, path: str) -> tuple[Part, ...]:
    parts = (_read_part(raw, place) for raw, place in _listed(content, path))
    return tuple(part for part in parts if part is not None)


def _named(place: Place, raw: msgspec.Raw, names: Mapping[str, str]) -> Place:
    """The place with the names of members, as the client spells them in `raw`."""
    if is_snake_case(raw):
        names = {ours: spelling(raw, name) for ours, name in names.items()}
    return Place(place.parent, place.step, place.index, names)


def _below(
    raw: msgspec.Raw, member: str, inner: Mapping[str, msgspec.Raw], extra: Mapping[str, msgspec.Raw]
) -> Mapping[str, msgspec.Raw]:
    """The unread members of a part, `inner` being those of its member."""
    if not inner:
        return extra
    return {**extra, **{f"{spelling(raw, member)}.{name}": value for name, value in inner.items()}}


class ContentReader:
    """Reads `contents`, in order."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._turn: list[Part] = []
        self._turn_at = ""
        self._open: PendingCalls[str] = PendingCalls()
        """Ids of calls that have no result yet."""
        self._pieces: list[str] = []
        """Of the text or thought at the end of the turn; joined once, when another part follows."""
        self._ids: set[str] = set()
        self._made = 0

    def __repr__(self) -> str:
        return f"<ContentReader {len(self.messages)} messages, {self._open!r}>"

    def read(self, contents: msgspec.Raw) -> list[Message]:
        """Raises BadRequest with `param` like "contents[2].parts[0]"."""
        for raw, place in list_places(contents, Place("contents")):
            path = str(place)
            content = read(raw, _Content, path=path)
            match content.role:
                case "model":
                    self._turn_at = self._turn_at or path
                    for part, at in _listed(content, path):
                        self._read_model_part(part, at)
                case "user" | "function" | None | "":
                    self._end_turn()
                    self._read_user(_listed(content, path), path=path)
                case "system":
                    self._end_turn()
                    self._append(Message("system", _user_parts(content, path), path=path))
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
        self._join_pieces()
        if self._turn_at:
            self._append(Message("assistant", tuple(self._turn), path=self._turn_at))
            self._turn, self._turn_at = [], ""

    # --- the model

    def _add(self, part: Part) -> None:
        self._join_pieces()
        self._turn.append(part)
        self._pieces = [part.text] if isinstance(part, TextPart | ReasoningPart) else []

    def _join_pieces(self) -> None:
        last = self._turn[-1] if self._turn else None
        if len(self._pieces) > 1 and isinstance(last, TextPart | ReasoningPart):
            self._turn[-1] = msgspec.structs.replace(last, text="".join(self._pieces))
        self._pieces = []

    def _read_model_part(self, raw: msgspec.Raw, at: Place) -> None:
        part, extra = read_open(raw, _Part, path=at)
        state = read_signature(part.thought_signature) if part.thought_signature else None
        if is_given(part.function_call):
            self._add(self._call(part.function_call, state, raw, at, extra))
        elif part.thought:
            self._thought(part.text or "", state, _named(at, raw, _SIGNED), extra)
        elif part.text is not None:
            self._text(part.text, state, raw, at, extra)
        elif state is not None and not members_of(raw, path=at).keys() - _FLAGS:
            self._text("", state, raw, at, NO_MEMBERS)
        else:
            # What a model makes beside text and calls (an image, code that it ran) goes back to
            # its maker, whole.
            self._add(_foreign(raw, at))

    def _thought(
        self, text: str, state: OpaqueState | None, at: Place, extra: Mapping[str, msgspec.Raw]
    ) -> None:
        """Pieces of one thought are one thought; its signature ends it."""
        last = self._turn[-1] if self._turn else None
        if isinstance(last, ReasoningPart) and last.state is None and not extra:
            self._pieces.append(text)
            if state is not None:
                # The members are at the last piece, the text began at the first.
                self._turn[-1] = msgspec.structs.replace(last, state=state)
        elif text or state is not None:
            self._add(_thinking(text, state, at, extra))

    def _text(
        self,
        text: str,
        state: OpaqueState | None,
        raw: msgspec.Raw,
        at: Place,
        extra: Mapping[str, msgspec.Raw],
    ) -> None:
        last = self._turn[-1] if self._turn else None
        if isinstance(last, TextPart) and not extra:
            self._pieces.append(text)
        elif text or extra:
            self._add(TextPart(text, at=at, extra=extra))
        if state is not None:
            place = state.id or (ON_TEXT if text else ON_ITS_OWN)
            signed = Place(at, f".{spelling(raw, 'thoughtSignature')}", members=_ALONE)
            self._add(_thinking("", msgspec.structs.replace(state, id=place), signed, NO_MEMBERS))

    def _call(
        self,
        raw: msgspec.Raw,
        state: OpaqueState | None,
        whole: msgspec.Raw,
        at: Place,
        extra: Mapping[str, msgspec.Raw],
    ) -> ToolCallPart:
        path = f"{at}.functionCall"
        call, inner = read_open(raw, _Call, path=path)
        if is_given(call.args):
            decode_member(call.args, dict[str, msgspec.Raw], path=f"{path}.args")
        id_ = call.id or self._new_id()
        self._ids.add(id_)
        self._open.add(id_, call.name, id_)
        arguments = bytes(call.args).decode() if is_given(call.args) else "{}"
        return ToolCallPart(
            id_,
            call.name,
            arguments,
            state=state,
            at=_named(at, whole, _CALL),
            extra=_below(whole, "functionCall", inner, extra),
        )

    def _new_id(self) -> str:
        while (made := f"call_{self._made}") in self._ids:
            self._made += 1
        self._made += 1
        return made

    # --- the user and the tools

    def _read_user(self, parts: list[tuple[msgspec.Raw, Place]], *, path: str) -> None:
        results: list[Part] = []
        others: list[Part] = []
        for raw, at in parts:
            part, extra = read_open(raw, _Part, path=at)
            if is_given(part.function_response):
                results.append(self._result(part.function_response, raw, at, extra))
            elif (found := _user_part(part, extra, raw, at)) is not None:
                others.append(found)
        self._append(Message("tool", tuple(results), path=path))
        self._append(Message("user", tuple(others), path=path))

    def _result(
        self, raw: msgspec.Raw, whole: msgspec.Raw, at: Place, extra: Mapping[str, msgspec.Raw]
    ) -> ToolResultPart:
        place = Place(at, f".{spelling(whole, 'functionResponse')}")
        result, inner = read_open(raw, _Result, path=place)
        id_ = self._call_of(result, place)
        parts, is_error = _response(result.response, Place(place, ".response"))
        if is_given(result.parts):
            inside = (
                _read_part(each, where) for each, where in list_places(result.parts, Place(place, ".parts"))
            )
            parts += [part for part in inside if part is not None]
        return ToolResultPart(
            id_,
            tuple(parts),
            is_error=is_error,
            name=result.name,
            at=_named(at, whole, _RESULT),
            extra=_below(whole, "functionResponse", inner, extra),
        )

    def _call_of(self, result: _Result, place: Place) -> str:
        """The call that this result is of: by its id, else the first open one of its name."""
        id_ = self._open.take(result.id, result.name)
        if id_ is not None:
            return id_
        if result.id:
            return result.id  # a result of no call: writers refuse it, by its id
        raise BadRequest(
            f"'{place}' has no `id`, and no call of {result.name!r} has no result yet.", param=str(place)
        )


def _thinking(
    text: str, state: OpaqueState | None, at: Place, extra: Mapping[str, msgspec.Raw]
) -> ReasoningPart:
    if state is None:
        return ReasoningPart(text, summary=True, at=at, extra=extra)
    is_redacted = state.id == REDACTED or (not text and state.format == "openai-responses-v1")
    if state.id == REDACTED:
        state = msgspec.structs.replace(state, id=None)
    is_summary = bool(text) and state.format != "anthropic-claude-v1"
    return ReasoningPart(text, state, redacted=is_redacted, summary=is_summary, at=at, extra=extra)


def _response(raw: msgspec.Raw, at: Place) -> tuple[list[Part], bool]:
    """The content of a result: its text where it is one, under the two names that the service
    knows, else the object as JSON.
    """
    if not is_given(raw):
        return [], False
    members = decode_member(raw, dict[str, msgspec.Raw], path=str(at))
    if len(members) == 1:
        ((name, value),) = members.items()
        inner = Place(at, f".{name}")
        is_text = bytes(value).startswith(b'"')
        if name == "error":
            text = decode_member(value, str, path=str(inner)) if is_text else bytes(value).decode()
            return [TextPart(text, at=inner)], True
        if name == "output" and is_text:
            text = decode_member(value, str, path=str(inner))
            return ([TextPart(text, at=inner)] if text else []), False
    return ([TextPart(bytes(raw).decode(), at=at)] if members else []), False


def _read_part(raw: msgspec.Raw, at: Place) -> Part | None:
    part, extra = read_open(raw, _Part, path=at)
    return _user_part(part, extra, raw, at)


def _user_part(part: _Part, extra: Mapping[str, msgspec.Raw], raw: msgspec.Raw, at: Place) -> Part | None:
    """One part of a user's content, of instructions or of a result; None where it is empty."""
    if is_given(part.inline_data):
        return _inline(part.inline_data, raw, at, extra)
    if is_given(part.file_data):
        return _file(part.file_data, raw, at, extra)
    if part.text is not None:
        return TextPart(part.text, at=at, extra=extra) if part.text else None
    if is_given(part.function_call):
        raise BadRequest(f"'{at}': a call stands in a content that is not the model's.", param=str(at))
    return _foreign(raw, at)


def _inline(blob_raw: msgspec.Raw, whole: msgspec.Raw, at: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    blob, inner = read_open(blob_raw, _Blob, path=f"{at}.inlineData")
    extra = _below(whole, "inlineData", inner, extra)
    at = _named(at, whole, _BLOB)
    data = standard(blob.data)
    mime_type = media_type_of(blob.mime_type, data, filename=blob.display_name)
    kind, _, subtype = mime_type.partition("/")
    if kind == "image":
        return ImagePart(InlineData(mime_type, data), at=at, extra=extra)
    if kind == "audio":
        return AudioPart(data, AUDIO.get(mime_type, subtype), at=at, extra=extra)
    if kind == "video":
        return ForeignPart(DIALECT, blob.mime_type, whole, at=at)
    return DocumentPart(InlineData(mime_type, data), filename=blob.display_name, at=at, extra=extra)


def _file(file_raw: msgspec.Raw, whole: msgspec.Raw, at: Place, extra: Mapping[str, msgspec.Raw]) -> Part:
    file, inner = read_open(file_raw, _File, path=f"{at}.fileData")
    extra = _below(whole, "fileData", inner, extra)
    kind = (file.mime_type or "").partition("/")[0]
    is_fetched = file.file_uri.startswith(("http://", "https://")) and not file.file_uri.startswith(
        KEPT_THERE
    )
    if is_fetched and kind == "image":
        return ImagePart(UrlReference(file.file_uri), at=at, extra=extra)
    if is_fetched and kind in {"application", "text"}:
        return DocumentPart(UrlReference(file.file_uri), at=at, extra=extra)
    return ForeignPart(DIALECT, "fileData", whole, at=at)


def _foreign(raw: msgspec.Raw, at: Place) -> ForeignPart:
    names = sorted(members_of(raw, path=at).keys() - _FLAGS)
    if not names:
        raise BadRequest(f"'{at}' is empty.", param=str(at))
    return ForeignPart(DIALECT, names[0], raw, at=at)
