"""Arguments of tool calls: as a JSON object, and how deep they are nested."""

import json

import pytest

from modelplex.core.request import Attempt, Change, Place, ToolCallPart
from modelplex.dialects.core.call_arguments import MAX_DEPTH, as_object, is_too_deep
from modelplex.dialects.core.losses import Losses
from modelplex.dialects.core.tool_names import ToolAliases

PLACE = Place("messages[0]", ".tool_calls", 0, {"arguments": "function.arguments"})


def sent(arguments: str, *, free: bool = False) -> tuple[bytes, list[Change]]:
    changes: list[Change] = []
    attempt = Attempt(provider="p", model="m", dialect="d")
    losses = Losses(changes, attempt, native=False, name_of=ToolAliases(changes, native=True).sent)
    return bytes(as_object(ToolCallPart("a", "f", arguments, free=free, at=PLACE), losses)), changes


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ("{}", b"{}"),
        ("", b"{}"),
        (" \n", b"{}"),
        ('{"x": 1.0, "x": 1e3}', b'{"x": 1.0, "x": 1e3}'),
        ('{"x":"\\ud83d"}', b'{"x":"\\uFfFd"}'),
    ],
)
def test_an_object_keeps_its_bytes(arguments: str, body: bytes) -> None:
    assert sent(arguments) == (body, [])


@pytest.mark.parametrize("arguments", ["[1]", "{", '"x"', "text", "{" * 100_000])
def test_other_text_is_wrapped_and_reported_at_its_place(arguments: str) -> None:
    body, changes = sent(arguments)
    assert body.startswith(b'{"_raw":"')
    assert [(change.op, change.path) for change in changes] == [
        ("lower", "messages[0].tool_calls[0].function.arguments")
    ]


def test_the_text_of_a_free_form_tool_is_its_input() -> None:
    assert sent('a "b"', free=True) == (b'{"input":"a \\"b\\""}', [])


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
