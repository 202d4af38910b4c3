"""Gemini's usage and log probabilities, both ways."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.events import Usage
from modelplex.dialects.gemini.usage import read_logprobs, read_usage, write_logprobs, write_usage


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def test_cached_tokens_are_in_the_prompt_and_thoughts_are_beside_the_candidates() -> None:
    raw = _raw(
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 60,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 7,
            "totalTokenCount": 112,
        }
    )
    usage = read_usage(raw)
    assert usage is not None
    assert (usage.fresh, usage.cache_read, usage.output, usage.reasoning) == (40, 60, 12, 7)
    assert write_usage(usage) == raw


def test_counts_of_zero_are_left_out() -> None:
    assert json.loads(bytes(write_usage(Usage(fresh=4, output=3)))) == {
        "promptTokenCount": 4,
        "candidatesTokenCount": 3,
        "totalTokenCount": 7,
    }
    written = json.loads(bytes(write_usage(Usage(fresh=4, cache_read=2, output=3, reasoning=1))))
    assert (written["promptTokenCount"], written["candidatesTokenCount"]) == (6, 2)
    assert (written["cachedContentTokenCount"], written["thoughtsTokenCount"]) == (2, 1)


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'{"promptTokenCount":"x"}'])
def test_anything_else_is_no_usage(raw: bytes) -> None:
    assert read_usage(msgspec.Raw(raw)) is None


def test_log_probabilities_are_the_same_after_both_ways() -> None:
    result = {
        "chosenCandidates": [{"token": "a", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1.5}]}],
    }
    entries = read_logprobs(_raw(result))
    assert entries is not None
    assert msgspec.json.decode(entries)[0]["bytes"] == [97]
    assert write_logprobs(entries) == result
    assert read_logprobs(_raw({})) is None
    assert write_logprobs(msgspec.Raw(b"{}")) is None
