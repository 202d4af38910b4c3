"""Reads a generateContent request, a count or a batch of embeddings: client body -> ChatRequest or
EmbeddingRequest.

`fields.py` decodes plain values and `messages_in.py` the conversation. The model's name is in the
path of the URL. What has no leaf rides along unread, by its path in camelCase
("generationConfig.mediaResolution").
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    AnyTool,
    ChatRequest,
    Effort,
    EmbeddingRequest,
    HostedTool,
    Message,
    RawRequest,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from modelplex.dialects.core.fields import FieldValues
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.gemini.fields import FIELDS
from modelplex.dialects.gemini.json import DIALECT, camel, members_of, read, read_list
from modelplex.dialects.gemini.messages_in import ContentReader, read_instructions
from modelplex.dialects.gemini.schema import json_schema
from modelplex.dialects.openai_chat.prompts import check_inputs

EFFORTS: dict[str, Effort] = {
    "MINIMAL": "minimal",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
    "XHIGH": "xhigh",
}
"""`thinkingLevel`: effort (docs/reference/translation.md#reasoning-effort)."""
_DECLARED = frozenset({"name", "description", "parameters", "parametersJsonSchema"})
_CONFIG = "generationConfig"
_THINKING = f"{_CONFIG}.thinkingConfig"
_CALLING = "toolConfig.functionCallingConfig"


class _Declaration(msgspec.Struct, rename="camel", gc=False):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = ABSENT
    parameters_json_schema: msgspec.Raw = ABSENT


def read_call(raw_request: RawRequest) -> ChatRequest:
    """The request. Raises BadRequest with `param` like "contents[2].parts[0].functionCall"."""
    return _read(raw_request, raw_request.fields)


def read_counting(raw_request: RawRequest) -> ChatRequest:
    """A request to `:countTokens`: `contents`, or a whole request in `generateContentRequest`.
    Raises BadRequest.
    """
    given = {camel(name): value for name, value in raw_request.fields.items()}
    whole = given.get("generateContentRequest", ABSENT)
    if is_given(whole):
        return _read(raw_request, decode_member(whole, dict[str, msgspec.Raw], path="generateContentRequest"))
    return _read(raw_request, given)


def _read(raw_request: RawRequest, given: Mapping[str, msgspec.Raw]) -> ChatRequest:
    values = FIELDS.read(given)
    contents, instructions = values.take("contents"), values.take("systemInstruction")
    if contents is None:
        raise BadRequest("The body has no 'contents'.", param="contents")
    messages: list[Message] = []
    if instructions is not None:
        path = "system_instruction" if "system_instruction" in given else "systemInstruction"
        if (system := read_instructions(instructions, path=path)) is not None:
            messages.append(system)
    messages += ContentReader().read(contents)
    tools, choice = _read_tools(values.take("tools")), _read_choice(values)
    form = _read_format(values)
    _read_thinking(values)
    return ChatRequest(
        dialect=DIALECT,
        model=raw_request.model,
        messages=tuple(messages),
        tools=tools,
        choice=choice,
        format=form,
        stream=raw_request.stream,
        include_usage=True,
        **values.members(),
    )


def _read_format(values: FieldValues) -> ResponseFormat | None:
    mime_type, schema, own_schema = (
        f"{_CONFIG}.{name}" for name in ("responseMimeType", "responseJsonSchema", "responseSchema")
    )
    raw = values.special.get(mime_type)
    kind = "text/plain" if raw is None else decode_member(raw, str, path=mime_type)
    if kind not in {"text/plain", "application/json"}:
        return None  # "text/x.enum", which rides along, since no other dialect has it
    values.take(mime_type)
    raw_schema, raw_own = values.take(schema), values.take(own_schema)
    if kind == "text/plain":
        return None
    values.paths |= {"format": mime_type, "format.kind": mime_type}
    if raw_schema is not None:
        values.paths |= {"format": schema, "format.schema": schema}
        return ResponseFormat("schema", raw_schema, name="answer")
    if raw_own is not None:
        values.paths |= {"format": own_schema, "format.schema": own_schema}
        return ResponseFormat("schema", json_schema(raw_own, path=own_schema), name="answer")
    return ResponseFormat("json")


def _read_thinking(values: FieldValues) -> None:
    """A level, or a budget in tokens: 0 for none, -1 for as much as the model chooses."""
    at_level, at_budget = f"{_THINKING}.thinkingLevel", f"{_THINKING}.thinkingBudget"
    level = (values.decode(at_level, str) or "").upper()
    budget = values.decode(at_budget, int)
    if level and level != "THINKING_LEVEL_UNSPECIFIED":
        if level not in EFFORTS:
            raise BadRequest(f"'{at_level}' is {level!r}, which is no level.", param=at_level)
        values.set("reasoning.effort", EFFORTS[level], path=at_level)
    elif budget == 0:
        values.groups.pop("reasoning", None)  # nothing can be shown of it
        values.set("reasoning.effort", "none", path=at_budget)
    elif budget is not None and budget > 0:
        values.set("reasoning.budget", budget, path=at_budget)
    elif budget is not None:
        values.set("reasoning.mode", "adaptive", path=at_budget)


# --- tools


def _read_tools(raw: msgspec.Raw | None) -> tuple[AnyTool, ...]:
    tools: list[AnyTool] = []
    for n, entry in enumerate(() if raw is None else read_list(raw, path="tools")):
        path = f"tools[{n}]"
        for name, value in members_of(entry, path=path).items():
            if name == "functionDeclarations":
                declared = f"{path}.functionDeclarations"
                tools += [
                    _read_declaration(each, path=f"{declared}[{i}]")
                    for i, each in enumerate(read_list(value, path=declared))
                ]
            else:
                whole = msgspec.Raw(msgspec.json.encode({name: value}))
                tools.append(HostedTool(DIALECT, name, whole, path=f"{path}.{name}"))
    return tuple(tools)


def _read_declaration(raw: msgspec.Raw, *, path: str) -> Tool:
    function = read(raw, _Declaration, path=path)
    member = "parametersJsonSchema"
    parameters = function.parameters_json_schema if is_given(function.parameters_json_schema) else None
    if parameters is None and is_given(function.parameters):
        member = "parameters"
        parameters = json_schema(function.parameters, path=f"{path}.parameters")
    rest = {name: value for name, value in members_of(raw, path=path).items() if name not in _DECLARED}
    return Tool(
        function.name,
        function.description,
        parameters,
        extra=rest,
        path=path,
        members={"parameters": member},
    )


def _read_choice(values: FieldValues) -> ToolChoice | None:
    raw_mode = values.take(f"{_CALLING}.mode")
    names = tuple(values.decode(f"{_CALLING}.allowedFunctionNames", list[str]) or ())
    if "choice" not in values.paths:
        return None
    match "AUTO" if raw_mode is None else decode_member(raw_mode, str, path=f"{_CALLING}.mode"):
        case "NONE":
            return ToolChoice("none")
        case "ANY" if len(names) == 1:
            return ToolChoice("named", names)
        case "ANY":
            return ToolChoice("subset", names, required=True) if names else ToolChoice("required")
        case "VALIDATED":
            values.extra[f"{_CALLING}.mode"] = msgspec.Raw(b'"VALIDATED"')
            return ToolChoice("subset", names) if names else ToolChoice("auto")
        case "AUTO" | "MODE_UNSPECIFIED":
            return ToolChoice("auto")
        case other:
            raise BadRequest(f"'{_CALLING}.mode' is {other!r}, which is no mode.", param=f"{_CALLING}.mode")


# --- embeddings


class _EmbedRequest(msgspec.Struct, rename="camel", gc=False):
    content: msgspec.Raw = ABSENT
    output_dimensionality: int | None = None


_EMBEDDING_MEMBERS = frozenset({"model", "content", "outputDimensionality", "requests"})


def read_embedding(raw_request: RawRequest) -> EmbeddingRequest:
    """`:embedContent`, or `:batchEmbedContents` with its `requests`. Raises BadRequest; Unsupported
    for what is no text.
    """
    given = {camel(name): value for name, value in raw_request.fields.items() if is_given(value)}
    if "requests" in given:
        entries = read_list(given["requests"], path="requests")
        check_inputs(len(entries), path="requests")
        requests = [(f"requests[{n}].", raw) for n, raw in enumerate(entries)]
    else:
        requests = [("", msgspec.Raw(msgspec.json.encode(given)))]
    inputs: list[str] = []
    sizes: set[int | None] = set()
    extra: dict[str, msgspec.Raw] = {}
    for place, raw in requests:
        request = read(raw, _EmbedRequest, path=place.rstrip(".") or "body")
        inputs.append(_embedded_text(request.content, path=f"{place}content"))
        sizes.add(request.output_dimensionality)
        rest = members_of(raw, path=place.rstrip(".") or "body")
        extra |= {name: value for name, value in rest.items() if name not in _EMBEDDING_MEMBERS}
    if not inputs or len(sizes) > 1:
        raise BadRequest(
            "All 'requests' must ask for one 'outputDimensionality', and there must be one.", param="requests"
        )
    return EmbeddingRequest(
        dialect=DIALECT, model=raw_request.model, inputs=tuple(inputs), dimensions=sizes.pop(), extra=extra
    )


class _TextPart(msgspec.Struct, gc=False):
    text: str | None = None


class _TextContent(msgspec.Struct, gc=False):
    parts: msgspec.Raw = ABSENT


def _embedded_text(raw: msgspec.Raw, *, path: str) -> str:
    if not is_given(raw):
        raise BadRequest(f"The body has no '{path}'.", param=path)
    parts = read(raw, _TextContent, path=path).parts
    texts: list[str] = []
    for n, part in enumerate(read_list(parts, path=f"{path}.parts") if is_given(parts) else ()):
        text = read(part, _TextPart, path=f"{path}.parts[{n}]").text
        if text is None:
            raise Unsupported("Only texts can be embedded here.", param=f"{path}.parts[{n}]")
        texts.append(text)
    return "\n".join(texts)
