"""A body that two parsers could read differently is refused."""

from __future__ import annotations

import json
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelplex.policy import strict_json
from modelplex.policy.strict_json import MAX_DEPTH, read_strict
from modelplex.policy.verdict import Allow, Refuse
from modelplex.policy.walk import PolicyRefusal
from tests.policy.judging import TABLES, judge_body, refused

# --- S5: keys that stand twice --------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 30, strict_json.PIECE_SIZE])
@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"model":"m","model":"n"}', "model"),
        (b'{"a":[1,[2],{"b":1},{"c":[0,{"d":[3],"e":[3],"d":[3]}]}]}', "a[3].c[1].d"),
        (
            b'{"messages":[{"content":"a text of many bytes"}],"x":1,"messages":[{"content":"a text of many bytes"}]}',
            "messages",
        ),
        (b'{"model":"m","mod\\u0065l":"n"}', "model"),
        (b'{"messages":[{"role":"user","content":"hi","content":"ho"}]}', "messages[0].content"),
        (
            b'{"tools" : [ { "type" : "function", "function" : {"name":"f","name":"g"} } ]}',
            "tools[0].function.name",
        ),
        (b'{"messages":[{"content":"a \\\\\\": b","x":{"k\\\\":1,"k\\\\":2}}]}', "messages[0].x.k%5C"),
        (b'{"messages":[{"content":"\\u0022","role":1,"role":2}]}', "messages[0].role"),
    ],
)
def test_a_key_that_stands_twice_is_refused_at_its_path(
    body: bytes, path: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_json, "PIECE_SIZE", piece)
    assert refused(body, "openai_chat") == ("duplicate-key", path)


@pytest.mark.parametrize("dialect", sorted(TABLES))
def test_a_key_that_stands_twice_is_refused_in_every_dialect(dialect: str) -> None:
    assert refused(b'{"model":"m","model":"n"}', dialect) == ("duplicate-key", "model")


_WORDS = st.sampled_from(["a", "b", '"', "\\", '\\"', '":', ":", "\n", "é", "", '\\":"'])
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-9, 9) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_WORDS, inner), max_size=3).map(tuple),
    max_leaves=8,
)


def _written(value: Any, choose: Any) -> str:
    """JSON with the freedom that JSON leaves: white space, escapes by number, and pairs as they
    come.
    """
    space = choose(["", " ", "\n", "\t "])
    if isinstance(value, tuple):
        members = cast("tuple[tuple[str, Any], ...]", value)
        pairs = [f"{_written(key, choose)}{space}:{space}{_written(inner, choose)}" for key, inner in members]
        return "{" + f",{space}".join(pairs) + "}"
    if isinstance(value, list):
        return (
            f"[{space}"
            + ",".join(_written(inner, choose) for inner in cast("list[Any]", cast("object", value)))
            + "]"
        )
    if not isinstance(value, str):
        return json.dumps(value)
    plain, by_number = choose([True, False]), choose([True, False])
    marks = {'"': "\\u0022"} if by_number else {}
    letters = (marks.get(letter) or json.dumps(letter, ensure_ascii=plain)[1:-1] for letter in value)
    return f'"{"".join(letters)}"'


def _has_repeats(value: Any) -> bool:
    if isinstance(value, tuple):
        pairs = cast("tuple[tuple[str, Any], ...]", value)
        keys = [key for key, _ in pairs]
        return len(keys) != len(set(keys)) or any(_has_repeats(inner) for _, inner in pairs)
    return isinstance(value, list) and any(map(_has_repeats, cast("list[Any]", cast("object", value))))


@pytest.mark.parametrize("piece", [1, 8, strict_json.PIECE_SIZE])
@given(value=st.lists(st.tuples(_WORDS, _VALUES), max_size=3).map(tuple), data=st.data())
@example(value=(("a", 1), ("a", 1)), data=None)
@example(value=(('"', 1), ('"', 1)), data=None)
def test_exactly_the_bodies_with_a_repeated_key_are_found(
    piece: int, value: tuple[Any, ...], data: Any
) -> None:
    def choose(options: list[Any]) -> Any:
        return options[0] if data is None else data.draw(st.sampled_from(options))

    text = _written(value, choose)
    found = ""
    try:
        with patch.object(strict_json, "PIECE_SIZE", piece):
            tree = read_strict(text.encode())
    except PolicyRefusal as error:
        found = error.rule
    else:
        assert tree == json.loads(text)
    try:
        json.loads(text)
    except json.JSONDecodeError:
        pytest.fail(f"the test wrote no JSON: {text}")
    assert found == ("duplicate-key" if _has_repeats(value) else "")


# --- S6: what is no JSON, or too deep -------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"text"',
        b'{"model":NaN}',
        b'{"temperature":Infinity}',
        b'{"temperature":-Infinity}',
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
        b"{'model':1}",
        b'{"model":1} {}',
        b'\xef\xbb\xbf{"model":1}',
    ],
)
@pytest.mark.parametrize("dialect", sorted(TABLES))
def test_what_is_no_json_object_in_utf_8_is_refused(body: bytes, dialect: str) -> None:
    assert refused(body, dialect) == ("malformed", "")


@pytest.mark.parametrize("opens", [b'{"a":', b"["])
def test_a_body_may_be_as_deep_as_the_named_limit_and_no_deeper(opens: bytes) -> None:
    closes = b"}" if opens == b'{"a":' else b"]"

    def nested(levels: int) -> bytes:
        before = b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":'
        inner = levels - before.count(b"{") - before.count(b"[") - 1  # and one innermost list
        return before + opens * inner + b"[]" + closes * inner + b"}}]}]}"

    assert judge_body(nested(MAX_DEPTH), "openai_chat") == Allow()
    for levels in (MAX_DEPTH + 1, 2000, 200_000):
        verdict = judge_body(nested(levels), "openai_chat")
        assert isinstance(verdict, Refuse)
        assert verdict.rule == "too-deep"
        assert str(MAX_DEPTH) in verdict.message


@given(
    text=st.lists(
        st.sampled_from(
            [
                b"text",
                b"\xc3\xa9",
                "\u4f60".encode(),
                "\U0001f600".encode(),
                b"\xff",
                b"\xed\xa0\x80",
                b"\xc3",
            ]
        ),
        max_size=12,
    ).map(b"".join),
    piece=st.integers(4, 9),
)
def test_utf8_is_told_however_the_body_is_cut(text: bytes, piece: int) -> None:
    try:
        text.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    with patch.object(strict_json, "UTF8_PIECE_SIZE", piece):
        assert strict_json.is_utf8(text) is valid
