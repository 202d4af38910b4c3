from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.core.errors import BadRequest
from modelplex.dialects.core import bounds
from modelplex.dialects.core.bounds import (
    MAX_MESSAGES,
    MAX_PARAMETERS,
    MAX_TOOLS,
    MAX_VALUES,
    SLICE,
    _may_exceed,  # pyright: ignore[reportPrivateUsage] - the fast half of check_values
    count_values,
    may_have_more_values,
)
from modelplex.dialects.raw_request import read_request

TEXTS = st.text(alphabet='a,[]{}"\\\n\u00e9\u2028', max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4) | st.dictionaries(TEXTS, inner, min_size=1, max_size=4)
    ),
    max_leaves=20,
)


def values(value: Any) -> int:
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = list(cast("dict[str, Any]", value).values())
    elif isinstance(value, list):
        inner = cast("list[Any]", cast("object", value))
    return 1 + sum(map(values, inner))


@given(value=JSON, slice_=st.integers(1, 9), plain=st.booleans())
def test_values_are_counted_without_reading_them_however_the_body_is_cut(
    value: Any, slice_: int, plain: bool
) -> None:
    body = json.dumps(value, ensure_ascii=plain).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "SLICE", slice_)
        assert count_values(body, enough=1000) == values(value)


@given(value=JSON, slice_=st.integers(1, 9), samples=st.integers(1, 9), rare=st.integers(1, 9))
def test_a_body_with_more_values_may_have_more_however_it_is_cut(
    value: Any, slice_: int, samples: int, rare: int
) -> None:
    body = json.dumps(value, separators=(",", ":")).encode()
    found = values(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "COUNTED_AT_ONCE", slice_)
        patch.setattr(bounds, "SAMPLES", samples)
        patch.setattr(bounds, "RARE", rare)
        for may_have_more in (may_have_more_values, _may_exceed):
            assert all(may_have_more(body, most) for most in range(found))
            assert not may_have_more(body, len(body) + 1)


def test_few_commas_in_a_large_body_are_few_values() -> None:
    body = json.dumps({"a": ["a text, " + "without a comma " * 1_000] * 100}).encode()
    for may_have_more in (may_have_more_values, _may_exceed):
        assert not may_have_more(body, 300)
        assert may_have_more(body, 100)
    assert count_values(body, enough=1_000) == 102


def test_counting_takes_a_few_steps_for_each_slice() -> None:
    """A text of backslashes alone: each slice ends inside of a run of them, and the run is not
    followed back to its start.
    """
    body = b'{"a":"' + b"\\" * (4 * SLICE) + b'","b":1}'
    steps = 0

    def trace(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert count_values(body, enough=1000) == 3
    finally:
        sys.settrace(before)
    assert steps < 200


def chat(rest: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"hi"}],' + rest + b"}"


def read(body: bytes, dialect: str = "openai_chat") -> None:
    read_request(body, endpoint="chat/completions", dialect=dialect, model="m")


@pytest.mark.parametrize(
    "rest",
    [
        b'"stop":[' + b"{}," * MAX_VALUES + b"1]",
        b'"stop":[' + b'"",' * MAX_VALUES + b"1]",
        b'"stop":' + b"[1" * 3 + b",1" * MAX_VALUES + b"]]]",
        b'"metadata":{' + b'"a":1,' * MAX_VALUES + b'"b":1}',
    ],
)
def test_a_body_of_too_many_values_is_refused_in_a_sentence(rest: bytes) -> None:
    with pytest.raises(BadRequest, match=r"at least [0-9]+ JSON values .* at most 500000 are read"):
        read(chat(rest))


@pytest.mark.parametrize(
    ("dialect", "member", "limit"),
    [
        ("openai_chat", "messages", MAX_MESSAGES),
        ("openai_chat", "tools", MAX_TOOLS),
        ("openai_responses", "input", MAX_MESSAGES),
        ("openai_responses", "tools", MAX_TOOLS),
        ("anthropic_messages", "messages", MAX_MESSAGES),
        ("anthropic_messages", "tools", MAX_TOOLS),
        ("gemini", "contents", MAX_MESSAGES),
        ("gemini", "tools", MAX_TOOLS),
        ("ollama", "messages", MAX_MESSAGES),
    ],
)
def test_a_list_of_too_many_entries_is_refused_by_its_name(dialect: str, member: str, limit: int) -> None:
    body = b'{"model":"m","%s":[%s{}]}'
    name = member.encode()
    read(body % (name, b"{}," * (limit - 1)), dialect)
    with pytest.raises(BadRequest, match=f"'{member}' has {limit + 1} entries, and at most {limit}") as told:
        read(body % (name, b"{}," * limit), dialect)
    assert told.value.param == member


def test_a_body_of_too_many_members_is_refused() -> None:
    members = b",".join(b'"m%d":1' % n for n in range(MAX_PARAMETERS))
    with pytest.raises(BadRequest, match=r"1002 members at its top level, and at most 1000"):
        read(chat(members))


def test_the_largest_sessions_of_agents_are_far_below_the_bounds() -> None:
    """20,000 turns of a call with its result, 1,000 tools with 30 parameters each, and 8 MB of text
    that is full of commas.
    """
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    turn = [call, {"role": "tool", "tool_call_id": "c", "content": "ok, and [so] {on}"}]
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(30)}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    text = {"role": "user", "content": 'a, [b], {"c": 1},' * 500_000}
    messages = [*turn * 20_000, text]
    read(json.dumps({"model": "m", "messages": messages, "tools": [tool] * 1_000}).encode())


def test_token_ids_of_a_batch_to_embed_are_no_messages() -> None:
    body = b'{"model":"m","input":[' + b"101," * 299_999 + b"101]}"
    read_request(body, endpoint="embeddings", dialect="openai_embeddings")
