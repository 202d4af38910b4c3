"""A Call, written as a Responses request for a provider.

Above it stands openai_responses; below it the vocabulary. Nothing is ever kept at the provider:
`store` is sent as false, and reasoning is asked for encrypted, so that the client can bring it
back. What this form cannot say is refused with its place, and what it can only say in weaker words
is listed as a Change (docs/reference/translation.md).
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import Unsupported
from modelplex.core.request import (
    AnyTool,
    Attempt,
    Change,
    ChatRequest,
    FreeformTool,
    HostedTool,
    ProviderRequest,
    ReasoningOptions,
    Tool,
)
from modelplex.dialects.core import cross_dialect
from modelplex.dialects.core.effort import effort_of
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.ledger import Ledger, Op
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.openai_chat.request_out import (
    ANSWER_TOOL,
    NO_PARAMETERS,
    WRAPPED,
    called_freely,
    check_pairs,
    describe_wrapped,
    wraps_free_tools,
)
from modelplex.dialects.openai_responses.constants import DIALECT, ENCRYPTED, LOGPROBS
from modelplex.dialects.openai_responses.messages_out import ResponsesItemWriter
from modelplex.dialects.openai_responses.tools import write_choice, write_custom, write_function, write_tools

_TIERS = {"auto": "auto", "standard_only": "default"}
"""What Anthropic's tiers are called here."""
_FAMILY = frozenset({DIALECT, "openai_chat"})
"""Dialects whose `metadata` and `service_tier` mean the same as here."""
_SUMMARIES = {"auto": "auto", "concise": "concise", "detailed": "detailed", "summarized": "auto"}


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body.

    Raises:
        Unsupported, BadRequest: a part that cannot be said, named by its place.
        StatePinned: the conversation holds what another provider or account has sealed.
    """
    return _Writing(call, attempt).write()


class _Writing:
    """One request in the making."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self.call, lost = cross_dialect.crossed(call, to=DIALECT)
        self.attempt = attempt
        self.own = call.dialect == DIALECT
        self.body: dict[str, Any] = {}
        self.ledger = Ledger(self.call, lost)
        self.changes = self.ledger.changes
        self.names = ToolAliases(self.changes, native=self.own)
        self.free: set[str] = set()
        self.lost: set[str] = set()
        """What a choice may call the tools that are left out."""
        self.answer_tool: str | None = None
        self.wraps = wraps_free_tools(self.call, attempt)

    def write(self) -> ProviderRequest:
        call, body = self.call, self.body
        if self.ledger.take("sampling.n") > 1:
            raise Unsupported(
                "This provider gives one choice an answer.", param=self.ledger.path("sampling.n")
            )
        if not self.own:
            check_pairs(call.messages)
        body["model"] = self.attempt.model
        if self.wraps:
            self.free |= {self.name_of(name, path="messages") for name in called_freely(call)}
        tools = write_tools(call, self._tool)
        history = ResponsesItemWriter(
            call, self.attempt, name_of=self.name_of, changes=self.changes, free=self.free
        )
        self._put("instructions", history.instructions())
        body["input"] = history.items()
        self._write_tools(tools)
        self._put("max_output_tokens", self.ledger.take("max_tokens"))
        self._write_sampling()
        self._write_text()
        if call.reasoning is not None:
            self._write_reasoning(call.reasoning)
        self._write_rest()
        self._write_include(holds_reasoning=history.holds_reasoning)
        body["store"] = False
        body.pop("stream_options", None)
        if call.stream:
            body["stream"] = True
            if "stream_options" in call.extra and self.own:
                body["stream_options"] = call.extra["stream_options"]
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

    def _write_tools(self, tools: list[dict[str, Any] | msgspec.Raw]) -> None:
        call = self.call
        parallel = self.ledger.take("parallel")  # without tools it says nothing
        if not tools and not self.own:
            if call.tools and call.choice is not None and call.choice.mode == "required":
                raise Unsupported(
                    "A call is demanded, but this provider has none of the tools.", param="tool_choice"
                )
            return
        if tools:
            self.body["tools"] = tools
        self._put("parallel_tool_calls", parallel)
        choice = cross_dialect.without_lost(call.choice, frozenset(self.lost))
        if self.own and "tool_choice" in call.extra:
            self.body["tool_choice"] = call.extra["tool_choice"]
        elif choice is not None:
            customs = [
                tool.name
                for tool in call.tools
                if isinstance(tool, FreeformTool) and self.name_of(tool.name, path="tools") not in self.free
            ]
            self.body["tool_choice"] = write_choice(
                choice, customs, lambda name: self.name_of(name, path="tool_choice")
            )

    def _tool(self, tool: AnyTool, path: str) -> dict[str, Any] | msgspec.Raw | None:
        match tool:
            case HostedTool():
                if tool.dialect == DIALECT:
                    return tool.raw
                self.changes.append(cross_dialect.lost_tool(tool, self.call.choice, path=path))
                self.lost |= cross_dialect.words_of(tool)
                return None
            case FreeformTool():
                return self._free_tool(tool, path)
            case Tool():
                return self._function(tool, path)

    def _function(self, tool: Tool, path: str) -> dict[str, Any]:
        written = write_function(tool, self.name_of(tool.name, path=f"{path}.name"))
        if self.own:
            return {**written, **tool.extra}
        written["parameters"] = tool.parameters or NO_PARAMETERS
        # Left out, it would mean strict here wherever that is possible; elsewhere it means not
        # strict.
        written["strict"] = bool(tool.strict)
        if tool.cache is not None:
            self._lose(f"{path}.cache_control", "tools have no cache markers here")
        for name in tool.extra:
            self._lose(f"{path}.{name}", "this dialect has no such member")
        return written

    def _free_tool(self, tool: FreeformTool, path: str) -> dict[str, Any]:
        name = self.name_of(tool.name, path=f"{path}.name")
        if not self.wraps:
            return {**write_custom(tool, name), **(tool.extra if self.own else {})}
        self.free.add(name)
        self._lose(path, "a free-form tool is written as a function with one string `input`", "lower")
        function = Tool(tool.name, describe_wrapped(tool) or None, parameters=WRAPPED, strict=False)
        return write_function(function, name)

    # --- controls ---

    def _write_sampling(self) -> None:
        for name in ("temperature", "top_p", "top_logprobs"):
            self._put(name, self.ledger.take(f"sampling.{name}"))
        self.ledger.drop_if_set("sampling.stop", "this provider has no stop sequences")

    def _write_text(self) -> None:
        text: dict[str, Any] = {}
        asked = self.call.format
        self.ledger.take_all(
            *(f"format.{name}" for name in ("kind", "schema", "name", "description", "strict"))
        )
        if asked is not None and asked.kind == "text":
            text["format"] = {"type": "text"}
        elif asked is not None and asked.kind == "json":
            text["format"] = {"type": "json_object"}
        elif asked is not None and (self.attempt.facts.schema or self.own):
            given = {"description": asked.description, "schema": asked.schema, "strict": asked.strict}
            schema = {name: value for name, value in given.items() if value is not None}
            text["format"] = {"type": "json_schema", "name": asked.name or ANSWER_TOOL, **schema}
        elif asked is not None:
            self._answer_by_tool(asked.schema or NO_PARAMETERS)
        if (verbosity := self.ledger.take("verbosity")) is not None:
            text["verbosity"] = verbosity
        if text:
            self.body["text"] = text

    def _answer_by_tool(self, schema: msgspec.Raw) -> None:
        reasoning = self.call.reasoning
        thinks = reasoning is not None and reasoning.effort != "none" and reasoning.mode != "disabled"
        if self.call.tools or thinks:
            raise Unsupported(
                "The model has no answers by a schema, and a tool cannot stand in for it beside other tools or thinking.",
                param=self.ledger.path("format"),
            )
        self.answer_tool = ANSWER_TOOL
        tool = Tool(ANSWER_TOOL, "Gives the answer.", parameters=schema, strict=False)
        self.body["tools"] = [write_function(tool, ANSWER_TOOL)]
        self.body["tool_choice"] = {"type": "function", "name": ANSWER_TOOL}
        self.ledger.lower("format", "the model has no schemas; a forced tool stands in")

    def _write_reasoning(self, reasoning: ReasoningOptions) -> None:
        take = self.ledger.take
        effort: str | None = take("reasoning.effort")
        if take("reasoning.mode") == "disabled" and effort is None:
            effort = "none"
        budget = take("reasoning.budget")
        if effort is None and budget is not None:
            effort = effort_of(budget)
            self.ledger.lower("reasoning.budget", f"a budget of {budget} tokens is told as effort {effort!r}")
        asked: dict[str, Any] = {}
        if self.own and "reasoning" in self.call.extra:
            asked = msgspec.json.decode(self.call.extra["reasoning"], type=dict[str, msgspec.Raw])
        if effort is not None:
            asked["effort"] = effort
        if (show := take("reasoning.show")) in _SUMMARIES:
            asked["summary"] = _SUMMARIES[show]
        if asked and self.attempt.facts.thinking == "none" and not self.own:
            self.ledger.drop("reasoning", "this model does not think")
        elif asked:
            self.body["reasoning"] = asked

    def _write_rest(self) -> None:
        call, ledger = self.call, self.ledger
        self._put("prompt_cache_key", ledger.take("cache_key"))
        self._put(call.user_field, ledger.take("user"))
        ledger.drop_if_set("cache", "there are cache markers on parts only here")
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
            elif name == "store" and bytes(value) == b"true":
                self._lose(name, "nothing is kept at a provider")
            elif name != "store":
                self._lose(name, "this dialect has no such member")

    def _write_include(self, *, holds_reasoning: bool) -> None:
        """Reasoning is asked for encrypted where there is any: models without it answer that with
        an error.
        """
        given = self.call.extra.get("include") if self.own else None
        include: list[str] = [] if given is None else msgspec.json.decode(given, type=list[str])
        asked: dict[str, Any] = self.body.get("reasoning") or {"effort": "none"}
        thinks = asked.get("effort") != "none"
        if (thinks or holds_reasoning) and ENCRYPTED not in include:
            include.append(ENCRYPTED)
        if self.ledger.take("sampling.logprobs") and LOGPROBS not in include:
            include.append(LOGPROBS)
        if include:
            self.body["include"] = include

    def _drop_refused(self) -> None:
        for name in self.attempt.quirks.refuses:
            if name in self.body:
                del self.body[name]
                self._lose(name, "this service answers it with an error")
