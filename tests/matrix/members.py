"""What the official clients' types have, and what becomes of each: docs/reference/clients.md.

Each member of a request, and each type of item, content part and tool, is taken from the types of
the pinned clients, filled with a sample, and sent every way that a request takes. A new release
with another name changes the page, and the test fails with that name.
"""

from __future__ import annotations

import importlib.metadata
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import google.genai.types as genai
import msgspec
import ollama._types as ollama
from anthropic.types.beta import BetaRawMessageStreamEvent, BetaUsage
from anthropic.types.beta.beta_content_block import BetaContentBlock
from anthropic.types.beta.beta_content_block_param import BetaContentBlockParam
from anthropic.types.beta.beta_raw_content_block_delta import BetaRawContentBlockDelta
from anthropic.types.beta.beta_tool_union_param import BetaToolUnionParam
from anthropic.types.beta.message_create_params import MessageCreateParamsStreaming as MessageParams
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_content_part_param import ChatCompletionContentPartParam
from openai.types.chat.chat_completion_tool_union_param import ChatCompletionToolUnionParam
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatParams
from openai.types.responses import Response, ResponseOutputItem, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming as ResponsesParams
from openai.types.responses.response_input_content_param import ResponseInputContentParam
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam

from modelplex.core.errors import BadRequest
from tests.dialects.test_sdk_members import bare, gemini_members, members_of, words_of
from tests.matrix.probes import CHAT, FORMS, HI, Body, Form, Probe
from tests.matrix.verdicts import Target, verdict

MEMBERS_PAGE = Path(__file__).parents[2] / "docs/reference/clients.md"
CLIENTS = {"openai": "OpenAI", "anthropic": "Anthropic", "google-genai": "Google", "ollama": "Ollama"}
MARK = "Zaphod"
STRUCTURE = frozenset("model messages input contents stream tools".split())
"""Members that each probe has anyway."""
INVALID = "as its type asks"
"""The sample is no request by itself: what becomes of it depends on what it belongs to."""
RESPONSES, MESSAGES, GEMINI, OLLAMA = (
    next(form for form in FORMS if form.dialect == name)
    for name in ("openai_responses", "anthropic_messages", "gemini", "ollama")
)


def kinds(hint: Any) -> Iterator[tuple[str, Any]]:
    """The types of a union by their `type`, and the class of each."""
    hint = bare(hint)
    if get_origin(hint) in {Union, types.UnionType}:
        for each in get_args(hint):
            yield from kinds(each)
        return
    for word in words_of((members_of(hint) or {}).get("type")):
        yield word, hint


def sample(hint: Any, depth: int = 0) -> Any:
    """A value of the type: the required members, or all where none is; the first of a union."""
    hint = bare(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return get_args(hint)[-1]
    if origin in {Union, types.UnionType}:
        return sample(next(each for each in get_args(hint) if each is not type(None)), depth)
    if hint in {int, float, bool}:
        return {int: 7, float: 0.25, bool: True}[hint]
    if (members := members_of(hint)) is not None and depth < 8:
        required = getattr(hint, "__required_keys__", frozenset(members))
        chosen = [name for name in members if name in required] or [*members]
        given = {name: sample(members[name], depth + 1) for name in chosen}
        return given | ({"type": words_of(members["type"])[0]} if words_of(members.get("type")) else {})
    if origin is not None and issubclass(origin, Mapping):
        return {"a": MARK}
    if origin is not None and origin is not str:
        return [sample(get_args(hint)[0], depth + 1)]
    return MARK


def _spoken_of(form: Form) -> str:
    """The bodies of the probes that people wrote, whose rows are on the page of dialects."""
    return msgspec.json.encode([[probe.body, probe.beside] for probe in form.probes]).decode()


def _members(form: Form, members: Mapping[str, Any], at: str = "") -> Iterator[Probe]:
    for name, hint in members.items():
        if name not in STRUCTURE and f'"{name}":' not in _spoken_of(form):
            value = sample(hint)
            body = {at: {name: value}} if at else {name: value}
            mark = MARK if MARK in msgspec.json.encode(value).decode() else None
            yield Probe(f"`{at}.{name}`" if at else f"`{name}`", body, mark)


def _kinds(form: Form, hint: Any, what: str, place: Callable[[Body], Body]) -> Iterator[Probe]:
    for word, each in dict(kinds(hint)).items():
        if f'"type":"{word}"' not in _spoken_of(form):
            yield Probe(f"{what} `{word}`", place({**sample(each), "type": word}))


def probes() -> list[tuple[Form, list[Probe]]]:
    """All that no row of the page of dialects has."""
    hints = {name: members_of(each) or {} for name, each in REQUESTS.items()}
    gemini = {name: hint for name, hint in gemini_members().items() if "." not in name}
    config = {
        name.partition(".")[2]: hint for name, hint in gemini_members().items() if "generationConfig." in name
    }
    user = {"role": "user", "content": "Hi"}
    return [
        (
            CHAT,
            [
                *_members(CHAT, hints["chat"]),
                *_kinds(CHAT, ChatCompletionContentPartParam, "part", lambda part: {"messages": [{**HI, "content": [part]}]}),
                *_kinds(CHAT, ChatCompletionToolUnionParam, "tool", lambda tool: {"tools": [tool]}),
            ],
        ),
        (
            RESPONSES,
            [
                *_members(RESPONSES, hints["responses"]),
                *_kinds(RESPONSES, ResponseInputItemParam, "item", lambda item: {"input": [user, item]}),
                *_kinds(RESPONSES, ResponseInputContentParam, "part", lambda part: {"input": [{"role": "user", "content": [part]}]}),
                *_kinds(RESPONSES, ToolParam, "tool", lambda tool: {"tools": [tool]}),
            ],
        ),
        (
            MESSAGES,
            [
                *_members(MESSAGES, hints["messages"]),
                *_kinds(MESSAGES, BetaContentBlockParam, "block", _block),
                *_kinds(MESSAGES, BetaToolUnionParam, "tool", lambda tool: {"tools": [tool]}),
            ],
        ),
        (GEMINI, [*_members(GEMINI, gemini), *_members(GEMINI, config, "generationConfig")]),
        (OLLAMA, [*_members(OLLAMA, hints["ollama"])]),
    ]  # fmt: skip


def _block(block: dict[str, Any]) -> dict[str, Any]:
    user: dict[str, Any] = {"role": "user", "content": "Hi"}
    return {"messages": [user, {"role": "assistant", "content": [block]}, user]}


REQUESTS = {
    "chat": ChatParams,
    "responses": ResponsesParams,
    "messages": MessageParams,
    "ollama": ollama.ChatRequest,
}
EVENTS: dict[str, tuple[str, Any]] = {
    "Responses: events": ("openai_responses", ResponseStreamEvent),
    "Responses: output items": ("openai_responses", ResponseOutputItem),
    "Messages: events": ("anthropic", BetaRawMessageStreamEvent),
    "Messages: deltas": ("anthropic", BetaRawContentBlockDelta),
    "Messages: content blocks": ("anthropic", BetaContentBlock),
}
"""Types of a response by `type`, and the folder of the dialect that reads them."""
OBJECTS: dict[str, tuple[str, Any]] = {
    "Chat: members of a chunk": ("openai_chat", ChatCompletionChunk),
    "Chat: members of a delta": ("openai_chat", get_args(ChatCompletionChunk.model_fields["choices"].annotation)[0].model_fields["delta"].annotation),
    "Responses: members of a response": ("openai_responses", Response),
    "Messages: members of usage": ("anthropic", BetaUsage),
    "Gemini: members of a response": ("gemini", genai.GenerateContentResponse),
    "Gemini: members of a candidate": ("gemini", genai.Candidate),
    "Gemini: members of a part": ("gemini", genai.Part),
    "Gemini: finish reasons": ("gemini", genai.FinishReason),
    "Ollama: members of a response": ("ollama", ollama.ChatResponse),
    "Ollama: members of a message": ("ollama", ollama.Message),
}  # fmt: skip


@cache
def _source(folder: str) -> str:
    root = Path(__file__).parents[2] / "src/modelplex/dialects"
    files = [*sorted((root / folder).glob("*response*.py")), *sorted((root / folder).glob("*usage.py"))]
    files += [each for each in sorted((root / folder).glob("*.py")) if each.name in _READERS]
    return "\n".join(each.read_text() for each in files)


_READERS = frozenset("passthrough.py tool_calls_in.py blocks.py constants.py errors.py json.py".split())


def names_of(hint: Any) -> list[str]:
    """Words of a union of types, of an enumeration, or names of members, as on the wire."""
    if isinstance(hint, type) and issubclass(hint, genai.FinishReason):
        return [each.value for each in hint]
    if found := dict(kinds(hint)):
        return [*found]
    return [*(members_of(hint) or {})]


def is_read(folder: str, name: str) -> bool:
    """Whether a reader of the dialect names it, as a text or as a member of a type."""
    source = _source(folder)
    snake = "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
    return any(f'"{each}"' in source or f" {each}:" in source for each in (name, snake))


def unread(title: str) -> list[str]:
    folder, hint = {**EVENTS, **OBJECTS}[title]
    return [name for name in names_of(hint) if not is_read(folder, name)]


def becomes(probe: Probe, form: Form, target: Target) -> str:
    try:
        return verdict(probe, form, target)
    except BadRequest:
        return INVALID


def members_page(
    targets: Sequence[Target],
    reached: Callable[[Form, Sequence[Target]], list[Target]],
    markdown: Callable[[Sequence[str], Sequence[Sequence[str]]], str],
) -> str:
    """The whole page."""
    pins = ", ".join(f"{title} {importlib.metadata.version(name)}" for name, title in CLIENTS.items())
    sections = [HEAD.format(pins=pins)]
    for form, found in probes():
        ways = list(reached(form, targets))
        rows = [[probe.says, *(becomes(probe, form, target) for target in ways)] for probe in found]
        table = markdown(["in the request", *(f"to {target.title}" for target in ways)], rows)
        sections.append(f"## {form.title}\n\n{table}")
    rows = [
        [title, str(len(names_of(hint))), ", ".join(f"`{name}`" for name in unread(title)) or "none"]
        for title, (_, hint) in {**EVENTS, **OBJECTS}.items()
    ]
    sections.append(f"{TAIL}\n{markdown(['in a response', 'names', 'not named by the reader'], rows)}")
    return "\n".join(sections)


HEAD = """# Members of the official clients

Generated by `make matrix` from the types of the official clients:
{pins}.
A test compares, so that a new release of a client with another name fails by that name.

Each member of a request, and each type of item, part, block and tool, that has no row on the page
[Dialects and losses](dialects.md) is sent here with a sample of its type. The words are those of that page. "As its
type asks" is what belongs to another item: it is read or refused together with that one.
"""
TAIL = """## Responses

To a client of the provider's own dialect every byte passes. For other dialects a reader takes what has a form there;
what it does not name is listed. Items and events of tools that a provider runs itself are not asked for across
dialects. A finish reason that is not named counts as a filter.
"""
