"""A Call as the body of a generateContent request, and texts as those of batchEmbedContents.

Above it stands `gemini`, below it `gemini.messages_out`, which writes the conversation. Here is
everything else: tools and the choice among them, the form of the answer, thinking, limits and
sampling (docs/reference/translation.md). It knows no service, only the facts and quirks that come
with the Attempt, and it loses nothing in silence: each loss is a Change, or the Call is refused.
The model is not in the body: it stands in the path.
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
from modelplex.dialects.core import cross_dialect
from modelplex.dialects.core.effort import budget_of, effort_of
from modelplex.dialects.core.ledger import Ledger
from modelplex.dialects.gemini.json import DIALECT
from modelplex.dialects.gemini.messages_out import GeminiContentWriter, GeminiLosses

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


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The request body.

    Raises:
        BadRequest: the conversation or a schema is wrong for every model.
        Unsupported: a part or a tool has no words in this dialect.
        StatePinned: the conversation holds what another provider or account has sealed.
    """
    return _Writing(call, attempt).write()


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
    changes = tuple(Change("drop", name, "this provider has no such parameter") for name in lost)
    return ProviderRequest(msgspec.json.encode({"requests": requests}), changes)


class _Writing:
    """One Call on its way into one body."""

    def __init__(self, call: ChatRequest, attempt: Attempt) -> None:
        self._call, lost = cross_dialect.crossed(call, to=DIALECT)
        self._facts = attempt.facts
        self._refuses = attempt.quirks.refuses
        self._notes = GeminiLosses(call, attempt)
        self._ledger = Ledger(self._call, lost)
        self._notes.share(self._ledger.changes)
        self._free: set[str] = set()
        self._lost: set[str] = set()
        """What a choice may call the tools that are left out."""

    def write(self) -> ProviderRequest:
        call, notes = self._call, self._notes
        self._ledger.drop_if_set("cache", "Gemini caches prefixes by itself")
        tools = self._tools()
        history = GeminiContentWriter(call, notes)
        history.write()
        body: dict[str, Any] = {
            "contents": [{"role": content.role, "parts": content.parts} for content in history.contents],
            "systemInstruction": {"parts": history.system} if history.system else None,
            "tools": tools or None,
            "toolConfig": self._tool_config(has_tools=bool(tools)),
            "generationConfig": self._config() or None,
        }
        body = {name: value for name, value in body.items() if value is not None}
        self._ride_along(body)
        return ProviderRequest(
            body=msgspec.json.encode(body),
            changes=self._ledger.settle(),
            aliases=notes.names.aliases,
            free=frozenset(self._free),
        )

    # --- tools

    def _tools(self) -> list[Any]:
        """Functions in one entry, and the hosted tools of this dialect in one each."""
        functions: list[dict[str, Any]] = []
        hosted: list[msgspec.Raw] = []
        for n, tool in enumerate(self._call.tools):
            path = f"tools[{n}]"
            match tool:
                case Tool():
                    functions.append(self._tool(tool, path))
                case FreeformTool():
                    functions.append(self._free_tool(tool, path))
                case HostedTool() if tool.dialect == DIALECT:
                    hosted.append(tool.raw)
                case HostedTool():
                    self._notes.changes.append(cross_dialect.lost_tool(tool, self._call.choice, path=path))
                    self._lost |= cross_dialect.words_of(tool)
                case _:
                    assert_never(tool)
        return [*([{"functionDeclarations": functions}] if functions else []), *hosted]

    def _tool(self, tool: Tool, path: str) -> dict[str, Any]:
        notes = self._notes
        notes.uncache(tool.cache, path)
        self._drop_namespace(tool.namespace, path)
        written: dict[str, Any] = {"name": notes.name(tool.name, f"{path}.name")}
        if tool.description:
            written["description"] = tool.description
        if (parameters := _parameters(tool, f"{path}.parameters")) is not None:
            written["parametersJsonSchema"] = parameters
        if tool.strict:
            notes.drop(f"{path}.strict", "Gemini holds all calls to their schema, or none")
        for name, value in tool.extra.items():
            if notes.native:
                written.setdefault(name, value)
            else:
                notes.drop(f"{path}.{name}", "it has no place here")
        return written

    def _free_tool(self, tool: FreeformTool, path: str) -> dict[str, Any]:
        self._drop_namespace(tool.namespace, path)
        self._notes.lower(path, "a free-form tool is sent as a function with one string")
        name = self._notes.name(tool.name, f"{path}.name")
        self._free.add(name)
        told = [tool.description] if tool.description else []
        if tool.definition:
            told.append(f"The input must match this {tool.syntax or 'formal'} grammar:\n{tool.definition}")
        text = {"type": "string", "description": "The tool's whole input, as plain text."}
        schema = {"type": "object", "properties": {"input": text}, "required": ["input"]}
        described = {"description": "\n\n".join(told)} if told else {}
        return {"name": name, **described, "parametersJsonSchema": schema}

    def _drop_namespace(self, namespace: str | None, path: str) -> None:
        if namespace is not None:
            self._notes.drop(f"{path}.namespace", "tools have no namespaces here")

    def _tool_config(self, *, has_tools: bool) -> dict[str, Any] | None:
        choice = cross_dialect.without_lost(self._call.choice, frozenset(self._lost))
        if self._ledger.take("parallel") is False:
            self._ledger.drop("parallel", "Gemini cannot be held to one call")
        if choice is None:
            return None
        if not has_tools:
            if choice.mode == "required" and self._call.tools:
                raise Unsupported(
                    "A call is demanded, but this provider has none of the tools.",
                    param=self._ledger.path("choice"),
                )
            if choice.mode in {"required", "named"}:
                raise BadRequest("A tool is demanded, but there are none.", param=self._ledger.path("choice"))
            return None
        return {"functionCallingConfig": self._calling(choice)}

    def _calling(self, choice: ToolChoice) -> dict[str, Any]:
        """docs/reference/translation.md#tools-and-tool-choice. Only ANY and VALIDATED take a list
        of names; VALIDATED is AUTO with calls that fit their schema.
        """
        allowed = [self._notes.name(name, self._ledger.path("choice")) for name in choice.names]
        match choice.mode:
            case "none":
                return {"mode": "NONE"}
            case "auto":
                return {"mode": "AUTO"}
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
        take = self._ledger.take
        choices, logprobs = take("sampling.n"), take("sampling.logprobs")
        config: dict[str, Any] = {
            "maxOutputTokens": take("max_tokens"),
            "temperature": take("sampling.temperature"),
            "topP": take("sampling.top_p"),
            "topK": take("sampling.top_k"),
            "seed": take("sampling.seed"),
            "presencePenalty": take("sampling.presence_penalty"),
            "frequencyPenalty": take("sampling.frequency_penalty"),
            "stopSequences": list(take("sampling.stop")) or None,
            "candidateCount": choices if choices > 1 else None,
            "responseLogprobs": True if logprobs else None,
            "logprobs": take("sampling.top_logprobs") if logprobs else None,
            **self._format(),
            "thinkingConfig": self._thinking(),
        }
        return {name: value for name, value in config.items() if value is not None}

    def _format(self) -> dict[str, Any]:
        form = self._call.format
        if form is None or form.kind == "text":
            return {}
        self._ledger.take_all("format.kind", "format.schema", "format.name", "format.strict")
        self._ledger.drop_if_set("format.description", "the form of an answer is not described here")
        if form.kind == "json":
            return {"responseMimeType": "application/json"}
        if form.schema is None:
            raise BadRequest("A schema is demanded, but there is none.", param=self._ledger.path("format"))
        return {"responseMimeType": "application/json", "responseJsonSchema": form.schema}

    def _thinking(self) -> dict[str, Any] | None:
        """A level for models that take levels, a budget for those before them; never both, which is
        an error (docs/reference/translation.md#reasoning-effort).
        """
        asked = self._call.reasoning
        if asked is None:
            return None
        self._ledger.take_all(*(f"reasoning.{name}" for name in ("effort", "budget", "mode", "show")))
        if asked.effort == "none" or asked.mode == "disabled" or asked.budget == 0:
            return self._disabled()
        if self._facts.thinking == "none":
            self._ledger.drop("reasoning", "this model does not think")
            return None
        if asked.mode == "between_tools":
            self._ledger.lower("reasoning", "Gemini thinks where it sees fit")
        config: dict[str, Any] = {}
        takes_budget = self._facts.thinking == "manual" or (
            self._facts.thinking == "both" and asked.budget is not None
        )
        if takes_budget:
            config |= self._budget(asked)
        elif (effort := self._effort(asked)) is not None:
            config["thinkingLevel"] = LEVELS[effort]
        shown = self._shown(asked)
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

    def _budget(self, asked: ReasoningOptions) -> dict[str, Any]:
        if asked.budget is not None and asked.mode != "adaptive":
            return {"thinkingBudget": asked.budget}
        if asked.effort is None:
            return {"thinkingBudget": DYNAMIC} if asked.mode is not None else {}
        budget = budget_of(asked.effort, most=MOST_BUDGET)
        if budget < budget_of(asked.effort):
            self._ledger.clamp("reasoning.effort", f"the largest budget is {budget} tokens here")
        return {"thinkingBudget": budget}

    def _effort(self, asked: ReasoningOptions) -> Effort | None:
        effort = asked.effort
        if effort is None and asked.budget is not None:
            self._ledger.lower("reasoning.budget", "this model takes a level instead of a budget")
            effort = effort_of(asked.budget)
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

    def _shown(self, asked: ReasoningOptions) -> bool | None:
        """Whoever asks for thinking in another dialect gets to see it, as there."""
        if asked.show in {"concise", "detailed"}:
            self._ledger.lower("reasoning.show", "summaries have no length here")
        if asked.show is not None:
            return asked.show != "omitted"
        return None if self._notes.native else True

    # --- the rest

    def _ride_along(self, body: dict[str, Any]) -> None:
        """Members without a place in a Call, and those that this service answers with an error."""
        for name, value in self._call.extra.items():
            if self._notes.native:
                _place(body, name, value)
            else:
                self._notes.drop(name, "this provider has no such parameter")
        config: dict[str, Any] = body.get("generationConfig", {})
        for name in self._refuses:
            if config.pop(name, None) is not None or body.pop(name, None) is not None:
                self._notes.drop(name, "this service refuses it")


def _place(body: dict[str, Any], name: str, value: msgspec.Raw) -> None:
    """Puts a member back where it was: "generationConfig.mediaResolution"."""
    *above, last = name.split(".")
    for step in above:
        body = body.setdefault(step, {})
    body[last] = value


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
