"""Every place of the official SDKs that passes the sealed policy is on a reviewed list, with its
reason.

A new release of an SDK with a member that passes unread fails here, by the name of the member.
"""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import anthropic.types.beta.message_count_tokens_params as anthropic_beta_count
import anthropic.types.beta.message_create_params as anthropic_beta
import anthropic.types.message_create_params as anthropic_plain
import ollama._types as ollama_types
import openai.types.chat.completion_create_params as chat_params
import openai.types.responses.response_create_params as responses_params
import pytest
from google.genai import types as gemini_types
from openai.types import image_generate_params, moderation_create_params
from openai.types.audio import speech_create_params
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses import input_token_count_params, response_compact_params
from openai.types.responses.responses_client_event_param import ResponseCreate

from modelplex.policy.verdict import Amend, Facts, Refuse
from tests.policy.judging import TABLES, judge
from tests.policy.probing import MARK, Probe, Prober, Wrap

FACTS = Facts(agent="ann", secret=b"s" * 32)
REVIEWED = Path(__file__).parent / "reviewed_passing.toml"
HEADERS = frozenset({"betas", "workspace_id", "user_profile_id"})
"""Parameters that Anthropic's SDK sends as headers; as members they are tried in `test_members.py`.
"""
Probes = Iterator[Probe]


def _with(needed: dict[str, Any]) -> Wrap:
    def body(value: dict[str, Any]) -> dict[str, Any]:
        return {**needed, **value}

    return body


def _camel(kind: Any, name: str) -> str:
    return kind.model_fields[name].alias or name


def _snake(_: Any, name: str) -> str:
    return name


ASKED = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
NOT_SENT = frozenset({"http_options", "should_return_http_response", "automatic_function_calling", "automatic_continuation"})  # fmt: skip
"""Settings of the SDK's own."""


def _gemini(spell: Callable[[Any, str], str], *, inner: str) -> Probes:
    prober = Prober(spell=spell, elsewhere=NOT_SENT)
    yield from prober.of_value(gemini_types.Content, "contents[]", lambda v: {"contents": [v]})
    yield from prober.of_value(gemini_types.Tool, "tools[]", lambda v: {**ASKED, "tools": [v]})
    for kind in (gemini_types.GenerateContentConfig, gemini_types.GenerationConfig):
        yield from prober.of_request(kind, lambda v: {**ASKED, inner: v})
    yield from prober.of_request(gemini_types.GenerateContentConfig, _with(ASKED))


def _gemini_count() -> Probes:
    for probe in _gemini(_camel, inner="generationConfig"):
        yield Probe(probe.place, probe.kind, {"generateContentRequest": probe.body})


def _gemini_vectors() -> Probes:
    prober = Prober(spell=_camel, elsewhere=NOT_SENT)
    said: dict[str, Any] = {"model": "models/m", "content": {"parts": [{"text": "hi"}]}}
    yield from prober.of_request(gemini_types.EmbedContentConfig, lambda v: {"requests": [{**said, **v}]})
    yield from prober.of_value(
        gemini_types.Content, "requests[].content", lambda v: {"requests": [{"content": v}]}
    )


def _requests(
    dialect: str, kind: Any, needed: dict[str, Any], *, prober: Prober | None = None
) -> tuple[str, Callable[[], Probes]]:
    return dialect, lambda: (prober or Prober()).of_request(kind, _with(needed))


ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ASK_CLAUDE = {**ASK, "max_tokens": 9}
INPUT = {"model": "m", "input": "i"}
PROMPT = {"model": "m", "prompt": "p"}
HEADED = Prober(elsewhere=HEADERS)
FORMS: dict[str, tuple[str, Callable[[], Probes]]] = {
    "chat": _requests("openai_chat", chat_params.CompletionCreateParamsNonStreaming, ASK),
    "completions": _requests("openai_completions", CompletionCreateParamsNonStreaming, PROMPT),
    "embeddings": _requests("openai_embeddings", EmbeddingCreateParams, INPUT),
    "images": _requests("openai_json", image_generate_params.ImageGenerateParamsNonStreaming, PROMPT),
    "moderations": _requests("openai_json", moderation_create_params.ModerationCreateParams, INPUT),
    "speech": _requests("openai_json", speech_create_params.SpeechCreateParams, {**INPUT, "voice": "alloy"}),
    "responses": _requests(
        "openai_responses", responses_params.ResponseCreateParamsNonStreaming, {"model": "m", "store": False}
    ),
    "responses over a websocket": _requests(
        "openai_responses", ResponseCreate, {"type": "response.create", "model": "m", "store": False}
    ),
    "count of responses": _requests(
        "openai_count", input_token_count_params.InputTokenCountParams, {"model": "m"}
    ),
    "compaction": _requests("openai_compact", response_compact_params.ResponseCompactParams, {"model": "m"}),
    "messages": _requests("anthropic_messages", anthropic_plain.MessageCreateParamsNonStreaming, ASK_CLAUDE),
    "messages, beta": _requests(
        "anthropic_messages", anthropic_beta.MessageCreateParamsNonStreaming, ASK_CLAUDE, prober=HEADED
    ),
    "count of messages": _requests(
        "anthropic_count", anthropic_beta_count.MessageCountTokensParams, ASK, prober=HEADED
    ),
    "gemini": ("gemini", lambda: _gemini(_camel, inner="generationConfig")),
    "gemini in snake_case": ("gemini", lambda: _gemini(_snake, inner="generation_config")),
    "count of gemini": ("gemini_count", _gemini_count),
    "vectors of gemini": ("gemini_embed", _gemini_vectors),
    "ollama": _requests("ollama", ollama_types.ChatRequest, ASK),
    "ollama generate": _requests("ollama_generate", ollama_types.GenerateRequest, PROMPT),
    "ollama embed": _requests("ollama_embed", ollama_types.EmbedRequest, INPUT),
}


class Released(TypedDict):
    """What a new release might bring: one member that a table knows by another meaning, and one
    that none knows.
    """

    suffix: str
    zz_new: str


def test_a_new_member_that_passes_unread_is_found_by_its_name() -> None:
    probes = list(Prober().of_request(Released, _with(PROMPT)))
    assert arriving("openai_completions", probes).keys() == {
        ("test_probes.Released.suffix", "url"),
        ("test_probes.Released.suffix", "id"),
    }
    assert "test_probes.Released.suffix" not in reviewed()


@cache
def passing(form: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What arrives of this form's probes."""
    dialect, probes = FORMS[form]
    return arriving(dialect, probes())


def arriving(dialect: str, probes: Iterable[Probe]) -> dict[tuple[str, str], dict[str, Any]]:
    """For each place and kind of probe that arrives, a body in which it did."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for probe in probes:
        if (probe.place, probe.kind) in found:
            continue
        raw = json.dumps(probe.body).encode()
        verdict = judge(raw, dialect=dialect, facts=FACTS)
        if isinstance(verdict, Refuse):
            continue
        if MARK.encode() in (verdict.body if isinstance(verdict, Amend) else raw):
            found[probe.place, probe.kind] = probe.body
    return found


def reviewed() -> dict[str, frozenset[str]]:
    """Kinds of probes by place, from the list."""
    kinds: dict[str, frozenset[str]] = {}
    for group in tomllib.loads(REVIEWED.read_text())["passing"]:
        assert group["why"].endswith("."), group
        for place in group["places"]:
            assert place not in kinds, f"{place} is on the list twice"
            kinds[place] = frozenset(group["probes"])
    return kinds


@pytest.mark.parametrize("form", sorted(FORMS))
def test_what_passes_is_on_the_reviewed_list(form: str) -> None:
    known = reviewed()
    new = sorted(f"{place} ({kind})" for place, kind in passing(form) if kind not in known.get(place, ()))
    assert not new, f"these pass unread; judge them in a table, or review them in {REVIEWED.name}: {new}"


def test_the_reviewed_list_has_nothing_that_does_not_pass() -> None:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for form in FORMS:
        for place, kind in passing(form):
            found[place].add(kind)
    stale = {place: kinds - found[place] for place, kinds in reviewed().items()}
    assert {place: kinds for place, kinds in stale.items() if kinds} == {}


def test_the_probes_reach_what_is_deep_in_a_body() -> None:
    """A walk that stops early would find nothing, and pass."""
    counts = {form: sum(1 for _ in probes()) for form, (_, probes) in FORMS.items()}
    assert counts["messages, beta"] > 20_000
    assert counts["responses"] > 5000
    assert counts["gemini"] > 5000
    assert set(TABLES) >= {dialect for dialect, _ in FORMS.values()}
