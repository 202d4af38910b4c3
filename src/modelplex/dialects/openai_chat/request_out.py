"""Writes a chat completions request: ChatRequest -> provider body.

`fields.py` writes plain values. Here are tools, the response format, reasoning, and what depends on
the service, which `Quirks` describe. What this dialect cannot express is refused with its place
(Unsupported) or reported as a Change.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    AnyTool,
    Attempt,
    ChatRequest,
    FreeformTool,
    HostedTool,
    Message,
    ProviderRequest,
    Quirks,
    ReasoningOptions,
    ResponseFormat,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from modelplex.dialects.core.effort import effort_of
from modelplex.dialects.core.freeform_tools import LEAVES, NO_PARAMETERS, WRAPPED, WRAPS, description_of
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.ledger import Ledger, check_one_choice
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.core.tool_schemas import plain_parameters
from modelplex.dialects.openai_chat.fields import FIELDS, write_user
from modelplex.dialects.openai_chat.messages_out import ChatMessageWriter, cache_control

DIALECT = "openai_chat"
ANSWER_TOOL = "answer"
"""The tool whose arguments are the answer, for a model that knows no schema
(docs/reference/translation.md#structured-output).
"""
CUSTOM_TOOLS = "tools.custom"
"""In `Quirks.refuses`: the service knows functions only."""
FORMAT_LEAVES = ("format.kind", "format.schema", "format.name", "format.description", "format.strict")
_TOOL_LEAVES = frozenset({"description", "parameters", "strict"})
NO_CACHE_ON_TOOLS = {"cache": "tools have no cache markers here"}


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body. Raises as `registry.write_request`."""
    return _RequestWriter(call, attempt).write()


class _RequestWriter:
    """Writes one request."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self.call = call
        self.attempt = attempt
        self.quirks = attempt.quirks
        self.own = call.dialect == DIALECT
        self.body: dict[str, Any] = {}
        self.ledger = Ledger(call)
        self.names = ToolAliases(self.ledger.changes, native=self.own)
        self.free: set[str] = set()
        self.answer_tool: str | None = None
        self.wraps = wraps_free_tools(call, attempt)

    def write(self) -> ProviderRequest:
        call, body, ledger = self.call, self.body, self.ledger
        if not self.own:
            check_pairs(call.messages)
        if self.quirks.one_choice:
            check_one_choice(ledger)
        body["model"] = self.attempt.model
        if self.wraps:
            self.free |= {self.name_of(name, path="messages") for name in called_freely(call)}
        tools = [self._tool(tool) for tool in call.tools]
        body["messages"] = ChatMessageWriter(
            call, self.attempt, name_of=self.name_of, changes=ledger.changes, free=self.free
        ).write()
        self._write_tools(tools)
        if (
            max_tokens := ledger.take("max_tokens") if self.own else ledger.take_limit(self.attempt.facts)
        ) is not None:
            body[self.quirks.output_limit] = max_tokens
        if call.format is not None:
            self._write_format(call.format)
        if call.reasoning is not None:
            self._write_reasoning(call.reasoning)
        if not self.own:
            ledger.drop_sampling(self.attempt.facts, body.get("reasoning_effort"))
        write_user(ledger, body)
        if call.cache is not None and self.quirks.cache_control:
            body["cache_control"] = cache_control(ledger.take("cache").ttl)
        FIELDS.write(ledger, body)
        if self.own:
            FIELDS.put_back(body, ledger.take_extra())
        self._write_stream()
        drop_refused(ledger, body, self.quirks.refuses)
        return ProviderRequest(
            encode(body),
            ledger.settle(FIELDS.reasons),
            self.names.aliases,
            frozenset(self.free),
            self.answer_tool,
        )

    def name_of(self, name: str, *, path: str) -> str:
        """The tool's name as it is sent."""
        return self.names.sent(name, path=path)

    # --- tools ---

    def _write_tools(self, tools: list[dict[str, Any] | msgspec.Raw]) -> None:
        parallel, choice = self.ledger.take("parallel"), self.ledger.take("choice")
        if tools:
            self.body["tools"] = tools
            if parallel is not None:
                self.body["parallel_tool_calls"] = parallel
        if choice is not None and (tools or self.own):
            self.body["tool_choice"] = self._choice(choice)

    def _tool(self, tool: AnyTool) -> dict[str, Any] | msgspec.Raw:
        match tool:
            case Tool():
                return self._function(tool)
            case FreeformTool():
                return self._free_tool(tool)
            case HostedTool():
                return tool.raw

    def _function(self, tool: Tool) -> dict[str, Any]:
        function: dict[str, Any] = {"name": self.names.of(tool)}
        if tool.description is not None:
            function["description"] = tool.description
        if tool.parameters is not None or not self.own:
            function["parameters"] = written_parameters(tool, self.ledger, self.quirks, native=self.own)
        if tool.strict is not None:
            function["strict"] = tool.strict
        written: dict[str, Any] = {"type": "function", "function": function}
        takes = _TOOL_LEAVES
        if tool.cache is not None and self.quirks.cache_control:
            written["cache_control"] = cache_control(tool.cache.ttl)
            takes |= {"cache"}
        self._finish_tool(tool, written, takes)
        return written

    def _free_tool(self, tool: FreeformTool) -> dict[str, Any]:
        name = self.names.of(tool)
        if self.wraps:
            self.free.add(name)
            self.ledger.change("lower", tool.path, WRAPS)
            function: dict[str, Any] = {"name": name, "parameters": WRAPPED}
            if described := description_of(tool):
                function["description"] = described
            written: dict[str, Any] = {"type": "function", "function": function}
        else:
            written = {"type": "custom", "custom": write_custom(tool, name)}
        self._finish_tool(tool, written, LEAVES)
        return written

    def _finish_tool(self, tool: Tool | FreeformTool, written: dict[str, Any], takes: frozenset[str]) -> None:
        """Puts back what only this dialect has, and reports the rest of the tool."""
        if self.own:
            takes |= {"extra"}
            for name, value in tool.extra.items():
                kind, _, member = name.rpartition(".")
                written.get(kind, written).setdefault(member, value)
        self.ledger.report_tool(tool, takes=takes, reasons=NO_CACHE_ON_TOOLS)

    def _choice(self, choice: ToolChoice) -> object:
        if choice.mode in {"none", "auto", "required"}:
            return choice.mode
        customs = {tool.name for tool in self.call.tools if isinstance(tool, FreeformTool)}
        named = [self._named(name, customs) for name in choice.names]
        if choice.mode == "named":
            return named[0]
        mode = "required" if choice.required else "auto"
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}

    def _named(self, name: str, customs: set[str]) -> dict[str, Any]:
        sent = self.name_of(name, path=self.ledger.path("choice"))
        kind = "custom" if name in customs and sent not in self.free else "function"
        return {"type": kind, kind: {"name": sent}}

    # --- controls ---

    def _write_format(self, form: ResponseFormat) -> None:
        self.ledger.take_all(*FORMAT_LEAVES)
        if form.kind == "text":
            if self.own:
                self.body["response_format"] = {"type": "text"}
        elif form.kind == "json":
            self.body["response_format"] = {"type": "json_object"}
        elif self.attempt.facts.schema or self.own:
            schema = {"name": form.name or ANSWER_TOOL, **schema_members(form)}
            self.body["response_format"] = {"type": "json_schema", "json_schema": schema}
        else:
            check_answer_tool(self.call, self.ledger)
            self.answer_tool = ANSWER_TOOL
            function = {
                "name": ANSWER_TOOL,
                "description": "Gives the answer.",
                "parameters": form.schema or NO_PARAMETERS,
            }
            self.body["tools"] = [{"type": "function", "function": function}]
            self.body["tool_choice"] = {"type": "function", "function": {"name": ANSWER_TOOL}}

    def _write_reasoning(self, reasoning: ReasoningOptions) -> None:
        ledger, where = self.ledger, self.quirks.effort
        effort: str | None = ledger.take("reasoning.effort")
        if reasoning.mode == "disabled" and effort is None:
            effort = "none"
        if where == "reasoning":
            ledger.take_mode()
            ledger.take_all("reasoning.budget", "reasoning.show")
            self.body["reasoning"] = _reasoning_object(reasoning, effort)
            return
        if not where:
            ledger.drop("reasoning", "this service has no such control")
            return
        if self.attempt.facts.thinking == "none" and not self.own:
            ledger.drop("reasoning", "this model does not think")
            return
        if effort is None and (budget := ledger.take("reasoning.budget")) is not None:
            effort = effort_of(budget)
            ledger.lower("reasoning.budget", f"a budget of {budget} tokens becomes effort {effort!r}")
        ledger.take_all("reasoning.budget")
        if effort is not None or where == "thinking":
            ledger.take_mode()
        if where == "thinking":
            is_off = effort == "none"
            self.body["thinking"] = {"type": "disabled" if is_off else "enabled"}
            if effort is not None and not is_off:
                self.body["reasoning_effort"] = effort
        elif effort is not None:
            self.body[where] = effort

    def _write_stream(self) -> None:
        options = self.body.pop("stream_options", {})
        if not self.ledger.take("stream"):
            return
        self.body["stream"] = True
        if self.quirks.stream_usage:
            options["include_usage"] = True
        if options:
            self.body["stream_options"] = options


def written_parameters(tool: Tool, ledger: Ledger, quirks: Quirks, *, native: bool) -> msgspec.Raw:
    """The parameters of a function; those of a client of the provider's form stay as they are."""
    if tool.parameters is None:
        return NO_PARAMETERS
    if native:
        return tool.parameters
    return plain_parameters(tool, tool.parameters, ledger, quirks)


def schema_members(form: ResponseFormat) -> dict[str, Any]:
    """The members of a schema in a request, beside its name."""
    given = {"description": form.description, "schema": form.schema, "strict": form.strict}
    return {name: value for name, value in given.items() if value is not None}


def check_answer_tool(call: ChatRequest, ledger: Ledger) -> None:
    """Reports that a forced tool stands in for a schema. Raises Unsupported where it cannot."""
    reasoning = call.reasoning
    thinks = reasoning is not None and reasoning.effort != "none" and reasoning.mode != "disabled"
    if call.tools or thinks:
        raise Unsupported(
            "The model has no answers by a schema, and a tool cannot stand in for it beside other tools or thinking.",
            param=ledger.path("format"),
        )
    ledger.lower("format", "the model has no schemas; a forced tool stands in")


def _reasoning_object(reasoning: ReasoningOptions, effort: str | None) -> dict[str, Any]:
    """OpenRouter's form, which has budgets too; only one of the two may be set."""
    written: dict[str, Any] = {}
    if effort is not None:
        written["effort"] = effort
    elif reasoning.budget is not None:
        written["max_tokens"] = reasoning.budget
    else:
        written["enabled"] = True
    if reasoning.show == "omitted":
        written["exclude"] = True
    return written


def drop_refused(ledger: Ledger, body: dict[str, Any], refuses: tuple[str, ...]) -> None:
    """Takes out the members that the service answers with an error."""
    for name in refuses:
        if body.pop(name, None) is not None:
            ledger.change("drop", name, "this service answers it with an error")


def write_custom(tool: FreeformTool, name: str) -> dict[str, Any]:
    """A free-form tool under this name."""
    written: dict[str, Any] = {"name": name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.definition is not None:
        grammar = {"definition": tool.definition, "syntax": tool.syntax}
        written["format"] = {"type": "grammar", "grammar": grammar}
    return written


def wraps_free_tools(call: ChatRequest, attempt: Attempt) -> bool:
    """Whether free-form tools are written as functions. A client that speaks the provider's own
    form knows what it takes.
    """
    quirks = attempt.quirks
    return CUSTOM_TOOLS in quirks.refuses or not (quirks.custom_tools or call.dialect == attempt.dialect)


def called_freely(call: ChatRequest) -> set[str]:
    """The names of free-form tools that were called earlier, offered now or not."""
    parts = (part for message in call.messages for part in message.parts)
    return {part.name for part in parts if isinstance(part, ToolCallPart) and part.free}


def check_pairs(messages: tuple[Message, ...]) -> None:
    """Calls without results, and results without calls, are the client's mistake
    (docs/reference/translation.md#tool-calls-and-results). Raises BadRequest with the ids.
    """
    open_calls: dict[str, ToolCallPart] = {}
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                open_calls[part.id] = part
            elif isinstance(part, ToolResultPart) and open_calls.pop(part.id, None) is None:
                raise BadRequest(
                    f"The tool result {part.id!r} answers no call before it.", param=str(part.at)
                )
    if open_calls:
        ids = ", ".join(repr(each) for each in open_calls)
        first = next(iter(open_calls.values()))
        raise BadRequest(f"These tool calls have no result: {ids}.", param=str(first.at))
