"""A shape accepts a part of what its rule permits, and nothing that is longer encoded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelplex.policy.accepted_types import Shapes, reader_of
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.leaves import (
    ARGUMENTS,
    FLAG,
    KEYWORD,
    KEYWORD_OR_FLAG,
    LONG_TEXT,
    MIME,
    NUMBER,
    NUMBERS,
    ROLE,
    SCHEMA,
    TEXT,
    TEXTS,
    TYPE,
    EnumRule,
    TokenListRule,
)
from modelplex.policy.value_rules import INLINE_BYTES, INLINE_URL, RefuseRule, StripRule
from modelplex.policy.walk import ANY_VALUE, UNKNOWN_FORM, DeferredRule, PolicyWalk, ValueRule
from tests.policy.judging import FACTS, TABLES, judge_body


def accepts(rule: ValueRule, text: bytes) -> bool:
    """Whether the shape accepts the JSON. What it accepts, the rule permits without an edit."""
    shape = Shapes().of(rule)
    raw = msgspec.json.decode(b'{"v":%b}' % text, type=dict[str, msgspec.Raw])["v"]
    accepted = shape is not None and reader_of(shape)(raw)
    if accepted:
        walk, value = PolicyWalk(FACTS), msgspec.json.decode(text)
        if type(value) not in rule.allowed_types and not (
            isinstance(value, str) and value in rule.allowed_words
        ):
            rule(walk, value, (None, "v"))
        assert not walk.edits
    return accepted


@pytest.mark.parametrize(
    ("rule", "accepted", "others"),
    [
        (TEXT, [b'"x"', b'""', b"null"], [b"1", b"[]", b"{}", b"true"]),
        (LONG_TEXT, [b'"x"', b'"\\u00e9"', b"null"], [b"1", b"[]", b"{}", b"true", b"false"]),
        (FLAG, [b"true", b"false", b"null"], [b"0", b'"true"', b"[]"]),
        (NUMBER, [b"1", b"-0.5", b"1e5", b"null"], [b"1e999", b'"1"', b"true", b"[1]"]),
        (ROLE, [b'"user"', b"null"], [b'"surprise"', b"1"]),
        (KEYWORD, [b'"low"'], [b'"https://evil.example"', b'"LOW"']),
        (KEYWORD_OR_FLAG, [b'"some-word"', b"true", b"null"], [b'"A"', b'"a\\n"', b'"x y"', b"1"]),
        (MIME, [b'"image/png"'], [b'"image/png\\n"', b'"/etc"', b'"x image/png"']),
        (EnumRule("a b"), [b'"a"', b"null"], [b'"c"', b"1"]),
        (TEXTS, [b"[]", b'["x","y"]', b"null"], [b"[1]", b"[null]", b'"x"', b"[ ]"]),
        (NUMBERS, [], [b"[1]", b"[1e5]"]),
        (TokenListRule(UNKNOWN_FORM), [b'"x"', b'["x"]', b"null"], [b"[1]", b"[[1]]", b"{}"]),
        (ARGUMENTS, [b'"{}"', b'{"a":{"b":1}}', b"[1]"], [b"1", b"true", b'{"a":1,"a":2}', b'{"a":1e999}']),
        (SCHEMA, [], [b'{"type":"object"}']),
        (INLINE_URL, [b'"data:image/png;base64,AAAA"'], [b'"https://x/"', b"null", b'"data:\\u002c"']),
        (
            INLINE_BYTES,
            [b'"AAAA"', b'""', b'"data:,x"'],
            [b'"AAA"', b'"//evil.example/x"', b'"https://x/"', b'"AA\\nA"', b"1"],
        ),
        (ANY_VALUE, [], [b"1", b"{}"]),
        (StripRule("labels"), [], [b"1", b"null"]),
        (RefuseRule("stored-file"), [], [b'"x"', b"null"]),
        (DeferredRule(lambda: ObjectRule({"a": TEXT})), [b'{"a":"x"}', b"null"], [b'{"a":1}', b'"x"']),
    ],
)
def test_a_value(rule: ValueRule, accepted: list[bytes], others: list[bytes]) -> None:
    assert [text for text in accepted if not accepts(rule, text)] == []
    assert [text for text in others if accepts(rule, text)] == []


PART = VariantRule(
    {
        "text": ObjectRule({"type": TYPE, "text": LONG_TEXT}),
        "n": ObjectRule({"type": TYPE, "n": NUMBER, "id": TEXT}),
        "untyped": ObjectRule({"text": TEXT}),
        "gone": RefuseRule("stored-file"),
    }
)
CONTENT = UnionRule(text=LONG_TEXT, items=ListRule(PART), members=PART)
ENTRY = ObjectRule(
    {"role": ROLE, "content": CONTENT, "async": FLAG, "calls": ListRule(ObjectRule({"arguments": ARGUMENTS}))}
)
LONE = VariantRule({"a": ObjectRule({"type": TYPE, "x": TEXT}), "b": StripRule("labels")})


@pytest.mark.parametrize(
    ("rule", "accepted", "others"),
    [
        (
            PART,
            [b'{"type":"text","text":"x"}', b'{"text":"x","type":"text"}', b'{"type":"n","n":1e8,"id":"x"}'],
            [
                b"{}",
                b"null",
                b'{"text":"x"}',
                b'{"type":"untyped","text":"x"}',  # the rule strips its type
                b'{"type":"gone"}',
                b'{"type":"text","n":1}',
                b'{"type":"text","text":1}',
                b'{"type":"text","text":"x","type":"text"}',
                b'{"type":"n","n":1,"type":"text"}',
                b'{"type":"n","id":"x","n":1e8,"id":"xy"}',
                b'{"type":"text", "text":"x"}',
                b'{"t\\u0079pe":"text","text":"x"}',
            ],
        ),
        (
            ENTRY,
            [
                b"{}",
                b"null",
                b'{"content":"x","role":"user","async":true}',
                b'{"content":[{"type":"text","text":"x"}]}',
                b'{"content":{"type":"text","text":"x"}}',
                b'{"content":null}',
                b'{"calls":[{"arguments":"{}"},{"arguments":{"a":1e5}},{},null]}',
            ],
            [
                b'{"content":1}',
                b'{"content":[{"type":"text","text":1}]}',
                b'{"content":[null]}',
                b'{"content":[{"type":"text","text":"x","text":"x"}]}',
                b'{"calls":[{"arguments":{"a":1,"a":1}}]}',
                b'{"calls":[{"arguments":1}]}',
                b'{"surprise":1}',
            ],
        ),
        (
            LONE,  # a lone tag might be left out, and be written instead of a repeated member
            [b'{"type":"a","x":"1"}', b'{"x":"1","type":"a"}'],
            [b'{"x":"1"}', b'{"x":"1234","x":"1"}', b'{"type":"b"}', b'{"type":"a","type":"a"}'],
        ),
    ],
)
def test_an_object(rule: ValueRule, accepted: list[bytes], others: list[bytes]) -> None:
    assert [text for text in accepted if not accepts(rule, text)] == []
    assert [text for text in others if accepts(rule, text)] == []


def test_what_may_be_inside_itself_is_accepted_to_a_level() -> None:
    block = VariantRule({})
    content = UnionRule(text=LONG_TEXT, items=ListRule(block))
    block.variants |= {
        "result": ObjectRule({"type": TYPE, "content": content}),
        "text": ObjectRule({"type": TYPE, "text": LONG_TEXT}),
    }
    text, levels = b'"x"', 0
    while accepts(content, text):
        text, levels = b'[{"type":"result","content":%b}]' % text, levels + 1
    assert 2 <= levels <= 5


def test_no_character_is_longer_encoded_than_it_may_be_written() -> None:
    """Else a longer character could hide a repeated member."""
    short = {"\b": 2, "\t": 2, "\n": 2, "\f": 2, "\r": 2, '"': 2, "\\": 2}
    longer = [
        letter
        for letter in map(chr, [*range(0xD800), *range(0xE000, 0x110000)])
        if len(msgspec.json.encode(letter)) - 2
        > min(
            short.get(letter, 6 if ord(letter) < 0x10000 else 12),
            99 if letter in short or letter < " " else len(letter.encode()),
        )
    ]
    assert longer == []


@pytest.mark.parametrize("dialect", sorted(TABLES))
def test_every_member_of_a_table_has_a_shape_or_none(dialect: str) -> None:
    """Each type that is made is one that msgspec knows."""
    for rule in TABLES[dialect].top.fields.values():
        if (shape := Shapes().of(rule)) is not None:
            reader_of(shape)


def item(**members: Any) -> dict[str, Any]:
    return {"model": "m", "input": [{"type": "message", "role": "user", "content": "x"}, members]}


@pytest.mark.parametrize(
    ("members", "passes"),
    [
        ({"type": "message", "id": "msg_1", "role": "user", "content": "x"}, True),
        ({"type": "message", "id": "msg_1", "role": "user", "content": ""}, False),
        ({"type": "message", "id": "msg_1", "role": "user", "content": []}, False),
        ({"type": "message", "id": "msg_1"}, False),
        ({"type": "message", "id": None}, True),
        ({"type": "shell_call", "id": "s_1", "call_id": "c", "action": {}}, False),
        ({"type": "shell_call", "id": "s_1", "call_id": "c", "action": {"type": "exec"}}, True),
        ({"type": "tool_search_call", "id": "s_1", "arguments": {}}, False),
        ({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}, True),
        ({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "", "arguments": "{}"}, False),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}, True),
        ({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "x"}]}, False),
        ({"type": "function_call_output", "id": "o_1", "call_id": "c", "output": "x"}, True),
        ({"type": "function_call_output", "id": "o_1", "call_id": "c"}, False),
    ],
)
def test_an_item_with_an_id_brings_its_content_along(members: dict[str, Any], *, passes: bool) -> None:
    body = msgspec.json.encode(item(**members))
    assert (type(judge_body(body, "openai_responses")).__name__ == "Allow") is passes
