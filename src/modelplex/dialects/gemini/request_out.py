"""Writes a generateContent request, a count, or a batch of embeddings: ChatRequest or
EmbeddingRequest -> provider body.

`fields.py` writes plain values and `messages_out.py` the conversation. Here are tools, the response
format, and thinking (docs/reference/translation.md). The model's name is in the path of the URL.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    Attempt,
    Change,
    ChatRequest,
    Effort,
    EmbeddingRequest,
    FreeformTool,
    HostedTool,
    ProviderRequest,
    ReasoningOptions,
    Tool,
    ToolChoice,
)
from modelplex.dialects.core.effort import budget_of, effort_of
from modelplex.dialects.core.freeform_tools import LEAVES, WRAPPED, WRAPS, description_of
from modelplex.dialects.core.ledger import NO_PARAMETER, Ledger, tool_path
from modelplex.dialects.gemini.fields import FIELDS
from modelplex.dialects.gemini.json import DIALECT
from modelplex.dialects.gemini.messages_out import GeminiContentWriter, GeminiLosses, SentPart

LEVELS: dict[Effort, str] = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "XHIGH",
    "max": "XHIGH",
}
"""`thinkingLevel` of each effort, least first (docs/reference/translation.md#reasoning-effort)."""
MOST_BUDGET = 24576
"""Tokens of thinking that all models with a budget take."""
DYNAMIC = -1
"""The budget of a model that decides by itself."""
NOTHING = frozenset({b"null", b"false", b"[]", b"{}"})
_CONFIG = FIELDS.objects["generationConfig"]
_MODE = "toolConfig.functionCallingConfig.mode"
_TOOL_LEAVES = frozenset({"description", "parameters"})
_TOOL_REASONS = {
    "cache": FIELDS.reasons["cache"],
    "strict": "Gemini holds all calls to their schema, or none",
}
JSON_ONLY = "Once you call no more functions, answer with JSON and nothing else."
"""Asks for JSON in words."""


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body. Raises as `registry.write_request`."""
    return _RequestWriter(call, attempt).write()


def write_counting(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The body of `:countTokens` for the same request, tools and instructions included."""
    written = write_call(call, attempt)
    request = msgspec.json.decode(written.body, type=dict[str, msgspec.Raw])
    body = {"generateContentRequest": {"model": f"models/{attempt.model}", **request}}
    return msgspec.structs.replace(written, body=msgspec.json.encode(body))


def write_embedding(embedding: EmbeddingRequest, attempt: Attempt) -> ProviderRequest:
    """The body of `:batchEmbedContents`. Raises Unsupported for token ids. The vectors come back as
    floats whatever the client asked for.
    """
    own = embedding.dialect == DIALECT
    extra = embedding.extra if own else {}
    requests: list[dict[str, Any]] = []
    for n, text in enumerate(embedding.inputs):
        if not isinstance(text, str):
            raise Unsupported("Gemini embeds texts, not token ids.", param=f"input[{n}]")
        request: dict[str, Any] = {"model": f"models/{attempt.model}", "content": {"parts": [{"text": text}]}}
        if embedding.dimensions is not None:
            request["outputDimensionality"] = embedding.dimensions
        requests.append({**extra, **request})
    lost = () if own else tuple(embedding.extra)
    changes = tuple(Change("drop", name, NO_PARAMETER) for name in lost)
    return ProviderRequest(msgspec.json.encode({"requests": requests}), changes)


class _RequestWriter:
    """Writes one request."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self._call = call
        self._facts = attempt.facts
        self._refuses = attempt.quirks.refuses
        self._ledger = Ledger(call)
        self._notes = GeminiLosses(self._ledger.changes, attempt, native=call.dialect == DIALECT)
        self._free: set[str] = set()
        self._has_functions = False
        self._asked_in_words = ""
        """The form of the answer, where the model takes none beside functions."""

    def write(self) -> ProviderRequest:
        ledger, notes = self._ledger, self._notes
        tools = self._tools()
        history = GeminiContentWriter(self._call, notes)
        history.write()
        config = self._config()
        if self._asked_in_words:
            history.system.append(SentPart(text=self._asked_in_words))
        body: dict[str, Any] = {
            "contents": [{"role": turn.role, "parts": turn.content} for turn in history.turns],
            "systemInstruction": {"parts": history.system} if history.system else None,
            "tools": tools or None,
            "toolConfig": self._tool_config(has_tools=bool(tools)),
            "generationConfig": config or None,
        }
        body = {name: value for name, value in body.items() if value is not None}
        ledger.take("stream")  # it is in the path
        if notes.native:
            FIELDS.put_back(body, ledger.take_extra())
        written: dict[str, Any] = body.get("generationConfig", {})
        for name in self._refuses:
            if written.pop(name, None) is not None or body.pop(name, None) is not None:
                notes.drop(name, "this service refuses it")
        return ProviderRequest(
            body=msgspec.json.encode(body),
            changes=ledger.settle(FIELDS.reasons),
            aliases=notes.names.aliases,
            free=frozenset(self._free),
        )

    # --- tools

    def _tools(self) -> list[Any]:
        """Functions in one entry, and the hosted tools of this dialect in one each."""
        functions: list[dict[str, Any]] = []
        hosted: list[msgspec.Raw] = []
        for tool in self._call.tools:
            match tool:
                case Tool():
                    functions.append(self._tool(tool))
                case FreeformTool():
                    functions.append(self._free_tool(tool))
                case HostedTool():
                    hosted.append(tool.raw)
                case _:
                    assert_never(tool)
        self._has_functions = bool(functions)
        return [*([{"functionDeclarations": functions}] if functions else []), *hosted]

    def _tool(self, tool: Tool) -> dict[str, Any]:
        written: dict[str, Any] = {"name": self._notes.names.of(tool)}
        if tool.description:
            written["description"] = tool.description
        if (parameters := _parameters(tool, tool_path(tool, "parameters"))) is not None:
            written["parametersJsonSchema"] = parameters
        takes = _TOOL_LEAVES
        if self._notes.native:
            takes |= {"extra"}
            written = {**tool.extra, **written}
        self._ledger.report_tool(tool, takes=takes, reasons=_TOOL_REASONS)
        return written

    def _free_tool(self, tool: FreeformTool) -> dict[str, Any]:
        self._notes.lower(tool.path, WRAPS)
        name = self._notes.names.of(tool)
        self._free.add(name)
        self._ledger.report_tool(tool, takes=LEAVES)
        described = {"description": text} if (text := description_of(tool)) else {}
        return {"name": name, **described, "parametersJsonSchema": WRAPPED}

    def _tool_config(self, *, has_tools: bool) -> dict[str, Any] | None:
        choice: ToolChoice | None = self._ledger.take("choice")
        if choice is None:
            return None
        if not has_tools:
            if choice.mode in {"required", "named"}:
                raise BadRequest("A tool is demanded, but there are none.", param=self._ledger.path("choice"))
            return None
        return {"functionCallingConfig": self._calling(choice)}

    def _calling(self, choice: ToolChoice) -> dict[str, Any]:
        """docs/reference/translation.md#tools-and-tool-choice. Only ANY and VALIDATED take a list
        of names; VALIDATED is AUTO with calls that fit their schema.
        """
        allowed = [self._notes.names.sent(name, path=self._ledger.path("choice")) for name in choice.names]
        match choice.mode:
            case "none":
                return {"mode": "NONE"}
            case "auto":
                # A client of this dialect may have asked for VALIDATED, which rides along.
                return {} if _MODE in self._call.extra and self._notes.native else {"mode": "AUTO"}
            case "required":
                return {"mode": "ANY"}
            case "named":
                return {"mode": "ANY", "allowedFunctionNames": allowed}
            case "subset":
                return {"mode": "ANY" if choice.required else "VALIDATED", "allowedFunctionNames": allowed}
            case _:
                assert_never(choice.mode)

    # --- generationConfig

    def _config(self) -> dict[str, Any]:
        ledger = self._ledger
        config: dict[str, Any] = {}
        if "sampling.logprobs" not in ledger.open:
            ledger.drop_if_set("sampling.top_logprobs", FIELDS.reasons["sampling.top_logprobs"])
        limit = None if self._notes.native else ledger.take_limit(self._facts)
        _CONFIG.write(ledger, config)
        if limit is not None:
            config["maxOutputTokens"] = limit
        config |= self._format()
        if (
            self._call.reasoning is not None
            and (thinking := self._thinking(self._call.reasoning)) is not None
        ):
            config["thinkingConfig"] = thinking
        return config

    def _format(self) -> dict[str, Any]:
        form = self._call.format
        self._ledger.take_all("format.kind", "format.schema", "format.name", "format.strict")
        if form is None or form.kind == "text":
            return {}
        if form.kind == "schema" and form.schema is None:
            raise BadRequest("A schema is demanded, but there is none.", param=self._ledger.path("format"))
        if self._has_functions and not self._facts.schema_with_tools and not self._notes.native:
            self._ledger.lower("format", "beside functions this model is asked for JSON in words only")
            wanted = (
                "" if form.schema is None else f" It must fit this JSON Schema: {bytes(form.schema).decode()}"
            )
            self._asked_in_words = JSON_ONLY + wanted
            return {}
        if form.kind == "json":
            return {"responseMimeType": "application/json"}
        return {"responseMimeType": "application/json", "responseJsonSchema": form.schema}

    def _thinking(self, reasoning: ReasoningOptions) -> dict[str, Any] | None:
        """A level for models that take levels, a budget for those before them; never both, which is
        an error (docs/reference/translation.md#reasoning-effort).
        """
        self._ledger.take_all(*(f"reasoning.{name}" for name in ("effort", "budget", "mode", "show")))
        if reasoning.effort == "none" or reasoning.mode == "disabled" or reasoning.budget == 0:
            return self._disabled()
        if self._facts.thinking == "none":
            self._ledger.drop("reasoning", "this model does not think")
            return None
        if reasoning.mode == "between_tools":
            self._ledger.lower("reasoning", "Gemini thinks where it sees fit")
        config: dict[str, Any] = {}
        takes_budget = self._facts.thinking == "manual" or (
            self._facts.thinking == "both" and reasoning.budget is not None
        )
        if takes_budget:
            config |= self._budget(reasoning)
        elif (effort := self._effort(reasoning)) is not None:
            config["thinkingLevel"] = LEVELS[effort]
        shown = self._shown(reasoning)
        return config if shown is None else {**config, "includeThoughts": shown}

    def _disabled(self) -> dict[str, Any] | None:
        if self._facts.thinking == "none":
            return None  # nothing is lost: it does not think
        if self._facts.can_disable_thinking:
            return {"thinkingBudget": 0}
        if self._facts.thinking == "manual":
            self._ledger.drop("reasoning", "this model always thinks")
            return None
        self._ledger.clamp("reasoning", "this model always thinks: the least level is asked for")
        return {"thinkingLevel": LEVELS[self._nearest("minimal")]}

    def _budget(self, reasoning: ReasoningOptions) -> dict[str, Any]:
        if reasoning.budget is not None and reasoning.mode != "adaptive":
            return {"thinkingBudget": reasoning.budget}
        if reasoning.effort is None:
            return {"thinkingBudget": DYNAMIC} if reasoning.mode is not None else {}
        budget = budget_of(reasoning.effort, most=MOST_BUDGET)
        if budget < budget_of(reasoning.effort):
            self._ledger.clamp("reasoning.effort", f"the largest budget is {budget} tokens here")
        return {"thinkingBudget": budget}

    def _effort(self, reasoning: ReasoningOptions) -> Effort | None:
        effort = reasoning.effort
        if effort is None and reasoning.budget is not None:
            self._ledger.lower("reasoning.budget", "this model takes a level instead of a budget")
            effort = effort_of(reasoning.budget)
        if effort is None:
            return None
        nearest = self._nearest(effort)
        if nearest != effort:
            self._ledger.clamp("reasoning", f"this model's nearest level to {effort} is {nearest}")
        return nearest

    def _nearest(self, effort: Effort) -> Effort:
        """The highest level that the model has and that is not above this one, else its least."""
        if effort == "max":
            effort = "xhigh"
        has: list[Effort] = [
            level for level in LEVELS if not self._facts.levels or level in self._facts.levels
        ]
        order = list(LEVELS)
        nearest: Effort = has[0]
        for level in has:
            if order.index(level) <= order.index(effort):
                nearest = level
        return nearest

    def _shown(self, reasoning: ReasoningOptions) -> bool | None:
        """Whoever asks for thinking in another dialect gets to see it, as there."""
        if reasoning.show in {"concise", "detailed"}:
            self._ledger.lower("reasoning.show", "summaries have no length here")
        if reasoning.show is not None:
            return reasoning.show != "omitted"
        return None if self._notes.native else True


def _parameters(tool: Tool, path: str) -> msgspec.Raw | None:
    """The schema as it came; none for a function that takes nothing, since an object without
    properties is refused.
    """
    if tool.parameters is None:
        return None
    try:
        schema = msgspec.json.decode(tool.parameters, type=dict[str, msgspec.Raw] | None)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadRequest("A tool's parameters must be a JSON schema object.", param=path) from error
    if not schema:
        return None
    takes_nothing = bytes(schema.get("type", msgspec.Raw(b""))) == b'"object"' and bytes(
        schema.get("properties", msgspec.Raw(b"{}"))
    ).replace(b" ", b"") in {b"{}", b"null"}
    composed = {"anyOf", "oneOf", "allOf", "$ref", "additionalProperties", "patternProperties"}
    if takes_nothing and not any(bytes(schema[name]) not in NOTHING for name in composed & schema.keys()):
        return None
    return tool.parameters
