"""Reads and writes the tools of a Messages request and the choice among them
(docs/reference/translation.md#tools-and-tool-choice).
"""

from __future__ import annotations

from typing import Any, Literal, assert_never

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    AnyTool,
    ChatRequest,
    FreeformTool,
    HostedTool,
    ModelFacts,
    Tool,
    ToolChoice,
)
from modelplex.dialects.anthropic.messages_in import AnthropicCacheControl, read_cache
from modelplex.dialects.anthropic.messages_out import DIALECT, AnthropicLosses
from modelplex.dialects.core.fields import FieldValues
from modelplex.dialects.core.freeform_tools import LEAVES, NO_PARAMETERS, WRAPPED, WRAPS, description_of
from modelplex.dialects.core.json import MALFORMED, is_given
from modelplex.dialects.core.ledger import Ledger, tool_path
from modelplex.dialects.core.members import decode_member, unknown_members
from modelplex.dialects.core.strict_schema import REASON, strict_schema
from modelplex.dialects.core.tool_schemas import plain_parameters

_MEMBERS = {"parameters": "input_schema", "cache": "cache_control", "deferred": "defer_loading"}
_TOOL_LEAVES = frozenset({"description", "parameters", "strict", "cache", "deferred"})
_OWN_LEAVES = _TOOL_LEAVES | {"extra"}
_ABSENT = msgspec.Raw()

# --- read -----------------------------------------------------------------------------------------


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = _ABSENT
    strict: bool | None = None
    defer_loading: bool | None = None
    cache_control: AnthropicCacheControl | None = None


class _Tool(_Function):
    type: str | None = None


class _PlainTool(_Function, forbid_unknown_fields=True):
    """A function without members that are not known here."""

    type: Literal["custom"] | None = None


class _ToolChoice(msgspec.Struct, gc=False):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


_decode_plain_tools = msgspec.json.Decoder(list[_PlainTool]).decode


def read_tools(values: FieldValues) -> tuple[AnyTool, ...]:
    raw = values.take("tools")
    if raw is None:
        return ()
    try:
        plain = _decode_plain_tools(raw)
    except MALFORMED:
        raws = decode_member(raw, list[msgspec.Raw], path="tools")
        return tuple(_read_tool(each, path=f"tools[{n}]") for n, each in enumerate(raws))
    return tuple(_function(tool, {}, path=f"tools[{n}]") for n, tool in enumerate(plain))


def _read_tool(raw: msgspec.Raw, *, path: str) -> AnyTool:
    """A tool without a type is a client's function. One with a type is known to this dialect alone,
    whoever runs it.
    """
    tool = decode_member(raw, _Tool, path=path)
    if tool.type not in {None, "custom"}:
        return HostedTool(DIALECT, tool.type or "", raw, name=tool.name, path=path)
    whole = decode_member(raw, dict[str, msgspec.Raw], path=path)
    return _function(tool, unknown_members(whole, _Tool), path=path)


def _function(tool: _Function, extra: dict[str, msgspec.Raw], *, path: str) -> Tool:
    if tool.name is None:
        raise BadRequest(f"'{path}.name' is missing.", param=f"{path}.name")
    return Tool(
        tool.name,
        tool.description,
        parameters=tool.input_schema if is_given(tool.input_schema) else None,
        strict=tool.strict,
        cache=None if tool.cache_control is None else read_cache(tool.cache_control),
        deferred=tool.defer_loading or False,
        extra=extra,
        path=path,
        members=_MEMBERS,
    )


def read_choice(values: FieldValues) -> ToolChoice | None:
    """`tool_choice`. Sets the leaf "parallel" too."""
    given = values.decode("tool_choice", _ToolChoice)
    if given is None:
        return None
    if given.disable_parallel_tool_use:
        values.set("parallel", False, path="tool_choice.disable_parallel_tool_use")
    match given.type:
        case "auto" | "none" as mode:
            return ToolChoice(mode)
        case "any":
            return ToolChoice("required")
        case "tool":
            if given.name is None:
                raise BadRequest("'tool_choice.name' is missing.", param="tool_choice.name")
            return ToolChoice("named", (given.name,))
        case kind:
            raise BadRequest(
                f"'tool_choice.type' is {kind!r}: it must be auto, any, tool or none.",
                param="tool_choice.type",
            )


# --- written --------------------------------------------------------------------------------------


class ToolsWriter:
    """Writes the tools of one request. `free` are the names, as sent, of functions that stand for
    free-form tools.
    """

    def __init__(self, call: ChatRequest, ledger: Ledger, losses: AnthropicLosses, facts: ModelFacts) -> None:
        self._call = call
        self._ledger = ledger
        self._losses = losses
        self._facts = facts
        self.free: set[str] = set()

    def write(self) -> list[dict[str, Any]]:
        allowed = self._allowed()
        return [self._tool(tool) for tool in self._call.tools if allowed is None or tool.name in allowed]

    def _allowed(self) -> frozenset[str] | None:
        choice = self._call.choice
        if choice is None or choice.mode != "subset":
            return None
        self._ledger.lower("choice", "only the allowed tools are sent, at the cost of the prompt cache")
        return frozenset(choice.names)

    def _tool(self, tool: AnyTool) -> dict[str, Any]:
        match tool:
            case Tool():
                return self._function(tool)
            case FreeformTool():
                return self._free_tool(tool)
            case HostedTool():
                return msgspec.json.decode(tool.raw, type=dict[str, msgspec.Raw])
            case _:
                assert_never(tool)

    def _function(self, tool: Tool) -> dict[str, Any]:
        losses = self._losses
        written: dict[str, Any] = {"name": losses.names.of(tool)}
        if tool.description:
            written["description"] = tool.description
        path = tool_path(tool, "parameters")
        parameters = tool.parameters
        is_strict = tool.strict and self._facts.schema
        if parameters is not None and not losses.native:
            if is_strict and (compiled := strict_schema(parameters, path=path)) is not None:
                self._ledger.change("lower", path, REASON)
                parameters = compiled
            parameters = plain_parameters(tool, parameters, self._ledger, losses.attempt.quirks)
        written["input_schema"] = self.input_schema(parameters, path)
        if is_strict:
            written["strict"] = True
        elif tool.strict:
            losses.drop(tool_path(tool, "strict"), "this model does not hold to schemas strictly")
        if tool.deferred:
            written["defer_loading"] = True
        if losses.native:
            written = {**tool.extra, **written}
        self._ledger.report_tool(tool, takes=_OWN_LEAVES if losses.native else _TOOL_LEAVES)
        if (mark := losses.mark(tool.cache, f"{tool.path}.cache_control")) is not None:
            written["cache_control"] = mark
        return written

    def input_schema(self, parameters: msgspec.Raw | None, path: str) -> msgspec.Raw | dict[str, object]:
        """The schema as it came where its type is object, else with that type. Raises BadRequest,
        or Unsupported for another type.
        """
        if parameters is None:
            return NO_PARAMETERS
        try:
            schema = msgspec.json.decode(parameters, type=dict[str, msgspec.Raw] | None)
        except msgspec.DecodeError as error:
            raise BadRequest("A tool's parameters must be a JSON schema object.", param=path) from error
        if not schema:
            return NO_PARAMETERS
        kind = msgspec.json.decode(schema["type"]) if "type" in schema else None
        if kind == "object":
            return parameters
        if isinstance(kind, str):
            raise Unsupported(f"A tool's parameters must be of type object here, not {kind}.", param=path)
        self._ledger.change("add", f"{path}.type", "a tool's parameters are an object here")
        return {**schema, "type": "object"}

    def _free_tool(self, tool: FreeformTool) -> dict[str, Any]:
        self._losses.lower(tool.path, WRAPS)
        name = self._losses.names.of(tool)
        self.free.add(name)
        self._ledger.report_tool(tool, takes=LEAVES | {"deferred"})
        described = {"description": text} if (text := description_of(tool)) else {}
        written = {"name": name, **described, "input_schema": WRAPPED}
        return {**written, "defer_loading": True} if tool.deferred else written

    def choice(self, *, has_tools: bool, thinks: bool) -> dict[str, object] | None:
        """`tool_choice`. Raises BadRequest where a call is demanded and there is no tool."""
        ledger, choice = self._ledger, self._call.choice
        parallel, path = ledger.take("parallel"), ledger.path("choice")
        ledger.take("choice")
        if not has_tools:
            if choice is not None and choice.mode in {"required", "named"}:
                raise BadRequest("A tool is demanded, but there are none.", param=path)
            return None
        written = None if choice is None else self._choice(choice, path)
        if (
            written is not None
            and written["type"] in {"any", "tool"}
            and (thinks or not self._facts.forced_tools)
        ):
            why = "a call cannot be forced while thinking" if thinks else "this model refuses forced calls"
            ledger.lower("choice", f"{why}: sent as auto")
            written = dict[str, object](type="auto")
        if parallel is False and (written is None or written["type"] != "none"):
            written = written or dict[str, object](type="auto")
            written["disable_parallel_tool_use"] = True
        return written

    def _choice(self, choice: ToolChoice, path: str) -> dict[str, object]:
        match choice.mode:
            case "none" | "auto":
                return {"type": choice.mode}
            case "required":
                return {"type": "any"}
            case "named":
                return {"type": "tool", "name": self._losses.names.sent(choice.names[0], path=path)}
            case "subset":
                return {"type": "any" if choice.required else "auto"}
            case _:
                assert_never(choice.mode)
