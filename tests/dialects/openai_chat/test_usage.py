"""The usage object of chat completions, both ways."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.events import Usage
from modelplex.dialects.openai_chat.usage import read_usage, write_usage


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def test_the_providers_object_is_returned_unchanged() -> None:
    raw = _raw({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.1})
    usage = read_usage(raw)
    assert usage is not None
    assert write_usage(usage) == raw


@pytest.mark.parametrize("lacking", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_an_object_that_lacks_a_count_is_written_anew(lacking: str) -> None:
    given = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    del given[lacking]
    usage = read_usage(_raw(given))
    assert usage is not None
    assert usage.raw is None
    assert json.loads(bytes(write_usage(usage))).keys() > given.keys()


def test_an_object_of_another_dialect_is_not_returned() -> None:
    usage = Usage(fresh=3, cache_read=4, cache_write=1, output=2, reasoning=1, raw=b"{}", raw_of="gemini")
    assert json.loads(bytes(write_usage(usage))) == {
        "prompt_tokens": 8,
        "completion_tokens": 2,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_deepseeks_name_of_cached_tokens_is_read() -> None:
    usage = read_usage(_raw({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "completion_tokens": 1}))
    assert usage is not None
    assert (usage.fresh, usage.cache_read) == (5, 4)


@pytest.mark.parametrize("raw", [b"", b"null", b"5", b'{"prompt_tokens":"x"}', b"{"])
def test_anything_else_is_no_usage(raw: bytes) -> None:
    assert read_usage(msgspec.Raw(raw)) is None
