"""Edits in the bytes of a body."""

from __future__ import annotations

import json

from modelplex.policy.splice import encode, members_of, spliced
from modelplex.policy.verdict import Amend
from modelplex.policy.walk import Edit
from tests.policy.judging import FACTS, judge


def splice(body: bytes, edits: list[Edit]) -> bytes:
    return encode(spliced(members_of(body), edits))


def test_what_no_edit_touches_keeps_its_bytes_at_every_depth() -> None:
    body = (
        b'{ "model" : "m", "temperature":1.0e0, "big":18446744073709551616,'
        b'"tools":[{"type":"function", "function":{"name":"f","parameters":{"maximum":1E2}}},{"type":"web_search"}],'
        b'"messages":[{"role":"user","content":"\\u00e9 \\/","odd":1}, {"role":"user" ,"content":"b"}] }'
    )
    verdict = judge(body, dialect="openai_chat", facts=FACTS)
    assert isinstance(verdict, Amend)
    assert b'"temperature":1.0e0' in verdict.body
    assert b'{"type":"function", "function":{"name":"f","parameters":{"maximum":1E2}}}' in verdict.body
    assert b'"content":"\\u00e9 \\/"' in verdict.body
    assert b'{"role":"user" ,"content":"b"}' in verdict.body
    assert [(item.pointer, item.rule) for item in verdict.stripped] == [
        ("/big", "unknown-field"),
        ("/tools/1", "web-search"),
        ("/messages/0/odd", "unknown-field"),
    ]


def test_an_edit_replaces_adds_or_removes_a_value() -> None:
    body = b'{"a": 1.50, "b": [1, 2, 3], "c": {"d": true, "e": false}}'
    edits = [Edit((None, "x"), "r", "new"), Edit(((None, "b"), 1), "r"), Edit(((None, "c"), "d"), "r", None)]
    assert json.loads(splice(body, edits)) == {
        "a": 1.5,
        "b": [1, 3],
        "c": {"d": None, "e": False},
        "x": "new",
    }
    assert b"1.50" in splice(body, edits)


def test_indexes_are_those_of_the_body_before_the_edits() -> None:
    edits = [Edit(((None, "a"), 0), "r"), Edit(((None, "a"), 2), "r", 9)]
    assert json.loads(splice(b'{"a": [1, 2, 3]}', edits)) == {"a": [2, 9]}


def test_an_edit_inside_a_removed_value_has_no_effect() -> None:
    inner = Edit((((None, "a"), 0), "b"), "r", 1)
    for edits in ([Edit((None, "a"), "r"), inner], [inner, Edit((None, "a"), "r")]):
        assert splice(b'{"a": [{"b": 0}], "c": 2}', edits) == b'{"c":2}'


def test_removing_a_member_that_is_not_there_changes_nothing_else() -> None:
    assert splice(b'{"a":1}', [Edit((None, "b"), "r")]) == b'{"a":1}'
