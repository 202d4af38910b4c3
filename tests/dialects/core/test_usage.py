"""What providers count becomes what is billed; the official SDKs' usage types are read whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from anthropic.types import MessageDeltaUsage
from anthropic.types.beta import BetaMessageDeltaUsage, BetaUsage
from google.genai.types import GenerateContentResponseUsageMetadata
from openai.types import CompletionUsage, CreateEmbeddingResponse, ImagesResponse
from openai.types.audio.transcription import UsageTokens
from openai.types.responses import ResponseUsage
from pydantic import BaseModel

from modelplex.core.events import Iteration, Usage
from modelplex.core.request import RawRequest
from modelplex.dialects.anthropic.usage import read_usage as read_anthropic
from modelplex.dialects.core.usage import MOST_TOKENS, usage_inside
from modelplex.dialects.gemini import usage as gemini_usage
from modelplex.dialects.openai_chat import embeddings
from modelplex.dialects.openai_chat import usage as openai_chat_usage
from modelplex.dialects.openai_responses import usage as openai_responses_usage
from modelplex.dialects.raw_request import price_dimensions


def chat(members: dict[str, Any]) -> Usage:
    usage = openai_chat_usage.read_usage(msgspec.Raw(json.dumps(members).encode()))
    assert usage is not None
    return usage


def responses(members: dict[str, Any]) -> Usage:
    usage = openai_responses_usage.read_usage(msgspec.Raw(json.dumps(members).encode()))
    assert usage is not None
    return usage


def gemini(members: dict[str, Any]) -> Usage:
    usage = gemini_usage.read_usage(msgspec.Raw(json.dumps(members).encode()))
    assert usage is not None
    return usage


def anthropic(members: dict[str, Any]) -> Usage:
    return read_anthropic({name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()})


@pytest.mark.parametrize(
    ("members", "given", "written"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}, 10, 2),
        # xAI and Google's endpoint in OpenAI's form: reasoning stands beside completion_tokens.
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 35,
                "total_tokens": 420,
                "completion_tokens_details": {"reasoning_tokens": 375},
            },
            10,
            410,
        ),
        ({"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 402}, 7, 395),
        # Without a total, reasoning above the output is not part of it.
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
            10,
            55,
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 60,
                "completion_tokens_details": {"reasoning_tokens": 50},
            },
            10,
            60,
        ),
        # A total that is too small, and a total alone.
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, 10, 5),
        ({"total_tokens": 30}, 30, 0),
        ({"completion_tokens": 5, "total_tokens": 30}, 25, 5),
        # No count lowers what was spent, and none is larger than a column holds.
        ({"prompt_tokens": -10, "completion_tokens": -5, "total_tokens": -15}, 0, 0),
        ({"prompt_tokens": 2**62, "completion_tokens": 1, "total_tokens": 0}, MOST_TOKENS, 1),
        ({"prompt_tokens": 10.0, "completion_tokens": 2.0, "total_tokens": 12.0}, 10, 2),
    ],
)
def test_what_a_total_has_above_its_parts_is_output(
    members: dict[str, Any], given: int, written: int
) -> None:
    usage = chat(members)
    assert (usage.input, usage.output) == (given, written)
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    names["completion_tokens_details"] = "output_tokens_details"
    usage = responses({names.get(name, name): value for name, value in members.items()})
    assert (usage.input, usage.output) == (given, written)


def test_the_parts_of_other_modalities_are_told() -> None:
    usage = chat(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 30, "image_tokens": 5},
            "completion_tokens_details": {
                "audio_tokens": 40,
                "accepted_prediction_tokens": 3,
                "rejected_prediction_tokens": 4,
            },
        }
    )
    assert (usage.fresh, usage.cache_read, usage.output) == (80, 20, 50)
    assert (usage.input_audio, usage.input_image, usage.output_audio) == (30, 5, 40)
    usage = gemini(
        {
            "promptTokenCount": 100,
            "candidatesTokenCount": 10,
            "thoughtsTokenCount": 5,
            "toolUsePromptTokenCount": 7,
            "totalTokenCount": 130,
            "promptTokensDetails": [
                {"modality": "AUDIO", "tokenCount": 30},
                {"modality": "TEXT", "tokenCount": 70},
            ],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 9}],
        }
    )
    assert (usage.input, usage.output, usage.reasoning) == (107, 23, 5)
    assert (usage.input_audio, usage.output_image) == (30, 9)


def test_the_sum_of_iterations_is_billed_with_each_ones_own_model() -> None:
    """Numbers of https://platform.claude.com/docs/en/build-with-claude/compaction, and a
    fallback.
    """
    compaction = {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500}
    message = {"type": "message", "input_tokens": 23000, "output_tokens": 1000}
    usage = anthropic(
        {"input_tokens": 23000, "output_tokens": 1000, "iterations": [compaction, message]},
    )
    assert (usage.input, usage.output) == (203000, 4500)
    assert usage.iterations == (Iteration(fresh=180000, output=3500), Iteration(fresh=23000, output=1000))
    fallback = {
        "type": "fallback_message",
        "model": "claude-haiku",
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 4,
        "cache_creation": {"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 0},
    }
    usage = anthropic({"input_tokens": 10, "output_tokens": 5, "iterations": [message, fallback]})
    assert (usage.fresh, usage.cache_read, usage.cache_write, usage.cache_write_1h) == (23010, 3, 4, 4)
    assert [one.model for one in usage.iterations] == ["", "claude-haiku"]
    # A list that tells less than the object itself does not lower it, and is not priced by its
    # entries.
    usage = anthropic({"input_tokens": 50, "output_tokens": 5, "iterations": [message | {"input_tokens": 1}]})
    assert (usage.input, usage.output, usage.iterations) == (50, 1000, ())
    usage = anthropic({"input_tokens": 1, "output_tokens": 2, "server_tool_use": {"web_search_requests": 3}})
    assert usage.web_searches == 3


@pytest.mark.parametrize("odd", [{"iterations": 5}, {"iterations": [7]}, {"cache_creation": []}])
def test_a_member_of_another_shape_hides_no_count(odd: dict[str, Any]) -> None:
    usage = anthropic({"input_tokens": 50, "output_tokens": 5, "server_tool_use": 1, **odd})
    assert (usage.input, usage.output) == (50, 5)


def test_vectors_have_no_output() -> None:
    answer = {"object": "list", "model": "e", "data": [{"index": 0, "embedding": [0.5]}]}
    for usage in (
        {"prompt_tokens": 4, "total_tokens": 9},
        {"total_tokens": 9},
        {"prompt_tokens": 9, "total_tokens": 9},
    ):
        seen = embeddings.observe(json.dumps(answer | {"usage": usage}).encode())
        assert seen.usage is not None
        assert (seen.usage.input, seen.usage.output) == (9, 0)
        embedded = embeddings.read_embedded(json.dumps(answer | {"usage": usage}).encode())
        assert (embedded.usage.input, embedded.usage.output) == (9, 0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # Images and transcriptions of OpenAI.
        (
            {
                "data": [{"b64_json": "x"}],
                "usage": {
                    "input_tokens": 50,
                    "output_tokens": 1000,
                    "total_tokens": 1050,
                    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                },
            },
            (50, 1000, 40, 0),
        ),
        (
            {
                "text": "x",
                "usage": {
                    "type": "tokens",
                    "input_tokens": 14,
                    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                    "output_tokens": 45,
                    "total_tokens": 59,
                },
            },
            (14, 45, 0, 14),
        ),
        # Rerank of Jina and Voyage, and of Cohere.
        ({"usage": {"total_tokens": 815}, "results": []}, (815, 0, 0, 0)),
        (
            {
                "results": [],
                "meta": {
                    "billed_units": {"search_units": 1},
                    "tokens": {"input_tokens": 12, "output_tokens": 0},
                },
            },
            (12, 0, 0, 0),
        ),
    ],
)
def test_usage_is_found_in_answers_that_are_not_read(
    answer: dict[str, Any], expected: tuple[int, ...]
) -> None:
    usage = usage_inside(json.dumps(answer).encode())
    assert usage is not None
    assert (usage.input, usage.output, usage.input_image, usage.input_audio) == expected


@pytest.mark.parametrize(
    "answer",
    [
        {"text": 'He said "usage": {"total_tokens": 5}'},
        {"usage": {"type": "duration", "seconds": 3}},
        {"usage": None},
        {"usage": {"total_tokens": "many"}},
        {},
    ],
)
def test_nothing_else_is_taken_for_usage(answer: dict[str, Any]) -> None:
    assert usage_inside(json.dumps(answer).encode()) is None


def test_half_an_object_at_the_cut_is_no_usage() -> None:
    deep = b'"usage":{' * 5000
    assert usage_inside(deep) is None
    assert usage_inside(b'\xff\xfe"usage": {"total_tokens": 1' + b"0" * 9000) is None


# --- the official types ---------------------------------------------------------------------------

READ = "read"
PART = "part of a count that is read"
FREE = "no tokens"

REVIEWED: dict[type[BaseModel], dict[str, str]] = {
    CompletionUsage: {
        "prompt_tokens": READ,
        "completion_tokens": READ,
        "total_tokens": READ,
        "prompt_tokens_details.audio_tokens": READ,
        "prompt_tokens_details.cache_write_tokens": READ,
        "prompt_tokens_details.cached_tokens": READ,
        "prompt_tokens_details.image_tokens": READ,
        "prompt_tokens_details.text_tokens": PART,
        "completion_tokens_details.accepted_prediction_tokens": PART,
        "completion_tokens_details.audio_tokens": READ,
        "completion_tokens_details.reasoning_tokens": READ,
        "completion_tokens_details.rejected_prediction_tokens": PART,
        "completion_tokens_details.text_tokens": PART,
    },
    ResponseUsage: {
        "input_tokens": READ,
        "output_tokens": READ,
        "total_tokens": READ,
        "input_tokens_details.cache_write_tokens": READ,
        "input_tokens_details.cached_tokens": READ,
        "input_tokens_details.cache_write_tokens_details.ttl_12h_tokens": PART,
        "input_tokens_details.cache_write_tokens_details.ttl_30m_tokens": PART,
        "output_tokens_details.reasoning_tokens": READ,
    },
    UsageTokens: {
        "input_tokens": READ,
        "output_tokens": READ,
        "total_tokens": READ,
        "input_token_details.audio_tokens": READ,
        "input_token_details.text_tokens": PART,
    },
    GenerateContentResponseUsageMetadata: {
        "prompt_token_count": READ,
        "cached_content_token_count": READ,
        "candidates_token_count": READ,
        "thoughts_token_count": READ,
        "tool_use_prompt_token_count": READ,
        "total_token_count": READ,
        "prompt_tokens_details.token_count": READ,
        "candidates_tokens_details.token_count": READ,
        "cache_tokens_details.token_count": PART,
        "tool_use_prompt_tokens_details.token_count": PART,
    },
}
_ANTHROPIC = {
    "input_tokens": READ,
    "output_tokens": READ,
    "cache_read_input_tokens": READ,
    "cache_creation_input_tokens": READ,
    "output_tokens_details.thinking_tokens": READ,
    "server_tool_use.web_search_requests": READ,
    "server_tool_use.web_fetch_requests": FREE,
}
_LIVES = {
    "cache_creation.ephemeral_1h_input_tokens": READ,
    "cache_creation.ephemeral_5m_input_tokens": READ,
}
_ITERATIONS = {
    f"iterations.{name}": READ
    for name in (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        *_LIVES,
    )
}
REVIEWED[MessageDeltaUsage] = _ANTHROPIC
REVIEWED[BetaMessageDeltaUsage] = {**_ANTHROPIC, **_ITERATIONS}
REVIEWED[BetaUsage] = {**_ANTHROPIC, **_LIVES, **_ITERATIONS}


def counts_of(model: type[BaseModel]) -> Iterator[str]:
    """The paths of all whole numbers in a type."""
    for name, field in model.model_fields.items():
        types = [field.annotation]
        while types:
            each = types.pop()
            if each is int:
                yield name
            elif isinstance(each, type) and issubclass(each, BaseModel):
                yield from (f"{name}.{path}" for path in counts_of(each))
            else:
                types += get_args(each)


@pytest.mark.parametrize("model", REVIEWED)
def test_every_count_of_the_official_types_was_reviewed(model: type[BaseModel]) -> None:
    """A new count in a newer SDK is a question: is it billed beside the others?"""
    assert set(counts_of(model)) == set(REVIEWED[model])


def test_embeddings_and_images_have_the_counts_that_are_read() -> None:
    usage = CreateEmbeddingResponse.model_fields["usage"].annotation
    assert isinstance(usage, type)
    assert set(counts_of(usage)) == {"prompt_tokens", "total_tokens"}
    images = {path.partition(".")[2] for path in counts_of(ImagesResponse) if path.startswith("usage.")}
    assert images == {
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "input_tokens_details.image_tokens",
        "input_tokens_details.text_tokens",
        "output_tokens_details.image_tokens",
        "output_tokens_details.text_tokens",
    }


ASK = RawRequest("chat/completions", "openai_chat", "m", b"", {})


def test_what_prices_depend_on_is_read_of_a_request() -> None:
    def said(**members: object) -> dict[str, str]:
        fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()}
        return price_dimensions(msgspec.structs.replace(ASK, fields=fields))

    assert said(service_tier="priority", speed="fast") == {"service_tier": "priority", "speed": "fast"}
    assert said(serviceTier="flex") == {"service_tier": "flex"}
    assert said(service_tier=None, speed=5, model="m") == {}
