"""Writes the messages of a ChatRequest as `system` and `messages` of a Messages request.

What the service demands of a conversation (docs/reference/wire-formats.md#messages and
docs/reference/translation.md), beside the rules of `core.turns`:

- instructions may stand inside the conversation where the model allows it, never first;
- results stand at the head of the next user turn;
- no text block is empty or white space, and no assistant turn ends with a thinking block;
- a thinking block goes back unchanged, to its maker only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, assert_never

import msgspec

from modelplex.core.errors import Unsupported
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
    Part,
    Place,
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
from modelplex.dialects.anthropic.blocks import (
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
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelplex.dialects.core.call_arguments import as_object
from modelplex.dialects.core.losses import Losses
from modelplex.dialects.core.media import decode_text, media_type_of
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.core.turns import OPENING, SYSTEM_NOTE, Turn, TurnWriter

DIALECT = "anthropic_messages"
STATE_FORMAT = "anthropic-claude-v1"
"""The format of a signature or redacted thinking of this dialect
(docs/reference/wire-formats.md#openai-compatible-servers).
"""
FIRST_VERSION = "2023-06-01"
"""The API version that still takes sampling parameters, and citations in user text
(docs/reference/wire-formats.md#anthropic-api-versions).
"""
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TTLS = {"5m": "5m", "1h": "1h", "30m": "5m", "12h": "1h"}
NO_DETAILS = "The tool failed without saying why."

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")


class AnthropicLosses(Losses):
    """The report of one request, its tool names, and its cache markers in the order in which they
    are sent.
    """

    reasons: ClassVar[Mapping[str, str]] = {
        "annotations": "citations of this form are refused here",
        "cache": "its text is not sent",
        "detail": "images have no level of detail here",
        "filename": "a document has its title alone here",
        "name": "messages have no names here",
        "namespace": "tools have no namespaces here",
        "state": "a signature on a call has no place here",
    }

    def __init__(self, changes: list[Change], attempt: Attempt, *, native: bool) -> None:
        self.names = ToolAliases(changes, native=native)
        super().__init__(changes, attempt, native=native, name_of=self.names.sent)
        self.marks: list[tuple[CacheControlBlock, str]] = []

    def mark(self, cache: CacheBreakpoint | None, path: str) -> CacheControlBlock | None:
        """The marker of a cache breakpoint; `path` is the member's, for the report."""
        if cache is None:
            return None
        if cache.ttl is not None and cache.ttl not in TTLS:
            self.drop(f"{path}.ttl", f"a cache lives 5m or 1h here, not {cache.ttl}")
        if cache.ttl == "12h":
            self.clamp(f"{path}.ttl", "a cache lives for at most 1h here")
        if cache.ttl == "30m":
            self.clamp(f"{path}.ttl", "a cache lives 5m or 1h here, and 1h costs more to write")
        control = CacheControlBlock(ttl=TTLS.get(cache.ttl or ""))
        self.marks.append((control, path))
        return control

    def mark_part(self, part: Part, members: dict[str, Any]) -> CacheControlBlock | None:
        if "cache" not in members:
            return None
        return self.mark(members.pop("cache"), part.at.member("cache"))


class AnthropicMessageWriter(TurnWriter[Block]):
    """Writes the messages of a request; see TurnWriter."""

    late_result = "results stand at the head of a turn here"

    def __init__(self, call: ChatRequest, losses: AnthropicLosses) -> None:
        super().__init__(call, losses)
        self._losses: AnthropicLosses = losses
        self._facts = losses.attempt.facts
        self._ids: set[str] = set()
        self._numbers: dict[str, int] = {}
        """Of each id that was given more than once, the number that it was last sent with."""
        self._thinking_at: dict[int, Place] = {}
        """Where each block of thinking stood, by the block's identity."""

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

    def write(self) -> None:
        super().write()
        self._begin_with_user(TextBlock(OPENING))
        if self.is_prefill:
            self._finish_prefill(self.turns[-1])

    def _finish_prefill(self, turn: Turn[Block]) -> None:
        if not self._facts.prefill:
            raise Unsupported(
                "This model does not continue an answer that was begun for it: the last message must not be the assistant's.",
                param=turn.path,
            )
        last = turn.content[-1]
        if isinstance(last, TextBlock) and last.text != last.text.rstrip():
            turn.content[-1] = msgspec.structs.replace(last, text=last.text.rstrip())
            self._losses.lower(turn.path, "the beginning of an answer may not end with white space here")

    def _is_blank(self, text: str) -> bool:
        return not text.strip()

    # --- instructions

    def _instructions(self, message: Message) -> list[Block]:
        """One block for each message; a cache marker ends a block early. Blocks of a client of this
        dialect stay as they are.
        """
        blocks: list[Block] = []
        texts: list[str] = []
        for part in message.parts:
            if not isinstance(part, TextPart):
                raise Unsupported("Instructions can only be text here.", param=str(part.at))
            members = self._losses.members(part)
            if part.text.strip():
                texts.append(part.text)
                if self._losses.native or "cache" in members:
                    mark = self._losses.mark_part(part, members)
                    blocks.append(TextBlock("\n".join(texts), cache_control=mark))
                    texts = []
            elif part.text:
                self._losses.drop(part.at, "text of white space alone is refused here")
            self._losses.settle(part, members)
        return [*blocks, TextBlock("\n".join(texts))] if texts else blocks

    def _later_instructions(self, message: Message) -> None:
        blocks = self._instructions(message)
        if not self.turns:
            self.system += blocks
        elif self._facts.later_system:
            self._append("system", blocks, message.path)
        else:
            self._losses.lower(
                message.path, "this model takes no instructions inside a conversation: sent as a user's note"
            )
            noted = [
                msgspec.structs.replace(block, text=SYSTEM_NOTE + block.text)
                for block in blocks
                if isinstance(block, TextBlock)
            ]
            self._append("user", noted, message.path)

    # --- the assistant

    def _assistant(self, run: list[Message]) -> None:
        for message in run:
            self._settle(message)
            blocks = [block for part in message.parts for block in self._written(part, self._assistant_part)]
            self._append("assistant", blocks, message.path)
        self._trim_thinking()

    def _trim_thinking(self) -> None:
        """Remove thinking from the end of the assistant's turn, where it is refused."""
        if not self.turns or self.turns[-1].role != "assistant":
            return
        turn = self.turns[-1]
        while turn.content and isinstance(turn.content[-1], ThinkingBlock | RedactedBlock):
            place = self._thinking_at[id(turn.content.pop())]
            self._losses.drop(place, "thinking that led to nothing is refused here")
        if not turn.content:
            self.turns.pop()

    def _assistant_part(self, part: Part, members: dict[str, Any]) -> list[Block]:
        match part:
            case TextPart():
                return self._text(part, members, takes_citations=True)
            case ToolCallPart():
                return [self._tool_use(part, members)]
            case ReasoningPart():
                return self._thinking(part, members)
            case RefusalPart(text=text):
                if not text.strip():
                    return []
                self._losses.lower(part.at, "an earlier refusal is sent as text")
                return [TextBlock(text)]
            case ForeignPart():
                return [self._losses.foreign(part, dialect=DIALECT)]
            case DocumentPart() if self._attempt.quirks.api_version == FIRST_VERSION:
                return [self._document(part, members)]
            case ImagePart() | AudioPart() | DocumentPart() | SearchResultPart():
                return self._refuse(part)
            case ToolResultPart() | ToolReferencePart():
                return self._misplaced(part)
            case _:
                return self._losses.drop_unknown(part)

    def _thinking(self, part: ReasoningPart, members: dict[str, Any]) -> list[Block]:
        state = members.pop("state", None)
        if state is not None:
            self._losses.check_origin(state, part.at)
        if state is None or state.format != STATE_FORMAT:
            self._losses.drop(part.at, "thinking without this service's own signature is refused")
            return []
        if self._facts.thinking == "none":
            self._losses.drop(part.at, "this model does not think")
            return []
        block = RedactedBlock(state.data) if part.redacted else ThinkingBlock(part.text, state.data)
        self._thinking_at[id(block)] = part.at
        return [block]

    def _tool_use(self, part: ToolCallPart, members: dict[str, Any]) -> ToolUseBlock:
        if part.state is not None:
            self._losses.check_origin(part.state, part.at)
        sent = self._call_id(part)
        self._open_call(part, sent)
        extra = self._losses.take_extra(members, "caller", "toolset_name")
        return ToolUseBlock(
            id=sent,
            name=self._losses.tool_name(part),
            input=as_object(part, self._losses),
            caller=extra.get("caller"),
            toolset_name=extra.get("toolset_name"),
            cache_control=self._losses.mark_part(part, members),
        )

    def _call_id(self, part: ToolCallPart) -> str:
        """Ids are unique in the whole conversation, and of few characters; services that number
        calls by turn repeat theirs.
        """
        plain = sent = _NOT_IN_AN_ID.sub("_", part.id) or "call"
        while sent in self._ids:
            self._numbers[plain] = number = self._numbers.get(plain, 1) + 1
            sent = f"{plain}_{number}"
        self._ids.add(sent)
        if sent != part.id:
            self._losses.report("rename", part.at.member("id"), f"sent as {sent}")
        return sent

    # --- the user and the tools

    def _result(self, part: ToolResultPart, members: dict[str, Any], sent: str) -> list[Block]:
        is_error = members.pop("is_error", False)
        content: list[Block] = []
        for inner in part.parts:
            content += self._written(inner, self._user_part)
        if is_error and not content:
            self._losses.report("add", part.at, "a failed result without content is refused here")
            content = [TextBlock(NO_DETAILS)]
        extra = self._losses.take_extra(members, "toolset_name")
        block = ToolResultBlock(
            tool_use_id=sent,
            content=content or None,
            is_error=is_error,
            toolset_name=extra.get("toolset_name"),
            cache_control=self._losses.mark_part(part, members),
        )
        return [block]

    def _user_part(self, part: Part, members: dict[str, Any]) -> list[Block]:
        match part:
            case TextPart():
                takes_citations = self._attempt.quirks.api_version == FIRST_VERSION
                return self._text(part, members, takes_citations=takes_citations)
            case RefusalPart(text=text):
                return [TextBlock(text)] if text.strip() else []
            case ImagePart():
                return [ImageBlock(self._image_source(part), self._losses.mark_part(part, members))]
            case DocumentPart():
                return [self._document(part, members)]
            case SearchResultPart():
                return self._search_result(part, members)
            case ToolReferencePart(name=name):
                sent = self._losses.names.sent(name, path=str(part.at))
                return [ToolReferenceBlock(sent, self._losses.mark_part(part, members))]
            case ForeignPart():
                return [self._losses.foreign(part, dialect=DIALECT)]
            case AudioPart():
                raise Unsupported("This provider takes no audio.", param=str(part.at))
            case ReasoningPart() | ToolCallPart() | ToolResultPart():
                return self._misplaced(part)
            case _:
                return self._losses.drop_unknown(part)

    # --- single parts

    def _text(self, part: TextPart, members: dict[str, Any], *, takes_citations: bool) -> list[Block]:
        text = part.text
        if not members and text and not text.isspace():
            return [TextBlock(text)]
        if not text.strip():
            if text:
                self._losses.drop(part.at, "text of white space alone is refused here")
            return []
        is_ours = takes_citations and part.annotations_of == DIALECT
        citations = members.pop("annotations", None) if is_ours else None
        return [TextBlock(text, citations, self._losses.mark_part(part, members))]

    def _file(self, source: FileReference, part: Part) -> FileSource:
        if not self._losses.native:
            raise Unsupported(f"The file {source.id} is kept at another provider.", param=str(part.at))
        return FileSource(source.id)

    def _image_source(self, part: ImagePart) -> Base64Source | UrlSource | FileSource:
        source = part.source
        match source:
            case InlineData(media_type=media_type, data=data):
                kind = media_type_of(media_type, data)
                if kind not in IMAGE_TYPES:
                    raise Unsupported(
                        f"An image may be JPEG, PNG, GIF or WebP here, not {media_type}.", param=str(part.at)
                    )
                return Base64Source(kind, data)
            case UrlReference(url=url):
                return UrlSource(url)
            case FileReference():
                return self._file(source, part)
            case _:
                assert_never(source)

    def _document(self, part: DocumentPart, members: dict[str, Any]) -> DocumentBlock:
        title, filename = members.pop("title", None), members.get("filename")
        if title is None or filename == title:
            title = members.pop("filename", None)
        return DocumentBlock(
            source=self._document_source(part),
            title=title,
            context=members.pop("context", None),
            citations=Citations() if members.pop("citations", False) else None,
            cache_control=self._losses.mark_part(part, members),
        )

    def _document_source(self, part: DocumentPart) -> Base64Source | UrlSource | FileSource | TextSource:
        source = part.source
        match source:
            case PlainText(text=text):
                return TextSource("text/plain", text)
            case InlineData(media_type="application/pdf", data=data):
                return Base64Source("application/pdf", data)
            case InlineData(media_type=media_type) if media_type.startswith("text/"):
                return TextSource("text/plain", decode_text(source, part.at))
            case InlineData(media_type=media_type):
                raise Unsupported(
                    f"A document may be PDF or text here, not {media_type}.", param=str(part.at)
                )
            case UrlReference(url=url):
                return UrlSource(url)
            case FileReference():
                return self._file(source, part)
            case _:
                assert_never(source)

    def _search_result(self, part: SearchResultPart, members: dict[str, Any]) -> list[Block]:
        content = [TextBlock(text) for text in part.texts if text.strip()]
        if not content:
            self._losses.drop(part.at, "a search result without text is refused here")
            return []
        citations = Citations() if members.pop("citations", False) else None
        mark = self._losses.mark_part(part, members)
        return [SearchResultBlock(part.source, part.title, content, citations, mark)]
