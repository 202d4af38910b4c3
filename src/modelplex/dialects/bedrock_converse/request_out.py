"""Writes a Converse request: ChatRequest -> provider body. The model is in the path.

`fields.py` writes plain values, `messages_out.py` the conversation, `reasoning.py` decides about
reasoning. What only some models take is in `families.py`. Members that the owner of the gateway
configured are added when the body is sent (ProviderConfig.body).
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    Attempt,
    ChatRequest,
    FreeformTool,
    HostedTool,
    ProviderRequest,
    ResponseFormat,
    Tool,
)
from modelplex.dialects.bedrock_converse.families import family_of
from modelplex.dialects.bedrock_converse.fields import FIELDS
from modelplex.dialects.bedrock_converse.messages_out import (
    Block,
    ConverseLosses,
    ConverseMessageWriter,
)
from modelplex.dialects.bedrock_converse.reasoning import Asked, ask
from modelplex.dialects.core.freeform_tools import LEAVES, NO_PARAMETERS, WRAPPED, WRAPS, description_of
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.ledger import Ledger, check_one_choice, tool_path
from modelplex.dialects.core.strict_schema import REASON, strict_schema

ANSWER_TOOL = "answer"
"""The tool whose arguments are the answer, for models without structured output."""
JSON_ONLY = (
    "Answer with one valid JSON object and nothing else: no introduction, no explanation, no code fence."
)
SEQUENCE = "/stop_sequence"
"""The response field with the stop sequence that was hit, of models that name it."""
_TOOL_LEAVES = frozenset({"description", "parameters", "strict"})
_INFERENCE = FIELDS.objects["inferenceConfig"]
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body. Raises as `registry.write_request`."""
    return _RequestWriter(call, attempt).write()


class _RequestWriter:
    """Writes one request."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self._call = call
        self._attempt = attempt
        self._facts = attempt.facts
        self._family = family_of(attempt.model)
        self._ledger = Ledger(call)
        self._losses = ConverseLosses(self._ledger.changes, attempt, self._family)
        self._free: set[str] = set()
        self._answer_tool: str | None = None

    def write(self) -> ProviderRequest:
        ledger, losses = self._ledger, self._losses
        check_one_choice(ledger)
        # Tools come first: the order of the cached prefix is tools, system, messages.
        tools = self._tools()
        history = ConverseMessageWriter(self._call, losses)
        history.write()
        self._mark_end(history)
        self._add_json_instruction(history)
        self._add_called_tools(tools, history)
        max_tokens = ledger.take_limit(self._facts)
        asked = ask(
            self._call.reasoning, ledger, family=self._family, facts=self._facts, max_tokens=max_tokens
        )
        choice = self._choice(tools, asked)
        output = self._output(tools, asked)
        if self._answer_tool is not None:
            choice = {"tool": {"name": self._answer_tool}}
        self._drop_sampling(asked)
        inference = self._inference(max_tokens, asked)
        fields = self._model_fields(asked)
        surplus = losses.drop_surplus()
        ledger.take("stream")
        body: dict[str, Any] = {
            "messages": [
                {"role": turn.role, "content": _without(turn.content, surplus)} for turn in history.turns
            ],
            "system": _without(history.system, surplus),
            "inferenceConfig": inference,
            "toolConfig": _tool_config(_without(tools, surplus), choice),
            "additionalModelRequestFields": fields,
            "additionalModelResponseFieldPaths": [SEQUENCE] if "stopSequences" in inference else None,
            "outputConfig": output,
        }
        return ProviderRequest(
            body=msgspec.json.encode({name: value for name, value in body.items() if value}),
            changes=ledger.settle(FIELDS.reasons),
            aliases=losses.names.aliases,
            free=frozenset(self._free),
            answer_tool=self._answer_tool,
        )

    # --- the conversation

    def _mark_end(self, history: ConverseMessageWriter) -> None:
        """The cache breakpoint of the whole request: after the last turn."""
        if (cache := self._ledger.open.get("cache")) is None:
            return
        if "messages" not in self._family.cache:
            self._ledger.drop("cache", "this model takes no cache points here")
            return
        self._ledger.take("cache")
        history.turns[-1].content.append(self._losses.mark(cache, self._ledger.path("cache")))

    def _add_json_instruction(self, history: ConverseMessageWriter) -> None:
        if self._call.format is not None and self._call.format.kind == "json":
            history.system.append({"text": JSON_ONLY})
            self._ledger.lower("format", "any JSON can only be asked for in words here")

    # --- tools

    def _tools(self) -> list[Block]:
        allowed = None
        choice = self._call.choice
        if choice is not None and choice.mode == "subset":
            self._ledger.lower("choice", "only the allowed tools are sent, at the cost of the prompt cache")
            allowed = frozenset(choice.names)
        written: list[Block] = []
        for tool in self._call.tools:
            if isinstance(tool, HostedTool):
                continue
            blocks = self._tool(tool)
            if allowed is None or tool.name in allowed:
                written += blocks
        return written

    def _tool(self, tool: Tool | FreeformTool) -> list[Block]:
        name = self._losses.names.of(tool)
        if isinstance(tool, FreeformTool):
            self._losses.lower(tool.path, WRAPS)
            self._free.add(name)
            self._ledger.report_tool(tool, takes=LEAVES)
            return [_tool_spec(name, description_of(tool), WRAPPED)]
        takes = _TOOL_LEAVES
        path = tool_path(tool, "parameters")
        parameters = self._parameters(tool.parameters, path)
        is_strict = tool.strict is True and self._family.schema and self._facts.schema
        if is_strict and (compiled := strict_schema(parameters, path=path)) is not None:
            self._ledger.change("lower", path, REASON)
            parameters = compiled
        if tool.strict and not is_strict:
            self._losses.drop(tool_path(tool, "strict"), "this model does not hold to schemas strictly")
        block = _tool_spec(name, tool.description, parameters)
        if is_strict:
            block["toolSpec"]["strict"] = True
        if tool.cache is None or "tools" not in self._family.cache:
            self._ledger.report_tool(
                tool, takes=takes, reasons={"cache": "this model takes no cache point here"}
            )
            return [block]
        self._ledger.report_tool(tool, takes=takes | {"cache"})
        return [block, self._losses.mark(tool.cache, tool_path(tool, "cache"))]

    def _parameters(self, parameters: msgspec.Raw | None, path: str) -> msgspec.Raw:
        """A schema of an object. Raises BadRequest."""
        if parameters is None:
            return NO_PARAMETERS
        try:
            schema = _decode_object(parameters)
        except MALFORMED as error:
            raise BadRequest("A tool's parameters must be a JSON schema object.", param=path) from error
        if not schema:
            return NO_PARAMETERS
        if schema.get("type") == "object":
            return parameters
        if isinstance(schema.get("type"), str):
            raise Unsupported(
                f"A tool's parameters must be of type object here, not {schema['type']}.", param=path
            )
        self._ledger.change("add", f"{path}.type", "a tool's parameters are an object here")
        return msgspec.Raw(msgspec.json.encode({**schema, "type": "object"}))

    def _add_called_tools(self, tools: list[Block], history: ConverseMessageWriter) -> None:
        """Define the tools that earlier turns called where the request has none: "The toolConfig
        field must be defined when using toolUse and toolResult content blocks."
        (https://github.com/langgenius/dify/issues/17545)
        """
        if any("toolSpec" in block for block in tools):
            return
        for name, part in history.called.items():
            tools.append(_tool_spec(name, "No longer available.", NO_PARAMETERS))
            self._losses.report("add", part.at, "a tool that was called must be defined here")

    def _choice(self, tools: list[Block], asked: Asked) -> dict[str, Any] | None:
        """`toolChoice`; None where it is the model's own. May empty `tools`."""
        choice, ledger = self._call.choice, self._ledger
        path = ledger.path("choice")
        ledger.take("choice")
        if choice is None or not tools:
            if choice is not None and choice.mode in {"required", "named"}:
                raise BadRequest("A tool is demanded, but there are none.", param=path)
            return None
        if choice.mode == "none":
            if any(tool for tool in self._call.messages if tool.role == "tool"):
                ledger.lower(
                    "choice", "tools of earlier turns must be defined here, so that they may be called"
                )
            else:
                tools.clear()
            return None
        is_forced = choice.mode in {"required", "named"} or choice.required
        if not is_forced:
            return None
        if asked.thinks or not self._facts.forced_tools:
            why = (
                "a call cannot be forced while thinking"
                if asked.thinks
                else "this model refuses forced calls"
            )
            ledger.lower("choice", f"{why}: sent as auto")
            return None
        if choice.mode != "named":
            return {"any": {}}
        return {"tool": {"name": self._losses.names.sent(choice.names[0], path=path)}}

    # --- the output

    def _output(self, tools: list[Block], asked: Asked) -> dict[str, Any]:
        """`outputConfig`. Where the model has no structured output, one more tool in `tools`."""
        output: dict[str, Any] = {} if asked.effort is None else {"effort": asked.effort}
        form, ledger = self._call.format, self._ledger
        ledger.take_all("format.kind", "format.schema", "format.name", "format.strict")
        if form is None or form.kind != "schema":
            return output
        ledger.take_all("format.description")
        path = ledger.path("format")
        if form.schema is None:
            raise BadRequest("A schema is demanded, but there is none.", param=path)
        if not (self._family.schema and self._facts.schema):
            self._add_answer_tool(form, form.schema, tools, asked)
            return output
        schema = form.schema
        if (compiled := strict_schema(schema, path=path)) is not None:
            ledger.change("lower", ledger.path("format.schema"), REASON)
            schema = compiled
        definition: dict[str, Any] = {"schema": bytes(schema).decode()}
        definition |= {} if form.name is None else {"name": form.name}
        definition |= {} if form.description is None else {"description": form.description}
        output["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": definition}}
        return output

    def _add_answer_tool(
        self, form: ResponseFormat, schema: msgspec.Raw, tools: list[Block], asked: Asked
    ) -> None:
        path = self._ledger.path("format")
        if tools or asked.thinks or not (self._family.forced_tool and self._facts.forced_tools):
            why = "it takes no choice of one tool"
            if tools or asked.thinks:
                why = "other tools are offered" if tools else "it thinks"
            raise Unsupported(
                f"This model has no structured output, and as {why}, none can be enforced.", param=path
            )
        self._ledger.lower("format", "the answer is asked for as the arguments of a tool")
        self._answer_tool = ANSWER_TOOL
        parameters = self._parameters(schema, path)
        tools.append(_tool_spec(ANSWER_TOOL, form.description or "Gives the answer.", parameters))

    # --- parameters

    def _drop_sampling(self, asked: Asked) -> None:
        """Reports the sampling parameters that the model does not take."""
        why = None
        if asked.thinks:
            why = "it cannot be set while thinking"
        elif asked.is_high_nova:
            why = "it cannot be set at high effort here"
        elif not self._facts.sampling:
            why = "this model takes no sampling parameters"
        if why is not None:
            for name in ("temperature", "top_p", "top_k"):
                self._ledger.drop_if_set(f"sampling.{name}", why)
        elif not self._facts.temperature_and_top_p and "sampling.temperature" in self._ledger.open:
            self._ledger.drop_if_set("sampling.top_p", "this model takes temperature or top_p, not both")

    def _inference(self, max_tokens: int | None, asked: Asked) -> dict[str, Any]:
        inference: dict[str, Any] = {}
        if max_tokens is not None and asked.is_high_nova:
            self._ledger.drop("max_tokens", "it cannot be set at high effort here")
        elif max_tokens is not None:
            inference["maxTokens"] = max_tokens
        _INFERENCE.write(self._ledger, inference)
        if "stopSequences" in inference:
            stops = [stop for stop in inference["stopSequences"] if stop]
            inference["stopSequences"] = stops
            if not stops:
                del inference["stopSequences"]
        return inference

    def _model_fields(self, asked: Asked) -> dict[str, Any]:
        """`additionalModelRequestFields`."""
        fields = dict(asked.fields)
        if self._family.top_k and "sampling.top_k" in self._ledger.open:
            *holders, name = self._family.top_k
            inner = fields
            for holder in holders:
                inner = inner.setdefault(holder, {})
            inner[name] = self._ledger.take("sampling.top_k")
        return fields


def _tool_spec(name: str, description: str | None, parameters: msgspec.Raw) -> Block:
    described = {"description": description} if description else {}
    return {"toolSpec": {"name": name, **described, "inputSchema": {"json": parameters}}}


def _tool_config(tools: list[Block], choice: dict[str, Any] | None) -> dict[str, Any]:
    if not tools:
        return {}
    return {"tools": tools} if choice is None else {"tools": tools, "toolChoice": choice}


def _without(blocks: list[Block], surplus: frozenset[int]) -> list[Block]:
    """The blocks without the cache points that are too many."""
    return [block for block in blocks if id(block) not in surplus] if surplus else blocks
