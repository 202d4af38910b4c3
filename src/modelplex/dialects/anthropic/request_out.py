"""A Call as the body of an Anthropic Messages request.

Above it stands `anthropic_messages`, below it `anthropic.messages_out`, which writes the
conversation. Here is everything else: tools and the choice among them, the form of the answer,
thinking, limits and sampling (docs/reference/translation.md). It knows no service, only the facts
and quirks that come with the Attempt, and it loses nothing in silence: each loss is a Change, or
the Call is refused.

The order matters: whether the model thinks decides which choices and which sampling parameters are
possible.
"""

from __future__ import annotations

from typing import Any, assert_never, cast

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    Attempt,
    Change,
    ChatRequest,
    Effort,
    FreeformTool,
    HostedTool,
    ProviderRequest,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from modelplex.dialects.anthropic.blocks import Block, TextBlock, ToolResultBlock
from modelplex.dialects.anthropic.messages_out import (
    DIALECT,
    FIRST_VERSION,
    AnthropicLosses,
    AnthropicMessageWriter,
)
from modelplex.dialects.core import cross_dialect
from modelplex.dialects.core.effort import BUDGETS, budget_of, effort_of
from modelplex.dialects.core.ledger import Ledger

MAX_MARKS = 4
"""Cache breakpoints of one request; the service refuses a fifth."""
LEAST_BUDGET = 1024
"""Tokens; the smallest `thinking.budget_tokens` that the service takes."""
ANSWER_TOOL = "answer"
"""The tool whose arguments are the answer, for models without a native output format
(docs/reference/translation.md#structured-output).
"""
JSON_ONLY = (
    "Answer with one valid JSON object and nothing else: no introduction, no explanation, no code fence."
)
NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')

TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
LEAST_TOP_P_THINKING = 0.95
"""Below this the service refuses `top_p` beside thinking."""


class _Asked(msgspec.Struct, frozen=True):
    """The decisions that depend on each other, once they are made."""

    max_tokens: int
    thinking: dict[str, object] | None = None
    effort: str | None = None

    @property
    def thinks(self) -> bool:
        return self.thinking is not None and self.thinking["type"] != "disabled"


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body.

    Raises:
        BadRequest: the conversation or a schema is wrong for every model.
        Unsupported: a part, a tool or a control has no words in this dialect, or not for this
            model.
        StatePinned: the conversation holds what another provider or account has sealed.
    """
    return _Writing(call, attempt).write()


class _Writing:
    """One Call on its way into one body."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self._call, lost = cross_dialect.crossed(call, to=DIALECT)
        self._facts = attempt.facts
        self._quirks = attempt.quirks
        self._model = attempt.model
        self._notes = AnthropicLosses(call, attempt)
        self._ledger = Ledger(self._call, lost)
        self._notes.share(self._ledger.changes)
        self._free: set[str] = set()
        self._answer_tool: str | None = None

    def write(self) -> ProviderRequest:
        call, notes = self._call, self._notes
        if self._ledger.take("sampling.n") > 1:
            raise Unsupported(
                "This provider gives one choice an answer.", param=self._ledger.path("sampling.n")
            )
        top_mark = notes.mark(self._ledger.take("cache"), "")
        notes.marks.clear()  # it is counted apart, since it is always kept
        tools = self._tools()  # first: the service's order of the cached prefix is tools, system, messages
        history = AnthropicMessageWriter(call, notes)
        history.write()
        self._add_json_instruction(history)
        asked = self._thinking(history)
        choice = self._choice(tools, thinks=asked.thinks)
        output = self._output(tools, asked)
        if self._answer_tool is not None:
            choice = {"type": "tool", "name": ANSWER_TOOL, "disable_parallel_tool_use": True}
        doomed = self._surplus_marks(has_top=top_mark is not None)
        body: dict[str, object] = {
            "model": self._model,
            "max_tokens": asked.max_tokens,
            "cache_control": top_mark,
            "system": [_unmarked(block, doomed) for block in history.system] or None,
            "tools": [_unmarked_tool(tool, doomed) for tool in tools] or None,
            "tool_choice": choice,
            "messages": [
                {"role": turn.role, "content": [_unmarked(block, doomed) for block in turn.content]}
                for turn in history.turns
            ],
            "thinking": asked.thinking,
            "output_config": output or None,
            **self._sampling(thinks=asked.thinks),
            **self._service(),
            "stream": True if call.stream else None,
        }
        body = {name: value for name, value in body.items() if value is not None}
        self._ride_along(body)
        return ProviderRequest(
            body=msgspec.json.encode(body),
            changes=self._ledger.settle(),
            aliases=notes.names.aliases,
            free=frozenset(self._free),
            answer_tool=self._answer_tool,
        )

    # -- tools

    def _tools(self) -> list[dict[str, Any]]:
        wanted = self._subset()
        tools: list[dict[str, Any]] = []
        for i, tool in enumerate(self._call.tools):
            if wanted is not None and tool.name not in wanted:
                continue
            path = f"tools[{i}]"
            match tool:
                case Tool():
                    tools.append(self._tool(tool, path))
                case FreeformTool():
                    tools.append(self._free_tool(tool, path))
                case HostedTool() if tool.dialect != DIALECT:
                    self._notes.changes.append(cross_dialect.lost_tool(tool, self._call.choice, path=path))
                case HostedTool():
                    tools.append(_hosted(tool))
                case _:
                    assert_never(tool)
        return tools

    def _subset(self) -> frozenset[str] | None:
        choice = self._call.choice
        if choice is None or choice.mode != "subset":
            return None
        self._notes.lower("tool_choice", "only the allowed tools are sent, at the cost of the prompt cache")
        return frozenset(choice.names)

    def _tool(self, tool: Tool, path: str) -> dict[str, Any]:
        notes = self._notes
        self._drop_namespace(tool.namespace, path)
        written: dict[str, Any] = {"name": notes.name(tool.name, f"{path}.name")}
        if tool.description:
            written["description"] = tool.description
        written["input_schema"] = self._input_schema(tool.parameters, f"{path}.parameters")
        if tool.strict and self._facts.schema:
            written["strict"] = True
        elif tool.strict:
            notes.drop(f"{path}.strict", "this model does not hold to schemas strictly")
        for name, value in tool.extra.items():
            if notes.native:
                written.setdefault(name, value)
            else:
                notes.drop(f"{path}.{name}", "it has no place here")
        if (mark := notes.mark(tool.cache, path)) is not None:
            written["cache_control"] = mark
        return written

    def _input_schema(self, parameters: msgspec.Raw | None, path: str) -> msgspec.Raw | dict[str, object]:
        """The schema as it came where it says that it is an object's, else with that said first."""
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
        self._notes.changes.append(Change("add", f"{path}.type", "a tool's parameters are an object here"))
        return {**schema, "type": "object"}

    def _free_tool(self, tool: FreeformTool, path: str) -> dict[str, Any]:
        self._drop_namespace(tool.namespace, path)
        self._notes.lower(path, "a free-form tool is sent as a function with one string")
        name = self._notes.name(tool.name, f"{path}.name")
        self._free.add(name)
        told = [tool.description] if tool.description else []
        if tool.definition:
            told.append(f"The input must match this {tool.syntax or 'formal'} grammar:\n{tool.definition}")
        schema = {
            "type": "object",
            "properties": {
                "input": {"type": "string", "description": "The tool's whole input, as plain text."}
            },
            "required": ["input"],
        }
        described = {"description": "\n\n".join(told)} if told else {}
        return {"name": name, **described, "input_schema": schema}

    def _drop_namespace(self, namespace: str | None, path: str) -> None:
        if namespace is not None:
            self._notes.drop(f"{path}.namespace", "tools have no namespaces here")

    def _choice(self, tools: list[dict[str, Any]], *, thinks: bool) -> dict[str, object] | None:
        choice = self._call.choice
        parallel = self._ledger.take("parallel")  # without tools it says nothing
        if not tools:
            if choice is not None and choice.mode in {"required", "named"}:
                raise BadRequest("A tool is demanded, but there are none.", param="tool_choice")
            return None
        written: dict[str, object] | None = self._chosen(choice)
        if (
            written is not None
            and written["type"] in {"any", "tool"}
            and (thinks or not self._facts.forced_tools)
        ):
            why = "a call cannot be forced while thinking" if thinks else "this model refuses forced calls"
            self._notes.lower("tool_choice", f"{why}: sent as auto")
            written["type"] = "auto"
            written.pop("name", None)
        if parallel is False and (written is None or written["type"] != "none"):
            written = {"type": "auto"} if written is None else written
            written["disable_parallel_tool_use"] = True
        return written

    def _chosen(self, choice: ToolChoice | None) -> dict[str, object] | None:
        if choice is None:
            return None
        match choice.mode:
            case "none" | "auto":
                return {"type": choice.mode}
            case "required":
                return {"type": "any"}
            case "named":
                return {"type": "tool", "name": self._notes.name(choice.names[0], "tool_choice")}
            case "subset":
                return {"type": "any" if choice.required else "auto"}
            case _:
                assert_never(choice.mode)

    # -- the form of the answer

    def _add_json_instruction(self, history: AnthropicMessageWriter) -> None:
        if self._call.format is not None and self._call.format.kind == "json":
            history.system.append(TextBlock(JSON_ONLY))
            self._ledger.lower("format", "any JSON can only be asked for in words here")

    def _output(self, tools: list[dict[str, Any]], asked: _Asked) -> dict[str, object]:
        """`output_config`; or, where the model knows no native format, one more tool in `tools` and
        `_answer_tool` set.
        """
        output: dict[str, object] = {} if asked.effort is None else {"effort": asked.effort}
        form = self._call.format
        self._ledger.take_all("format.kind", "format.schema", "format.name", "format.strict")
        if form is None or form.kind != "schema":
            return output
        path = self._ledger.path("format")
        schema = _answer_schema(form, path)
        self._ledger.drop_if_set("format.description", "the form of an answer is not described here")
        if self._facts.schema:
            output["format"] = {"type": "json_schema", "schema": schema}
            return output
        if tools or asked.thinks or not self._facts.forced_tools:
            why = (
                "other tools are offered"
                if tools
                else "it thinks"
                if asked.thinks
                else "it refuses forced calls"
            )
            raise Unsupported(
                f"This model has no native output format, and as {why}, none can be enforced.", param=path
            )
        self._ledger.lower("format", "the answer is asked for as the arguments of a tool")
        self._answer_tool = ANSWER_TOOL
        tools.append(
            {
                "name": ANSWER_TOOL,
                "description": form.description or "Gives the answer.",
                "input_schema": self._input_schema(schema, path),
            }
        )
        return output

    # -- thinking

    def _thinking(self, history: AnthropicMessageWriter) -> _Asked:
        given = self._call.max_tokens
        limit = self._facts.max_output if given is None else given
        self._ledger.take_all(
            "max_tokens", *(f"reasoning.{name}" for name in ("effort", "budget", "mode", "show"))
        )
        thinking, effort = self._wanted_thinking(limit)
        if thinking is not None and thinking["type"] in {"enabled", "adaptive"} and history.is_prefill:
            self._ledger.drop(
                "reasoning", "a model that thinks does not continue an answer that was begun for it"
            )
            thinking = self._no_thinking()
        if thinking is not None and thinking["type"] == "enabled" and history.lacks_thinking:
            # Manual thinking wants the turn that is being continued to start with it; adaptive
            # thinking does not.
            self._ledger.drop(
                "reasoning", "the turn that is being continued has no thinking, so that none is accepted now"
            )
            thinking = self._no_thinking()
        show = self._shown()
        if show is not None and thinking is not None and thinking["type"] in {"enabled", "adaptive"}:
            thinking = {**thinking, "display": show}
        return _Asked(limit, thinking, effort)

    def _no_thinking(self) -> dict[str, object] | None:
        return {"type": "disabled"} if self._facts.can_disable_thinking else None

    def _shown(self) -> str | None:
        show = self._call.reasoning.show if self._call.reasoning is not None else None
        if show in {"concise", "detailed"}:
            self._ledger.lower("reasoning.show", "sent as summarized")
            return "summarized"
        return show if show in {"summarized", "omitted"} else None

    def _wanted_thinking(self, limit: int) -> tuple[dict[str, object] | None, str | None]:
        """`thinking` and `output_config.effort` by what was asked for and what the model has
        (docs/reference/translation.md#reasoning-effort).
        """
        asked, kind = self._call.reasoning, self._facts.thinking
        if asked is None or (asked.effort is None and asked.budget is None and asked.mode is None):
            return None, None
        if asked.mode == "disabled" or asked.budget == 0 or (asked.mode is None and asked.effort == "none"):
            return self._disabled(), self._effort(asked.effort)
        if kind == "none":
            self._ledger.drop("reasoning", "this model does not think")
            return None, None
        if asked.mode == "between_tools":
            if kind == "manual":
                self._ledger.drop("reasoning", "this model does not think between tools")
                return None, None
            return {"type": "between_tools"}, self._effort(asked.effort)
        if self._notes.native and asked.mode is None and asked.budget is None:
            return None, self._effort(asked.effort)  # output_config.effort alone turns nothing on
        wants_budget = asked.budget is not None and asked.mode != "adaptive"
        if kind == "manual" or (kind == "both" and wants_budget):
            if asked.mode == "adaptive":
                self._ledger.lower("reasoning", "this model thinks within a budget, not adaptively")
            budget = asked.budget if wants_budget else budget_of(_thinking_effort(asked.effort))
            return self._enabled(budget or LEAST_BUDGET, limit), None
        if wants_budget:
            self._ledger.lower("reasoning", "this model takes an effort instead of a budget")
            return {"type": "adaptive"}, self._effort(effort_of(asked.budget or 0))
        return {"type": "adaptive"}, self._effort(asked.effort)

    def _disabled(self) -> dict[str, object] | None:
        if self._facts.thinking == "none":
            return None  # nothing is lost: it does not think
        if not self._facts.can_disable_thinking:
            self._ledger.drop("reasoning", "this model always thinks")
        return self._no_thinking()

    def _effort(self, effort: Effort | None) -> str | None:
        if effort is None or effort == "none":
            return None
        if self._facts.thinking in {"none", "manual"}:
            self._ledger.drop("reasoning", "this model has no levels of effort")
            return None
        if effort == "minimal":
            self._ledger.clamp("reasoning", "the least effort is low here")
            return "low"
        return effort

    def _enabled(self, budget: int, limit: int) -> dict[str, object] | None:
        """Manual thinking, with a budget that leaves room for the answer: 1024 <= budget <
        max_tokens.
        """
        if limit <= LEAST_BUDGET:
            self._ledger.drop(
                "reasoning", f"thinking takes at least {LEAST_BUDGET} tokens, and max_tokens is {limit}"
            )
            return self._no_thinking()
        fitting = max(budget, LEAST_BUDGET)
        if fitting >= limit:
            fitting = max(LEAST_BUDGET, limit // 2)  # half for the answer: one token of it would be none
        if fitting != budget:
            self._ledger.clamp(
                "reasoning", f"the thinking budget is {fitting} tokens instead of {budget}, to fit max_tokens"
            )
        return {"type": "enabled", "budget_tokens": fitting}

    # -- sampling and the rest

    def _sampling(self, *, thinks: bool) -> dict[str, object]:
        sampling, ledger = self._call.sampling, self._ledger
        given = ledger.take("sampling.stop")
        stops = [stop for stop in given if stop.strip()]
        if len(stops) < len(given):
            ledger.drop("sampling.stop", "a stop sequence of white space alone is refused here")
        said: dict[str, object] = {
            "temperature": ledger.take("sampling.temperature"),
            "top_p": ledger.take("sampling.top_p"),
            "top_k": ledger.take("sampling.top_k"),
        }
        said = {name: value for name, value in said.items() if value is not None}
        for name in list(said):
            if why := self._why_not(name, said, thinks=thinks):
                ledger.drop(f"sampling.{name}", why)
                del said[name]
        if sampling.temperature is not None and sampling.temperature > 1 and "temperature" in said:
            ledger.clamp("sampling.temperature", "the highest temperature is 1 here")
            said["temperature"] = 1.0
        return {"stop_sequences": stops or None, **said}

    def _why_not(self, name: str, said: dict[str, object], *, thinks: bool) -> str | None:
        sampling = self._call.sampling
        if self._quirks.api_version != FIRST_VERSION:
            return f"version {self._quirks.api_version} of the service takes no sampling parameters"
        if not self._facts.sampling:
            return "this model takes no sampling parameters"
        if thinks and (
            (name == "temperature" and sampling.temperature != 1)
            or (name == "top_p" and (sampling.top_p or 0) < LEAST_TOP_P_THINKING)
            or name == "top_k"
        ):
            return "it cannot be set while thinking"
        if name == "top_p" and "temperature" in said and not self._facts.temperature_and_top_p:
            return "this model takes temperature or top_p, not both"
        return None

    def _service(self) -> dict[str, object]:
        asked, user = self._call.tier, self._ledger.take("user")
        tier = TIERS.get(asked or "")
        if asked is not None and tier is None:
            self._ledger.drop("tier", f"there is no tier {asked} here")
        self._ledger.take("tier")
        return {"metadata": {"user_id": user} if user else None, "service_tier": tier}

    def _surplus_marks(self, *, has_top: bool) -> frozenset[int]:
        """The ids of the markers that are too many: the earliest, since a later one covers what
        they cover.
        """
        marks = self._notes.marks
        surplus = marks[: max(0, len(marks) + has_top - MAX_MARKS)]
        for _, path in surplus:
            self._notes.drop(path, f"there are at most {MAX_MARKS} cache breakpoints here")
        return frozenset(id(control) for control, _ in surplus)

    def _ride_along(self, body: dict[str, object]) -> None:
        """Members without a place in a Call, and those that this service answers with an error."""
        for name, value in self._call.extra.items():
            if self._notes.native:
                self._put_back(body, name, value)
            else:
                self._notes.drop(name, "this provider has no such parameter")
        for name in self._quirks.refuses:
            if body.pop(name, None) is not None:
                self._notes.drop(name, "this service refuses it")

    def _put_back(self, body: dict[str, object], name: str, value: msgspec.Raw) -> None:
        """A member that was not read; of an object that was ("output_config.task_budget") it goes
        back into that object.
        """
        parent, dot, member = name.partition(".")
        if not dot:
            body.setdefault(name, value)
        elif parent == "thinking" and parent not in body:
            self._notes.drop(name, "thinking is not asked for")
        else:
            whole = cast("dict[str, object]", body.setdefault(parent, {}))
            whole.setdefault(member, value)


def _hosted(tool: HostedTool) -> dict[str, Any]:
    return msgspec.json.decode(tool.raw, type=dict[str, msgspec.Raw])


def _answer_schema(form: ResponseFormat, path: str) -> msgspec.Raw:
    if form.schema is None:
        raise BadRequest("A schema is demanded, but there is none.", param=path)
    return form.schema


def _thinking_effort(effort: Effort | None) -> Effort:
    return effort if effort in BUDGETS else "high"  # what adaptive thinking does where no effort is named


def _unmarked(block: Block, doomed: frozenset[int]) -> Block:
    """The block without its marker, and without those inside it, where they are doomed."""
    if isinstance(block, msgspec.Raw):
        return block
    if isinstance(block, ToolResultBlock) and block.content is not None:
        block = msgspec.structs.replace(block, content=[_unmarked(part, doomed) for part in block.content])
    if id(getattr(block, "cache_control", None)) in doomed:
        return msgspec.structs.replace(block, cache_control=None)
    return block


def _unmarked_tool(tool: dict[str, Any], doomed: frozenset[int]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if id(value) not in doomed}
