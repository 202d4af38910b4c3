"""The conversation of a Call as the items of a Responses request.

Above it stands _openai_responses_write; below it the vocabulary. A turn becomes as many items as it
has reasoning, messages and calls, in its own order
(docs/reference/translation.md#tool-calls-and-results); sealed state goes to its maker and to nobody
else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Protocol, assert_never

import msgspec

from modelplex.core.errors import StatePinned, Unsupported
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
from modelplex.dialects.core.tool_names import LONGEST, alias
from modelplex.dialects.openai_responses.constants import COMPACTED, DIALECT, STATE_FORMAT
from modelplex.dialects.openai_responses.request_in import INSTRUCTIONS

ERROR_MARK = "[tool error] "
_LIFETIMES = {"5m": "30m", "1h": "12h", "30m": "30m", "12h": "12h"}
"""docs/reference/translation.md#caching-identity-and-tier. A marker that does not say how long it
lives is Anthropic's, and cannot be told from here whether the model takes one.
"""

_Written = dict[str, Any]
_AnyPart = _Written | msgspec.Raw


class ResponsesToolNames(Protocol):
    def __call__(self, name: str, *, path: str) -> str: ...


class ResponsesItemWriter:
    """The input of one request. `changes` is added to; `free` are the tools, as sent, whose text is
    wrapped in an object.
    """

    def __init__(
        self,
        call: ChatRequest,
        attempt: Attempt,
        *,
        name_of: ResponsesToolNames,
        changes: list[Change],
        free: set[str],
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._own = call.dialect == DIALECT
        self._name_of = name_of
        self._changes = changes
        self._free = free
        self._customs: set[str] = set()
        """Ids of calls that were written as custom ones, so that their results are."""
        self._messages = 0
        """Of the assistant, so that each has a name."""
        self.holds_reasoning = False
        """Whether encrypted reasoning is among the items."""

    def instructions(self) -> str | None:
        """What stands before the conversation
        (docs/reference/translation.md#instructions-and-roles): `instructions` itself, or the
        leading messages of another form.
        """
        texts = [
            part.text for message in self._leading() for part in message.parts if isinstance(part, TextPart)
        ]
        return "\n\n".join(texts) or None

    def _leading(self) -> list[Message]:
        if self._own:
            return [message for message in self._call.messages if message.path == INSTRUCTIONS]
        leading = list(
            takewhile(lambda message: message.role in {"system", "developer"}, self._call.messages)
        )
        # Instructions that are not all text stay where they are, and are refused there.
        return leading if all(isinstance(p, TextPart) for message in leading for p in message.parts) else []

    def items(self) -> list[_AnyPart]:
        leading = self._leading()
        for message in leading:
            self._lose_members(message)
            for part in message.parts:
                if isinstance(part, TextPart) and part.cache is not None:
                    self._lose(f"{message.path}.cache_control", "instructions have no cache markers here")
        before = {id(message) for message in leading}
        items: list[_AnyPart] = []
        for message in self._call.messages:
            if id(message) in before:
                continue
            if message.role == "tool":
                items += self._results(message)
            elif message.role == "assistant":
                items += self._made(message)
            else:
                items += self._said(message)
            self._lose_members(message)
        return items

    def _lose(self, path: str, reason: str, op: Any = "drop") -> None:
        self._changes.append(Change(op, path, reason))

    def _lose_members(self, message: Message) -> None:
        if message.name is not None:
            self._lose(f"{message.path}.name", "messages have no names here")
        if not self._own:
            for name in message.extra:
                self._lose(f"{message.path}.{name}", "this dialect has no such member")

    # --- messages of the client ---

    def _said(self, message: Message) -> list[_AnyPart]:
        """A message; an item that only this form has is one of its own."""
        if len(message.parts) == 1 and isinstance(message.parts[0], ForeignPart):
            part = message.parts[0]
            if part.dialect == DIALECT and not _is_content(part):
                return [part.raw]
        content = [
            self._part(part, path=f"{message.path}.content[{n}]") for n, part in enumerate(message.parts)
        ]
        written: _Written = {"type": "message", "role": message.role, "content": content}
        return [{**(message.extra if self._own else {}), **written}]

    # --- what the model made ---

    def _made(self, message: Message) -> list[_AnyPart]:
        items: list[_AnyPart] = []
        content: list[_AnyPart] = []
        for n, part in enumerate(message.parts):
            path = f"{message.path}.content[{n}]"
            item: _AnyPart | None
            match part:
                case TextPart() | RefusalPart():
                    if not content:
                        items.append(self._message(message, content))
                    content.append(self._answer(part, path=path))
                    continue
                case ReasoningPart():
                    item = self._reasoning(part, path=path)
                case ToolCallPart():
                    item = self._tool_call(part, path=path)
                case ForeignPart(dialect="openai_responses"):
                    item = part.raw
                case _:
                    raise Unsupported(f"'{path}' cannot be part of an assistant's message here.", param=path)
            if item is not None:
                items.append(item)
                content = []
        return items

    def _message(self, message: Message, content: list[_AnyPart]) -> _Written:
        """`content` is filled afterwards. OpenAI's own type of such an item has an id and a status;
        what came in this form had what it had.
        """
        written: _Written = {"type": "message", "role": "assistant", "content": content}
        if self._own:
            named = {} if message.id is None else {"id": message.id, "status": "completed"}
            phased = {} if message.phase is None else {"phase": message.phase}
            return {**message.extra, **named, **written, **phased}
        self._messages += 1
        return {"id": f"msg_{self._messages - 1}", **written, "status": "completed"}

    def _answer(self, part: TextPart | RefusalPart, *, path: str) -> _Written:
        if isinstance(part, RefusalPart):
            return {"type": "refusal", "refusal": part.text}
        annotations: object = []
        if part.annotations_of == DIALECT:
            annotations = part.annotations
        elif part.annotations is not None:
            self._lose(f"{path}.citations", "citations of earlier answers have no form here")
        if part.cache is not None:
            self._lose(f"{path}.cache_control", "answers have no cache markers here")
        return {"type": "output_text", "text": part.text, "annotations": annotations}

    def _guard(self, state: OpaqueState, path: str) -> bool:
        """Whether it may go. The route sends sealed state home; this is the last door, so that a
        mistake there fails instead of leaking (R17).
        """
        if state.provider is None:
            return self._own
        if state.provider != self._attempt.provider or state.account not in {None, self._attempt.account}:
            raise StatePinned(
                f"The conversation holds sealed reasoning of {state.provider}, which only its maker can read.",
                param=path,
            )
        return True

    def _reasoning(self, thought: ReasoningPart, *, path: str) -> _Written | None:
        state = thought.state
        is_theirs = state is not None and self._guard(state, path)
        if state is not None and is_theirs and state.format == COMPACTED:
            named = {} if state.id is None else {"id": state.id}
            return {"type": "compaction", **named, "encrypted_content": state.data}
        texts = [{"type": "summary_text", "text": thought.text}] if thought.text else []
        if state is not None and is_theirs and state.format in {STATE_FORMAT, "unknown"}:
            self.holds_reasoning = True
            named = {} if state.id is None else {"id": state.id}
            return {"type": "reasoning", **named, "summary": texts, "encrypted_content": state.data}
        if state is not None:
            self._lose(path, "sealed state is of use to its maker alone")
        if not thought.text:
            return None
        if self._own and thought.summary:
            return {"type": "reasoning", "summary": texts}
        if self._own or self._attempt.quirks.reasoning_back:
            content = [{"type": "reasoning_text", "text": thought.text}]
            return {"type": "reasoning", "summary": [], "content": content}
        self._lose(path, "this service takes no earlier reasoning but its own")
        return None

    def _tool_call(self, call: ToolCallPart, *, path: str) -> _Written:
        name = self._name_of(call.name, path=f"{path}.name")
        written: _Written
        if call.free and name not in self._free:
            self._customs.add(call.id)
            written = {
                "type": "custom_tool_call",
                "call_id": _call_id(call.id),
                "name": name,
                "input": call.arguments,
            }
        else:
            arguments = encode({"input": call.arguments}).decode() if call.free else call.arguments or "{}"
            written = {
                "type": "function_call",
                "call_id": _call_id(call.id),
                "name": name,
                "arguments": arguments,
            }
        if call.namespace is not None:
            written["namespace"] = call.namespace
        if call.state is not None:
            self._guard(call.state, path)
            self._lose(f"{path}.signature", "a signature on a call has no place here")
        if call.cache is not None:
            self._lose(f"{path}.cache_control", "calls have no cache markers here")
        return {**written, **self._extra(call.extra, path=path)}

    def _extra(self, extra: dict[str, msgspec.Raw], *, path: str) -> dict[str, msgspec.Raw]:
        if self._own:
            return extra
        for name in extra:
            self._lose(f"{path}.{name}", "this dialect has no such member")
        return {}

    # --- results ---

    def _results(self, message: Message) -> list[_AnyPart]:
        items: list[_AnyPart] = []
        for part in message.parts:
            if not isinstance(part, ToolResultPart):
                raise Unsupported("A tool's message may hold results only.", param=message.path)
            items.append(self._result(part, path=message.path))
        return items

    def _result(self, result: ToolResultPart, *, path: str) -> _Written:
        is_custom = result.id in self._customs or (result.free and self._own)
        parts = [self._part(part, path=f"{path}.content[{n}]") for n, part in enumerate(result.parts)]
        if result.is_error:
            parts = _marked(parts)
        if result.cache is not None:
            self._lose(f"{path}.cache_control", "tool results have no cache markers here")
        return {
            "type": "custom_tool_call_output" if is_custom else "function_call_output",
            "call_id": _call_id(result.id),
            "output": _output(parts),
            **self._extra(result.extra, path=path),
        }

    # --- parts ---

    def _part(self, part: Part, *, path: str) -> _AnyPart:
        match part:
            case TextPart():
                return self._with_cache({"type": "input_text", "text": part.text}, part.cache, path=path)
            case RefusalPart():
                return {"type": "input_text", "text": part.text}
            case ImagePart():
                return self._with_cache(self._image(part, path=path), part.cache, path=path)
            case DocumentPart():
                return self._with_cache(self._document(part, path=path), part.cache, path=path)
            case SearchResultPart():
                text = "\n".join([f"{part.title} ({part.source})", *part.texts])
                if part.citations:
                    self._lose(f"{path}.citations", "citations cannot be asked for here")
                return self._with_cache({"type": "input_text", "text": text}, part.cache, path=path)
            case AudioPart():
                if not self._own:
                    raise Unsupported(f"'{path}': this provider takes no audio.", param=path)
                return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
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

    def _with_cache(self, written: _Written, cache: CacheBreakpoint | None, *, path: str) -> _Written:
        if cache is None:
            return written
        if cache.ttl in _LIFETIMES:
            written["prompt_cache_breakpoint"] = {"mode": "explicit", "ttl": _LIFETIMES[cache.ttl]}
        else:
            self._lose(f"{path}.cache_control", "a cache marker has to say how long it lives here")
        return written

    def _image(self, image: ImagePart, *, path: str) -> _Written:
        source = image.source
        written: _Written = {"type": "input_image", "detail": image.detail or "auto"}
        if isinstance(source, FileReference):
            self._check_file(path)
            written["file_id"] = source.id
        else:
            written["image_url"] = source.url if isinstance(source, UrlReference) else _data_url(source)
        return written

    def _check_file(self, path: str) -> None:
        if not self._own:
            raise Unsupported(
                f"'{path}': a file that is kept at another provider cannot be read.", param=path
            )

    def _document(self, document: DocumentPart, *, path: str) -> _Written:
        source = document.source
        if document.citations:
            self._lose(f"{path}.citations", "citations cannot be asked for here")
        if isinstance(source, PlainText):
            heads = [head for head in (document.title or document.filename, document.context) if head]
            return {"type": "input_text", "text": "\n".join([*heads, source.text])}
        if document.context is not None:
            self._lose(f"{path}.context", "a file has no context here")
        written: _Written = {"type": "input_file"}
        if isinstance(source, InlineData):
            written["filename"] = document.filename or document.title or "document.pdf"
            written["file_data"] = _data_url(source)
        elif isinstance(source, FileReference):
            self._check_file(path)
            written["file_id"] = source.id
        else:
            written["file_url"] = source.url
        return written


def _is_content(part: ForeignPart) -> bool:
    return part.type.startswith(("input_", "output_"))


def _call_id(given: str) -> str:
    """At most 64 characters are taken; the same long id is cut the same way wherever it stands."""
    return given if len(given) <= LONGEST else alias(given)


def _data_url(source: InlineData) -> str:
    return f"data:{source.media_type};base64,{source.data}"


def _marked(parts: Sequence[_AnyPart]) -> list[_AnyPart]:
    """The parts of a failed result, told as one
    (docs/reference/translation.md#tool-calls-and-results).
    """
    first = parts[0] if parts else None
    if isinstance(first, dict) and first["type"] == "input_text":
        return [{**first, "text": ERROR_MARK + first["text"]}, *parts[1:]]
    return [{"type": "input_text", "text": ERROR_MARK}, *parts]


def _output(parts: Sequence[_AnyPart]) -> object:
    """A plain string where one text is all there is: the form that every server reads."""
    if not parts:
        return ""
    first = parts[0]
    if len(parts) == 1 and isinstance(first, dict) and first.keys() == {"type", "text"}:
        return first["text"]
    return parts
