from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.surrogates import AT_ONCE, mended, mended_text
from modelplex.dialects.raw_request import read_request

HALVES = st.characters(categories=["Cs"]) | st.sampled_from('\\u"aé😀\ud83d\ude00')


def without_halves(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@given(st.text(alphabet=HALVES, max_size=12))
def test_each_half_becomes_one_replacement_and_all_else_is_kept(text: str) -> None:
    body = json.dumps({text: [text]}).encode()
    out = mended(body)
    assert len(out) == len(body)
    lone = without_halves(text)
    assert json.loads(out) == {lone: [lone]}
    if lone == text:
        assert out is body


@pytest.mark.parametrize(
    ("given_", "left"),
    [
        (rb'"\ud83d"', rb'"\uFfFd"'),
        (rb'"\uD83D\uDE00"', rb'"\uD83D\uDE00"'),
        (rb'"\ude00\ud83d"', rb'"\uFfFd\uFfFd"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\uFfFd\ud83d\ude00"'),
        (rb'"\\ud83d \\\ud83d"', rb'"\\ud83d \\\uFfFd"'),
        (rb'"\ud83', rb'"\ud83'),
    ],
)
def test_pairs_and_escaped_backslashes_are_told_from_halves(given_: bytes, left: bytes) -> None:
    assert mended(given_) == left


@pytest.mark.parametrize("unit", [rb"\ud83d", rb"\ud83d\ude00", rb"\\ud83d", rb"\ud83d\n", rb"\ude00a"])
def test_a_long_run_is_mended_like_a_short_one(unit: bytes) -> None:
    count = 2 * AT_ONCE + 1
    assert mended(unit * count) == mended(unit) * count


def test_json_in_a_text_is_mended_alike() -> None:
    assert json.loads(mended_text(r'{"a":"\ud83d b"}')) == {"a": "\ufffd b"}
    assert mended_text('{"a":1}') == '{"a":1}'


def test_a_body_with_a_half_is_read_and_the_member_is_named() -> None:
    body = rb'{"model":"m","messages":[{"role":"tool","tool_call_id":"c","content":"a \ud83d b"}]}'
    ask = read_request(body, endpoint="chat/completions", dialect="openai_chat")
    assert [(change.op, change.path) for change in ask.mended] == [("lower", "messages")]
    assert json.loads(ask.body)["messages"][0]["content"] == "a \ufffd b"
    whole = body.replace(rb"\ud83d", rb"\ud83d\ude00")
    kept = read_request(whole, endpoint="chat/completions", dialect="openai_chat")
    assert kept.body is whole
    assert kept.mended == ()


def test_what_is_broken_otherwise_is_told_as_before() -> None:
    with pytest.raises(BadRequest, match="not a JSON object"):
        read_request(rb'{"model":"m","a":"\ud83d', endpoint="chat/completions", dialect="openai_chat")


def calls_of(work: Callable[[], object]) -> int:
    count = 0

    def note(_frame: object, event: str, _what: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("piece", [rb"\ud83d", rb"\ud83d\ude00", rb"\\ud83d", b"\\" * 64 + b"ud83d"])
def test_the_work_grows_with_the_body(piece: bytes) -> None:
    once, twice = (calls_of(lambda: mended(piece * n)) for n in (500, 1000))  # noqa: B023
    assert twice <= 2.1 * once
