"""A Call, written as a chat completions request for a provider.

Above it stands openai_chat; below it the vocabulary. How the services differ is told by their
Quirks alone. What this form cannot say is refused with its place (Unsupported), and what it can
only say in weaker words is listed as a Change.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    AnyTool,
    Attempt,
    Change,
    ChatRequest,
    FreeformTool,
    HostedTool,
    Message,
    ProviderRequest,
    ReasoningOptions,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from modelplex.dialects.core import cross_dialect
from modelplex.dialects.core.effort import effort_of
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.ledger import Ledger, Op
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.openai_chat.messages_out import ChatMessageWriter, cache_control

DIALECT = "openai_chat"
STOPS = 4
"""Stop sequences that OpenAI takes."""
NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
WRAPPED = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string","description":"The tool\'s whole input, as plain text."}},"required":["input"]}'
)
"""The parameters of a free-form tool where the service knows functions only."""
ANSWER_TOOL = "answer"
"""The tool whose arguments are the answer, for a model that knows no schema
(docs/reference/translation.md#structured-output).
"""
CUSTOM_TOOLS = "tools.custom"
"""In `Quirks.refuses`: the service knows functions only."""

_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty"),
    *("logit_bias", "top_logprobs"),
)
"""Members of Sampling that have their own name here."""
_TIERS = {"auto": "auto", "standard_only": "default"}
"""What Anthropic's tiers are called here."""
_FAMILY = frozenset({DIALECT, "openai_responses"})
"""Dialects whose `metadata` and `service_tier` mean the same as here."""


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body. Raises Unsupported or BadRequest naming the part that cannot be said."""
    return _Writing(call, attempt).write()


class _Writing:
    """One request in the making."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self.call, lost = cross_dialect.crossed(call, to=DIALECT)
        self.attempt = attempt
        self.quirks = attempt.quirks
        self.own = call.dialect == DIALECT
        self.body: dict[str, Any] = {}
        self.ledger = Ledger(self.call, lost)
        self.changes = self.ledger.changes
        self.lost: set[str] = set()
        """What a choice may call the tools that are left out."""
        self.names = ToolAliases(self.changes, native=self.own)
        self.free: set[str] = set()
        self.answer_tool: str | None = None
        self.customs = {tool.name for tool in self.call.tools if isinstance(tool, FreeformTool)}
        self.wraps = wraps_free_tools(self.call, attempt)

    def write(self) -> ProviderRequest:
        call = self.call
        if not self.own:
            check_pairs(call.messages)
        body = self.body
        body["model"] = self.attempt.model
        if self.wraps:
            self.free |= {self.name_of(name, path="messages") for name in called_freely(call)}
        told = [self._tool(tool, path=f"tools[{n}]") for n, tool in enumerate(call.tools)]
        tools = [tool for tool in told if tool is not None]
        if call.tools and not tools and call.choice is not None and call.choice.mode == "required":
            raise Unsupported(
                "A call is demanded, but this provider has none of the tools.", param="tool_choice"
            )
        body["messages"] = ChatMessageWriter(
            call, self.attempt, name_of=self.name_of, changes=self.changes, free=self.free
        ).write()
        if tools:
            body["tools"] = tools
            self._put("parallel_tool_calls", self.ledger.take("parallel"))
        choice = cross_dialect.without_lost(call.choice, frozenset(self.lost))
        if choice is not None and (tools or self.own):
            body["tool_choice"] = self._choice(choice)
        self.ledger.take("parallel")  # without tools it says nothing
        self._put(self.quirks.output_limit, self.ledger.take("max_tokens"))
        self._write_sampling()
        self._write_format()
        if call.reasoning is not None:
            self._write_reasoning(call.reasoning)
        self._write_rest()
        self._write_stream()
        self._drop_refused()
        return ProviderRequest(
            encode(body), self.ledger.settle(), self.names.aliases, frozenset(self.free), self.answer_tool
        )

    def name_of(self, name: str, *, path: str) -> str:
        """The tool's name as it is sent."""
        return self.names.sent(name, path=path)

    def _put(self, name: str, value: object) -> None:
        if value is not None:
            self.body[name] = value

    def _lose(self, path: str, reason: str, op: Op = "drop") -> None:
        self.changes.append(Change(op, path, reason))

    # --- tools ---

    def _tool(self, tool: AnyTool, *, path: str) -> dict[str, Any] | msgspec.Raw | None:
        """None where it stays behind."""
        match tool:
            case HostedTool():
                if tool.dialect != DIALECT:
                    self.changes.append(cross_dialect.lost_tool(tool, self.call.choice, path=path))
                    self.lost |= cross_dialect.words_of(tool)
                    return None
                return tool.raw
            case FreeformTool():
                return self._free_tool(tool, path=path)
            case Tool():
                return self._function(tool, path=path)

    def _function(self, tool: Tool, *, path: str) -> dict[str, Any]:
        function: dict[str, Any] = {"name": self.name_of(tool.name, path=f"{path}.name")}
        if tool.description is not None:
            function["description"] = tool.description
        if tool.parameters is not None or not self.own:
            function["parameters"] = tool.parameters or NO_PARAMETERS
        if tool.strict is not None:
            function["strict"] = tool.strict
        written: dict[str, Any] = {"type": "function", "function": function}
        if tool.cache is not None and self.quirks.cache_control:
            written["cache_control"] = cache_control(tool.cache.ttl)
        elif tool.cache is not None:
            self._lose(f"{path}.cache_control", "tools have no cache markers here")
        self._lose_namespace(tool.namespace, path=path)
        for name in tool.extra:
            self._lose(f"{path}.{name}", "this dialect has no such member")
        return written

    def _lose_namespace(self, namespace: str | None, *, path: str) -> None:
        if namespace is not None:
            self._lose(f"{path}.namespace", "this dialect has no namespaces")

    def _free_tool(self, tool: FreeformTool, *, path: str) -> dict[str, Any]:
        name = self.name_of(tool.name, path=f"{path}.name")
        self._lose_namespace(tool.namespace, path=path)
        for member in tool.extra:
            self._lose(f"{path}.{member}", "this dialect has no such member")
        if self.wraps:
            self.free.add(name)
            self._lose(path, "a free-form tool is written as a function with one string `input`", "lower")
            function: dict[str, Any] = {"name": name, "parameters": WRAPPED}
            if described := describe_wrapped(tool):
                function["description"] = described
            return {"type": "function", "function": function}
        custom: dict[str, Any] = {"name": name}
        if tool.description is not None:
            custom["description"] = tool.description
        if tool.definition is not None:
            grammar = {"definition": tool.definition, "syntax": tool.syntax}
            custom["format"] = {"type": "grammar", "grammar": grammar}
        return {"type": "custom", "custom": custom}

    def _choice(self, choice: ToolChoice) -> object:
        if choice.mode in {"none", "auto", "required"}:
            return choice.mode
        named = [self._named(name) for name in choice.names]
        if choice.mode == "named":
            return named[0]
        mode = "required" if choice.required else "auto"
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}

    def _named(self, name: str) -> dict[str, Any]:
        sent = self.name_of(name, path="tool_choice")
        kind = "custom" if name in self.customs and sent not in self.free else "function"
        return {"type": kind, kind: {"name": sent}}

    # --- controls ---

    def _write_sampling(self) -> None:
        take = self.ledger.take
        for name in _SAMPLING:
            self._put(name, take(f"sampling.{name}"))
        if take("sampling.logprobs"):
            self.body["logprobs"] = True
        if (choices := take("sampling.n")) != 1:
            self.body["n"] = choices
        stops = take("sampling.stop")
        if len(stops) > STOPS and not self.own:
            self.ledger.clamp("sampling.stop", f"at most {STOPS} are taken")
            stops = stops[:STOPS]
        if stops:
            self.body["stop"] = list(stops)

    def _write_format(self) -> None:
        asked = self.call.format
        if asked is None:
            return
        self.ledger.take_all(
            *(f"format.{name}" for name in ("kind", "schema", "name", "description", "strict"))
        )
        if asked.kind == "text":
            if self.own:
                self.body["response_format"] = {"type": "text"}
        elif asked.kind == "json":
            self.body["response_format"] = {"type": "json_object"}
        elif self.attempt.facts.schema or self.own:
            schema: dict[str, Any] = {"name": asked.name or "answer"}
            given = {"description": asked.description, "schema": asked.schema, "strict": asked.strict}
            schema |= {name: value for name, value in given.items() if value is not None}
            self.body["response_format"] = {"type": "json_schema", "json_schema": schema}
        else:
            self._answer_by_tool(asked.schema or NO_PARAMETERS)

    def _answer_by_tool(self, schema: msgspec.Raw) -> None:
        reasoning = self.call.reasoning
        thinks = reasoning is not None and reasoning.effort != "none" and reasoning.mode != "disabled"
        if self.call.tools or thinks:
            raise Unsupported(
                "The model has no answers by a schema, and a tool cannot stand in for it beside other tools or thinking.",
                param=self.ledger.path("format"),
            )
        self.answer_tool = ANSWER_TOOL
        function = {"name": ANSWER_TOOL, "description": "Gives the answer.", "parameters": schema}
        self.body["tools"] = [{"type": "function", "function": function}]
        self.body["tool_choice"] = {"type": "function", "function": {"name": ANSWER_TOOL}}
        self.ledger.lower("format", "the model has no schemas; a forced tool stands in")

    def _write_reasoning(self, reasoning: ReasoningOptions) -> None:
        take = self.ledger.take
        effort: str | None = take("reasoning.effort")
        if take("reasoning.mode") == "disabled" and effort is None:
            effort = "none"
        budget, show = take("reasoning.budget"), take("reasoning.show")
        where = self.quirks.effort
        if where == "reasoning":
            self._write_reasoning_object(reasoning, effort)
            return
        if effort is None and budget is not None:
            effort = effort_of(budget)
            if where:
                self.ledger.lower(
                    "reasoning.budget", f"a budget of {budget} tokens is told as effort {effort!r}"
                )
        if show is not None:
            self.ledger.drop("reasoning.show", "what is shown of the reasoning cannot be chosen here")
        if where == "thinking":
            off = effort == "none"
            self.body["thinking"] = {"type": "disabled" if off else "enabled"}
            if effort is not None and not off:
                self.body["reasoning_effort"] = effort
        elif where and effort is not None:
            self.body[where] = effort
        elif not where:
            self.ledger.drop("reasoning", "this service has no such control")

    def _write_reasoning_object(self, reasoning: ReasoningOptions, effort: str | None) -> None:
        """OpenRouter's form, which knows budgets too; of the two only one may be set."""
        asked: dict[str, Any] = {}
        if effort is not None:
            asked["effort"] = effort
        elif reasoning.budget is not None:
            asked["max_tokens"] = reasoning.budget
        else:
            asked["enabled"] = True
        if reasoning.show == "omitted":
            asked["exclude"] = True
        self.body["reasoning"] = asked

    def _write_rest(self) -> None:
        call, ledger = self.call, self.ledger
        self._put("verbosity", ledger.take("verbosity"))
        self._put("prompt_cache_key", ledger.take("cache_key"))
        self._put(call.user_field, ledger.take("user"))
        if call.cache is not None and self.quirks.cache_control:
            self.body["cache_control"] = cache_control(ledger.take("cache").ttl)
        ledger.drop_if_set("cache", "this service takes no cache markers")
        if call.dialect in _FAMILY:
            self._put("metadata", ledger.take("metadata"))
            self._put("service_tier", ledger.take("tier"))
        elif call.tier in _TIERS:
            self.body["service_tier"] = _TIERS[ledger.take("tier")]
        ledger.drop_if_set("metadata", "this dialect means something else by it")
        ledger.drop_if_set("tier", f"there is no tier {call.tier!r} here")
        for name, value in call.extra.items():
            if self.own:
                self.body.setdefault(name, value)
            else:
                self._lose(name, "this dialect has no such member")

    def _write_stream(self) -> None:
        if not self.call.stream:
            self.body.pop("stream_options", None)
            return
        self.body["stream"] = True
        options: dict[str, Any] = {}
        given = self.body.pop("stream_options", None)
        if given is not None:
            options = msgspec.json.decode(given, type=dict[str, msgspec.Raw])
        if self.quirks.stream_usage:
            options["include_usage"] = True
        else:
            options.pop("include_usage", None)
        if options:
            self.body["stream_options"] = options

    def _drop_refused(self) -> None:
        for name in self.quirks.refuses:
            if name in self.body:
                del self.body[name]
                self._lose(name, "this service answers it with an error")


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


def describe_wrapped(tool: FreeformTool) -> str:
    """What a function that stands for a free-form tool is for; its grammar can only be told in
    words.
    """
    told = [tool.description] if tool.description else []
    if tool.definition:
        told.append(f"The input must match this {tool.syntax or 'formal'} grammar:\n{tool.definition}")
    return "\n\n".join(told)


def check_pairs(messages: tuple[Message, ...]) -> None:
    """Calls without results, and results without calls, are the client's mistake
    (docs/reference/translation.md#tool-calls-and-results). Raises BadRequest with the ids.
    """
    open_calls: dict[str, str] = {}
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                open_calls[part.id] = message.path
            elif isinstance(part, ToolResultPart) and open_calls.pop(part.id, None) is None:
                raise BadRequest(
                    f"The tool result {part.id!r} answers no call before it.", param=message.path
                )
    if open_calls:
        ids = ", ".join(repr(each) for each in open_calls)
        raise BadRequest(f"These tool calls have no result: {ids}.", param=next(iter(open_calls.values())))
