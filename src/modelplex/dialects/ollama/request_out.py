"""Writes the bodies of /api/chat, /api/generate and /api/embed: ChatRequest, CompletionRequest or
EmbeddingRequest -> provider body.

`fields.py` writes plain values and `messages_out.py` the conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    Attempt,
    Change,
    ChatRequest,
    CompletionRequest,
    Effort,
    EmbeddingRequest,
    FreeformTool,
    HostedTool,
    ProviderRequest,
    ReasoningOptions,
    Tool,
)
from modelplex.dialects.core.effort import effort_of
from modelplex.dialects.core.fields import FieldTable
from modelplex.dialects.core.freeform_tools import LEAVES, NO_PARAMETERS, WRAPPED, WRAPS, description_of
from modelplex.dialects.core.json import encode
from modelplex.dialects.core.ledger import NO_PARAMETER, Ledger, check_one_choice, tool_path
from modelplex.dialects.core.members import without_empty
from modelplex.dialects.ollama.fields import FIELDS, GENERATE_FIELDS, KIN
from modelplex.dialects.ollama.messages_out import OllamaFunction, OllamaLosses, turns

NO_TRUNCATION = {"truncate": False, "shift": False}
"""Without these, Ollama cuts what does not fit `num_ctx` from the beginning of a conversation, and
discards its beginning when the window is full. Other APIs refuse, and agents then compact. A server
that does not know them ignores them (https://github.com/ollama/ollama/blob/main/api/types.go,
https://github.com/ollama/ollama/issues/17754).
"""


class _OfferedTool(msgspec.Struct, gc=False):
    function: OllamaFunction
    type: str = "function"


# Ollama's levels. It has no "minimal" and no "xhigh": the nearest one is taken and reported.
_THINK: dict[Effort, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_CLAMPED: frozenset[Effort] = frozenset({"minimal", "xhigh"})

# The schema keywords that survive Ollama's own types; it drops the others before a model sees them.
_KEPT = frozenset({"type", "anyOf", "items", "description", "enum", "properties", "required", "$defs"})

_TOOL_LEAVES = frozenset({"description", "parameters"})
_TOOL_REASONS = {"cache": FIELDS.reasons["cache"]}


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/chat. Raises as `registry.write_request`."""
    ledger = Ledger(call)
    losses = OllamaLosses(ledger.changes, attempt, native=call.dialect in KIN)
    check_one_choice(ledger)
    body: dict[str, Any] = {
        "model": attempt.model,
        "messages": tuple(turns(call.messages, losses)),
        "stream": ledger.take("stream"),
    }
    if tools := [*_offered(call, ledger, losses)]:
        body["tools"] = tools
    free = frozenset(losses.names.of(tool) for tool in call.tools if isinstance(tool, FreeformTool))
    if (form := _format(call, ledger)) is not None:
        body["format"] = form
    if call.reasoning is not None and (think := _think(call.reasoning, attempt, ledger)) is not None:
        body["think"] = think
    _write_fields(FIELDS, ledger, body)
    if call.dialect not in KIN:
        body |= NO_TRUNCATION
    changes = ledger.settle(FIELDS.reasons)
    return ProviderRequest(encode(body), changes, aliases=losses.names.aliases, free=free)


def write_completion(completion: CompletionRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/generate. One text prompt only: raises Unsupported for several, and for
    token ids.

    The model's template is applied, as Ollama's own /v1/completions does: `raw` would take the
    suffix's place in it away.
    """
    ledger = Ledger(completion)
    check_one_choice(ledger)
    if len(completion.prompts) != 1:
        raise Unsupported("Ollama takes one prompt at a time; send one request for each.", param="prompt")
    (prompt,) = completion.prompts
    if not isinstance(prompt, str):
        raise Unsupported("Ollama takes a prompt as text, not as token ids.", param="prompt")
    body: dict[str, Any] = {"model": attempt.model, "prompt": prompt, "stream": ledger.take("stream")}
    _write_fields(GENERATE_FIELDS, ledger, body)
    return ProviderRequest(encode(body), ledger.settle(GENERATE_FIELDS.reasons))


def _write_fields(fields: FieldTable, ledger: Ledger, body: dict[str, Any]) -> None:
    """Plain values, and what rode along from a client of this dialect."""
    if "sampling.logprobs" not in ledger.open:
        ledger.drop_if_set("sampling.top_logprobs", fields.reasons["sampling.top_logprobs"])
    fields.write(ledger, body)
    options: dict[str, Any] = {}
    fields.objects["options"].write(ledger, options)
    if options:
        body["options"] = options
    if ledger.dialect in KIN:
        fields.put_back(body, ledger.take_extra())


def write_embedding(embedding: EmbeddingRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/embed. Raises Unsupported for token ids. A text that is too long is an
    error, as in OpenAI's form, and not cut in silence, which is Ollama's default. The vectors come
    back as floats whatever the client asked for.
    """
    texts: list[str] = []
    for index, text in enumerate(embedding.inputs):
        if not isinstance(text, str):
            raise Unsupported("Ollama embeds texts, not token ids.", param=f"input[{index}]")
        texts.append(text)
    body: dict[str, Any] = {"model": attempt.model, "input": texts, "truncate": False}
    if embedding.dimensions is not None:
        body["dimensions"] = embedding.dimensions
    if embedding.dialect in KIN:
        return ProviderRequest(encode(body | embedding.extra))
    lost = without_empty(embedding.extra)
    return ProviderRequest(encode(body), tuple(Change("drop", name, NO_PARAMETER) for name in lost))


def _format(call: ChatRequest, ledger: Ledger) -> Literal["json"] | msgspec.Raw | None:
    ledger.take_all("format.kind", "format.schema", "format.name", "format.strict")
    if call.format is None or call.format.kind == "text":
        return None
    return call.format.schema if call.format.kind == "schema" and call.format.schema is not None else "json"


def _think(reasoning: ReasoningOptions, attempt: Attempt, ledger: Ledger) -> bool | str | None:
    """Ollama's `think`: false, true or a level; None to leave it to the model."""
    ledger.take_mode()
    ledger.take_all("reasoning.effort", "reasoning.budget")
    effort = _effort(reasoning, ledger)
    if effort is None:
        return True if reasoning.mode and attempt.facts.thinking != "none" else None
    if effort == "none":
        if attempt.facts.can_disable_thinking:
            return False
        ledger.drop("reasoning", "this model always thinks")
        return None
    if attempt.facts.thinking == "none":
        ledger.drop("reasoning", "this model does not think")
        return None
    if effort in _CLAMPED:
        ledger.clamp("reasoning", f"Ollama's nearest level to {effort!r} is {_THINK[effort]!r}")
    return _THINK[effort]


def _effort(reasoning: ReasoningOptions, ledger: Ledger) -> Effort | None:
    if reasoning.effort is not None:
        return reasoning.effort
    if reasoning.mode == "disabled":
        return "none"
    if reasoning.budget is None:
        return None
    ledger.lower("reasoning.budget", "Ollama has levels of thinking, not a budget")
    return effort_of(reasoning.budget)


# --- tools


def _offered(call: ChatRequest, ledger: Ledger, losses: OllamaLosses) -> Iterator[_OfferedTool]:
    """The tools that may be called. There is no tool_choice: a choice is followed by offering less,
    or reported.
    """
    choice = call.choice
    if choice is None or not (choice.mode in {"required", "named"} or choice.required):
        ledger.take("choice")
    if choice is not None and choice.mode == "none":
        return
    allowed = frozenset(choice.names) if choice is not None and choice.mode == "subset" else None
    for tool in call.tools:
        if isinstance(tool, HostedTool):
            continue
        offered = _tool(tool, ledger, losses)
        if allowed is None or tool.name in allowed:
            yield offered


def _tool(tool: Tool | FreeformTool, ledger: Ledger, losses: OllamaLosses) -> _OfferedTool:
    name = losses.names.of(tool)
    match tool:
        case FreeformTool():
            ledger.report_tool(tool, takes=LEAVES)
            losses.lower(tool.path, WRAPS)
            description = description_of(tool)
            return _OfferedTool(OllamaFunction(name, description, WRAPPED))
        case Tool():
            ledger.report_tool(tool, takes=_TOOL_LEAVES, reasons=_TOOL_REASONS)
            if lost := _lost_keywords(tool):
                losses.lower(tool.path, f"Ollama drops from a tool: {', '.join(lost)}")
            return _OfferedTool(
                OllamaFunction(name, tool.description or "", tool.parameters or NO_PARAMETERS)
            )


def _lost_keywords(tool: Tool) -> list[str]:
    """The keywords of the tool's schema that Ollama does not pass on, sorted."""
    lost: set[str] = set()
    try:
        waiting: list[object] = [msgspec.json.decode(tool.parameters)] if tool.parameters else []
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(
            f"The parameters of tool {tool.name!r} are no JSON schema: {error}",
            param=tool_path(tool, "parameters"),
        ) from None
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += cast("list[object]", node)
        elif isinstance(node, dict):
            schema = cast("dict[str, object]", node)
            lost |= schema.keys() - _KEPT
            waiting += [schema.get("items"), schema.get("anyOf")]
            for named in (schema.get("properties"), schema.get("$defs")):
                waiting += cast("dict[str, object]", named).values() if isinstance(named, dict) else ()
    return sorted(lost)
