"""What is asked of Ollama: the bodies of /api/chat, /api/generate and /api/embed.

Above it stands `ollama.py`, below it the vocabulary; the conversation itself is written in
`ollama.messages_out`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, cast

import msgspec

from modelplex.core.errors import (
    BadRequest,
    Unsupported,
)
from modelplex.core.request import (
    Attempt,
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
from modelplex.dialects.core import cross_dialect
from modelplex.dialects.core.effort import effort_of
from modelplex.dialects.core.ledger import Ledger
from modelplex.dialects.core.members import without_empty
from modelplex.dialects.ollama.messages_out import OllamaFunction, OllamaLosses, OllamaMessage, turns
from modelplex.dialects.ollama.request_in import DIALECT, GENERATE


class _OfferedTool(msgspec.Struct):
    function: OllamaFunction
    type: str = "function"


class _Options(msgspec.Struct, omit_defaults=True):
    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()


class _ChatBody(msgspec.Struct, omit_defaults=True):
    model: str
    messages: tuple[OllamaMessage, ...]
    stream: bool | None = None
    tools: tuple[_OfferedTool, ...] = ()
    format: Literal["json"] | msgspec.Raw | None = None
    options: _Options | None = None
    think: bool | str | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class _GenerateBody(msgspec.Struct, omit_defaults=True):
    model: str
    prompt: str | None = None
    suffix: str | None = None
    stream: bool | None = None
    options: _Options | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class _EmbedBody(msgspec.Struct, omit_defaults=True):
    model: str
    input: tuple[str, ...]
    truncate: bool | None = None
    dimensions: int | None = None


# Ollama's levels. It has no "minimal" and no "xhigh": the nearest one is taken, and said so.
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

_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "stop"),
)
"""Members of Sampling that are `options` of the same name."""
_UNSAID = {
    "sampling.logit_bias": "Ollama has no such option",
    "verbosity": "Ollama has no such field",
    "cache": "Ollama caches prefixes by itself",
    "cache_key": "Ollama caches prefixes by itself",
    "user": "Ollama knows no end users",
    "metadata": "Ollama keeps none",
    "tier": "Ollama has no tiers",
}
"""Why a leaf is dropped."""
_OWN = frozenset({DIALECT, GENERATE})
_OPTION = "options."
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
_TEXT_INPUT = msgspec.Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/chat. Raises Unsupported naming the part that Ollama cannot be told,
    BadRequest where calls and results do not match.
    """
    call, lost = cross_dialect.crossed(call, to="ollama")
    ledger = Ledger(call, lost)
    losses = OllamaLosses(ledger.changes, native=call.dialect in _OWN)
    _one_choice(ledger)
    messages = tuple(turns(call.messages, losses))
    tools = tuple(_offered(call, ledger, losses))
    free = frozenset(
        losses.names.sent(tool.name, path="tools") for tool in call.tools if isinstance(tool, FreeformTool)
    )
    body = _ChatBody(
        model=attempt.model,
        messages=messages,
        stream=call.stream,
        tools=tools,
        format=_format(call, ledger),
        options=_options(ledger),
        think=_think(call.reasoning, attempt, ledger),
        logprobs=(logprobs := ledger.take("sampling.logprobs")),
        top_logprobs=ledger.take("sampling.top_logprobs") if logprobs else None,
    )
    for leaf, reason in _UNSAID.items():
        ledger.drop_if_set(leaf, reason)
    sent = _with_extra(msgspec.json.encode(body), call.extra, dialect=call.dialect, losses=losses)
    return ProviderRequest(body=sent, changes=ledger.settle(), aliases=losses.names.aliases, free=free)


def write_completion(completion: CompletionRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/generate. One text prompt only: raises Unsupported for several, and for
    token ids.

    The model's template is applied, as Ollama's own /v1/completions does: `raw` would take the
    suffix's place in it away.
    """
    ledger = Ledger(completion)
    _one_choice(ledger)
    if len(completion.prompts) != 1:
        raise Unsupported("Ollama takes one prompt at a time; send one request for each.", param="prompt")
    (prompt,) = completion.prompts
    if not isinstance(prompt, str):
        raise Unsupported("Ollama takes a prompt as text, not as token ids.", param="prompt")
    ledger.drop_if_set("echo", "Ollama gives the continuation alone")
    body = _GenerateBody(
        model=attempt.model,
        prompt=prompt,
        suffix=completion.suffix,
        stream=completion.stream,
        options=_options(ledger),
        logprobs=(logprobs := ledger.take("sampling.logprobs")),
        top_logprobs=ledger.take("sampling.top_logprobs") if logprobs else None,
    )
    losses = OllamaLosses(ledger.changes)
    sent = _with_extra(msgspec.json.encode(body), completion.extra, dialect=completion.dialect, losses=losses)
    return ProviderRequest(body=sent, changes=ledger.settle())


def write_embedding(embedding: EmbeddingRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/embed. Raises Unsupported for token ids. A text that is too long is an
    error, as in OpenAI's form, and not cut in silence, which is Ollama's default. The vectors come
    back as floats whatever the client asked for.
    """
    losses = OllamaLosses([])
    texts: list[str] = []
    for index, text in enumerate(embedding.inputs):
        if not isinstance(text, str):
            raise Unsupported("Ollama embeds texts, not token ids.", param=f"input[{index}]")
        texts.append(text)
    body = _EmbedBody(
        model=attempt.model, input=tuple(texts), truncate=False, dimensions=embedding.dimensions
    )
    sent = _with_extra(msgspec.json.encode(body), embedding.extra, dialect=embedding.dialect, losses=losses)
    return ProviderRequest(body=sent, changes=tuple(losses.found))


def _with_extra(
    body: bytes, extra: Mapping[str, msgspec.Raw], *, dialect: str, losses: OllamaLosses
) -> bytes:
    """The body with what rode along from a client of this very form ("options.num_ctx",
    "keep_alive"). What rode along from another is reported as lost.
    """
    if not extra:
        return body
    if dialect not in _OWN:
        for name in without_empty(extra):
            losses.drop(name, "Ollama has no such field")
        return body
    fields = _decode_fields(body)
    options = {name.removeprefix(_OPTION): raw for name, raw in extra.items() if name.startswith(_OPTION)}
    if options:
        given = _decode_fields(fields["options"]) if "options" in fields else {}
        fields["options"] = msgspec.Raw(msgspec.json.encode({**given, **options}))
    fields |= {name: raw for name, raw in extra.items() if not name.startswith(_OPTION)}
    return msgspec.json.encode(fields)


def _one_choice(ledger: Ledger) -> None:
    if ledger.take("sampling.n") > 1:
        raise Unsupported(
            "Ollama gives one choice a request; send `n` requests instead.", param=ledger.path("sampling.n")
        )


def _options(ledger: Ledger) -> _Options | None:
    given = {name: ledger.take(f"sampling.{name}") for name in _SAMPLING}
    options = _Options(num_predict=ledger.take("max_tokens"), **given)
    return None if options == _Options() else options


def _format(call: ChatRequest, ledger: Ledger) -> Literal["json"] | msgspec.Raw | None:
    ledger.take_all("format.kind", "format.schema", "format.name", "format.strict")
    if call.format is None or call.format.kind == "text":
        return None
    ledger.drop_if_set("format.description", "Ollama takes the schema without its description")
    return call.format.schema if call.format.kind == "schema" and call.format.schema is not None else "json"


def _think(reasoning: ReasoningOptions | None, attempt: Attempt, ledger: Ledger) -> bool | str | None:
    """Ollama's `think`: false, true or a level; None to leave it to the model."""
    if reasoning is None:
        return None
    show = reasoning.show
    ledger.drop_if_set("reasoning.show", f"Ollama shows all thinking; {show!r} cannot be asked for")
    ledger.take_all("reasoning.effort", "reasoning.mode", "reasoning.budget")
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
    """The tools that may be called. There is no tool_choice: what it said is done by what is
    offered, or reported.
    """
    choice = call.choice
    if ledger.take("parallel") is False:
        ledger.drop("parallel", "Ollama cannot be held to one call")
    if choice is not None and (choice.mode in {"required", "named"} or choice.required):
        ledger.drop("choice", "Ollama cannot be made to call a tool")
    if choice is not None and choice.mode == "none":
        return
    allowed = frozenset(choice.names) if choice is not None and choice.mode == "subset" else None
    for index, tool in enumerate(call.tools):
        if isinstance(tool, HostedTool):
            losses.found.append(cross_dialect.lost_tool(tool, choice, path=f"tools[{index}]"))
            continue
        offered = _tool(tool, path=f"tools[{index}]", losses=losses)
        if allowed is None or tool.name in allowed:
            yield offered


def _tool(tool: Tool | FreeformTool, *, path: str, losses: OllamaLosses) -> _OfferedTool:
    name = losses.names.sent(tool.name, path=f"{path}.name")
    match tool:
        case FreeformTool():
            losses.lower(path, "a free-form tool is offered as a function with one string, `input`")
            said = [tool.description or ""]
            if tool.definition:
                said.append(f"`input` must match this {tool.syntax or ''} grammar:\n{tool.definition}")
            description = "\n\n".join(text for text in said if text)
            return _OfferedTool(OllamaFunction(name, description, _TEXT_INPUT))
        case Tool():
            lost = _lost_keywords(tool, path=path)
            if lost:
                losses.lower(path, f"Ollama drops from a tool: {', '.join(lost)}")
            if tool.cache is not None:
                losses.drop(f"{path}.cache_control", "Ollama caches prefixes by itself")
            return _OfferedTool(
                OllamaFunction(name, tool.description or "", tool.parameters or _NO_PARAMETERS)
            )


def _lost_keywords(tool: Tool, *, path: str) -> list[str]:
    """What Ollama will not pass on of this tool, sorted."""
    lost = set(tool.extra)
    lost |= {"strict"} if tool.strict else set()
    lost |= {"namespace"} if tool.namespace else set()
    try:
        waiting: list[object] = [msgspec.json.decode(tool.parameters)] if tool.parameters else []
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(
            f"The parameters of tool {tool.name!r} are no JSON schema: {error}", param=path
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
