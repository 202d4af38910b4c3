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
    Sampling,
    Tool,
)
from modelplex.dialects.core import cross_dialect
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

# The least budget, in tokens, that stands for each level: the reverse of the table in
# docs/reference/translation.md#reasoning-effort.
_BUDGETS: tuple[tuple[int, Effort], ...] = (
    (32000, "max"),
    (24576, "xhigh"),
    (16384, "high"),
    (8192, "medium"),
    (2048, "low"),
    (0, "minimal"),
)

# The schema keywords that survive Ollama's own types; it drops the others before a model sees them.
_KEPT = frozenset({"type", "anyOf", "items", "description", "enum", "properties", "required", "$defs"})

_OWN = frozenset({DIALECT, GENERATE})
STATEFUL = frozenset({"previous_response_id", "conversation", "background", "prompt"})
"""Members that name what a provider of another dialect keeps; without it the answer would be to
another question.
"""
_OPTION = "options."
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
_TEXT_INPUT = msgspec.Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/chat. Raises Unsupported naming the part that Ollama cannot be told,
    BadRequest where calls and results do not match.
    """
    losses = OllamaLosses(call.dialect)
    call, lost = cross_dialect.crossed(call, to="ollama")
    losses.found += lost
    _one_choice(call.sampling)
    free = frozenset(tool.name for tool in call.tools if isinstance(tool, FreeformTool))
    body = _ChatBody(
        model=attempt.model,
        messages=tuple(turns(call.messages, losses)),
        stream=call.stream,
        tools=tuple(_offered(call, losses)),
        format=_format(call, losses),
        options=_options(call.sampling, max_tokens=call.max_tokens, losses=losses),
        think=_think(call.reasoning, attempt, losses),
        logprobs=call.sampling.logprobs,
        top_logprobs=call.sampling.top_logprobs if call.sampling.logprobs else None,
    )
    _unsaid(call, losses)
    sent = _with_extra(msgspec.json.encode(body), call.extra, dialect=call.dialect, losses=losses)
    return ProviderRequest(body=sent, changes=tuple(losses.found), free=free)


def write_completion(completion: CompletionRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/generate. One text prompt only: raises Unsupported for several, and for
    token ids.

    The model's template is applied, as Ollama's own /v1/completions does: `raw` would take the
    suffix's place in it away.
    """
    losses = OllamaLosses(completion.dialect)
    _one_choice(completion.sampling)
    if len(completion.prompts) != 1:
        raise Unsupported("Ollama takes one prompt at a time; send one request for each.", param="prompt")
    (prompt,) = completion.prompts
    if not isinstance(prompt, str):
        raise Unsupported("Ollama takes a prompt as text, not as token ids.", param="prompt")
    if completion.echo:
        losses.drop("echo", "Ollama gives the continuation alone")
    sampling = completion.sampling
    body = _GenerateBody(
        model=attempt.model,
        prompt=prompt,
        suffix=completion.suffix,
        stream=completion.stream,
        options=_options(sampling, max_tokens=completion.max_tokens, losses=losses),
        logprobs=sampling.logprobs,
        top_logprobs=sampling.top_logprobs if sampling.logprobs else None,
    )
    sent = _with_extra(msgspec.json.encode(body), completion.extra, dialect=completion.dialect, losses=losses)
    return ProviderRequest(body=sent, changes=tuple(losses.found))


def write_embedding(embedding: EmbeddingRequest, attempt: Attempt) -> ProviderRequest:
    """The body of POST /api/embed. Raises Unsupported for token ids. A text that is too long is an
    error, as in OpenAI's form, and not cut in silence, which is Ollama's default. The vectors come
    back as floats whatever the client asked for.
    """
    losses = OllamaLosses(embedding.dialect)
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
        for name, value in extra.items():
            if bytes(value) in {b"null", b"false"}:
                continue
            if name in STATEFUL:
                raise Unsupported(f"{name} names what is kept at another provider.", param=name)
            losses.drop(name, "Ollama has no such field")
        return body
    fields = _decode_fields(body)
    options = {name.removeprefix(_OPTION): raw for name, raw in extra.items() if name.startswith(_OPTION)}
    if options:
        given = _decode_fields(fields["options"]) if "options" in fields else {}
        fields["options"] = msgspec.Raw(msgspec.json.encode({**given, **options}))
    fields |= {name: raw for name, raw in extra.items() if not name.startswith(_OPTION)}
    return msgspec.json.encode(fields)


def _one_choice(sampling: Sampling) -> None:
    if sampling.n > 1:
        raise Unsupported("Ollama gives one choice a request; send `n` requests instead.", param="n")


def _options(sampling: Sampling, *, max_tokens: int | None, losses: OllamaLosses) -> _Options | None:
    if sampling.logit_bias is not None:
        losses.drop("logit_bias", "Ollama has no such option")
    options = _Options(
        num_predict=max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        stop=sampling.stop,
    )
    return None if options == _Options() else options


def _format(call: ChatRequest, losses: OllamaLosses) -> Literal["json"] | msgspec.Raw | None:
    if call.format is None or call.format.kind == "text":
        return None
    if call.format.description:
        losses.drop("response_format", "Ollama takes the schema without its description")
    return call.format.schema if call.format.kind == "schema" and call.format.schema is not None else "json"


def _think(reasoning: ReasoningOptions | None, attempt: Attempt, losses: OllamaLosses) -> bool | str | None:
    """Ollama's `think`: false, true or a level; None to leave it to the model."""
    if reasoning is None:
        return None
    if reasoning.show is not None:
        losses.drop("reasoning_effort", f"Ollama shows all thinking; {reasoning.show!r} cannot be asked for")
    effort = _effort(reasoning, losses)
    if effort is None:
        return True if reasoning.mode and attempt.facts.thinking != "none" else None
    if effort == "none":
        if attempt.facts.can_disable_thinking:
            return False
        losses.drop("reasoning_effort", "this model always thinks")
        return None
    if attempt.facts.thinking == "none":
        losses.drop("reasoning_effort", "this model does not think")
        return None
    if effort in _CLAMPED:
        losses.clamp("reasoning_effort", f"Ollama's nearest level to {effort!r} is {_THINK[effort]!r}")
    return _THINK[effort]


def _effort(reasoning: ReasoningOptions, losses: OllamaLosses) -> Effort | None:
    if reasoning.effort is not None:
        return reasoning.effort
    if reasoning.mode == "disabled":
        return "none"
    if reasoning.budget is None:
        return None
    losses.lower("reasoning_effort", "Ollama has levels of thinking, not a budget")
    return next(effort for least, effort in _BUDGETS if max(reasoning.budget, 0) >= least)


def _unsaid(call: ChatRequest, losses: OllamaLosses) -> None:
    """The parts of a Call that Ollama has no field for."""
    if call.verbosity is not None:
        losses.drop("verbosity", "Ollama has no such field")
    if call.cache is not None:
        losses.drop("cache_control", "Ollama caches prefixes by itself")
    if call.cache_key is not None:
        losses.drop("prompt_cache_key", "Ollama caches prefixes by itself")
    if call.user is not None:
        losses.drop("user", "Ollama knows no end users")
    if call.metadata is not None:
        losses.drop("metadata", "Ollama keeps none")
    if call.tier not in {None, "auto", "default"}:
        losses.drop("service_tier", "Ollama has no tiers")


# --- tools


def _offered(call: ChatRequest, losses: OllamaLosses) -> Iterator[_OfferedTool]:
    """The tools that may be called. There is no tool_choice: what it said is done by what is
    offered, or reported.
    """
    choice = call.choice
    if call.parallel is False:
        losses.drop("parallel_tool_calls", "Ollama cannot be held to one call")
    if choice is not None and (choice.mode in {"required", "named"} or choice.required):
        losses.drop("tool_choice", "Ollama cannot be made to call a tool")
    if choice is not None and choice.mode == "none":
        return
    allowed = frozenset(choice.names) if choice is not None and choice.mode == "subset" else None
    for index, tool in enumerate(call.tools):
        if isinstance(tool, HostedTool):
            losses.found.append(cross_dialect.lost_tool(tool, choice, path=f"tools[{index}]"))
            continue
        offered = _tool(tool, path=f"tools[{index}]", losses=losses)
        if allowed is None or offered.function.name in allowed:
            yield offered


def _tool(tool: Tool | FreeformTool, *, path: str, losses: OllamaLosses) -> _OfferedTool:
    match tool:
        case FreeformTool():
            losses.lower(path, "a free-form tool is offered as a function with one string, `input`")
            said = [tool.description or ""]
            if tool.definition:
                said.append(f"`input` must match this {tool.syntax or ''} grammar:\n{tool.definition}")
            description = "\n\n".join(text for text in said if text)
            return _OfferedTool(OllamaFunction(tool.name, description, _TEXT_INPUT))
        case Tool():
            lost = _lost_keywords(tool, path=path)
            if lost:
                losses.lower(path, f"Ollama drops from a tool: {', '.join(lost)}")
            if tool.cache is not None:
                losses.drop(f"{path}.cache_control", "Ollama caches prefixes by itself")
            return _OfferedTool(
                OllamaFunction(tool.name, tool.description or "", tool.parameters or _NO_PARAMETERS)
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
