"""Prompts and inputs: texts, or lists of token ids."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.dialects.openai_chat.prompts import MAX_INPUTS, read_prompts


@pytest.mark.parametrize(
    ("value", "prompts"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_each_form_is_read(value: Any, prompts: Any) -> None:
    assert read_prompts(msgspec.Raw(json.dumps(value).encode()), path="input") == prompts


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "input"),
        (7, "input"),
        ({}, "input"),
        (["a", 1], "input[1]"),
        ([1, "a"], "input[1]"),
        ([[1], ["a"]], "input[1][0]"),
        (["x"] * (MAX_INPUTS + 1), "input"),
        ([[1]] * (MAX_INPUTS + 1), "input"),
    ],
)
def test_others_are_refused_at_their_place(value: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_prompts(msgspec.Raw(json.dumps(value).encode()), path="input")
    assert refused.value.param == param
