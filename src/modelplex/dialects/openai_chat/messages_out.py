"""The messages of a Call, written for a chat completions provider.

Above it stands _openai_chat_write; below it the vocabulary. What a tool message cannot hold
(images, files) follows in the next user message (docs/reference/translation.md#content-parts);
sealed state goes to its maker and to nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, assert_never

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
from modelplex.dialects.core.json import encode
from modelplex.dialects.openai_chat.passthrough import GEMINI

DIALECT = "openai_chat"
ERROR_MARK = "[tool error] "
_PLAIN = {"type", "text"}
_OPENAI_LIFETIMES = frozenset({"30m", "12h"})

_Written = dict[str, Any]
_AnyPart = _Written | msgspec.Raw


class ChatToolNames(Protocol):
    def __call__(self, name: str, *, path: str) -> str: ...


class ChatMessageWriter:
    """The messages of one request. `changes` is added to; `free` are the tools, as sent, whose text
    is wrapped.
    """

    def __init__(
        self,
        call: ChatRequest,
        attempt: Attempt,
        *,
        name_of: ChatToolNames,
        changes: list[Change],
        free: set[str],
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._quirks = attempt.quirks
        self._own = call.dialect == DIALECT
        self._name_of = name_of
        self._changes = changes
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
            self._lose(last.path, "an answer that is begun may not be continued here", "lower")
        return messages

    def _take_moved(self) -> list[_AnyPart]:
        moved, self._moved = self._moved, []
        return moved

    def _lose(self, path: str, reason: str, op: Any = "drop") -> None:
        self._changes.append(Change(op, path, reason))

    def _message(self, message: Message) -> _Written:
        role: str = message.role
        if role in {"system", "developer"} and not self._own:
            role = self._quirks.system_role
        written: _Written = {"role": role}
        if message.role == "assistant":
            self._assistant(message, written)
        else:
            parts = [
                self._part(part, path=f"{message.path}.content[{n}]") for n, part in enumerate(message.parts)
            ]
            written["content"] = self._content(
                [*self._take_moved(), *parts] if role == "user" else parts, role=role
            )
        if message.name is not None:
            written["name"] = message.name
        if message.phase is not None:
            self._lose(f"{message.path}.phase", "this dialect has no phases")
        for name, value in message.extra.items():
            if self._own:
                written.setdefault(name, value)
            else:
                self._lose(f"{message.path}.{name}", "this dialect has no such member")
        return written

    def _content(self, parts: Sequence[_AnyPart], *, role: str) -> object:
        """A plain string where one text is all there is: the form that every server reads."""
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

    # --- the assistant's turns ---

    def _assistant(self, message: Message, written: _Written) -> None:
        parts: list[_AnyPart] = []
        calls: list[_Written] = []
        thoughts: list[ReasoningPart] = []
        refusals: list[str] = []
        for n, part in enumerate(message.parts):
            path = f"{message.path}.content[{n}]"
            match part:
                case ReasoningPart():
                    thoughts.append(part)
                case ToolCallPart():
                    calls.append(self._tool_call(part, path=f"{message.path}.tool_calls[{len(calls)}]"))
                case AudioPart() if part.id is not None:
                    written["audio"] = {"id": part.id}
                case TextPart():
                    parts.append(self._text(part, path=path))
                    self._write_annotations(part, written, path=path)
                case RefusalPart():
                    refusals.append(part.text)
                case _:
                    parts.append(self._part(part, path=path))
        if refusals:
            written["refusal"] = "".join(refusals)
        written["content"] = self._content(parts, role="assistant") if parts else None
        if written["content"] is None and not (calls or refusals or "audio" in written):
            written["content"] = ""
        if calls:
            written["tool_calls"] = calls
        if thoughts:
            self._write_thoughts(thoughts, written, path=message.path)

    def _write_annotations(self, text: TextPart, written: _Written, *, path: str) -> None:
        if text.annotations is None:
            return
        if text.annotations_of == DIALECT:
            written["annotations"] = text.annotations
        else:
            self._lose(f"{path}.citations", "citations of earlier answers have no form here")

    def _tool_call(self, call: ToolCallPart, *, path: str) -> _Written:
        name = self._name_of(call.name, path=f"{path}.name")
        written: _Written
        if call.free and name not in self._free:
            written = {"id": call.id, "type": "custom", "custom": {"name": name, "input": call.arguments}}
        else:
            arguments = encode({"input": call.arguments}).decode() if call.free else call.arguments or "{}"
            written = {"id": call.id, "type": "function", "function": {"name": name, "arguments": arguments}}
        if call.state is not None:
            if self._is_theirs(call.state):
                written["extra_content"] = {"google": {"thought_signature": call.state.data}}
            else:
                self._lose_seal(f"{path}.signature")
        if call.cache is not None:
            self._lose(f"{path}.cache_control", "calls have no cache markers here")
        return written

    def _is_theirs(self, state: OpaqueState) -> bool:
        """Whether this provider made it. One whose maker is not known came from a client of this
        dialect, untouched, and goes on so.
        """
        if state.provider is None:
            return self._own
        return state.provider == self._attempt.provider and state.account in {None, self._attempt.account}

    def _lose_seal(self, path: str) -> None:
        self._lose(path, "sealed state is of use to its maker alone")

    def _write_thoughts(self, thoughts: list[ReasoningPart], written: _Written, *, path: str) -> None:
        """Back to its maker as it came; to others as text, where the service takes it
        (docs/reference/wire-formats.md#openai-compatible-servers and
        docs/reference/translation.md#reasoning-and-opaque-state).
        """
        theirs: list[ReasoningPart] = []
        for thought in thoughts:
            if thought.state is not None and self._is_theirs(thought.state):
                theirs.append(thought)
            elif thought.state is not None:
                self._lose_seal(f"{path}.reasoning_details")
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
        text = "".join(thought.text for thought in thoughts)
        if not text:
            return
        if not field:
            self._lose(f"{path}.reasoning_content", "this service does not take earlier reasoning")
        elif "tool_calls" in written or not self._quirks.reasoning_back_for_tools_only:
            written[field] = text

    # --- results ---

    def _results(self, message: Message) -> list[_Written]:
        written: list[_Written] = []
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                written.append(self._result(part, path=message.path))
            else:
                raise Unsupported("A tool's message may hold results only.", param=message.path)
        return written

    def _result(self, result: ToolResultPart, *, path: str) -> _Written:
        texts: list[_Written] = []
        pictures = 0
        for n, part in enumerate(result.parts):
            place = f"{path}.content[{n}]"
            match part:
                case TextPart():
                    texts.append(self._text(part, path=place))
                case SearchResultPart():
                    texts.append(self._search_result(part, path=place))
                case DocumentPart(source=PlainText()):
                    texts.append(self._document(part, path=place))
                case ImagePart() | DocumentPart():
                    pictures += 1
                    kind = "image" if isinstance(part, ImagePart) else "file"
                    texts.append({"type": "text", "text": f"[{kind} {pictures} of call {result.id} follows]"})
                    self._moved.append(self._part(part, path=place))
                    self._lose(
                        place,
                        f"a tool's message holds text only: the {kind} follows in a user message",
                        "move",
                    )
                case _:
                    raise Unsupported(f"'{place}' cannot be part of a tool's result here.", param=place)
        if result.is_error:
            head = texts[0]["text"] if texts else ""
            texts[:1] = [{"type": "text", "text": ERROR_MARK + head}]
        if result.cache is not None:
            self._lose(f"{path}.cache_control", "tool results have no cache markers here")
        content = self._content(texts, role="tool")
        if not self._own and not isinstance(content, str):
            content = "\n".join(text["text"] for text in texts)
        return {"role": "tool", "tool_call_id": result.id, "content": content}

    # --- parts ---

    def _part(self, part: Part, *, path: str) -> _AnyPart:
        match part:
            case TextPart():
                return self._text(part, path=path)
            case ImagePart():
                return self._with_cache(self._image(part, path=path), part.cache, path=path)
            case AudioPart():
                return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
            case DocumentPart():
                return self._with_cache(self._document(part, path=path), part.cache, path=path)
            case SearchResultPart():
                return self._search_result(part, path=path)
            case RefusalPart():
                return {"type": "refusal", "refusal": part.text}
            case ForeignPart():
                if part.dialect != DIALECT:
                    raise Unsupported(
                        f"'{path}' ({part.type}) is known to its own provider alone.", param=path
                    )
                return part.raw
            case ReasoningPart() | ToolCallPart() | ToolResultPart():
                raise Unsupported(f"'{path}' stands where it cannot be said.", param=path)
            case _:
                assert_never(part)

    def _text(self, part: TextPart, *, path: str) -> _Written:
        return self._with_cache({"type": "text", "text": part.text}, part.cache, path=path)

    def _search_result(self, found: SearchResultPart, *, path: str) -> _Written:
        if found.citations:
            self._lose(f"{path}.citations", "citations cannot be asked for here")
        text = "\n".join([f"{found.title} ({found.source})", *found.texts])
        return self._with_cache({"type": "text", "text": text}, found.cache, path=path)

    def _with_cache(self, written: _Written, cache: CacheBreakpoint | None, *, path: str) -> _Written:
        if cache is None:
            return written
        if self._quirks.cache_control:
            written["cache_control"] = cache_control(cache.ttl)
        elif cache.ttl in _OPENAI_LIFETIMES:
            written["prompt_cache_breakpoint"] = {"mode": "explicit", "ttl": cache.ttl}
        else:
            self._lose(f"{path}.cache_control", "this service takes no cache markers")
        return written

    def _image(self, image: ImagePart, *, path: str) -> _Written:
        source = image.source
        if isinstance(source, FileReference):
            raise Unsupported(
                f"'{path}': an image that is kept at a provider cannot be named here.", param=path
            )
        url = (
            source.url
            if isinstance(source, UrlReference)
            else f"data:{source.media_type};base64,{source.data}"
        )
        named = {"url": url} if image.detail is None else {"url": url, "detail": image.detail}
        return {"type": "image_url", "image_url": named}

    def _document(self, document: DocumentPart, *, path: str) -> _Written:
        source = document.source
        if document.citations:
            self._lose(f"{path}.citations", "citations cannot be asked for here")
        if isinstance(source, PlainText):
            heads = [head for head in (document.title or document.filename, document.context) if head]
            return {"type": "text", "text": "\n".join([*heads, source.text])}
        file: _Written = {}
        if isinstance(source, InlineData):
            file["filename"] = document.filename or document.title or "document.pdf"
            file["file_data"] = f"data:{source.media_type};base64,{source.data}"
        elif isinstance(source, FileReference):
            if not self._own:
                raise Unsupported(
                    f"'{path}': a file that is kept at another provider cannot be read.", param=path
                )
            file["file_id"] = source.id
        elif self._own:
            file["file_data"] = source.url
        else:
            raise Unsupported(f"'{path}': a document cannot be named by its address here.", param=path)
        if isinstance(source, FileReference) and document.filename is not None:
            file["filename"] = document.filename
        if document.context is not None:
            self._lose(f"{path}.context", "a file has no context here")
        return {"type": "file", "file": file}


def _detail(thought: ReasoningPart, *, is_theirs: bool) -> _Written:
    """One of `reasoning_details`, in the form that
    docs/reference/wire-formats.md#openai-compatible-servers names.
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
    """Anthropic's marker. OpenAI's lifetimes are longer: both become its longest
    (docs/reference/translation.md#caching-identity-and-tier).
    """
    known = {"30m": "1h", "12h": "1h"}
    return {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": known.get(ttl, ttl)}
