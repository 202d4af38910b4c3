"""Writes the messages of a ChatRequest as `system` and `messages` of a Converse request.

What the service demands of a conversation, beside the rules of `core.turns` (Message and
ContentBlock of botocore 1.44.8, bedrock-runtime 2023-09-30;
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html):

- the user begins, and no text is blank;
- a document has a name of few characters, and a text beside it;
- signed reasoning goes back unchanged, to the model that made it;
- a cache point is a block of its own, after what is cached.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, ClassVar, assert_never

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
from modelplex.dialects.bedrock_converse.families import ModelFamily, Section
from modelplex.dialects.core.call_arguments import as_object
from modelplex.dialects.core.losses import Losses
from modelplex.dialects.core.media import media_type_of, search_text
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.core.turns import OPENING, SYSTEM_NOTE, TurnWriter

DIALECT = "bedrock_converse"
STATE_FORMAT = "bedrock-converse-v1"
"""The format of a signature or redacted reasoning of this dialect."""
MAX_MARKS = 4
"""Cache points of one request (MAX_CACHE_POINTS of
https://docs.langchain4j.dev/apidocs/dev/langchain4j/model/bedrock/BedrockSystemTextContent.html).
"""
TTLS = {"5m": "5m", "1h": "1h", "30m": "5m", "12h": "1h"}
IMAGES = {f"image/{name}": name for name in ("png", "jpeg", "gif", "webp")}
SOUNDS = frozenset("mp3 opus wav aac flac mp4 ogg mkv mka x-aac m4a mpeg mpga pcm webm".split())
DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
"""DocumentFormat by media type; other text is `txt`."""
SEE_DOCUMENT = "(See the document.)"
LONGEST_ID = 64
LONGEST_NAME = 200
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.:-]")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9()\[\]-]+")
"""DocumentBlock.name: letters, digits, single spaces, hyphens, parentheses, square brackets."""

Block = dict[str, Any]


class ConverseLosses(Losses):
    """The report of one request, its tool names, and its cache points in the order in which they
    are sent.
    """

    reasons: ClassVar[Mapping[str, str]] = {
        "annotations": "citations of this form have no place here",
        "cache": "this model takes no cache point here",
        "citations": "this model has no citations here",
        "detail": "images have no level of detail here",
        "name": "messages have no names here",
        "namespace": "tools have no namespaces here",
        "state": "a signature on a call has no place here",
    }

    def __init__(self, changes: list[Change], attempt: Attempt, family: ModelFamily) -> None:
        self.names = ToolAliases(changes, native=False)
        super().__init__(changes, attempt, native=False, name_of=self.names.sent)
        self.family = family
        self.marks: list[tuple[Block, str]] = []

    def mark(self, cache: CacheBreakpoint, path: str) -> Block:
        """A cache point; `path` is the member's, for the report."""
        point: dict[str, str] = {"type": "default"}
        if cache.ttl is not None:
            if cache.ttl not in TTLS:
                self.drop(f"{path}.ttl", f"a cache lives 5m or 1h here, not {cache.ttl}")
            else:
                point["ttl"] = TTLS[cache.ttl]
                if TTLS[cache.ttl] != cache.ttl:
                    self.clamp(f"{path}.ttl", "a cache lives 5m or 1h here")
        block: Block = {"cachePoint": point}
        self.marks.append((block, path))
        return block

    def marked(self, blocks: list[Block], part: Part, members: dict[str, Any], section: Section) -> None:
        """Add the cache point of a part, where the model takes one."""
        if blocks and "cache" in members and section in self.family.cache:
            blocks.append(self.mark(members.pop("cache"), part.at.member("cache")))

    def drop_surplus(self) -> frozenset[int]:
        """The ids of the cache points that are too many: the earliest, since a later one covers
        what they cover.
        """
        surplus = self.marks[: max(0, len(self.marks) - MAX_MARKS)]
        for _, path in surplus:
            self.drop(path, f"there are at most {MAX_MARKS} cache points here")
        return frozenset(id(block) for block, _ in surplus)


class _Names:
    """Names of which none is given twice: a repeated one gets a number behind `mark`."""

    def __init__(self, longest: int, mark: str) -> None:
        self._longest = longest
        self._mark = mark
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        """Of each name that was repeated, the number that it was last given with."""

    def __repr__(self) -> str:
        return f"<_Names {len(self._taken)}>"

    def new(self, name: str) -> str:
        name = sent = name[: self._longest].strip()
        while sent in self._taken:
            self._numbers[name] = number = self._numbers.get(name, 1) + 1
            ending = f"{self._mark}{number}"
            sent = name[: self._longest - len(ending)].rstrip() + ending
        self._taken.add(sent)
        return sent


class ConverseMessageWriter(TurnWriter[Block]):
    """Writes the messages of a request; see TurnWriter."""

    late_result = "results stand at the head of a turn here"

    def __init__(self, call: ChatRequest, losses: ConverseLosses) -> None:
        super().__init__(call, losses)
        self._losses: ConverseLosses = losses
        self._ids = _Names(LONGEST_ID, "_")
        self._names = _Names(LONGEST_NAME, " ")
        self._reasoning_at: dict[int, Place] = {}
        """Where each block of reasoning stood, by the block's identity."""
        self.called: dict[str, ToolCallPart] = {}
        """The tools that earlier turns called, by their names as sent."""

    def write(self) -> None:
        super().write()
        self._begin_with_user({"text": OPENING})
        for turn in self.turns:
            if any("document" in block for block in turn.content) and not any(
                "text" in block for block in turn.content
            ):
                turn.content.append({"text": SEE_DOCUMENT})
                self._losses.report("add", turn.path, "a document needs a text beside it here")

    def _is_blank(self, text: str) -> bool:
        return not text.strip()

    # --- instructions

    def _instructions(self, message: Message) -> list[Block]:
        blocks: list[Block] = []
        for part in message.parts:
            if not isinstance(part, TextPart):
                raise Unsupported("Instructions can only be text here.", param=str(part.at))
            members = self._losses.members(part)
            written = self._text(part)
            self._losses.marked(written, part, members, "system")
            blocks += written
            self._losses.settle(part, members)
        return blocks

    def _later_instructions(self, message: Message) -> None:
        blocks = self._instructions(message)
        if not self.turns:
            self.system += blocks
            return
        self._losses.lower(
            message.path, "Converse takes no instructions inside a conversation: sent as a user's note"
        )
        noted = [{"text": SYSTEM_NOTE + block["text"]} if "text" in block else block for block in blocks]
        self._append("user", noted, message.path)

    # --- the assistant

    def _assistant(self, run: list[Message]) -> None:
        for message in run:
            self._settle(message)
            blocks = [block for part in message.parts for block in self._written(part, self._assistant_part)]
            self._append("assistant", blocks, message.path)
        self._trim_reasoning()

    def _trim_reasoning(self) -> None:
        """Remove reasoning from the end of the assistant's turn: it led to nothing."""
        if not self.turns or self.turns[-1].role != "assistant":
            return
        turn = self.turns[-1]
        while turn.content and "reasoningContent" in turn.content[-1]:
            place = self._reasoning_at[id(turn.content.pop())]
            self._losses.drop(place, "reasoning that led to nothing is refused here")
        if not turn.content:
            self.turns.pop()

    def _assistant_part(self, part: Part, members: dict[str, Any]) -> list[Block]:
        match part:
            case TextPart():
                written = self._text(part)
                self._losses.marked(written, part, members, "messages")
                return written
            case ToolCallPart():
                written = [self._tool_use(part)]
                self._losses.marked(written, part, members, "messages")
                return written
            case ReasoningPart():
                return self._reasoning(part, members)
            case RefusalPart(text=text):
                if not text.strip():
                    return []
                self._losses.lower(part.at, "an earlier refusal is sent as text")
                return [{"text": text}]
            case ForeignPart():
                self._losses.foreign(part, dialect=DIALECT)
                return []
            case ImagePart() | AudioPart() | DocumentPart() | SearchResultPart():
                return self._refuse(part)
            case ToolResultPart() | ToolReferencePart():
                return self._misplaced(part)
            case _:
                return self._losses.drop_unknown(part)

    def _reasoning(self, part: ReasoningPart, members: dict[str, Any]) -> list[Block]:
        state = members.pop("state", None)
        if state is not None:
            self._losses.check_origin(state, part.at)
        if state is None or state.format != STATE_FORMAT:
            self._losses.drop(
                part.at, "earlier reasoning without this service's own signature is not sent back"
            )
            return []
        if state.model not in {None, self._attempt.model}:
            self._losses.drop(part.at, "reasoning that another model signed is not sent back")
            return []
        content: dict[str, Any] = (
            {"redactedContent": state.data}
            if part.redacted
            else {"reasoningText": {"text": part.text, "signature": state.data}}
        )
        block: Block = {"reasoningContent": content}
        self._reasoning_at[id(block)] = part.at
        return [block]

    def _tool_use(self, part: ToolCallPart) -> Block:
        if part.state is not None:
            self._losses.check_origin(part.state, part.at)
        sent = self._call_id(part)
        self._open_call(part, sent)
        name = self._losses.tool_name(part)
        self.called.setdefault(name, part)
        return {"toolUse": {"toolUseId": sent, "name": name, "input": as_object(part, self._losses)}}

    def _call_id(self, part: ToolCallPart) -> str:
        """Ids are of few characters, and unique in the whole conversation."""
        sent = self._ids.new(_NOT_IN_AN_ID.sub("_", part.id) or "call")
        if sent != part.id:
            self._losses.report("rename", part.at.member("id"), f"sent as {sent}")
        return sent

    # --- the user and the tools

    def _result(self, part: ToolResultPart, members: dict[str, Any], sent: str) -> list[Block]:
        content: list[Block] = []
        for inner in part.parts:
            content += self._written(inner, self._result_part)
        result: dict[str, Any] = {"toolUseId": sent, "content": content}
        if members.pop("is_error", False):
            result["status"] = "error"
        blocks: list[Block] = [{"toolResult": result}]
        self._losses.marked(blocks, part, members, "messages")
        return blocks

    def _result_part(self, part: Part, members: dict[str, Any]) -> list[Block]:
        """A part of a result, where a cache point has no place."""
        return self._content(part, members)

    def _user_part(self, part: Part, members: dict[str, Any]) -> list[Block]:
        written = self._content(part, members)
        self._losses.marked(written, part, members, "messages")
        return written

    def _content(self, part: Part, members: dict[str, Any]) -> list[Block]:
        match part:
            case TextPart():
                return self._text(part)
            case RefusalPart(text=text):
                return [{"text": text}] if text.strip() else []
            case ImagePart():
                return [self._image(part)]
            case DocumentPart():
                return [self._document(part, members)]
            case AudioPart():
                return [self._audio(part)]
            case SearchResultPart():
                return self._search_result(part, members)
            case ForeignPart():
                self._losses.foreign(part, dialect=DIALECT)
                return []
            case ReasoningPart() | ToolCallPart() | ToolResultPart() | ToolReferencePart():
                return self._misplaced(part)
            case _:
                return self._losses.drop_unknown(part)

    # --- single parts

    def _text(self, part: TextPart) -> list[Block]:
        if part.text.strip():
            return [{"text": part.text}]
        if part.text:
            self._losses.drop(part.at, "text of white space alone is refused here")
        return []

    def _image(self, part: ImagePart) -> Block:
        if not isinstance(part.source, InlineData):
            raise Unsupported("Converse takes images as data, not as a URL or a file id.", param=str(part.at))
        kind = media_type_of(part.source.media_type, part.source.data)
        if kind not in IMAGES:
            raise Unsupported(f"An image may be PNG, JPEG, GIF or WebP here, not {kind}.", param=str(part.at))
        return {"image": {"format": IMAGES[kind], "source": {"bytes": part.source.data}}}

    def _audio(self, part: AudioPart) -> Block:
        if not part.data:
            raise Unsupported("An earlier answer's sound is kept at another provider.", param=str(part.at))
        if part.format not in SOUNDS:
            raise Unsupported(f"Converse takes no audio in the format {part.format}.", param=str(part.at))
        return {"audio": {"format": part.format, "source": {"bytes": part.data}}}

    def _document(self, part: DocumentPart, members: dict[str, Any]) -> Block:
        kind, data = self._document_data(part)
        document: dict[str, Any] = {
            "name": self._document_name(part, members),
            "format": kind,
            "source": {"bytes": data},
        }
        if (context := members.pop("context", None)) is not None:
            document["context"] = context
        if self._losses.family.citations and members.pop("citations", False):
            document["citations"] = {"enabled": True}
        return {"document": document}

    def _document_data(self, part: DocumentPart) -> tuple[str, str]:
        """Its format, and its bytes in base64."""
        source = part.source
        match source:
            case PlainText(text=text):
                return "txt", b64encode(text.encode("utf-8", "surrogatepass")).decode()
            case InlineData(media_type=media_type, data=data):
                kind = media_type_of(media_type, data, filename=part.filename)
                if kind in DOCUMENTS:
                    return DOCUMENTS[kind], data
                if kind.startswith("text/"):
                    return "txt", data
                raise Unsupported(
                    f"A document may be {', '.join(DOCUMENTS.values())} here, not {kind}.", param=str(part.at)
                )
            case UrlReference() | FileReference():
                raise Unsupported(
                    "Converse takes documents as data, not as a URL or a file id.", param=str(part.at)
                )
            case _:
                assert_never(source)

    def _document_name(self, part: DocumentPart, members: dict[str, Any]) -> str:
        """The title or the file name in the characters of a name, and no name twice."""
        given: str | None = members.pop("title", None)
        filename: str | None = members.pop("filename", None)
        name = self._names.new(_NOT_IN_A_NAME.sub(" ", given or filename or "").strip() or "Document")
        if (given or filename) not in {None, name}:
            member = "title" if given else "filename"
            self._losses.report("rename", part.at.member(member), f"sent as {name!r}")
        return name

    def _search_result(self, part: SearchResultPart, members: dict[str, Any]) -> list[Block]:
        texts = [text for text in part.texts if text.strip()]
        if not self._losses.family.citations or not texts:
            self._losses.lower(part.at, "a search result is sent as text")
            return [{"text": search_text(part)}]
        found: dict[str, Any] = {
            "source": part.source,
            "title": part.title,
            "content": [{"text": text} for text in texts],
        }
        if members.pop("citations", False):
            found["citations"] = {"enabled": True}
        return [{"searchResult": found}]
