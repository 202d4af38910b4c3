"""Writes the messages of a ChatRequest as `systemInstruction` and `contents` of a Gemini request.

What the service demands of a conversation (docs/reference/wire-formats.md#gemini and
docs/reference/translation.md), beside the rules of `core.turns`:

- instructions stand beside the conversation, never inside it;
- a turn of calls is followed by one user turn with their results, by name, and nothing else;
- a signature goes back on the part that it came on, and only to its maker (R16); a call without one
  is marked as made elsewhere, for models that insist on a signature;
- no part is an empty text, except one that carries a signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, assert_never

import msgspec

from modelplex.core.errors import Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    Change,
    ChatRequest,
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
    RefusalPart,
    SearchResultPart,
    TextPart,
    ToolCallPart,
    ToolReferencePart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.call_arguments import as_object
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.losses import Losses
from modelplex.dialects.core.media import decode_text, document_text, search_text, type_of_name
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.core.turns import OPENING, SYSTEM_NOTE, TurnWriter
from modelplex.dialects.gemini.json import DIALECT, ON_ITS_OWN, ON_TEXT, STATE_FORMAT

MADE_ELSEWHERE = "skip_thought_signature_validator"
"""The signature that the service documents for calls that none of its models made
(ai.google.dev/gemini-api/docs/thought-signatures).
"""
SOUNDS = {"wav": "audio/wav", "mp3": "audio/mp3"}
"""Media types of OpenAI's two audio formats; any other format is a subtype already."""
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


# --- what is sent


class GeminiBlob(msgspec.Struct, frozen=True, rename="camel", gc=False):
    mime_type: str
    data: str


class GeminiFile(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    file_uri: str
    mime_type: str | None = None


class FunctionCall(msgspec.Struct, frozen=True, gc=False):
    id: str
    name: str
    args: msgspec.Raw


class FunctionResponse(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    id: str
    name: str
    response: msgspec.Raw | None = None
    parts: list[SentPart] | None = None


class SentPart(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    inline_data: GeminiBlob | None = None
    file_data: GeminiFile | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


AnyPart = SentPart | msgspec.Raw


class GeminiLosses(Losses):
    """The report of one request, and its tool names."""

    reasons: ClassVar[Mapping[str, str]] = {
        "annotations": "citations of earlier answers have no form here",
        "cache": "Gemini caches prefixes by itself",
        "citations": "citations cannot be asked for here",
        "context": "data has no context here",
        "detail": "images have no level of detail here",
        "filename": "data has no name here",
        "name": "messages have no names here",
        "namespace": "tools have no namespaces here",
        "state": "a signature that is not Gemini's has no place here",
        "title": "data has no name here",
    }

    def __init__(self, changes: list[Change], attempt: Attempt, *, native: bool) -> None:
        self.names = ToolAliases(changes, native=native, letter_first=True)
        super().__init__(changes, attempt, native=native, name_of=self.names.sent)


class GeminiContentWriter(TurnWriter[AnyPart]):
    """Writes the messages of a request; see TurnWriter."""

    assistant = "model"
    separates_results = True
    late_result = "results follow their calls at once here"

    def __init__(self, call: ChatRequest, losses: GeminiLosses) -> None:
        super().__init__(call, losses)
        self._losses: GeminiLosses = losses

    def write(self) -> None:
        super().write()
        if not self._losses.native:
            self._begin_with_user(SentPart(text=OPENING))
            if self._attempt.facts.thinking == "adaptive":
                self._mark_calls()

    def _mark_calls(self) -> None:
        """Sign the first call of each turn; parallel calls after it need no signature."""
        for turn in self.turns:
            if turn.role != "model":
                continue
            for n, part in enumerate(turn.content):
                if isinstance(part, SentPart) and part.function_call is not None:
                    if part.thought_signature is None:
                        turn.content[n] = msgspec.structs.replace(part, thought_signature=MADE_ELSEWHERE)
                        self._losses.report(
                            "add", turn.path, "a call without Gemini's signature is marked as made elsewhere"
                        )
                    break

    def _is_blank(self, text: str) -> bool:
        return not text

    # --- instructions

    def _instructions(self, message: Message) -> list[AnyPart]:
        return [part for each in message.parts for part in self._written(each, self._instruction)]

    def _instruction(self, part: Part, members: dict[str, Any]) -> list[AnyPart]:
        if isinstance(part, TextPart):
            return [SentPart(text=part.text)] if part.text else []
        if isinstance(part, ForeignPart) and self._losses.native:
            return [part.raw]
        raise Unsupported("Instructions can only be text here.", param=str(part.at))

    def _later_instructions(self, message: Message) -> None:
        parts = self._instructions(message)
        if not self.turns:
            self.system += parts
            return
        self._losses.lower(
            message.path, "Gemini takes no instructions inside a conversation: sent as a user's note"
        )
        noted = [
            msgspec.structs.replace(part, text=SYSTEM_NOTE + (part.text or ""))
            for part in parts
            if isinstance(part, SentPart)
        ]
        self._append("user", noted, message.path)

    # --- the assistant

    def _assistant(self, run: list[Message]) -> None:
        for message in run:
            self._settle(message)
            turn = _Turn()
            for part in message.parts:
                members = self._losses.members(part)
                self._assistant_part(part, members, turn)
                if members:
                    self._losses.settle(part, members)
            self._append("model", turn.whole(), message.path)

    def _assistant_part(self, part: Part, members: dict[str, Any], turn: _Turn) -> None:
        match part:
            case TextPart():
                turn.add_text(part.text)
            case ToolCallPart():
                turn.parts.append(self._call_part(part, members))
            case ReasoningPart():
                self._thinking(part, members, turn)
            case RefusalPart():
                self._losses.lower(part.at, "an earlier refusal is sent as text")
                turn.add_text(part.text)
            case ForeignPart():
                turn.parts.append(self._losses.foreign(part, dialect=DIALECT))
            case ImagePart() | AudioPart() | DocumentPart() | SearchResultPart():
                self._refuse(part)
            case ToolResultPart() | ToolReferencePart():
                self._misplaced(part)
            case _:
                self._losses.drop_unknown(part)

    def _thinking(self, part: ReasoningPart, members: dict[str, Any], turn: _Turn) -> None:
        state: OpaqueState | None = members.pop("state", None)
        if state is not None:
            self._losses.check_origin(state, part.at)
        if state is not None and state.format != STATE_FORMAT:
            self._losses.drop(part.at, "sealed reasoning is of use to its maker alone")
        elif state is not None and not part.text and state.id in {ON_TEXT, ON_ITS_OWN}:
            turn.sign(state)
        elif state is not None:
            turn.parts.append(SentPart(text=part.text, thought=True, thought_signature=state.data))
        elif self._losses.native:
            turn.parts.append(SentPart(text=part.text, thought=True))
        else:
            self._losses.drop(part.at, "earlier reasoning without Gemini's own signature is not sent back")

    def _call_part(self, part: ToolCallPart, members: dict[str, Any]) -> SentPart:
        signature = None
        if part.state is not None:
            self._losses.check_origin(part.state, part.at)
            if part.state.format == STATE_FORMAT:
                signature = members.pop("state").data
        name = self._losses.tool_name(part)
        self._open_call(part, name)
        made = FunctionCall(part.id, name, as_object(part, self._losses))
        return SentPart(function_call=made, thought_signature=signature)

    # --- the user and the tools

    def _result(self, part: ToolResultPart, members: dict[str, Any], sent: str) -> list[AnyPart]:
        texts: list[str] = []
        others: list[SentPart] = []
        for inner in part.parts:
            for written in self._written(inner, self._user_part):
                if isinstance(written, SentPart) and written.text is not None:
                    texts.append(written.text)
                elif isinstance(written, SentPart):
                    others.append(written)
                else:
                    raise Unsupported("A tool's result may hold text and data here.", param=str(inner.at))
        response = self._response("\n".join(texts), is_error=members.pop("is_error", False))
        return [SentPart(function_response=FunctionResponse(part.id, sent, response, others or None))]

    def _response(self, text: str, *, is_error: bool) -> msgspec.Raw:
        """A result is an object; `output` and `error` are the names that the service knows. An
        object from a client of this dialect stays as it is.
        """
        if self._losses.native and not is_error and text.startswith("{"):
            try:
                _decode_object(text)
            except MALFORMED:
                pass
            else:
                return msgspec.Raw(text.encode())
        return msgspec.Raw(msgspec.json.encode({"error" if is_error else "output": text}))

    def _user_part(self, part: Part, members: dict[str, Any]) -> list[AnyPart]:
        match part:
            case TextPart() | RefusalPart():
                return [SentPart(text=part.text)] if part.text else []
            case ImagePart():
                return [self._image(part)]
            case AudioPart():
                return [self._audio(part)]
            case DocumentPart():
                return [self._document(part, members)]
            case SearchResultPart():
                return [SentPart(text=search_text(part))]
            case ForeignPart():
                return [self._losses.foreign(part, dialect=DIALECT)]
            case ReasoningPart() | ToolCallPart() | ToolResultPart() | ToolReferencePart():
                return self._misplaced(part)
            case _:
                return self._losses.drop_unknown(part)

    # --- single parts

    def _reference(self, source: UrlReference | FileReference, part: Part) -> SentPart:
        """An address, which Google fetches: "any publicly accessible URL"
        (https://ai.google.dev/gemini-api/docs/generate-content/file-input-methods, 2026-12-01). The
        policy refuses it of sealed callers before.
        """
        if isinstance(source, UrlReference):
            kind = None if self._losses.native else type_of_name(source.url)
            return SentPart(file_data=GeminiFile(source.url, kind))
        raise Unsupported("Gemini is sent data, not a file kept elsewhere.", param=str(part.at))

    def _image(self, part: ImagePart) -> SentPart:
        if isinstance(part.source, InlineData):
            return SentPart(inline_data=GeminiBlob(part.source.media_type, part.source.data))
        return self._reference(part.source, part)

    def _audio(self, part: AudioPart) -> SentPart:
        if not part.data:
            raise Unsupported("An earlier answer's sound is kept at another provider.", param=str(part.at))
        return SentPart(inline_data=GeminiBlob(SOUNDS.get(part.format, f"audio/{part.format}"), part.data))

    def _document(self, part: DocumentPart, members: dict[str, Any]) -> SentPart:
        source = part.source
        match source:
            case PlainText(text=text):
                return SentPart(text=document_text(text, members))
            case InlineData(media_type=media_type) if (
                media_type.startswith("text/") and not self._losses.native
            ):
                return SentPart(text=document_text(decode_text(source, part.at), members))
            case InlineData(media_type=media_type, data=data):
                return SentPart(inline_data=GeminiBlob(media_type, data))
            case UrlReference() | FileReference():
                return self._reference(source, part)
            case _:
                assert_never(source)


class _Turn:
    """The parts of one assistant message. A signature may come before the text that it was on:
    other dialects keep no order between the two.
    """

    def __init__(self) -> None:
        self.parts: list[AnyPart] = []
        self._waiting: list[OpaqueState] = []
        self._last_text: int | None = None
        """The index of the last text."""
        self._behind: dict[int, list[AnyPart]] = {}
        """Signatures that follow a text, by its index."""

    def __repr__(self) -> str:
        return f"<_Turn {len(self.parts)} parts, {len(self._waiting)} states waiting>"

    def add_text(self, text: str) -> None:
        if not text:
            return
        self._last_text = len(self.parts)
        self.parts.append(SentPart(text=text))
        waiting, self._waiting = self._waiting, []
        for state in waiting:
            self.sign(state)

    def sign(self, state: OpaqueState) -> None:
        """Put a signature on the last text or after it; if there is none yet, on the next one."""
        if self._last_text is None:
            self._waiting.append(state)
            return
        part = self.parts[self._last_text]
        assert isinstance(part, SentPart)
        if state.id == ON_TEXT and part.thought_signature is None:
            self.parts[self._last_text] = msgspec.structs.replace(part, thought_signature=state.data)
        else:
            self._behind.setdefault(self._last_text, []).append(
                SentPart(text="", thought_signature=state.data)
            )

    def whole(self) -> list[AnyPart]:
        whole: list[AnyPart] = []
        for n, part in enumerate(self.parts):
            whole.append(part)
            whole += reversed(self._behind.get(n, ()))  # the last one stands nearest to its text
        return [*whole, *(SentPart(text="", thought_signature=state.data) for state in self._waiting)]
