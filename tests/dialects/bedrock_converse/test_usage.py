"""Token counts of Converse."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.events import Usage
from modelplex.dialects.bedrock_converse.usage import ConverseUsage, read_usage


def usage(**counts: Any) -> Usage | None:
    return read_usage(msgspec.json.decode(json.dumps(counts), type=ConverseUsage))


def test_cached_tokens_are_counted_beside_the_input() -> None:
    assert usage(
        inputTokens=10,
        outputTokens=4,
        totalTokens=1114,
        cacheReadInputTokens=700,
        cacheWriteInputTokens=400,
        cacheDetails=[{"ttl": "1h", "inputTokens": 300}, {"ttl": "5m", "inputTokens": 100}],
    ) == Usage(fresh=10, cache_read=700, cache_write=400, cache_write_1h=300, output=4)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, Usage(fresh=3, output=2)),
        ({"inputTokens": 3, "outputTokens": 2, "totalTokens": 9}, Usage(fresh=3, output=6)),
        ({"inputTokens": -3, "outputTokens": 2, "totalTokens": 0}, Usage(output=2)),
        ({}, None),
    ],
)
def test_what_is_billed_is_never_less_than_what_is_told(counts: Any, expected: Usage | None) -> None:
    assert usage(**counts) == expected


def test_no_usage_is_none() -> None:
    assert read_usage(None) is None
