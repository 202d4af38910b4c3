"""Writes the messages of a ChatRequest as `messages` of a chat completions request.

What a tool message cannot hold (images, files) follows in the next user message
(docs/reference/translation.md#content-parts). Opaque state goes to its maker only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
    Source,
    TextPart,
    ToolCallPart,
    ToolReferencePart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.cache_breakpoints import MEMBER, breakpoint_of
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.losses import Losses, ToolNaming
from modelplex.dialects.core.media import (
    ERROR_MARK,
    data_url,
    decode_text,
    document_text,
    file_name,
    search_text,
)
from modelplex.dialects.openai_chat.call_ids import sent_id
from modelplex.dialects.openai_chat.instructions import NO_DEVELOPER, NO_NAMES
from modelplex.dialects.openai_chat.passthrough import GEMINI

DIALECT = "openai_chat"
_PLAIN = {"type", "text"}
_MOVED = "a tool's message holds text only: the {} follows in a user message"

_Written = dict[str, Any]
_AnyPart = _Written | msgspec.Raw


class _ChatLosses(Losses):
    reasons: ClassVar[Mapping[str, str]] = {
        "annotations": "citations of earlier answers have no form here",
        "cache": "this service takes no cache markers",
        "citations": "citations cannot be asked for here",
        "context": "a file has no context here",
        "name": NO_NAMES,
        "namespace": "this dialect has no namespaces",
        "phase": "this dialect has no phases",
        "state": "sealed state is of use to its maker alone",
        "title": "a file has its name alone here",
    }


class ChatMessageWriter:
    """The messages of one request. It adds to `changes`. `free` are the free-form tools, as sent,
    whose text is wrapped in an object.
    """

    def __init__(
        self,
        call: ChatRequest,
        attempt: Attempt,
        *,
        name_of: ToolNaming,
        changes: list[Change],
        free: set[str],
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._quirks = attempt.quirks
        self._own = call.dialect == DIALECT
        self._losses = _ChatLosses(changes, attempt, native=self._own, name_of=name_of)
        self._free = free
        self._moved: list[_AnyPart] = []
        """Parts of tool results that wait for the next user message."""

    def write(self) -> list[_Written]:
        messages: list[_Written] = []
        for message in self._call.messages:
            if message.role == "tool":
                messages += self._results(message)
                continue
            if self._moved and message.role != "user":
                messages.append({"role": "user", "content": self._take_moved()})
            messages.append(self._message(message))
        if self._moved:
            messages.append({"role": "user", "content": self._take_moved()})
        last = self._call.messages[-1] if self._call.messages else None
        if last is not None and last.role == "assistant" and not self._own:
            self._losses.lower(last.path, "an answer that is begun may not be continued here")
        return messages

    def _take_moved(self) -> list[_AnyPart]:
        moved, self._moved = self._moved, []
        return moved

    def _message(self, message: Message) -> _Written:
        role: str = message.role
        if role in {"system", "developer"}:
            role = self._instructions_role(message)
        written: _Written = {"role": role}
        if message.role == "assistant":
            self._assistant(message, written)
        elif (text := self._losses.only_text(message.parts)) is not None and not self._moved:
            written["content"] = text
        else:
            parts = self._parts(message.parts)
            if self._moved:
                parts = [*self._take_moved(), *parts]
            written["content"] = self._content(parts, role=role)
        self._write_members(message, written)
        return written

    def _instructions_role(self, message: Message) -> str:
        if not self._own:
            return self._quirks.system_role
        if message.role == "developer" and not self._quirks.developer_role:
            self._losses.lower(message.member("role"), NO_DEVELOPER)
            return "system"
        return message.role

    def _write_members(self, message: Message, written: _Written) -> None:
        members = self._losses.members(message)
        if not members:
            return
        if "name" in members and self._quirks.message_names:
            written["name"] = members.pop("name")
        for name, value in self._losses.take_extra(members).items():
            written.setdefault(name, value)
        self._losses.settle(message, members)

    def _content(self, parts: Sequence[_AnyPart], *, role: str) -> object:
        """A plain string where one text is all there is: every server reads that form."""
        texts: list[str] = [
            part["text"] for part in parts if isinstance(part, dict) and part.keys() == _PLAIN
        ]
        if len(texts) == len(parts):
            if len(texts) == 1:
                return texts[0]
            if not texts:
                return ""
            if not self._own and role in {"system", "developer"}:
                return "\n\n".join(texts)
        return parts

    # --- the assistant

    def _assistant(self, message: Message, written: _Written) -> None:
        parts: list[_AnyPart] = []
        calls: list[_Written] = []
        thoughts: list[ReasoningPart] = []
        refusals: list[str] = []
        for part in message.parts:
            members = self._losses.members(part)
            match part:
                case ToolCallPart():
                    calls.append(self._tool_call(part, members))
                case ReasoningPart():
                    members.pop("state", None)  # _write_thoughts reports it
                    thoughts.append(part)
                case RefusalPart():
                    refusals.append(part.text)
                case AudioPart() if part.id is not None:
                    written["audio"] = {"id": members.pop("id")}
                case _:
                    if (
                        "annotations" in members
                        and isinstance(part, TextPart)
                        and part.annotations_of == DIALECT
                    ):
                        written["annotations"] = members.pop("annotations")
                    if (other := self._part(part, members)) is not None:
                        parts.append(other)
            if members:
                self._losses.settle(part, members)
        if refusals:
            written["refusal"] = "".join(refusals)
        written["content"] = self._content(parts, role="assistant") if parts else None
        if written["content"] is None and not (calls or refusals or "audio" in written):
            written["content"] = ""
        if calls:
            written["tool_calls"] = calls
        if thoughts:
            self._write_thoughts(thoughts, written)

    def _tool_call(self, call: ToolCallPart, members: dict[str, Any]) -> _Written:
        name = self._losses.tool_name(call)
        sent = sent_id(call.id, self._quirks, native=self._own)
        if sent != call.id:
            self._losses.report("rename", call.at.member("id"), f"sent as {sent}")
        written: _Written
        if call.free and name not in self._free:
            written = {"id": sent, "type": "custom", "custom": {"name": name, "input": call.arguments}}
        else:
            arguments = encode({"input": call.arguments}).decode() if call.free else call.arguments or "{}"
            written = {"id": sent, "type": "function", "function": {"name": name, "arguments": arguments}}
        if call.state is not None and self._is_theirs(call.state):
            members.pop("state")
            written["extra_content"] = {"google": {"thought_signature": call.state.data}}
        return {**self._losses.take_extra(members), **written} if members else written

    def _is_theirs(self, state: OpaqueState) -> bool:
        """Whether this provider made it. State of an unknown maker came from a client of this
        dialect and goes on unchanged.
        """
        if state.provider is None:
            return self._own
        return state.provider == self._attempt.provider and state.account in {None, self._attempt.account}

    def _write_thoughts(self, thoughts: list[ReasoningPart], written: _Written) -> None:
        """Opaque state goes to its maker; the text goes to services that take it
        (docs/reference/wire-formats.md#openai-compatible-servers and
        docs/reference/translation.md#reasoning-and-opaque-state).
        """
        theirs: list[ReasoningPart] = []
        for thought in thoughts:
            if thought.state is not None and self._is_theirs(thought.state):
                theirs.append(thought)
            elif thought.state is not None:
                self._losses.drop(thought.at.member("state"), self._losses.reasons["state"])
        for thought in theirs:
            if thought.state is not None and thought.state.format == GEMINI and not thought.text:
                written["extra_content"] = {"google": {"thought_signature": thought.state.data}}
                theirs.remove(thought)
                thoughts.remove(thought)
                break
        field = self._quirks.reasoning_back
        if theirs or field == "reasoning_details":
            kept = thoughts if field == "reasoning_details" else theirs
            sealed_here = {id(thought) for thought in theirs}
            written["reasoning_details"] = [
                {**_detail(thought, is_theirs=id(thought) in sealed_here), "index": n}
                for n, thought in enumerate(kept)
                if thought.text or id(thought) in sealed_here
            ]
            if field in {"", "reasoning_details"}:
                return
        said = [thought for thought in thoughts if thought.text]
        if not field:
            for thought in said:
                self._losses.drop(thought.at, "this service does not take earlier reasoning")
        elif said and ("tool_calls" in written or not self._quirks.reasoning_back_for_tools_only):
            written[field] = "".join(thought.text for thought in said)

    # --- results

    def _results(self, message: Message) -> list[_Written]:
        written: list[_Written] = []
        for part in message.parts:
            if not isinstance(part, ToolResultPart):
                raise Unsupported("A tool's message may hold results only.", param=str(part.at))
            members = self._losses.members(part)
            result = self._result(part, is_error=members.pop("is_error", False) if members else False)
            if members:
                result = {**self._losses.take_extra(members), **result}
                self._losses.settle(part, members)
            written.append(result)
        return written

    def _result(self, result: ToolResultPart, *, is_error: bool) -> _Written:
        content: object = None if is_error else self._losses.only_text(result.parts)
        if content is None:
            content = self._result_content(result, is_error=is_error)
        sent = sent_id(result.id, self._quirks, native=self._own)
        return {"role": "tool", "tool_call_id": sent, "content": content}

    def _result_content(self, result: ToolResultPart, *, is_error: bool) -> object:
        texts: list[_Written] = []
        moved = 0
        for part in result.parts:
            match part:
                case ImagePart() | DocumentPart(source=InlineData() | UrlReference() | FileReference()) if (
                    not _is_text(part.source, native=self._own)
                ):
                    moved += 1
                    kind = "image" if isinstance(part, ImagePart) else "file"
                    texts.append({"type": "text", "text": f"[{kind} {moved} of call {result.id} follows]"})
                    self._moved += self._parts((part,))
                    self._losses.report("move", part.at, _MOVED.format(kind))
                case TextPart() | SearchResultPart() | DocumentPart():
                    texts += [each for each in self._parts((part,)) if isinstance(each, dict)]
                case _:
                    raise Unsupported(
                        f"'{part.at}' cannot be part of a tool's result here.", param=str(part.at)
                    )
        if is_error:
            head = texts[0]["text"] if texts else ""
            texts[:1] = [{"type": "text", "text": ERROR_MARK + head}]
        content = self._content(texts, role="tool")
        if not self._own and not isinstance(content, str):
            content = "\n".join(text["text"] for text in texts)
        return content

    # --- parts

    def _parts(self, parts: Sequence[Part]) -> list[_AnyPart]:
        written: list[_AnyPart] = []
        for part in parts:
            members = self._losses.members(part)
            if (each := self._part(part, members)) is not None:
                written.append(each)
            if members:
                self._losses.settle(part, members)
        return written

    def _part(self, part: Part, members: dict[str, Any]) -> _AnyPart | None:
        """The part without the members that it pops; None for a part that is not sent."""
        written: _Written
        match part:
            case TextPart():
                written = {"type": "text", "text": part.text}
            case ImagePart():
                written = {"type": "image_url", "image_url": _image(part, members)}
            case DocumentPart(source=PlainText(text=text)):
                written = {"type": "text", "text": document_text(text, members)}
            case DocumentPart(source=InlineData() as source) if _is_text(source, native=self._own):
                written = {"type": "text", "text": document_text(decode_text(source, part.at), members)}
            case DocumentPart():
                written = {"type": "file", "file": _file(part, members, native=self._own)}
            case SearchResultPart():
                written = {"type": "text", "text": search_text(part)}
            case AudioPart():
                written = {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
            case RefusalPart():
                written = {"type": "refusal", "refusal": part.text}
            case ForeignPart():
                return self._losses.foreign(part, dialect=DIALECT)
            case ReasoningPart() | ToolCallPart() | ToolResultPart() | ToolReferencePart():
                raise Unsupported(f"'{part.at}' cannot stand in this message.", param=str(part.at))
            case _:
                self._losses.drop_unknown(part)
                return None
        return (
            self._with_cache({**self._losses.take_extra(members), **written}, members, part)
            if members
            else written
        )

    def _with_cache(self, written: _Written, members: dict[str, Any], part: Part) -> _Written:
        if "cache" not in members:
            return written
        cache = members["cache"]
        if self._quirks.cache_control:
            written["cache_control"] = cache_control(cache.ttl)
        elif (mark := breakpoint_of(cache, part, self._losses.attempt, native=self._own)) is not None:
            written[MEMBER] = mark
        else:
            return written
        del members["cache"]
        return written


def _is_text(source: Source | PlainText, *, native: bool) -> bool:
    """Chat takes files that are PDF; of others its client sends the text
    (https://developers.openai.com/api/docs/guides/file-inputs?api-mode=responses, 2026-12-01).
    """
    return not native and isinstance(source, InlineData) and source.media_type.startswith("text/")


def _image(image: ImagePart, members: dict[str, Any]) -> _Written:
    source = image.source
    if isinstance(source, FileReference):
        raise Unsupported(
            f"'{image.at}': an image that is kept at a provider cannot be named here.",
            param=str(image.at),
        )
    url = source.url if isinstance(source, UrlReference) else data_url(source)
    detail = members.pop("detail", image.detail)
    return {"url": url} if detail is None else {"url": url, "detail": detail}


def _file(document: DocumentPart, members: dict[str, Any], *, native: bool) -> _Written:
    source, place = document.source, document.at
    filename: str | None = members.pop("filename", None)
    match source:
        case InlineData():
            return {"filename": filename or file_name(source, members), "file_data": data_url(source)}
        case FileReference() if native:
            return {"file_id": source.id, **({} if filename is None else {"filename": filename})}
        case FileReference():
            raise Unsupported(
                f"'{place}': a file that is kept at another provider cannot be read.", param=str(place)
            )
        case UrlReference() if native:
            return {"file_data": source.url}
        case UrlReference() | PlainText():
            raise Unsupported(f"'{place}': a document cannot be named by its address here.", param=str(place))


def _detail(thought: ReasoningPart, *, is_theirs: bool) -> _Written:
    """One entry of `reasoning_details`
    (docs/reference/wire-formats.md#openai-compatible-servers).
    """
    detail: _Written = {}
    state = thought.state if is_theirs else None
    if thought.summary:
        detail = {"type": "reasoning.summary", "summary": thought.text}
    elif thought.redacted or (
        state is not None and not thought.text and state.format == "openai-responses-v1"
    ):
        detail = {"type": "reasoning.encrypted"}
    else:
        detail = {"type": "reasoning.text", "text": thought.text}
    if state is not None:
        detail["data" if detail["type"] == "reasoning.encrypted" else "signature"] = state.data
        detail["format"] = state.format
        if state.id is not None:
            detail["id"] = state.id
    return detail


def cache_control(ttl: str | None) -> dict[str, str]:
    """Anthropic's marker, with its nearest lifetime
    (docs/reference/translation.md#caching-identity-and-tier).
    """
    nearest = {"30m": "5m", "12h": "1h"}
    return {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": nearest.get(ttl, ttl)}
