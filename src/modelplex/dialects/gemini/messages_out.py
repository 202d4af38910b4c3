"""A conversation in Gemini's words: `systemInstruction` and `contents` of a request.

Above it stands `gemini.request_out`, below it the vocabulary. It refuses to know of tools that are
offered, of limits and of sampling.

What the service insists on, and the vocabulary does not, is settled here
(docs/reference/wire-formats.md#gemini and docs/reference/translation.md):

- instructions stand beside the conversation, never inside it;
- a turn of calls is followed by one user turn with a result for each, in their order and by their
  names, and by nothing else;
- a signature goes back on the part that it came on, and only to who made it (R16); where a call of
  a model that insists on one has none, it is marked as made elsewhere;
- no part is an empty text, but for one that carries a signature.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import assert_never

import msgspec

from modelplex.core.errors import BadRequest, StatePinned, Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    CacheBreakpoint,
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
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.surrogates import mended_text
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.gemini.json import DIALECT, ON_ITS_OWN, ON_TEXT, STATE_FORMAT

MADE_ELSEWHERE = "skip_thought_signature_validator"
"""The signature that the service documents for calls in a history that none of its models made
(ai.google.dev/gemini-api/docs/thought-signatures).
"""
SYSTEM_NOTE = "[System note, not written by the user]\n"
OPENING = "(The conversation begins with the assistant.)"
SOUNDS = {"wav": "audio/wav", "mp3": "audio/mp3"}
"""What Gemini calls OpenAI's two kinds of sound; any other is its subtype already."""

_INSTRUCTIONS = ("system", "developer")


# --- what is sent


class GeminiBlob(msgspec.Struct, frozen=True, rename="camel"):
    mime_type: str
    data: str


class GeminiFile(msgspec.Struct, frozen=True, rename="camel"):
    file_uri: str


class FunctionCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    args: msgspec.Raw


class FunctionResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    name: str
    response: msgspec.Raw | None = None
    parts: list[SentPart] | None = None


class SentPart(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    inline_data: GeminiBlob | None = None
    file_data: GeminiFile | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


AnyPart = SentPart | msgspec.Raw


class GeminiContent(msgspec.Struct):
    """One entry of `contents`. `path` is where it began in the client's body; `holds_results` keeps
    other parts out of it.
    """

    role: str
    parts: list[AnyPart]
    path: str = ""
    holds_results: bool = False


# --- what is kept while writing


class GeminiLosses:
    """What writing leaves behind beside the body: changes, and names that were replaced."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self.native = call.dialect == DIALECT
        self.attempt = attempt
        self.share([])

    def drop(self, path: str, reason: str) -> None:
        self.changes.append(Change("drop", path, reason))

    def lower(self, path: str, reason: str) -> None:
        self.changes.append(Change("lower", path, reason))

    def clamp(self, path: str, reason: str) -> None:
        self.changes.append(Change("clamp", path, reason))

    def add(self, path: str, reason: str) -> None:
        self.changes.append(Change("add", path, reason))

    def uncache(self, cache: CacheBreakpoint | None, path: str) -> None:
        if cache is not None:
            self.drop(f"{path}.cache_control", "Gemini caches prefixes by itself")

    def share(self, changes: list[Change]) -> None:
        """Add to these changes from now on."""
        self.changes = changes
        self.names = ToolAliases(changes, native=self.native, letter_first=True)

    def name(self, name: str, path: str) -> str:
        """A tool's name as it is sent."""
        return self.names.sent(name, path=path)


# --- the conversation


class GeminiContentWriter:
    """Writes `Call.messages`. After `write`, `system` and `contents` are what is sent."""

    def __init__(self, call: ChatRequest, notes: GeminiLosses) -> None:
        self._call = call
        self._notes = notes
        self.system: list[AnyPart] = []
        self.contents: list[GeminiContent] = []
        self._asked: dict[str, str] = {}  # ids of the open turn's calls: names as sent
        self._asked_at = ""

    def __repr__(self) -> str:
        turns = ", ".join(f"{content.role} {len(content.parts)}" for content in self.contents)
        return f"<History system {len(self.system)}; {turns}>"

    def write(self) -> None:
        """Raises BadRequest for a conversation that no model could continue, Unsupported for parts
        without words here, StatePinned.
        """
        at = [
            message if message.path else msgspec.structs.replace(message, path=f"messages[{n}]")
            for n, message in enumerate(self._call.messages)
        ]
        kept = [message for message in at if not self._is_hollow(message)]
        leading = list(takewhile(lambda message: message.role in _INSTRUCTIONS, kept))
        for message in leading:
            self.system += self._instructions(message)
        for is_answer, run in groupby(kept[len(leading) :], key=lambda message: message.role == "assistant"):
            if is_answer:
                for message in run:
                    self._answer(message)
            else:
                self._reply(list(run))
        if self._asked:
            self._refuse_unmatched(list(self._asked), (), path=self._asked_at)
        if not self.contents:
            raise BadRequest("The conversation has no message with content.", param="messages")
        if self.contents[0].role == "model" and not self._notes.native:
            self._notes.add(self.contents[0].path, "a conversation begins with the user here")
            self.contents.insert(0, GeminiContent("user", [SentPart(text=OPENING)]))
        if not self._notes.native and self._notes.attempt.facts.thinking == "adaptive":
            self._mark_calls()

    def _is_hollow(self, message: Message) -> bool:
        if any(not isinstance(part, TextPart | RefusalPart) or part.text for part in message.parts):
            return False
        self._notes.drop(message.path, "a message without content is refused here")
        return True

    def _mark_calls(self) -> None:
        """Of each turn the first call must be signed; parallel ones after it need not be."""
        for content in self.contents:
            if content.role != "model":
                continue
            for n, part in enumerate(content.parts):
                if isinstance(part, SentPart) and part.function_call is not None:
                    if part.thought_signature is None:
                        content.parts[n] = msgspec.structs.replace(part, thought_signature=MADE_ELSEWHERE)
                        self._notes.add(
                            content.path, "a call without Gemini's signature is marked as made elsewhere"
                        )
                    break

    def _append(self, role: str, parts: Sequence[AnyPart], path: str, *, holds_results: bool = False) -> None:
        if not parts:
            return
        last = self.contents[-1] if self.contents else None
        if last is not None and last.role == role and last.holds_results == holds_results:
            last.parts += parts
        else:
            self.contents.append(GeminiContent(role, list(parts), path, holds_results))

    # --- instructions

    def _instructions(self, message: Message) -> list[AnyPart]:
        """One part for each text."""
        self._unname(message)
        parts: list[AnyPart] = []
        for n, part in enumerate(message.parts):
            path = f"{message.path}.content[{n}]"
            if isinstance(part, TextPart):
                self._notes.uncache(part.cache, path)
                parts += [SentPart(text=part.text)] if part.text else []
            elif isinstance(part, ForeignPart) and self._notes.native:
                parts.append(part.raw)
            else:
                raise Unsupported("Instructions can only be text here.", param=path)
        return parts

    def _later_instructions(self, message: Message) -> None:
        parts = self._instructions(message)
        if not self.contents:
            self.system += parts
            return
        self._notes.lower(
            message.path, "Gemini takes no instructions inside a conversation: sent as a user's note"
        )
        noted = [
            msgspec.structs.replace(part, text=SYSTEM_NOTE + (part.text or ""))
            for part in parts
            if isinstance(part, SentPart)
        ]
        self._append("user", noted, message.path)

    # --- what the assistant said

    def _answer(self, message: Message) -> None:
        self._unname(message)
        turn = _Turn()
        for n, part in enumerate(message.parts):
            self._answer_part(part, turn, f"{message.path}.content[{n}]")
        self._append("model", turn.whole(), message.path)

    def _answer_part(self, part: Part, turn: _Turn, path: str) -> None:
        notes = self._notes
        match part:
            case TextPart():
                notes.uncache(part.cache, path)
                if part.annotations is not None and bytes(part.annotations) not in {b"[]", b"null"}:
                    notes.drop(f"{path}.annotations", "citations of earlier answers have no form here")
                turn.say(part.text)
            case RefusalPart():
                notes.lower(path, "an earlier refusal is told as text")
                turn.say(part.text)
            case ReasoningPart():
                self._thinking(part, turn, path)
            case ToolCallPart():
                turn.parts.append(self._call_part(part, path))
            case ForeignPart():
                turn.parts.append(self._foreign(part, path))
            case ImagePart() | AudioPart() | DocumentPart() | SearchResultPart():
                raise Unsupported(
                    f"{type(part).__name__} is not possible in an assistant's message here.", param=path
                )
            case ToolResultPart():
                raise BadRequest("A tool's result stands in an assistant's message.", param=path)
            case _:
                assert_never(part)

    def _thinking(self, part: ReasoningPart, turn: _Turn, path: str) -> None:
        state = part.state
        if state is not None:
            self._guard(state, path)
        if state is not None and state.format != STATE_FORMAT:
            self._notes.drop(path, "sealed reasoning is of use to its maker alone")
        elif state is not None and not part.text and state.id in {ON_TEXT, ON_ITS_OWN}:
            turn.sign(state)
        elif state is not None and not part.text:
            turn.parts.append(SentPart(text="", thought=True, thought_signature=state.data))
        elif state is not None:
            turn.parts.append(SentPart(text=part.text, thought=True, thought_signature=state.data))
        elif self._notes.native:
            turn.parts.append(SentPart(text=part.text, thought=True))
        else:
            self._notes.drop(path, "earlier reasoning without Gemini's own signature is not sent back")

    def _guard(self, state: OpaqueState, path: str) -> None:
        """The route sends sealed state home; this is the last door, so that a mistake there fails
        instead of leaking.
        """
        attempt = self._notes.attempt
        is_other_provider = state.provider is not None and state.provider != attempt.provider
        is_other_account = state.account is not None and state.account != attempt.account
        if is_other_provider or is_other_account:
            raise StatePinned(
                f"The conversation holds sealed reasoning of {state.provider or 'another account'}, which only its maker can read.",
                param=path,
            )

    def _call_part(self, part: ToolCallPart, path: str) -> SentPart:
        notes = self._notes
        if part.id in self._asked:
            raise BadRequest(f"Two calls of one turn have the id {part.id!r}.", param=path)
        notes.uncache(part.cache, path)
        if part.namespace is not None:
            notes.drop(f"{path}.namespace", "tools have no namespaces here")
        for member in part.extra:
            notes.drop(f"{path}.{member}", "it has no place here")
        signature = None
        if part.state is not None:
            self._guard(part.state, path)
            if part.state.format == STATE_FORMAT:
                signature = part.state.data
            else:
                notes.drop(path, "a signature that is not Gemini's has no place here")
        name = self._asked[part.id] = notes.name(part.name, f"{path}.name")
        self._asked_at = path
        made = FunctionCall(part.id, name, self._arguments(part, path))
        return SentPart(function_call=made, thought_signature=signature)

    def _arguments(self, part: ToolCallPart, path: str) -> msgspec.Raw:
        text = part.arguments
        if part.free:
            return msgspec.Raw(msgspec.json.encode({"input": text}))
        text = mended_text(text)
        if not text.strip():
            return msgspec.Raw(b"{}")
        try:
            msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._notes.lower(path, 'arguments that are not a JSON object are sent as {"_raw": text}')
            return msgspec.Raw(msgspec.json.encode({"_raw": text}))
        return msgspec.Raw(text.encode())

    # --- what the user and the tools said

    def _reply(self, run: list[Message]) -> None:
        self._append("user", self._results(run), run[0].path, holds_results=True)
        for message in run:
            if message.role in _INSTRUCTIONS:
                self._later_instructions(message)
                continue
            self._unname(message)
            parts = [
                written
                for n, part in enumerate(message.parts)
                for written in self._user_part(part, f"{message.path}.content[{n}]")
            ]
            self._append("user", parts, message.path)

    def _results(self, run: list[Message]) -> list[AnyPart]:
        """The results that belong to the open turn's calls, in the order of the calls."""
        given: dict[str, tuple[ToolResultPart, str]] = {}
        is_late = False
        for message in run:
            for n, part in enumerate(message.parts):
                path = f"{message.path}.content[{n}]"
                if not isinstance(part, ToolResultPart):
                    is_late = True
                    continue
                if part.id in given:
                    raise BadRequest(f"The call {part.id!r} has two results.", param=path)
                if is_late:
                    self._notes.changes.append(
                        Change("move", path, "results follow their calls at once here")
                    )
                given[part.id] = (part, path)
        missing = [id_ for id_ in self._asked if id_ not in given]
        unasked = [id_ for id_ in given if id_ not in self._asked]
        if missing or unasked:
            self._refuse_unmatched(missing, unasked, path=run[0].path)
        results: list[AnyPart] = [self._result(*given[id_], name=name) for id_, name in self._asked.items()]
        self._asked = {}
        return results

    def _refuse_unmatched(self, missing: Sequence[str], unasked: Sequence[str], *, path: str) -> None:
        told = [f"calls without a result: {', '.join(missing)}"] if missing else []
        told += [f"results without a call: {', '.join(unasked)}"] if unasked else []
        raise BadRequest(f"Tool calls and results do not match; {'; '.join(told)}.", param=path)

    def _result(self, part: ToolResultPart, path: str, *, name: str) -> SentPart:
        self._notes.uncache(part.cache, path)
        for member in part.extra:
            self._notes.drop(f"{path}.{member}", "it has no place here")
        texts: list[str] = []
        others: list[SentPart] = []
        for n, inner in enumerate(part.parts):
            for written in self._user_part(inner, f"{path}.content[{n}]"):
                if isinstance(written, SentPart) and written.text is not None:
                    texts.append(written.text)
                elif isinstance(written, SentPart):
                    others.append(written)
                else:
                    raise Unsupported("A tool's result may hold text and data here.", param=path)
        response = self._response("\n".join(texts), is_error=part.is_error)
        return SentPart(function_response=FunctionResponse(part.id, name, response, others or None))

    def _response(self, text: str, *, is_error: bool) -> msgspec.Raw:
        """A result is an object; `output` and `error` are the two names that mean something. What a
        client of this dialect gave as an object goes on as one.
        """
        if self._notes.native and not is_error and text.startswith("{"):
            try:
                msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass
            else:
                return msgspec.Raw(text.encode())
        return msgspec.Raw(msgspec.json.encode({"error" if is_error else "output": text}))

    def _user_part(self, part: Part, path: str) -> list[AnyPart]:
        match part:
            case TextPart():
                self._notes.uncache(part.cache, path)
                return [SentPart(text=part.text)] if part.text else []
            case RefusalPart(text=text):
                return [SentPart(text=text)] if text else []
            case ImagePart():
                return [self._image(part, path)]
            case AudioPart():
                return [self._audio(part, path)]
            case DocumentPart():
                return [self._document(part, path)]
            case SearchResultPart():
                self._notes.uncache(part.cache, path)
                if part.citations:
                    self._notes.drop(f"{path}.citations", "citations cannot be asked for here")
                return [SentPart(text="\n".join([f"{part.title}\n{part.source}", *part.texts]))]
            case ForeignPart():
                return [self._foreign(part, path)]
            case ToolResultPart():
                return []  # written by _results
            case ReasoningPart() | ToolCallPart():
                raise BadRequest(
                    f"{type(part).__name__} stands in a message that is not the assistant's.", param=path
                )
            case _:
                assert_never(part)

    # --- single parts

    def _unname(self, message: Message) -> None:
        if message.name is not None:
            self._notes.drop(f"{message.path}.name", "messages have no names here")
        for member in message.extra:
            self._notes.drop(f"{message.path}.{member}", "it has no place here")

    def _foreign(self, part: ForeignPart, path: str) -> msgspec.Raw:
        if part.dialect != DIALECT:
            raise Unsupported(f"{part.type} has no words in this provider's dialect.", param=path)
        return part.raw

    def _kept(self, source: UrlReference | FileReference, path: str) -> SentPart:
        """What a client of this dialect asked to be fetched is its own affair, and the policy's; no
        other dialect means that by an address.
        """
        if isinstance(source, UrlReference) and self._notes.native:
            return SentPart(file_data=GeminiFile(source.url))
        what = (
            "an address that is to be fetched"
            if isinstance(source, UrlReference)
            else "a file kept elsewhere"
        )
        raise Unsupported(f"Gemini is sent data, not {what}.", param=path)

    def _image(self, part: ImagePart, path: str) -> SentPart:
        if part.detail not in {None, "auto"}:
            self._notes.drop(f"{path}.detail", "images have no level of detail here")
        self._notes.uncache(part.cache, path)
        if isinstance(part.source, InlineData):
            return SentPart(inline_data=GeminiBlob(part.source.media_type, part.source.data))
        return self._kept(part.source, path)

    def _audio(self, part: AudioPart, path: str) -> SentPart:
        if not part.data:
            raise Unsupported("An earlier answer's sound is kept at another provider.", param=path)
        return SentPart(inline_data=GeminiBlob(SOUNDS.get(part.format, f"audio/{part.format}"), part.data))

    def _document(self, part: DocumentPart, path: str) -> SentPart:
        self._notes.uncache(part.cache, path)
        if part.citations:
            self._notes.drop(f"{path}.citations", "citations cannot be asked for here")
        source = part.source
        match source:
            case PlainText(text=text):
                return SentPart(text=_titled(part, text))
            case InlineData(media_type=media_type, data=data) if (
                media_type.startswith("text/") and not self._notes.native
            ):
                return SentPart(text=_titled(part, _decoded(data, path)))
            case InlineData(media_type=media_type, data=data):
                if part.filename or part.title or part.context:
                    self._notes.drop(f"{path}.filename", "data has no name here")
                return SentPart(inline_data=GeminiBlob(media_type, data))
            case UrlReference() | FileReference():
                return self._kept(source, path)
            case _:
                assert_never(source)


class _Turn:
    """One assistant message in the making. A signature may come before the text that it sat on:
    other dialects keep no order between the two.
    """

    def __init__(self) -> None:
        self.parts: list[AnyPart] = []
        self._waiting: list[OpaqueState] = []
        self._said: int | None = None
        """Where the text that was said last stands."""
        self._behind: dict[int, list[AnyPart]] = {}
        """Signatures that follow a text, by its place."""

    def __repr__(self) -> str:
        return f"<_Turn {len(self.parts)} parts, {len(self._waiting)} states waiting>"

    def say(self, text: str) -> None:
        if not text:
            return
        self._said = len(self.parts)
        self.parts.append(SentPart(text=text))
        waiting, self._waiting = self._waiting, []
        for state in waiting:
            self.sign(state)

    def sign(self, state: OpaqueState) -> None:
        """Puts a signature on the text that was said last, or after it; where none was said, on the
        one that comes.
        """
        if self._said is None:
            self._waiting.append(state)
            return
        part = self.parts[self._said]
        assert isinstance(part, SentPart)
        if state.id == ON_TEXT and part.thought_signature is None:
            self.parts[self._said] = msgspec.structs.replace(part, thought_signature=state.data)
        else:
            self._behind.setdefault(self._said, []).append(SentPart(text="", thought_signature=state.data))

    def whole(self) -> list[AnyPart]:
        whole: list[AnyPart] = []
        for n, part in enumerate(self.parts):
            whole.append(part)
            whole += reversed(self._behind.get(n, ()))  # the last one stands nearest to its text
        return [*whole, *(SentPart(text="", thought_signature=state.data) for state in self._waiting)]


def _titled(part: DocumentPart, text: str) -> str:
    heads = [head for head in (part.title or part.filename, part.context) if head]
    return "\n".join([*heads, text])


def _decoded(data: str, path: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadRequest("The text document is not base64 of UTF-8.", param=path) from error
