"""A Gemini request, understood: its bytes into a Call.

Above it stands `gemini`; below it `gemini.messages_in`, which reads the conversation. Which model
is asked stands in the path, so that the Ask tells it. What has no place in a Call rides along
unread: top-level members by their camelCase name, members of `generationConfig` and `toolConfig` by
their path ("generationConfig.mediaResolution").
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
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from modelplex.dialects.core.json import ABSENT, is_given
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.gemini.fields import PATHS
from modelplex.dialects.gemini.json import DIALECT, camel, members_of, read, read_list
from modelplex.dialects.gemini.messages_in import Dialogue, read_instructions
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
_READ = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model"})
_OLD_SCHEMA_PATHS = PATHS | dict.fromkeys(("format", "format.schema"), "generationConfig.responseSchema")
"""Where a schema stands that came in the service's own form of before JSON Schema."""
_DECLARED = frozenset({"name", "description", "parameters", "parametersJsonSchema"})


class _Declaration(msgspec.Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = ABSENT
    parameters_json_schema: msgspec.Raw = ABSENT


class _Calling(msgspec.Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class _Thinking(msgspec.Struct, rename="camel"):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class _Config(msgspec.Struct, rename="camel"):
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_schema: msgspec.Raw = ABSENT
    response_json_schema: msgspec.Raw = ABSENT
    thinking_config: msgspec.Raw = ABSENT


_CONFIG = frozenset(field.encode_name for field in msgspec.structs.fields(_Config))


def read_call(ask: RawRequest) -> ChatRequest:
    """The whole request, understood. Raises BadRequest with `param` like
    "contents[2].parts[0].functionCall".
    """
    return _read(ask, ask.fields)


def read_counting(ask: RawRequest) -> ChatRequest:
    """What `:countTokens` is asked about: `contents`, or a whole request in
    `generateContentRequest`. Raises BadRequest.
    """
    given = {camel(name): value for name, value in ask.fields.items()}
    whole = given.get("generateContentRequest", ABSENT)
    if is_given(whole):
        return _read(ask, decode_member(whole, dict[str, msgspec.Raw], path="generateContentRequest"))
    return _read(ask, given)


def _read(ask: RawRequest, fields: Mapping[str, msgspec.Raw]) -> ChatRequest:
    members = {camel(name): value for name, value in fields.items() if is_given(value)}
    if "contents" not in members:
        raise BadRequest("The body has no 'contents'.", param="contents")
    messages: list[Message] = []
    if "systemInstruction" in members and (told := read_instructions(members["systemInstruction"])):
        messages.append(told)
    messages += Dialogue().read(members["contents"])
    extra = {name: value for name, value in members.items() if name not in _READ}
    raw_config = members.get("generationConfig", msgspec.Raw(b"{}"))
    config = read(raw_config, _Config, path="generationConfig")
    for name, value in members_of(raw_config, path="generationConfig").items():
        if name not in _CONFIG:
            extra[f"generationConfig.{name}"] = value
    format_ = _format(config, extra)
    return ChatRequest(
        dialect=DIALECT,
        model=ask.model,
        messages=tuple(messages),
        tools=_tools(members.get("tools", ABSENT)),
        choice=_choice(members.get("toolConfig", ABSENT), extra),
        max_tokens=config.max_output_tokens,
        sampling=_sampling(config),
        format=format_,
        reasoning=_reasoning(config.thinking_config),
        stream=ask.stream,
        include_usage=True,
        extra=extra,
        paths=(PATHS if is_given(config.response_json_schema) else _OLD_SCHEMA_PATHS)
        | {f"{message.path}.content": f"{message.path}.parts" for message in messages},
    )


def _sampling(config: _Config) -> Sampling:
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=None if config.top_k is None else int(config.top_k),
        seed=config.seed,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
        logprobs=config.response_logprobs is True,
        top_logprobs=config.logprobs,
        n=config.candidate_count or 1,
        stop=tuple(config.stop_sequences or ()),
    )


def _format(config: _Config, extra: dict[str, msgspec.Raw]) -> ResponseFormat | None:
    kind = config.response_mime_type
    if kind in {None, "text/plain"}:
        return None
    if kind != "application/json":  # "text/x.enum", which no other dialect has
        extra["generationConfig.responseMimeType"] = msgspec.Raw(msgspec.json.encode(kind))
        if is_given(config.response_schema):
            extra["generationConfig.responseSchema"] = config.response_schema
        return None
    if is_given(config.response_json_schema):
        return ResponseFormat("schema", config.response_json_schema, name="answer")
    if is_given(config.response_schema):
        schema = json_schema(config.response_schema, path="generationConfig.responseSchema")
        return ResponseFormat("schema", schema, name="answer")
    return ResponseFormat("json")


def _reasoning(raw: msgspec.Raw) -> ReasoningOptions | None:
    """A level, a budget in tokens, 0 for none, or -1 for as much as the model sees fit."""
    if not is_given(raw):
        return None
    path = "generationConfig.thinkingConfig"
    config = read(raw, _Thinking, path=path)
    show = {True: "summarized", False: "omitted", None: None}[config.include_thoughts]
    level = (config.thinking_level or "").upper()
    if level and level != "THINKING_LEVEL_UNSPECIFIED":
        if level not in EFFORTS:
            raise BadRequest(
                f"'{path}.thinkingLevel' is {level!r}, which is no level.", param=f"{path}.thinkingLevel"
            )
        return ReasoningOptions(effort=EFFORTS[level], show=show)
    budget = config.thinking_budget
    if budget == 0:
        return ReasoningOptions(effort="none")
    if budget is not None and budget > 0:
        return ReasoningOptions(budget=budget, show=show)
    return ReasoningOptions(mode="adaptive" if budget is not None else None, show=show)


# --- tools


def _tools(raw: msgspec.Raw) -> tuple[AnyTool, ...]:
    if not is_given(raw):
        return ()
    tools: list[AnyTool] = []
    for n, entry in enumerate(read_list(raw, path="tools")):
        path = f"tools[{n}]"
        for name, value in members_of(entry, path=path).items():
            if name == "functionDeclarations":
                declared = f"{path}.functionDeclarations"
                tools += [
                    _declared(each, path=f"{declared}[{i}]")
                    for i, each in enumerate(read_list(value, path=declared))
                ]
            else:
                tools.append(HostedTool(DIALECT, name, msgspec.Raw(msgspec.json.encode({name: value}))))
    return tuple(tools)


def _declared(raw: msgspec.Raw, *, path: str) -> Tool:
    function = read(raw, _Declaration, path=path)
    parameters = function.parameters_json_schema if is_given(function.parameters_json_schema) else None
    if parameters is None and is_given(function.parameters):
        parameters = json_schema(function.parameters, path=f"{path}.parameters")
    rest = {name: value for name, value in members_of(raw, path=path).items() if name not in _DECLARED}
    return Tool(function.name, function.description, parameters, extra=rest)


def _choice(raw: msgspec.Raw, extra: dict[str, msgspec.Raw]) -> ToolChoice | None:
    if not is_given(raw):
        return None
    calling = ABSENT
    for name, value in members_of(raw, path="toolConfig").items():
        if name == "functionCallingConfig":
            calling = value
        else:
            extra[f"toolConfig.{name}"] = value
    if not is_given(calling):
        return None
    path = "toolConfig.functionCallingConfig"
    config = read(calling, _Calling, path=path)
    names = tuple(config.allowed_function_names or ())
    match config.mode or "AUTO":
        case "NONE":
            return ToolChoice("none")
        case "ANY" if len(names) == 1:
            return ToolChoice("named", names)
        case "ANY":
            return ToolChoice("subset", names, required=True) if names else ToolChoice("required")
        case "VALIDATED":
            extra[f"{path}.mode"] = msgspec.Raw(b'"VALIDATED"')
            return ToolChoice("subset", names) if names else ToolChoice("auto")
        case "AUTO" | "MODE_UNSPECIFIED":
            return ToolChoice("auto")
        case other:
            raise BadRequest(f"'{path}.mode' is {other!r}, which is no mode.", param=f"{path}.mode")


# --- embeddings


class _EmbedRequest(msgspec.Struct, rename="camel"):
    content: msgspec.Raw = ABSENT
    output_dimensionality: int | None = None


_EMBEDDING_MEMBERS = frozenset({"model", "content", "outputDimensionality", "requests"})


def read_embedding(ask: RawRequest) -> EmbeddingRequest:
    """`:embedContent`, or `:batchEmbedContents` with its `requests`. Raises BadRequest; Unsupported
    for what is no text.
    """
    given = {camel(name): value for name, value in ask.fields.items() if is_given(value)}
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
        dialect=DIALECT, model=ask.model, inputs=tuple(inputs), dimensions=sizes.pop(), extra=extra
    )


class _TextPart(msgspec.Struct):
    text: str | None = None


class _TextContent(msgspec.Struct):
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
