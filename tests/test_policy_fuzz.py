"""Bodies made from the SDKs' own types: an amended body has no URL, host or id of the agent where a
provider would act on it.

Every string of a body is a canary. The places that a provider acts on are listed by hand from the
providers' references, independent of the policy's tables.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import anthropic.types.beta.message_create_params as anthropic_params
import openai.types.chat.completion_create_params as chat_params
import openai.types.responses.response_create_params as responses_params
import pytest
import typing_extensions
from google.genai import types as gemini_types
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import image_generate_params, moderation_create_params
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.embedding_create_params import EmbeddingCreateParams
from pydantic import BaseModel

from modelplex.policy.verdict import Allow, Amend, Facts, Refuse
from tests.policy.judging import judge

FACTS = Facts(agent="ann", secret=b"s" * 32)
EXAMPLES = 150
"""Bodies of each form; the whole file stays well below half a minute."""
DEEPEST = 9
ENTRIES = 2
INLINE = ("data:image/png;base64,iVBORw0KGgo=", "iVBORw0KGgo=")

# --- bodies from types ----------------------------------------------------------------------------


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing_extensions.get_type_hints(kind)


class Maker:
    """A value of a type, with a canary for every string. `kind` members say what something is, so
    that they are always there.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.count = 0
        self.daring = self.dice.choice([0.0, 0.05, 0.3])
        """How often what a sealed agent may not say is said all the same: a body full of it is
        refused at its first word.
        """

    def canary(self) -> str:
        self.count += 1
        forms = (
            "https://canary-{}.example/x",
            "canary-{}.example",
            "canary-id-{}",
            "gs://canary-{}/x",
            "HTTPS://CANARY-{}.example",
        )
        return self.dice.choice(forms).format(self.count)

    def make(self, kind: Any, depth: int = 0) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind is str:
            return self.dice.choice(INLINE) if self.dice.random() < 0.3 else self.canary()
        if kind is bool:
            return self.dice.random() < 0.5
        if kind in {int, float}:
            return self.dice.choice([0, 1, 7])
        if kind is bytes:
            return self.dice.choice(["QUJD", self.canary()]) if self.dice.random() < self.daring else "QUJD"
        if kind is type(None):
            return None
        if kind is dt.datetime:
            return "2026-01-01T00:00:00Z"
        if origin is typing.Literal:
            return self.dice.choice(arguments)
        if origin is typing.Annotated:
            return self.make(arguments[0], depth)
        if origin in {typing.Union, types.UnionType}:
            return self.make(
                self.dice.choice([one for one in arguments if one is not type(None)] or [type(None)]), depth
            )
        if origin in {
            list,
            Iterable,
            Sequence,
            typing.get_origin(typing.Iterable[int]),
            typing.get_origin(typing.Sequence[int]),
        }:
            entries = 0 if depth > DEEPEST else self.dice.randint(1, ENTRIES)
            return [self.make(arguments[0] if arguments else str, depth + 1) for _ in range(entries)]
        if origin in {dict, Mapping}:
            return {self.canary(): self.make(arguments[1], depth + 1)}
        if typing_extensions.is_typeddict(kind):
            return self._members(_hints(kind), depth)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return self._model(kind, depth)
        return {"url": self.canary(), "file_id": self.canary()} if kind in {object, Any} else self.canary()

    def _members(self, hints: Mapping[str, Any], depth: int) -> dict[str, Any]:
        chance = 0.5 if depth < DEEPEST else 0.0
        return {
            name: self.make(kind, depth + 1)
            for name, kind in hints.items()
            if name in {"type", "role", "content", "url", "source", "tool", "definition"}
            or self._wanted(name, chance)
        }

    def _wanted(self, name: str, chance: float) -> bool:
        return self.dice.random() < (self.daring if name in FORBIDDEN else chance)

    def _model(self, kind: type[BaseModel], depth: int) -> dict[str, Any]:
        """In either spelling, member by member."""
        chance = (0.25 if depth else 0.6) if depth < DEEPEST else 0.0
        return {
            (field.alias or name) if self.dice.random() < 0.5 else name: self._said(name, field, depth)
            for name, field in kind.model_fields.items()
            if name == "type" or self._wanted(name, chance)
        }

    def _said(self, name: str, field: Any, depth: int) -> Any:
        """A role is a word of the API's, which the SDK's type does not say; any other is
        refused.
        """
        if name == "role" and self.dice.random() >= self.daring:
            return self.dice.choice(("user", "model"))
        return self.make(field.annotation, depth + 1)


FORBIDDEN = frozenset(
    (
        "previous_response_id conversation prompt background mcp_servers container thread file_id file_url file_uri file_data image_url url audio "
        "caller source definition cached_content continuation_token generation_output_config tool_call tool_response retrieval file_search "
        "parallel_ai_search exa_ai_search auth_config multi_speaker_voice_config voice ref"
    ).split()
)
"""Members that mostly lead to a refusal; said seldom, lest nothing is ever let out."""


Make = Callable[[Maker], Any]


def _gemini_body(maker: Maker) -> dict[str, Any]:
    config = maker.make(gemini_types.GenerateContentConfig)
    inner = maker.make(gemini_types.GenerationConfig)
    shaping = maker.make(gemini_types.GenerateContentConfig)
    return {
        "contents": [maker.make(gemini_types.Content) for _ in range(2)],
        "tools": [maker.make(gemini_types.Tool) for _ in range(2)],
        "generationConfig": {**inner, **({} if maker.daring < 0.1 else shaping)},
        **{
            name: value
            for name, value in config.items()
            if name not in {"http_options", "httpOptions", "tools"}
        },
    }


def _made(kind: Any) -> Make:
    def make(maker: Maker) -> Any:
        return maker.make(kind)

    return make


def _gemini_count(maker: Maker) -> dict[str, Any]:
    return {"generateContentRequest": _gemini_body(maker)}


def _gemini_vectors(maker: Maker) -> dict[str, Any]:
    return {
        "requests": [
            {"content": maker.make(gemini_types.Content), **maker.make(gemini_types.EmbedContentConfig)}
            for _ in range(2)
        ]
    }


BODIES: dict[str, tuple[str, Make]] = {
    "responses": ("openai_responses", _made(responses_params.ResponseCreateParamsNonStreaming)),
    "count of responses": ("openai_count", _made(responses_params.ResponseCreateParamsNonStreaming)),
    "chat": ("openai_chat", _made(chat_params.CompletionCreateParamsNonStreaming)),
    "completions": ("openai_completions", _made(CompletionCreateParamsNonStreaming)),
    "embeddings": ("openai_embeddings", _made(EmbeddingCreateParams)),
    "images": ("openai_json", _made(image_generate_params.ImageGenerateParamsNonStreaming)),
    "moderations": ("openai_json", _made(moderation_create_params.ModerationCreateParams)),
    "messages": ("anthropic_messages", _made(anthropic_params.MessageCreateParamsNonStreaming)),
    "count of messages": ("anthropic_count", _made(anthropic_params.MessageCreateParamsNonStreaming)),
    "gemini": ("gemini", _gemini_body),
    "count of gemini": ("gemini_count", _gemini_count),
    "vectors of gemini": ("gemini_embed", _gemini_vectors),
}

# --- what a provider acts on ----------------------------------------------------------------------

ACTED_ON = frozenset(
    (
        # addresses that are fetched or called
        "image_url file_url url uri file_uri server_url endpoint video_url audio_url document_url input_image_mask mcp_servers base_url "
        # what is stored, or written
        "file_id file_ids container_id vector_store_ids file_search_store_names previous_response_id conversation item_reference skill_id "
        "previous_message_id cached_content continuation_token output_uri_prefix gcs_uri connector_id tunnel_id comparison_response_id "
        "file_data rag_corpora datastore "
        # credentials
        "authorization authorization_token headers api_key domain_secrets auth_config "
        # labels, ids and payers
        "metadata user user_id client_metadata labels safety_identifier prompt_cache_key workspace_id user_profile_id betas "
        "fallback_credit_token billing_policy inference_geo service_tier speed access_programs prompt_cache_retention prompt_cache_options "
        # other models and places
        "fallbacks moderation model_name advisor allowed_domains blocked_domains url_sources user_location retrieval_config prompt_template_name "
        "mcp_server_name server_label"
    ).split()
)
"""Members, as snake_case has them, in which no word of the agent's may stand, outside of what is
opaque.
"""
OPAQUE = frozenset(
    (
        # words and the arguments of tools
        "text arguments args input_schema parameters parameters_json_schema response_json_schema response_schema output_schema input_examples "
        "instructions description definition_text thinking refusal signature encrypted_content reasoning_content summary "
        "json_schema format response_format functions function_declarations function action actions operation stop stop_sequences "
        # records of what was, and marks
        "annotations citations logprobs results queries tabs state_changes part_metadata executable_code code_execution_result function_call "
        "pending_safety_checks acknowledged_safety_checks id call_id tool_use_id cache_control context include "
        # which of the tools is called: the names of what goes along anyway
        "tool_choice"
    ).split()
)
"""What a provider reads, and does nothing with."""
CLIENT_TOOLS = frozenset(
    "function custom apply_patch local_shell computer computer_use_preview tool_search namespace shell memory_20250818 "
    "browser_toolset_20260801 computer_toolset_20260801 tool_search_tool_bm25 tool_search_tool_regex tool_search_tool_bm25_20251119 "
    "tool_search_tool_regex_20251119".split()
)
CLIENT_FAMILIES = ("bash_", "text_editor_", "computer_")
CLIENT_TOOLS_OF_GEMINI = frozenset({"function_declarations", "computer_use"})
RECORDS_OF_WORK = frozenset(
    "item_reference mcp_call mcp_list_tools mcp_approval_request mcp_approval_response program program_output code_interpreter_call "
    "mcp_tool_use mcp_tool_result mcp_tool_listing container_upload web_search_tool_result web_fetch_tool_result code_execution_tool_result "
    "bash_code_execution_tool_result text_editor_code_execution_tool_result advisor_tool_result".split()
)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _inert(path: tuple[str, ...], value: dict[str, Any]) -> frozenset[str]:
    """Opaque members of this object alone: a tool's input, a text's data, a search that is
    remembered.
    """
    kind = value.get("type") if isinstance(value.get("type"), str) else None
    if kind in {"tool_use", "custom_tool_call", "server_tool_use"}:
        return frozenset({"input"})
    if kind == "text" and "data" in value:
        return frozenset({"data"})
    if kind in {
        "web_search_call",
        "file_search_call",
        "image_generation_call",
        "fallback",
        "tool_search_tool_result",
    }:
        return frozenset(value)
    if path[-1:] == ("function_response",):
        return frozenset({"response"})
    if path and path[-1] == "tools" and isinstance(kind, str):
        return frozenset(
            {"format", "environment"} if kind in {"shell", "custom", "computer_use_preview"} else {"format"}
        )
    return frozenset()


def acted_on(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Places of a body that a provider would act on with a canary, or with work of its own."""
    if isinstance(value, list):
        for entry in cast("list[Any]", cast("object", value)):
            if path[-1:] == ("tools",):
                yield from _provider_tool(entry)
            yield from acted_on(entry, path)
    elif isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        kind = members.get("type")
        if isinstance(kind, str) and kind in RECORDS_OF_WORK:
            yield f"{path}: {kind}"
        holds_bytes = kind == "base64" or path[-1:] in {("inline_data",), ("input_audio",)}
        if holds_bytes and "canary" in str(members.get("data")).lower():
            yield f"{(*path, 'data')}"
        inert = _inert(path, members)
        for key, inner in members.items():
            name = _snake(key)
            if key in inert or name in OPAQUE:
                continue
            names_a_file = name == "file_data" and isinstance(inner, dict)  # in Gemini's, `file_uri` counts
            if name in ACTED_ON and not names_a_file and "canary" in json.dumps(inner).lower():
                yield f"{(*path, name)}"
            if name in {"store", "background"} and inner is True and path[-1:] != ("tools",):
                yield f"{(*path, name)}: true"
            yield from acted_on(inner, (*path, name))


def _provider_tool(tool: dict[str, Any]) -> Iterator[str]:
    kind = tool.get("type")
    if kind is None and {_snake(key) for key in tool} <= CLIENT_TOOLS_OF_GEMINI | {
        "name",
        "description",
        "input_schema",
    }:
        return
    if kind is None and "input_schema" not in tool and "name" not in tool:
        yield f"a tool of {sorted(tool)}"
    if isinstance(kind, str) and kind not in CLIENT_TOOLS and not kind.startswith(CLIENT_FAMILIES):
        yield f"a tool of type {kind}"
    if kind == "shell" and (tool.get("environment") or {}).get("type") != "local":
        yield "a shell that is not the client's"
    if tool.get("allowed_callers") not in (None, ["direct"]):
        yield "a tool that is called by code of the provider"


# --- the tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(BODIES))
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_nothing_that_leaves_is_acted_on(form: str, seed: int) -> None:
    dialect, make = BODIES[form]
    body = json.dumps(make(Maker(seed))).encode()
    verdict = judge(body, dialect=dialect, facts=FACTS)
    if isinstance(verdict, Refuse):
        assert "canary" not in verdict.message.replace(verdict.path, "").lower()
        return
    sent = verdict.body if isinstance(verdict, Amend) else body
    assert list(acted_on(json.loads(sent))) == []
    assert judge(sent, dialect=dialect, facts=FACTS) == Allow() or b"mpx-" in sent


@pytest.mark.parametrize("form", sorted(BODIES))
def test_the_bodies_are_telling(form: str) -> None:
    """Some leave and some are refused, and before judgement many of them hold what a provider would
    act on.
    """
    dialect, make = BODIES[form]
    bodies = [make(Maker(seed)) for seed in range(300)]
    verdicts = [judge(json.dumps(body).encode(), dialect=dialect, facts=FACTS) for body in bodies]
    assert sum(not isinstance(verdict, Refuse) for verdict in verdicts) >= 15
    if form not in {"completions", "embeddings", "images", "moderations"}:
        assert sum(isinstance(verdict, Refuse) for verdict in verdicts) >= 15
    if form not in {"completions", "embeddings", "moderations"}:
        assert sum(bool(list(acted_on(body))) for body in bodies) >= 50


@pytest.mark.parametrize(
    "rule",
    [
        *(
            "remote-url",
            "stored-file",
            "stored-state",
            "remote-mcp",
            "remote-data",
            "code-execution",
            "web-search",
            "web-fetch",
        ),
        *(
            "provider-history",
            "store",
            "background",
            "labels",
            "identity",
            "price",
            "cache-retention",
            "second-model",
            "bucket-write",
        ),
    ],
)
def test_a_hole_would_be_seen(rule: str) -> None:
    """With a rule open, something of what it keeps back is found in what leaves."""
    opened = Facts(agent="ann", secret=FACTS.secret, allowed=frozenset({rule}))
    for seed in range(3000):
        for dialect, make in (BODIES[form] for form in ("messages", "responses", "gemini")):
            body = json.dumps(make(Maker(seed))).encode()
            verdict = judge(body, dialect=dialect, facts=opened)
            sent = (
                b"{}" if isinstance(verdict, Refuse) else verdict.body if isinstance(verdict, Amend) else body
            )
            if any(acted_on(json.loads(sent))):
                return
    pytest.fail(f"nobody would notice if {rule} were open")
