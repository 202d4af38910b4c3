"""The usage object of Responses, both ways."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.responses import ResponseUsage

from modelplex.core.events import Usage
from modelplex.dialects.openai_responses.usage import read_usage, write_usage

WHOLE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def test_a_whole_object_is_read_and_returned_unchanged() -> None:
    usage = read_usage(_raw({**WHOLE, "more": 1}))
    assert usage is not None
    assert (usage.fresh, usage.cache_read, usage.cache_write, usage.output, usage.reasoning) == (
        4,
        4,
        1,
        3,
        2,
    )
    assert json.loads(bytes(write_usage(usage))) == {**WHOLE, "more": 1}


@pytest.mark.parametrize("lacking", sorted(WHOLE))
def test_an_object_that_lacks_a_member_is_written_anew(lacking: str) -> None:
    usage = read_usage(_raw({name: value for name, value in WHOLE.items() if name != lacking}))
    assert usage is not None
    assert usage.raw is None
    ResponseUsage.model_validate_json(bytes(write_usage(usage)))


def test_usage_of_another_dialect_has_all_members() -> None:
    written = json.loads(
        bytes(write_usage(Usage(fresh=4, cache_read=4, cache_write=1, output=3, reasoning=2)))
    )
    assert written == WHOLE


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'{"input_tokens":"x"}'])
def test_anything_else_is_no_usage(raw: bytes) -> None:
    assert read_usage(msgspec.Raw(raw)) is None
