"""How deep the arguments of a call are nested."""

import json

import pytest

from modelplex.dialects.core.call_arguments import MAX_DEPTH, is_too_deep


def test_depth_is_counted_outside_of_strings() -> None:
    assert not is_too_deep(json.dumps({"a": "[" * 500 + '"' + "{" * 500}))
    assert not is_too_deep("[]" * 500)
    assert is_too_deep("[" * (MAX_DEPTH + 1))
    assert not is_too_deep("[" * MAX_DEPTH)


@pytest.mark.parametrize(
    "text", ["", "not JSON", '{"a":' * 10, '"' + "[" * 1000, '"\\"' + "[" * 1000 + '"', '"\\\\", [[["]']
)
def test_text_that_is_no_json_is_not_too_deep(text: str) -> None:
    assert not is_too_deep(text)


def test_brackets_after_a_closed_string_count() -> None:
    assert is_too_deep('"a\\\\"' + "[" * (MAX_DEPTH + 1))
    assert is_too_deep(("{}" * 200) + "[" * (MAX_DEPTH + 1))
