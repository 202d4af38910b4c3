"""Writes the messages of a ChatRequest as the `input` items of a Responses request.

A message becomes one item for each of its reasoning, texts and calls, in its order
(docs/reference/translation.md#tool-calls-and-results). Opaque state goes to its maker only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
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
    TextPart,
    ToolCallPart,
    ToolReferencePart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.cache_breakpoints import MEMBER, breakpoint_of
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.losses import Losses, ToolNaming
from modelplex.dialects.core.media import ERROR_MARK, data_url, document_text, file_name, search_text
from modelplex.dialects.core.tool_names import LONGEST, alias
from modelplex.dialects.openai_responses.constants import ADDITIONAL_TOOLS, COMPACTED, DIALECT, STATE_FORMAT
from modelplex.dialects.openai_responses.request_in import INSTRUCTIONS

_Written = dict[str, Any]
_AnyPart = _Written | msgspec.Raw


class _ItemLosses(Losses):
    reasons: ClassVar[Mapping[str, str]] = {
        "annotations": "citations of earlier answers have no form here",
        "cache": "a cache marker stands on a user's part here, and says how long it lives",
        "citations": "citations cannot be asked for here",
        "context": "a file has no context here",
        "name": "messages have no names here",
        "phase": "only an assistant's message has a phase here",
        "state": "a signature on a call has no place here",
        "title": "a file has its name alone here",
    }


class _DeferredTools:
    """Definitions of tools by name, which wait for a result that loads them."""

    def __init__(self, waiting: Mapping[str, _AnyPart]) -> None:
        self._waiting = {**waiting}
        self._loaded: list[_AnyPart] = []

    def load(self, name: str) -> None:
        if name in self._waiting:
            self._loaded.append(self._waiting.pop(name))

    def take_items(self) -> list[_AnyPart]:
        """The item that adds what was loaded since the last time."""
        loaded, self._loaded = self._loaded, []
        return [{"type": ADDITIONAL_TOOLS, "role": "developer", "tools": loaded}] if loaded else []


class ResponsesItemWriter:
    """The input of one request. It adds to `changes`. `free` are the free-form tools, as sent,
    whose text is wrapped in an object; `deferred` are the definitions of tools by name that wait
    for a result which refers to them.
    """

    def __init__(
        self,
        call: ChatRequest,
        attempt: Attempt,
        *,
        name_of: ToolNaming,
        changes: list[Change],
        free: set[str],
        deferred: Mapping[str, _AnyPart] = MappingProxyType({}),
    ) -> None:
        self._call = call
        self._attempt = attempt
        self._own = call.dialect == DIALECT
        self._losses = _ItemLosses(changes, attempt, native=self._own, name_of=name_of)
        self._free = free
        self._name_of = name_of
        self._deferred = _DeferredTools(deferred)
        self._customs: set[str] = set()
        """Ids of calls that were written as custom ones, so that their results are, too."""
        self._messages = 0
        """Messages of the assistant so far; each gets an id."""
        self.holds_reasoning = False
        """Whether encrypted reasoning is among the items."""

    def instructions(self) -> str | None:
        """`instructions`, or the leading messages of another dialect
        (docs/reference/translation.md#instructions-and-roles).
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
            for holder in (message, *message.parts):
                self._losses.settle(holder, self._losses.members(holder))
        before = {id(message) for message in leading}
        items: list[_AnyPart] = []
        for message in self._call.messages:
            if id(message) in before:
                continue
            members = self._losses.members(message)
            extra = self._losses.take_extra(members) if members else {}
            if message.role == "tool":
                items += self._results(message)
            elif message.role == "assistant":
                phase = members.pop("phase", None) if self._own else None
                items += self._assistant(message, extra, phase=phase)
            else:
                items += self._user(message, extra)
            if members:
                self._losses.settle(message, members)
        return items

    # --- messages of the client

    def _user(self, message: Message, extra: dict[str, msgspec.Raw]) -> list[_AnyPart]:
        """One message; a part that is a whole item of this dialect is an item of its own."""
        if len(message.parts) == 1 and isinstance(message.parts[0], ForeignPart):
            part = message.parts[0]
            if part.dialect == DIALECT and not part.type.startswith(("input_", "output_")):
                return [part.raw]
        written: _Written = {"type": "message", "role": message.role, "content": self._parts(message.parts)}
        return [{**extra, **written} if extra else written]

    # --- the assistant

    def _assistant(
        self, message: Message, extra: dict[str, msgspec.Raw], *, phase: str | None
    ) -> list[_AnyPart]:
        items: list[_AnyPart] = []
        content: list[_AnyPart] = []
        for part in message.parts:
            members = self._losses.members(part)
            item: _AnyPart | None
            match part:
                case TextPart() | RefusalPart():
                    if not content:
                        items.append(self._message(message, content, extra, phase=phase))
                    content.append(self._answer(part, members))
                    item = None
                case ReasoningPart():
                    item = self._reasoning(part, members)
                case ToolCallPart():
                    item = self._tool_call(part, members)
                case ForeignPart(dialect="openai_responses"):
                    item = part.raw
                case (
                    ImagePart()
                    | AudioPart()
                    | DocumentPart()
                    | SearchResultPart()
                    | ToolResultPart()
                    | ToolReferencePart()
                    | ForeignPart()
                ):
                    raise Unsupported(
                        f"'{part.at}' cannot be part of an assistant's message here.", param=str(part.at)
                    )
                case _:
                    item = None
                    self._losses.drop_unknown(part)
            if members:
                self._losses.settle(part, members)
            if item is not None:
                items.append(item)
                content = []
        return items

    def _message(
        self, message: Message, content: list[_AnyPart], extra: dict[str, msgspec.Raw], *, phase: str | None
    ) -> _Written:
        """`content` is filled afterwards. OpenAI's type of such an item has an id and a status; one
        of this dialect keeps what it had.
        """
        written: _Written = {"type": "message", "role": "assistant", "content": content}
        if self._own:
            named = {} if message.id is None else {"id": message.id, "status": "completed"}
            return {**extra, **named, **written, **({} if phase is None else {"phase": phase})}
        self._messages += 1
        return {"id": f"msg_{self._messages - 1}", **written, "status": "completed"}

    def _answer(self, part: TextPart | RefusalPart, members: dict[str, Any]) -> _Written:
        if isinstance(part, RefusalPart):
            return {"type": "refusal", "refusal": part.text}
        annotations: object = ()
        if part.annotations_of == DIALECT:
            annotations = members.pop("annotations", ())
        written: _Written = {"type": "output_text", "text": part.text, "annotations": annotations}
        return {**self._losses.take_extra(members), **written} if members else written

    def _may_send(self, state: OpaqueState, part: Part) -> bool:
        """Whether the state goes to its maker. Raises StatePinned if another provider made it.
        State of an unknown maker goes on from a client of this dialect.
        """
        self._losses.check_origin(state, part.at)
        return self._own or state.provider is not None

    def _reasoning(self, thought: ReasoningPart, members: dict[str, Any]) -> _Written | None:
        state: OpaqueState | None = members.pop("state", None)
        is_theirs = state is not None and self._may_send(state, thought)
        extra = self._losses.take_extra(members) if members else {}
        texts = [{"type": "summary_text", "text": thought.text}] if thought.text else []
        if state is not None and is_theirs:
            named = {} if state.id is None else {"id": state.id}
            if state.format == COMPACTED:
                return {**extra, "type": "compaction", **named, "encrypted_content": state.data}
            if state.format in {STATE_FORMAT, "unknown"}:
                self.holds_reasoning = True
                sealed = {"summary": texts, "encrypted_content": state.data}
                return {**extra, "type": "reasoning", **named, **sealed}
        if state is not None:
            self._losses.drop(thought.at.member("state"), "sealed state is of use to its maker alone")
        if not thought.text:
            return None
        if self._own and thought.summary:
            return {**extra, "type": "reasoning", "summary": texts}
        if self._own or self._attempt.quirks.reasoning_back:
            content = [{"type": "reasoning_text", "text": thought.text}]
            return {**extra, "type": "reasoning", "summary": [], "content": content}
        self._losses.drop(thought.at, "this service takes no earlier reasoning but its own")
        return None

    def _tool_call(self, call: ToolCallPart, members: dict[str, Any]) -> _Written:
        name = self._losses.tool_name(call)
        written: _Written = {"call_id": _call_id(call.id), "name": name}
        if call.free and name not in self._free:
            self._customs.add(call.id)
            written = {"type": "custom_tool_call", **written, "input": call.arguments}
        else:
            arguments = encode({"input": call.arguments}).decode() if call.free else call.arguments or "{}"
            written = {"type": "function_call", **written, "arguments": arguments}
        if "namespace" in members:
            written["namespace"] = members.pop("namespace")
        if call.state is not None:
            self._losses.check_origin(call.state, call.at)
        return {**written, **self._losses.take_extra(members)} if members else written

    # --- results

    def _results(self, message: Message) -> list[_AnyPart]:
        items: list[_AnyPart] = []
        for part in message.parts:
            if not isinstance(part, ToolResultPart):
                raise Unsupported("A tool's message may hold results only.", param=str(part.at))
            members = self._losses.members(part)
            items.append(self._result(part, members))
            if members:
                self._losses.settle(part, members)
        return items + self._deferred.take_items()

    def _result(self, result: ToolResultPart, members: dict[str, Any]) -> _Written:
        is_custom = result.id in self._customs or (result.free and self._own)
        is_error = members.pop("is_error", False) if members else False
        output: object = None if is_error else self._losses.only_text(result.parts)
        if output is None:
            parts = self._parts(result.parts)
            output = _output(_marked(parts) if is_error else parts)
        written: _Written = {
            "type": "custom_tool_call_output" if is_custom else "function_call_output",
            "call_id": _call_id(result.id),
            "output": output,
        }
        return {**self._losses.take_extra(members), **written} if members else written

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
            case TextPart() | RefusalPart():
                written = {"type": "input_text", "text": part.text}
            case ImagePart():
                written = {
                    "type": "input_image",
                    "detail": members.pop("detail", "auto"),
                    **self._image(part),
                }
            case DocumentPart(source=PlainText(text=text)):
                written = {"type": "input_text", "text": document_text(text, members)}
            case DocumentPart():
                written = {"type": "input_file", **self._file(part, members)}
            case SearchResultPart():
                written = {"type": "input_text", "text": search_text(part)}
            case AudioPart() if self._own:
                written = {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
            case AudioPart():
                raise Unsupported(f"'{part.at}': this provider takes no audio.", param=str(part.at))
            case ToolReferencePart(name=name):
                self._deferred.load(name)
                text = f"The tool {self._name_of(name, path=str(part.at))} can be called now."
                written = {"type": "input_text", "text": text}
            case ForeignPart():
                return self._losses.foreign(part, dialect=DIALECT)
            case ReasoningPart() | ToolCallPart() | ToolResultPart():
                raise Unsupported(f"'{part.at}' cannot stand in this message.", param=str(part.at))
            case _:
                self._losses.drop_unknown(part)
                return None
        if not members:
            return written
        if "cache" in members:
            mark = breakpoint_of(members["cache"], part, self._attempt, native=self._own)
            if mark is not None:
                del members["cache"]
                written[MEMBER] = mark
        return {**self._losses.take_extra(members), **written}

    def _check_file(self, part: ImagePart | DocumentPart) -> None:
        if not self._own:
            raise Unsupported(
                f"'{part.at}': a file that is kept at another provider cannot be read.", param=str(part.at)
            )

    def _image(self, image: ImagePart) -> _Written:
        source = image.source
        if isinstance(source, FileReference):
            self._check_file(image)
            return {"file_id": source.id}
        return {"image_url": source.url if isinstance(source, UrlReference) else data_url(source)}

    def _file(self, document: DocumentPart, members: dict[str, Any]) -> _Written:
        source = document.source
        if isinstance(source, InlineData):
            return {"filename": file_name(source, members), "file_data": data_url(source)}
        named = {"filename": members.pop("filename")} if self._own and "filename" in members else {}
        if isinstance(source, FileReference):
            self._check_file(document)
            return {**named, "file_id": source.id}
        assert isinstance(source, UrlReference)
        return {**named, "file_url": source.url}


def _call_id(given: str) -> str:
    """At most 64 characters are taken; the same long id is cut the same way wherever it stands."""
    return given if len(given) <= LONGEST else alias(given)


def _marked(parts: Sequence[_AnyPart]) -> list[_AnyPart]:
    """The parts of a failed result
    (docs/reference/translation.md#tool-calls-and-results).
    """
    first = parts[0] if parts else None
    if isinstance(first, dict) and first["type"] == "input_text":
        return [{**first, "text": ERROR_MARK + first["text"]}, *parts[1:]]
    return [{"type": "input_text", "text": ERROR_MARK}, *parts]


def _output(parts: Sequence[_AnyPart]) -> object:
    """A plain string where one text is all there is: every server reads that form."""
    if not parts:
        return ""
    first = parts[0]
    if len(parts) == 1 and isinstance(first, dict) and first.keys() == {"type", "text"}:
        return first["text"]
    return parts
