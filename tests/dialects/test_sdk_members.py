"""Each member of the official clients' request types has a row, and a rule in the sealed policy.

The types are walked beside the rules, from the top of a body down to message parts, tools and
response formats. A new version of a client that has a member or a type of part without a rule fails
here by name. What is left out on purpose stands in `LEFT_OUT`, with its reason.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, Union, cast, get_args, get_origin

import google.genai.models
import google.genai.types as genai
import ollama._types as ollama
import pytest
from anthropic.types.beta.message_create_params import MessageCreateParamsStreaming as BetaMessageParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming as MessageParams
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsStreaming as CompletionParams
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming as ResponsesParams
from pydantic import BaseModel
from typing_extensions import (
    TypeAliasType,
    get_type_hints,
    is_typeddict,
)

from modelplex.dialects.gemini.fields import FIELDS as GEMINI
from modelplex.dialects.registry import DIALECTS
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.value_rules import ExceptRule
from modelplex.policy.walk import CustomRule, DeferredRule, ValueRule

NESTED: dict[str, tuple[type, str]] = {
    "openai chat": (ChatParams, "openai_chat"),
    "openai completions": (CompletionParams, "openai_completions"),
    "openai responses": (ResponsesParams, "openai_responses"),
    "anthropic": (MessageParams, "anthropic_messages"),
    "anthropic beta": (BetaMessageParams, "anthropic_messages"),
    "ollama chat": (ollama.ChatRequest, "ollama"),
    "ollama generate": (ollama.GenerateRequest, "ollama_generate"),
    "ollama embed": (ollama.EmbedRequest, "ollama_embed"),
}
_CALLER = "a caller with a tool is code that the provider runs, which is refused as a whole"
LEFT_OUT: dict[str, dict[str, str]] = {
    "anthropic": {"messages[].content[]{tool_use}.caller.tool_id": _CALLER},
    "anthropic beta": {
        "messages[].content[]{tool_use}.caller.tool_id": _CALLER,
        "messages[].content[]{fallback}.trigger.category": "what an earlier refusal was about is stripped",
    },
}
"""By client: members without a rule, and why. Each must be missing still."""


# --- the walk -------------------------------------------------------------------------------------


def missing(hint: Any, rule: ValueRule, path: str, seen: set[tuple[str, int]]) -> Iterator[str]:
    """Members of the type, and types of parts, that the rule does not name."""
    hint = bare(hint)
    while isinstance(rule, DeferredRule | ExceptRule):
        rule = rule.find() if isinstance(rule, DeferredRule) else rule.check
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        for each in get_args(hint):
            yield from missing(each, rule, path, seen)
    elif origin is not None and origin is not Literal and not issubclass(origin, Mapping):
        entries = rule.items if isinstance(rule, UnionRule) else rule
        if isinstance(entries, ListRule):
            yield from missing(get_args(hint)[0], entries.entry, f"{path}[]", seen)
    elif (members := members_of(hint)) is not None and (repr(hint), id(rule)) not in seen:
        seen.add((repr(hint), id(rule)))
        yield from missing_members(hint, members, rule, path, seen)


def missing_members(
    hint: Any, members: dict[str, Any], rule: ValueRule, path: str, seen: set[tuple[str, int]]
) -> Iterator[str]:
    match rule:
        case UnionRule():
            yield from missing(hint, rule.members, path, seen)
        case CustomRule(targets=(_, *_)):
            found = [list(missing(hint, each, path, set(seen))) for each in rule.targets]
            yield from min(found, key=len)
        case VariantRule():
            kinds = words_of(members.get(rule.discriminator))
            if not kinds:
                yield from missing(hint, rule.absent, path, seen)
            for kind in kinds:
                if rule.rule_for(kind) is rule.default:
                    yield f"{path}{{{kind}}}"
                else:
                    yield from missing(hint, rule.rule_for(kind), f"{path}{{{kind}}}", seen)
        case ObjectRule():
            for name, inner in members.items():
                place = f"{path}.{name}".removeprefix(".")
                if name not in rule.fields:
                    yield place
                else:
                    yield from missing(inner, rule.fields[name], place, seen)
        case _:
            return  # it is stripped, refused or judged as a whole


def bare(hint: Any) -> Any:
    """The type without Required, NotRequired, Annotated and the like."""
    while True:
        if isinstance(hint, TypeAliasType):
            hint = hint.__value__
        elif get_origin(hint) in {Annotated, Required, NotRequired}:
            hint = get_args(hint)[0]
        else:
            return hint


def words_of(hint: Any) -> list[str]:
    """The words that a discriminator may be."""
    hint = bare(hint)
    if get_origin(hint) is Literal:
        return [word for word in get_args(hint) if isinstance(word, str)]
    return [word for each in get_args(hint) for word in words_of(each)]


def members_of(hint: Any) -> dict[str, Any] | None:
    """The members of an object's type by their names on the wire, or None for any other type."""
    if is_typeddict(hint):
        return get_type_hints(hint, include_extras=True)
    if inspect.isclass(hint) and issubclass(hint, BaseModel):
        return {field.alias or name: field.annotation for name, field in hint.model_fields.items()}
    return None


def faults(client: str, hint: Any, rule: ValueRule, path: str = "") -> list[str]:
    """What is missing and not left out, and what is left out and not missing."""
    left_out = LEFT_OUT.get(client, {})
    found = dict.fromkeys(missing(hint, rule, path, set()))
    return [f"{client}: {each} has no rule" for each in found if each not in left_out] + [
        f"{client}: {each} is not missing" for each in left_out if each not in found
    ]


# --- the clients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("client", NESTED)
def test_each_member_of_a_clients_request_has_a_rule(client: str) -> None:
    hint, dialect = NESTED[client]
    assert faults(client, hint, DIALECTS[dialect].policy.top) == []


def gemini_members() -> dict[str, Any]:
    """The members of a generateContent request and of its `generationConfig`, as Google's client
    writes them: it has one flat config, and functions that spread it.
    """
    hints = {
        field.alias or name: field.annotation
        for name, field in genai.GenerateContentConfig.model_fields.items()
    }
    written: dict[str, Any] = {}
    for service in ("mldev", "vertex"):
        source = inspect.getsource(getattr(google.genai.models, f"_GenerateContentConfig_to_{service}"))
        for holder, name in re.findall(r"setv\(\s*(\w+),\s*\['(\w+)'\]", source):
            path = name if holder == "parent_object" else f"generationConfig.{name}"
            written[path] = hints.get(name, Any)
    # Google's client takes more for these two than it sends.
    return written | {"contents": list[genai.Content], "systemInstruction": genai.Content}


def test_each_member_of_a_gemini_request_has_a_row_and_a_rule() -> None:
    members = gemini_members()
    assert len(members) > 25
    config = cast("ObjectRule", GEMINI.policy.fields["generationConfig"])
    found: list[str] = []
    for path, hint in members.items():
        rules = config if path.startswith("generationConfig.") else GEMINI.policy
        rule = rules.fields.get(path.rpartition(".")[2])
        found += [path] if rule is None else missing(hint, rule, path, set())
    assert found == []


# --- the test itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "steps", "path"),
    [
        ("openai chat", ("seed",), "seed"),
        (
            "openai chat",
            ("tools", "entry", "function", "function", "strict"),
            "tools[]{function}.function.strict",
        ),
        ("openai responses", ("text", "verbosity"), "text.verbosity"),
        ("anthropic", ("messages", "entry", "role"), "messages[].role"),
        ("ollama chat", ("options", "num_ctx"), "options.num_ctx"),
    ],
)
def test_a_member_without_a_rule_is_named(client: str, steps: tuple[str, ...], path: str) -> None:
    hint, dialect = NESTED[client]
    rule: Any = without(DIALECTS[dialect].policy.top, steps)
    assert f"{client}: {path} has no rule" in faults(client, hint, rule)


def without(rule: Any, steps: tuple[str, ...]) -> Any:
    """A copy of the rule without the member at these steps."""
    step, *rest = steps
    if step == "entry":
        return ListRule(without(rule.entry, tuple(rest)))
    if isinstance(rule, VariantRule):
        inner = without(rule.variants[step], tuple(rest))
        return VariantRule(
            {**rule.variants, step: inner}, patterns=[(p.pattern, r) for p, r in rule.patterns]
        )
    fields = dict(rule.fields)
    inner = fields.pop(step)
    return ObjectRule({**fields, step: without(inner, tuple(rest))} if rest else fields)


def test_a_type_of_part_without_a_rule_is_named() -> None:
    hint, dialect = NESTED["anthropic"]
    top = DIALECTS[dialect].policy.top
    tools = VariantRule({"custom": top.fields["model"]})
    rule = ObjectRule({**top.fields, "tools": ListRule(tools)})
    assert "anthropic: tools[]{bash_20250124} has no rule" in faults("anthropic", hint, rule)


def test_what_is_left_out_must_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEFT_OUT, "ollama embed", {"model": "a reason"})
    hint, dialect = NESTED["ollama embed"]
    assert faults("ollama embed", hint, DIALECTS[dialect].policy.top) == [
        "ollama embed: model is not missing"
    ]
