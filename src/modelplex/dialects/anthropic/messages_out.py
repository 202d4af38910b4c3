"""A conversation in Anthropic's blocks: `system` and `messages` of a Messages request.

Above it stands `anthropic.request_out`, below it the vocabulary. It refuses to know of tools that
are offered, of limits and of sampling.

What the service insists on, and the vocabulary does not, is settled here
(docs/reference/wire-formats.md#messages and docs/reference/translation.md):

- instructions stand beside the conversation, or inside it where the model allows, never first in
  it;
- roles alternate: neighbours of one role become one turn;
- the results of a turn's calls stand together at the head of the next user turn, in the order of
  the calls, none missing and none too many;
- no text block is empty or white space, and no assistant turn ends with a thinking block;
- a thinking block goes back as it came, and only to who made it.
"""

from __future__ import annotations

import base64
import binascii
import re
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
from modelplex.dialects.anthropic.blocks import (
    AnthropicMessage,
    Base64Source,
    Block,
    CacheControlBlock,
    Citations,
    DocumentBlock,
    FileSource,
    ImageBlock,
    RedactedBlock,
    SearchResultBlock,
    TextBlock,
    TextSource,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelplex.dialects.core.surrogates import mended_text
from modelplex.dialects.core.tool_names import ToolAliases

DIALECT = "anthropic_messages"
STATE_FORMAT = "anthropic-claude-v1"
"""What a signature or redacted thinking of this dialect is called
(docs/reference/wire-formats.md#openai-compatible-servers).
"""

FIRST_VERSION = "2023-06-01"
"""The API version that still takes sampling parameters, and citations in user text
(docs/reference/wire-formats.md#anthropic-api-versions).
"""

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TTLS = {"5m": "5m", "1h": "1h", "30m": "1h", "12h": "1h"}
SYSTEM_NOTE = "[System note, not written by the user]\n"
OPENING = "(The conversation begins with the assistant.)"
NO_DETAILS = "The tool failed without saying why."

_INSTRUCTIONS = ("system", "developer")
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")


# --- what is kept while writing -------------------------------------------------------------------


class AnthropicLosses:
    """What writing leaves behind beside the body: changes, names that were replaced, and cache
    markers in the order in which they are sent.
    """

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self.native = call.dialect == DIALECT
        self.attempt = attempt
        self.share([])
        self.marks: list[tuple[CacheControlBlock, str]] = []

    def drop(self, path: str, reason: str) -> None:
        self.changes.append(Change("drop", path, reason))

    def lower(self, path: str, reason: str) -> None:
        self.changes.append(Change("lower", path, reason))

    def clamp(self, path: str, reason: str) -> None:
        self.changes.append(Change("clamp", path, reason))

    def share(self, changes: list[Change]) -> None:
        """Add to these changes from now on."""
        self.changes = changes
        self.names = ToolAliases(changes, native=self.native)

    def name(self, name: str, path: str) -> str:
        """A tool's name as it is sent."""
        return self.names.sent(name, path=path)

    def mark(self, cache: CacheBreakpoint | None, path: str) -> CacheControlBlock | None:
        """A cache breakpoint in this dialect's words, or None."""
        if cache is None:
            return None
        where = f"{path}.cache_control".removeprefix(".")
        if cache.ttl is not None and cache.ttl not in TTLS:
            self.drop(f"{where}.ttl", f"a cache lives 5m or 1h here, not {cache.ttl}")
        if cache.ttl == "12h":
            self.clamp(f"{where}.ttl", "a cache lives for at most 1h here")
        control = CacheControlBlock(ttl=TTLS.get(cache.ttl or ""))
        self.marks.append((control, where))
        return control


# --- the conversation -----------------------------------------------------------------------------


class AnthropicMessageWriter:
    """Writes `Call.messages`. After `write`, `system` and `turns` are what is sent."""

    def __init__(self, call: ChatRequest, notes: AnthropicLosses) -> None:
        self._call = call
        self._notes = notes
        self._facts = notes.attempt.facts
        self.system: list[TextBlock] = []
        self.turns: list[AnthropicMessage] = []
        self._asked: dict[str, str] = {}  # ids of the open turn's calls, as given: as sent
        self._asked_at = ""
        self._ids: set[str] = set()
        self._numbers: dict[
            str, int
        ] = {}  # of each id that was given more than once, the number that it was last sent with

    def __repr__(self) -> str:
        roles = ", ".join(f"{turn.role} {len(turn.content)}" for turn in self.turns)
        return f"<History system {len(self.system)}; {roles}>"

    def write(self) -> None:
        """Raises BadRequest for a conversation that no model could continue, Unsupported for parts
        without words here.
        """
        at = [
            message if message.path else msgspec.structs.replace(message, path=f"messages[{i}]")
            for i, message in enumerate(self._call.messages)
        ]
        kept = [message for message in at if not self._is_hollow(message)]
        leading = list(takewhile(lambda message: message.role in _INSTRUCTIONS, kept))
        for message in leading:
            self.system += self._instructions(message)
        for is_assistant, run in groupby(
            kept[len(leading) :], key=lambda message: message.role == "assistant"
        ):
            if is_assistant:
                self._assistant(list(run))
            else:
                self._answers(list(run))
        self._close()

    @property
    def is_prefill(self) -> bool:
        return bool(self.turns) and self.turns[-1].role == "assistant"

    @property
    def lacks_thinking(self) -> bool:
        """Whether the tool turn that is being continued starts without thinking; manual thinking is
        refused there.
        """
        has_results = False
        for turn in reversed(self.turns):
            if turn.role == "assistant":
                return has_results and not isinstance(turn.content[0], ThinkingBlock | RedactedBlock)
            has_results = has_results or any(isinstance(block, ToolResultBlock) for block in turn.content)
        return False

    def _is_hollow(self, message: Message) -> bool:
        if any(not isinstance(part, TextPart | RefusalPart) or part.text.strip() for part in message.parts):
            return False
        self._notes.drop(message.path, "a message without content is refused here")
        return True

    def _close(self) -> None:
        if self._asked:
            self._refuse_unmatched(sorted(self._asked), (), path=self._asked_at)
        if not self.turns:
            raise BadRequest("The conversation has no message with content.", param="messages")
        if self.turns[0].role == "assistant":
            self._notes.changes.append(
                Change("add", self.turns[0].path, "a conversation begins with the user here")
            )
            self.turns.insert(0, AnthropicMessage("user", [TextBlock(OPENING)]))
        if self.is_prefill:
            self._finish_prefill(self.turns[-1])

    def _finish_prefill(self, turn: AnthropicMessage) -> None:
        if not self._facts.prefill:
            raise Unsupported(
                "This model does not continue an answer that was begun for it: the last message must not be the assistant's.",
                param=turn.path,
            )
        last = turn.content[-1]
        if isinstance(last, TextBlock) and last.text != last.text.rstrip():
            turn.content[-1] = msgspec.structs.replace(last, text=last.text.rstrip())
            self._notes.lower(turn.path, "the beginning of an answer may not end with white space here")

    def _append(self, role: str, blocks: Sequence[Block], path: str) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1].role == role:
            self.turns[-1].content += blocks
        else:
            self.turns.append(AnthropicMessage(role, list(blocks), path))

    # -- instructions

    def _instructions(self, message: Message) -> list[TextBlock]:
        """One block a message; a marker inside the message ends a block early. What came in blocks
        of this form goes on in them.
        """
        self._unname(message)
        blocks: list[TextBlock] = []
        texts: list[str] = []
        for i, part in enumerate(message.parts):
            path = f"{message.path}.content[{i}]"
            if not isinstance(part, TextPart):
                raise Unsupported("Instructions can only be text here.", param=path)
            if not part.text.strip():
                self._drop_blank(part, path)
                continue
            texts.append(part.text)
            if part.cache is not None or self._notes.native:
                blocks.append(TextBlock("\n".join(texts), cache_control=self._notes.mark(part.cache, path)))
                texts = []
        return [*blocks, TextBlock("\n".join(texts))] if texts else blocks

    def _later_instructions(self, message: Message) -> None:
        blocks = self._instructions(message)
        if not self.turns:
            self.system += blocks
        elif self._facts.later_system:
            self._append("system", blocks, message.path)
        else:
            self._notes.lower(
                message.path, "this model takes no instructions inside a conversation: sent as a user's note"
            )
            noted = [msgspec.structs.replace(block, text=SYSTEM_NOTE + block.text) for block in blocks]
            self._append("user", noted, message.path)

    # -- what the assistant said

    def _assistant(self, run: list[Message]) -> None:
        for message in run:
            self._unname(message)
            blocks = [
                block
                for i, part in enumerate(message.parts)
                for block in self._assistant_part(part, f"{message.path}.content[{i}]")
            ]
            self._append("assistant", blocks, message.path)
        self._trim_thinking()

    def _trim_thinking(self) -> None:
        """An assistant turn may not end with thinking; what is left of one that was nothing else is
        removed.
        """
        if not self.turns or self.turns[-1].role != "assistant":
            return
        turn = self.turns[-1]
        while turn.content and isinstance(turn.content[-1], ThinkingBlock | RedactedBlock):
            turn.content.pop()
            self._notes.drop(turn.path, "thinking that led to nothing is refused here")
        if not turn.content:
            self.turns.pop()

    def _assistant_part(self, part: Part, path: str) -> list[Block]:
        match part:
            case TextPart():
                return self._text(part, path, is_user=False)
            case RefusalPart(text=text):
                if not text.strip():
                    return []
                self._notes.lower(path, "an earlier refusal is told as text")
                return [TextBlock(text)]
            case ReasoningPart():
                return self._thinking(part, path)
            case ToolCallPart():
                return [self._tool_use(part, path)]
            case ForeignPart():
                return [self._foreign(part, path)]
            case DocumentPart() if self._notes.attempt.quirks.api_version == FIRST_VERSION:
                return [self._document(part, path)]
            case ImagePart() | AudioPart() | DocumentPart() | SearchResultPart():
                raise Unsupported(
                    f"{type(part).__name__} is not possible in an assistant's message here.", param=path
                )
            case ToolResultPart():
                raise BadRequest("A tool's result stands in an assistant's message.", param=path)
            case _:
                assert_never(part)

    def _thinking(self, part: ReasoningPart, path: str) -> list[Block]:
        state = part.state
        if state is not None:
            self._guard(state, path)
        if state is None or state.format != STATE_FORMAT:
            self._notes.drop(path, "thinking without this service's own signature is refused")
            return []
        if self._facts.thinking == "none":
            self._notes.drop(path, "this model does not think")
            return []
        if part.redacted:
            return [RedactedBlock(state.data)]
        return [ThinkingBlock(part.text, state.data)]

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

    def _tool_use(self, part: ToolCallPart, path: str) -> ToolUseBlock:
        notes = self._notes
        if part.id in self._asked:
            raise BadRequest(f"Two calls of one turn have the id {part.id!r}.", param=path)
        if part.namespace is not None:
            notes.drop(f"{path}.namespace", "tools have no namespaces here")
        if part.state is not None:
            self._guard(part.state, path)
            notes.drop(path, "a signature on a call has no place here")
        sent = self._asked[part.id] = self._call_id(part.id, path)
        self._asked_at = path
        extra = self._extra(part.extra, path, keeps=("caller", "toolset_name"))
        return ToolUseBlock(
            id=sent,
            name=notes.name(part.name, f"{path}.name"),
            input=self._input(part, path),
            caller=extra.get("caller"),
            toolset_name=extra.get("toolset_name"),
            cache_control=notes.mark(part.cache, path),
        )

    def _extra(
        self, extra: dict[str, msgspec.Raw], path: str, *, keeps: tuple[str, ...]
    ) -> dict[str, msgspec.Raw]:
        for name in extra:
            if name not in keeps or not self._notes.native:
                self._notes.drop(f"{path}.{name}", "it has no place here")
        return extra if self._notes.native else {}

    def _call_id(self, given: str, path: str) -> str:
        """Ids are unique in the whole conversation and of few characters here; services that number
        calls by turn repeat theirs.
        """
        plain = sent = _NOT_IN_AN_ID.sub("_", given) or "call"
        while sent in self._ids:
            self._numbers[plain] = number = self._numbers.get(plain, 1) + 1
            sent = f"{plain}_{number}"
        self._ids.add(sent)
        if sent != given:
            self._notes.changes.append(Change("rename", f"{path}.id", f"sent as {sent}"))
        return sent

    def _input(self, part: ToolCallPart, path: str) -> msgspec.Raw:
        text = part.arguments
        if part.free:
            return msgspec.Raw(msgspec.json.encode({"input": text}))
        text = mended_text(text)
        if not text.strip():
            return msgspec.Raw(b"{}")
        try:
            msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeError):
            self._notes.lower(path, 'arguments that are not a JSON object are sent as {"_raw": text}')
            return msgspec.Raw(msgspec.json.encode({"_raw": text}))
        return msgspec.Raw(text.encode())

    # -- what the user and the tools said

    def _answers(self, run: list[Message]) -> None:
        results = self._results(run)
        self._append("user", results, run[0].path)
        for message in run:
            if message.role in _INSTRUCTIONS:
                self._later_instructions(message)
                continue
            self._unname(message)
            blocks = [
                block
                for i, part in enumerate(message.parts)
                for block in self._user_part(part, f"{message.path}.content[{i}]")
            ]
            self._append("user", blocks, message.path)

    def _results(self, run: list[Message]) -> list[ToolResultBlock]:
        """The results that belong to the open turn's calls, in the order of the calls."""
        given: dict[str, tuple[ToolResultPart, str]] = {}
        is_late = False
        for message in run:
            for i, part in enumerate(message.parts):
                path = f"{message.path}.content[{i}]"
                if not isinstance(part, ToolResultPart):
                    is_late = True
                    continue
                if part.id in given:
                    raise BadRequest(f"The call {part.id!r} has two results.", param=path)
                if is_late:
                    self._notes.changes.append(
                        Change("move", path, "results stand at the head of a turn here")
                    )
                given[part.id] = (part, path)
        missing = [id_ for id_ in self._asked if id_ not in given]
        unasked = [id_ for id_ in given if id_ not in self._asked]
        if missing or unasked:
            self._refuse_unmatched(missing, unasked, path=run[0].path)
        blocks = [self._tool_result(*given[id_], sent=sent) for id_, sent in self._asked.items()]
        self._asked = {}
        return blocks

    def _refuse_unmatched(self, missing: Sequence[str], unasked: Sequence[str], *, path: str) -> None:
        told = [f"calls without a result: {', '.join(missing)}"] if missing else []
        told += [f"results without a call: {', '.join(unasked)}"] if unasked else []
        raise BadRequest(f"Tool calls and results do not match; {'; '.join(told)}.", param=path)

    def _tool_result(self, part: ToolResultPart, path: str, *, sent: str) -> ToolResultBlock:
        content: list[Block] = [
            block
            for i, inner in enumerate(part.parts)
            for block in self._user_part(inner, f"{path}.content[{i}]")
        ]
        if part.is_error and not content:
            self._notes.changes.append(Change("add", path, "a failed result without content is refused here"))
            content = [TextBlock(NO_DETAILS)]
        extra = self._extra(part.extra, path, keeps=("toolset_name",))
        return ToolResultBlock(
            tool_use_id=sent,
            content=content or None,
            is_error=part.is_error,
            toolset_name=extra.get("toolset_name"),
            cache_control=self._notes.mark(part.cache, path),
        )

    def _user_part(self, part: Part, path: str) -> list[Block]:
        match part:
            case TextPart():
                return self._text(part, path, is_user=True)
            case RefusalPart(text=text):
                return [TextBlock(text)] if text.strip() else []
            case ImagePart():
                return [self._image(part, path)]
            case DocumentPart():
                return [self._document(part, path)]
            case SearchResultPart():
                return self._search_result(part, path)
            case ForeignPart():
                return [self._foreign(part, path)]
            case AudioPart():
                raise Unsupported("This provider takes no audio.", param=path)
            case ToolResultPart():
                return []  # written by _results, at the head of the turn
            case ReasoningPart() | ToolCallPart():
                raise BadRequest(
                    f"{type(part).__name__} stands in a message that is not the assistant's.", param=path
                )
            case _:
                assert_never(part)

    # -- single parts

    def _unname(self, message: Message) -> None:
        if message.name is not None:
            self._notes.drop(f"{message.path}.name", "messages have no names here")
        for member in message.extra:
            self._notes.drop(f"{message.path}.{member}", "it has no place here")

    def _drop_blank(self, part: TextPart, path: str) -> None:
        if part.text:
            self._notes.drop(path, "text of white space alone is refused here")
        if part.cache is not None:
            self._notes.drop(f"{path}.cache_control", "it stood on text that is not sent")

    def _text(self, part: TextPart, path: str, *, is_user: bool) -> list[Block]:
        if not part.text.strip():
            self._drop_blank(part, path)
            return []
        citations = part.annotations if _is_some(part.annotations) else None
        is_refused = is_user and self._notes.attempt.quirks.api_version != FIRST_VERSION
        if citations is not None and (part.annotations_of != DIALECT or is_refused):
            self._notes.drop(f"{path}.annotations", "citations of this form are refused here")
            citations = None
        return [TextBlock(part.text, citations, self._notes.mark(part.cache, path))]

    def _foreign(self, part: ForeignPart, path: str) -> msgspec.Raw:
        if part.dialect != DIALECT:
            raise Unsupported(f"{part.type} has no words in this provider's dialect.", param=path)
        return part.raw

    def _file(self, source: FileReference, path: str) -> FileSource:
        if not self._notes.native:
            raise Unsupported(f"The file {source.id} is kept at another provider.", param=path)
        return FileSource(source.id)

    def _image(self, part: ImagePart, path: str) -> ImageBlock:
        if part.detail not in {None, "auto"}:
            self._notes.drop(f"{path}.detail", "images have no level of detail here")
        source = part.source
        written: Base64Source | UrlSource | FileSource
        match source:
            case InlineData(media_type=media_type, data=data):
                kind = "image/jpeg" if media_type == "image/jpg" else media_type
                if kind not in IMAGE_TYPES:
                    raise Unsupported(
                        f"An image may be JPEG, PNG, GIF or WebP here, not {media_type}.", param=path
                    )
                written = Base64Source(kind, data)
            case UrlReference(url=url):
                written = UrlSource(url)
            case FileReference():
                written = self._file(source, path)
            case _:
                assert_never(source)
        return ImageBlock(written, self._notes.mark(part.cache, path))

    def _document(self, part: DocumentPart, path: str) -> DocumentBlock:
        if part.title is not None and part.filename not in {None, part.title}:
            self._notes.drop(f"{path}.filename", "a document has its title alone here")
        return DocumentBlock(
            source=self._document_source(part, path),
            title=part.title or part.filename,
            context=part.context,
            citations=Citations() if part.citations else None,
            cache_control=self._notes.mark(part.cache, path),
        )

    def _document_source(
        self, part: DocumentPart, path: str
    ) -> Base64Source | UrlSource | FileSource | TextSource:
        source = part.source
        match source:
            case PlainText(text=text):
                return TextSource("text/plain", text)
            case InlineData(media_type="application/pdf", data=data):
                return Base64Source("application/pdf", data)
            case InlineData(media_type=media_type, data=data) if media_type.startswith("text/"):
                return TextSource("text/plain", _decoded(data, path))
            case InlineData(media_type=media_type):
                raise Unsupported(f"A document may be PDF or text here, not {media_type}.", param=path)
            case UrlReference(url=url):
                return UrlSource(url)
            case FileReference():
                return self._file(source, path)
            case _:
                assert_never(source)

    def _search_result(self, part: SearchResultPart, path: str) -> list[Block]:
        content = [TextBlock(text) for text in part.texts if text.strip()]
        if not content:
            self._notes.drop(path, "a search result without text is refused here")
            return []
        citations = Citations() if part.citations else None
        mark = self._notes.mark(part.cache, path)
        return [SearchResultBlock(part.source, part.title, content, citations, mark)]


def _decoded(data: str, path: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadRequest("The text document is not base64 of UTF-8.", param=path) from error


def _is_some(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw) not in {b"[]", b"null"}
