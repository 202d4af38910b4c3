"""Writes a Messages request: ChatRequest -> provider body.

`fields.py` writes plain values, `messages_out.py` the conversation, `tools.py` the tools and
`thinking.py` decides about thinking, on which choices and sampling parameters depend. Facts and
quirks of the model and service come with the Attempt (docs/reference/translation.md).
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import Attempt, ChatRequest, ProviderRequest, ResponseFormat
from modelplex.dialects.anthropic.blocks import Block, TextBlock, ToolResultBlock
from modelplex.dialects.anthropic.fields import FIELDS
from modelplex.dialects.anthropic.messages_out import (
    DIALECT,
    FIRST_VERSION,
    AnthropicLosses,
    AnthropicMessageWriter,
)
from modelplex.dialects.anthropic.thinking import ThinkingWriter
from modelplex.dialects.anthropic.tools import ToolsWriter
from modelplex.dialects.core.ledger import Ledger, check_one_choice
from modelplex.dialects.core.strict_schema import REASON, strict_schema

MAX_MARKS = 4
"""Cache breakpoints of one request; the service refuses a fifth."""
ANSWER_TOOL = "answer"
"""The tool whose arguments are the answer, for models without a native output format
(docs/reference/translation.md#structured-output).
"""
JSON_ONLY = (
    "Answer with one valid JSON object and nothing else: no introduction, no explanation, no code fence."
)
LEAST_TOP_P_THINKING = 0.95
"""Below this the service refuses `top_p` beside thinking."""
_METADATA = FIELDS.objects["metadata"]


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body. Raises as `registry.write_request`."""
    return _RequestWriter(call, attempt).write()


class _RequestWriter:
    """Writes one request."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self._call = call
        self._attempt = attempt
        self._facts = attempt.facts
        self._ledger = Ledger(call)
        self._losses = AnthropicLosses(self._ledger.changes, attempt, native=call.dialect == DIALECT)
        self._tools = ToolsWriter(call, self._ledger, self._losses, attempt.facts)
        self._answer_tool: str | None = None

    def write(self) -> ProviderRequest:
        ledger, losses = self._ledger, self._losses
        check_one_choice(ledger)
        top_mark = losses.mark(ledger.take("cache"), "cache_control")
        losses.marks.clear()  # it is counted apart, since it is always kept
        # Tools come first: the service's order of the cached prefix is tools, system, messages.
        tools = self._tools.write()
        history = AnthropicMessageWriter(self._call, losses)
        history.write()
        self._add_json_instruction(history)
        given = ledger.take("max_tokens") if losses.native else ledger.take_limit(self._facts)
        max_tokens = self._facts.max_output if given is None else given
        thinking, effort = ThinkingWriter(self._call, ledger, self._facts, native=losses.native).write(
            max_tokens=max_tokens, is_prefill=history.is_prefill, lacks_thinking=history.lacks_thinking
        )
        thinks = thinking is not None and thinking["type"] != "disabled"
        choice = self._tools.choice(has_tools=bool(tools), thinks=thinks)
        output: dict[str, object] = {} if effort is None else {"effort": effort}
        output |= self._output_format(tools, thinks=thinks)
        if self._answer_tool is not None:
            choice = {"type": "tool", "name": ANSWER_TOOL, "disable_parallel_tool_use": True}
        surplus = self._surplus_marks(has_top=top_mark is not None)
        body: dict[str, Any] = {
            "model": self._attempt.model,
            "max_tokens": max_tokens,
            "cache_control": top_mark,
            "system": [_unmarked(block, surplus) for block in history.system] or None,
            "tools": [_unmarked_tool(tool, surplus) for tool in tools] or None,
            "tool_choice": choice,
            "messages": [
                {"role": turn.role, "content": _unmarked_content(turn.content, surplus)}
                for turn in history.turns
            ],
            "thinking": thinking,
            "output_config": output or None,
            "stream": ledger.take("stream") or None,
        }
        body = {name: value for name, value in body.items() if value is not None}
        self._write_fields(body, thinks=thinks)
        return ProviderRequest(
            body=msgspec.json.encode(body),
            changes=ledger.settle(FIELDS.reasons),
            aliases=losses.names.aliases,
            free=frozenset(self._tools.free),
            answer_tool=self._answer_tool,
        )

    # --- the response format

    def _add_json_instruction(self, history: AnthropicMessageWriter) -> None:
        if self._call.format is not None and self._call.format.kind == "json":
            history.system.append(TextBlock(JSON_ONLY))
            self._ledger.lower("format", "any JSON can only be asked for in words here")

    def _output_format(self, tools: list[dict[str, Any]], *, thinks: bool) -> dict[str, object]:
        """The member of `output_config`. Where the model has no native format, one more tool in
        `tools`, and `_answer_tool` is set.
        """
        form, ledger = self._call.format, self._ledger
        ledger.take_all("format.kind", "format.schema", "format.name", "format.strict")
        if form is None or form.kind != "schema":
            return {}
        path = ledger.path("format")
        schema = _answer_schema(form, path)
        ledger.drop_if_set("format.description", FIELDS.reasons["format.description"])
        if self._facts.schema:
            if not self._losses.native and (compiled := strict_schema(schema, path=path)) is not None:
                ledger.change("lower", ledger.path("format.schema"), REASON)
                schema = compiled
            return {"format": {"type": "json_schema", "schema": schema}}
        if tools or thinks or not self._facts.forced_tools:
            why = "it refuses forced calls"
            if tools or thinks:
                why = "other tools are offered" if tools else "it thinks"
            raise Unsupported(
                f"This model has no native output format, and as {why}, none can be enforced.", param=path
            )
        ledger.lower("format", "the answer is asked for as the arguments of a tool")
        self._answer_tool = ANSWER_TOOL
        tools.append(
            {
                "name": ANSWER_TOOL,
                "description": form.description or "Gives the answer.",
                "input_schema": self._tools.input_schema(schema, path),
            }
        )
        return {}

    # --- sampling and the rest

    def _write_fields(self, body: dict[str, Any], *, thinks: bool) -> None:
        """Plain values, and members that rode along from a client of this dialect."""
        ledger = self._ledger
        self._drop_sampling(thinks=thinks)
        FIELDS.write(ledger, body)
        self._drop_blank_stops(body)
        metadata: dict[str, Any] = {}
        _METADATA.write(ledger, metadata)
        if metadata:
            body["metadata"] = metadata
        if self._losses.native:
            extra = dict(ledger.take_extra())
            for name in [each for each in extra if each.startswith("thinking.") and "thinking" not in body]:
                del extra[name]
                ledger.change("drop", name, "thinking is not asked for")
            FIELDS.put_back(body, extra)
        for name in self._attempt.quirks.refuses:
            if body.pop(name, None) is not None:
                ledger.change("drop", name, "this service refuses it")

    def _drop_blank_stops(self, body: dict[str, Any]) -> None:
        given = body.get("stop_sequences", ())
        stops = [stop for stop in given if stop.strip()]
        if len(stops) < len(given):
            self._ledger.drop("sampling.stop", "a stop sequence of white space alone is refused here")
            body["stop_sequences"] = stops
            if not stops:
                del body["stop_sequences"]

    def _drop_sampling(self, *, thinks: bool) -> None:
        """Reports the sampling parameters that the model does not take."""
        for name in ("temperature", "top_p", "top_k"):
            leaf = f"sampling.{name}"
            value = self._ledger.open.get(leaf)
            if value is not None and (why := self._refusal(name, value, thinks=thinks)):
                self._ledger.drop(leaf, why)

    def _refusal(self, name: str, value: float, *, thinks: bool) -> str | None:
        version = self._attempt.quirks.api_version
        if version != FIRST_VERSION:
            return f"version {version} of the service takes no sampling parameters"
        if not self._facts.sampling:
            return "this model takes no sampling parameters"
        if thinks and (
            (name == "temperature" and value != 1)
            or (name == "top_p" and value < LEAST_TOP_P_THINKING)
            or name == "top_k"
        ):
            return "it cannot be set while thinking"
        is_second = name == "top_p" and "sampling.temperature" in self._ledger.open
        if is_second and not self._facts.temperature_and_top_p:
            return "this model takes temperature or top_p, not both"
        return None

    def _surplus_marks(self, *, has_top: bool) -> frozenset[int]:
        """The ids of the markers that are too many: the earliest, since a later one covers what
        they cover.
        """
        marks = self._losses.marks
        surplus = marks[: max(0, len(marks) + has_top - MAX_MARKS)]
        for _, path in surplus:
            self._ledger.change("drop", path, f"there are at most {MAX_MARKS} cache breakpoints here")
        return frozenset(id(control) for control, _ in surplus)


def _answer_schema(form: ResponseFormat, path: str) -> msgspec.Raw:
    if form.schema is None:
        raise BadRequest("A schema is demanded, but there is none.", param=path)
    return form.schema


def _unmarked_content(content: list[Block], surplus: frozenset[int]) -> list[Block]:
    return [_unmarked(block, surplus) for block in content] if surplus else content


def _unmarked(block: Block, surplus: frozenset[int]) -> Block:
    """The block without the surplus markers on it and inside it."""
    if isinstance(block, msgspec.Raw):
        return block
    if isinstance(block, ToolResultBlock) and block.content is not None:
        block = msgspec.structs.replace(block, content=[_unmarked(part, surplus) for part in block.content])
    if id(getattr(block, "cache_control", None)) in surplus:
        return msgspec.structs.replace(block, cache_control=None)
    return block


def _unmarked_tool(tool: dict[str, Any], surplus: frozenset[int]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if id(value) not in surplus}
