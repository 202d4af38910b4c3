"""Writes a Responses request: ChatRequest -> provider body.

`fields.py` writes plain values. The provider stores nothing: `store` is sent as false, and
reasoning is asked for encrypted, so that the client can bring it back. What this dialect cannot
express is refused with its place or reported as a Change (docs/reference/translation.md).
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.request import (
    AnyTool,
    Attempt,
    ChatRequest,
    FreeformTool,
    HostedTool,
    ProviderRequest,
    ReasoningOptions,
    Tool,
)
from modelplex.dialects.core.effort import effort_of
from modelplex.dialects.core.freeform_tools import LEAVES, NO_PARAMETERS, WRAPPED, WRAPS, description_of
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.ledger import Ledger, check_one_choice
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.openai_chat.fields import write_user
from modelplex.dialects.openai_chat.request_out import (
    ANSWER_TOOL,
    FORMAT_LEAVES,
    NO_CACHE_ON_TOOLS,
    called_freely,
    check_answer_tool,
    check_pairs,
    drop_refused,
    schema_members,
    wraps_free_tools,
    written_parameters,
)
from modelplex.dialects.openai_responses.constants import DIALECT, ENCRYPTED, LOGPROBS
from modelplex.dialects.openai_responses.fields import FIELDS
from modelplex.dialects.openai_responses.messages_out import ResponsesItemWriter
from modelplex.dialects.openai_responses.tools import write_choice, write_custom, write_function, write_tools

_SUMMARIES = {"auto": "auto", "concise": "concise", "detailed": "detailed", "summarized": "auto"}
_TEXT = FIELDS.objects["text"]
_TOOL_LEAVES = frozenset({"description", "parameters", "strict"})
_OWN_LEAVES = frozenset({"namespace", "extra", "deferred"})


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body. Raises as `registry.write_request`."""
    return _RequestWriter(call, attempt).write()


class _RequestWriter:
    """Writes one request."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self.call = call
        self.attempt = attempt
        self.own = call.dialect == DIALECT
        self.body: dict[str, Any] = {}
        self.ledger = Ledger(call)
        self.names = ToolAliases(self.ledger.changes, native=self.own)
        self.free: set[str] = set()
        self.answer_tool: str | None = None
        self.wraps = wraps_free_tools(call, attempt)

    def write(self) -> ProviderRequest:
        call, body, ledger = self.call, self.body, self.ledger
        check_one_choice(ledger)
        if not self.own:
            check_pairs(call.messages)
        body["model"] = self.attempt.model
        if self.wraps:
            self.free |= {self.name_of(name, path="messages") for name in called_freely(call)}
        tools = write_tools(call, self._tool)
        history = ResponsesItemWriter(
            call,
            self.attempt,
            name_of=self.name_of,
            changes=ledger.changes,
            free=self.free,
            deferred=self._deferred(),
        )
        if (instructions := history.instructions()) is not None:
            body["instructions"] = instructions
        body["input"] = history.items()
        self._write_tools(tools)
        self._write_text()
        if call.reasoning is not None:
            self._write_reasoning(call.reasoning)
        if not self.own:
            ledger.drop_sampling(self.attempt.facts, body.get("reasoning", {}).get("effort"))
            if (limit := ledger.take_limit(self.attempt.facts)) is not None:
                body["max_output_tokens"] = limit
        write_user(ledger, body)
        is_logprobs = ledger.take("sampling.logprobs")
        FIELDS.write(ledger, body)
        extra = dict(ledger.take_extra()) if self.own else {}
        self._write_include(
            extra.pop("include", None), logprobs=is_logprobs, holds_reasoning=history.holds_reasoning
        )
        body["store"] = False
        FIELDS.put_back(body, extra)
        if ledger.take("stream"):
            body["stream"] = True
        else:
            body.pop("stream_options", None)
        drop_refused(ledger, body, self.attempt.quirks.refuses)
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
        self.ledger.take("namespaces")
        if tools:
            self.body["tools"] = tools
        elif not self.own:
            return  # without tools they have no meaning
        if parallel is not None:
            self.body["parallel_tool_calls"] = parallel
        if self.own and "tool_choice" in self.call.extra:
            return  # rides along
        if choice is not None:
            customs = [
                tool.name
                for tool in self.call.tools
                if isinstance(tool, FreeformTool) and self.names.of(tool) not in self.free
            ]
            self.body["tool_choice"] = write_choice(
                choice, customs, lambda name: self.name_of(name, path=self.ledger.path("choice"))
            )

    def _deferred(self) -> dict[str, dict[str, Any] | msgspec.Raw]:
        """The definitions of tools that a result of another dialect loads: an item after it holds
        them.
        """
        return {
            tool.name: self._tool(msgspec.structs.replace(tool, deferred=False))
            for tool in self.call.tools
            if not self.own and not isinstance(tool, HostedTool) and tool.deferred
        }

    def _tool(self, tool: AnyTool) -> dict[str, Any] | msgspec.Raw:
        match tool:
            case HostedTool():
                return tool.raw
            case FreeformTool():
                return self._free_tool(tool)
            case Tool():
                return self._function(tool)

    def _function(self, tool: Tool) -> dict[str, Any]:
        written = write_function(tool, self.names.of(tool))
        if not self.own:
            written["parameters"] = written_parameters(tool, self.ledger, self.attempt.quirks, native=False)
            # Left out, it would mean strict here wherever that is possible; elsewhere it means not
            # strict.
            written["strict"] = bool(tool.strict)
        return self._finished(tool, written, _TOOL_LEAVES)

    def _free_tool(self, tool: FreeformTool) -> dict[str, Any]:
        name = self.names.of(tool)
        if not self.wraps:
            return self._finished(tool, write_custom(tool, name), LEAVES)
        self.free.add(name)
        self.ledger.change("lower", tool.path, WRAPS)
        function = Tool(tool.name, description_of(tool) or None, parameters=WRAPPED, strict=False)
        return self._finished(tool, write_function(function, name), LEAVES)

    def _finished(
        self, tool: Tool | FreeformTool, written: dict[str, Any], takes: frozenset[str]
    ) -> dict[str, Any]:
        """The tool with what only this dialect has. What is left of it is reported."""
        if self.own:
            takes |= _OWN_LEAVES
            written |= tool.extra
        self.ledger.report_tool(tool, takes=takes, reasons=NO_CACHE_ON_TOOLS)
        return written

    # --- controls ---

    def _write_text(self) -> None:
        text: dict[str, Any] = {}
        form = self.call.format
        self.ledger.take_all(*FORMAT_LEAVES)
        if form is not None and form.kind == "text":
            text["format"] = {"type": "text"}
        elif form is not None and form.kind == "json":
            text["format"] = {"type": "json_object"}
        elif form is not None and (self.attempt.facts.schema or self.own):
            text["format"] = {
                "type": "json_schema",
                "name": form.name or ANSWER_TOOL,
                **schema_members(form),
            }
        elif form is not None:
            check_answer_tool(self.call, self.ledger)
            self.answer_tool = ANSWER_TOOL
            tool = Tool(
                ANSWER_TOOL, "Gives the answer.", parameters=form.schema or NO_PARAMETERS, strict=False
            )
            self.body["tools"] = [write_function(tool, ANSWER_TOOL)]
            self.body["tool_choice"] = {"type": "function", "name": ANSWER_TOOL}
        _TEXT.write(self.ledger, text)
        if text:
            self.body["text"] = text

    def _write_reasoning(self, reasoning: ReasoningOptions) -> None:
        ledger = self.ledger
        effort: str | None = ledger.take("reasoning.effort")
        if reasoning.mode == "disabled" and effort is None:
            effort = "none"
        if effort is None and (budget := ledger.take("reasoning.budget")) is not None:
            effort = effort_of(budget)
            ledger.lower("reasoning.budget", f"a budget of {budget} tokens becomes effort {effort!r}")
        ledger.take_all("reasoning.budget")
        written: dict[str, Any] = {}
        if effort is not None:
            ledger.take_mode()
            written["effort"] = effort
        if (summary := _SUMMARIES.get(ledger.take("reasoning.show"))) is not None:
            written["summary"] = summary
        if written and self.attempt.facts.thinking == "none" and not self.own:
            ledger.drop("reasoning", "this model does not think")
        elif written:
            self.body["reasoning"] = written

    def _write_include(self, given: msgspec.Raw | None, *, logprobs: bool, holds_reasoning: bool) -> None:
        """Reasoning is asked for encrypted where there is any: models without it answer that with
        an error.
        """
        include: list[str] = [] if given is None else msgspec.json.decode(given, type=list[str])
        reasoning: dict[str, Any] = self.body.get("reasoning") or {"effort": "none"}
        thinks = reasoning.get("effort") != "none"
        if (thinks or holds_reasoning) and ENCRYPTED not in include:
            include.append(ENCRYPTED)
        if logprobs and LOGPROBS not in include:
            include.append(LOGPROBS)
        if include:
            self.body["include"] = include
