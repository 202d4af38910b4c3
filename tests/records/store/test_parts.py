"""Request bodies as parts, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.records.store import parts

MEMBERS = ("messages", "system")


def joined(body: bytes) -> bytes:
    split = parts.split_body(body, conversation=MEMBERS)
    stored = parts.read_stored(parts.stored_body(split))
    contents = {part.hash: part.content for part in split.parts}
    hashes = parts.parts_of(stored, [part.hash for part in split.messages])
    return parts.join_body(stored, hashes, contents.__getitem__)


def text(role: str, words: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": words, **more}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[1, 2]",
        b"\xff\xfe",
        b'{"messages": []}',
        b'{"messages": "a text"}',
        b'{"messages": {}, "system": [1, "s"]}',
        b'{ "messages" : [ {"role":"user"} , 1 , null ] , "system": "x" }\n',
        b'{"messages": [1, 1, 1, {"a": 1}], "messages": [2]}',
        b'{"system": "' + b"s" * 999 + b'", "messages": [1], "system": "short"}',
        b'{"x": "\\ud800", "messages": [{"content": "\\ud800"}]}',
        b'{"messages": [{"cache_control": {"type": "ephemeral"}, "content": "a"}]}',
        b'{"messages": [{"content": ",\\"cache_control\\":{}"}, {"content": ","  ,"cache_control":{"a":{}}}]}',
        b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_a_body_comes_back_exactly(body: bytes) -> None:
    assert joined(body) == body


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["content", "role", "cache_control", "x"]), inner)
    ),
    max_leaves=20,
)


@given(
    st.dictionaries(st.sampled_from(["messages", "system", "tools", "model"]), _VALUES),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "  :")]),
)
def test_any_json_comes_back_exactly(members: dict[str, Any], separators: tuple[str, str]) -> None:
    body = json.dumps(members, separators=separators).encode()
    assert joined(body) == body


def test_a_conversation_that_is_extended_keeps_its_parts_and_turns() -> None:
    messages = [text("user", "a"), text("assistant", "b")]
    before = parts.split_body(json.dumps({"messages": messages}).encode(), conversation=MEMBERS)
    longer = [*messages, text("user", "c")]
    after = parts.split_body(
        json.dumps({"messages": longer, "model": "m"}, separators=(",", ":")).encode(), conversation=MEMBERS
    )
    same = parts.split_body(json.dumps({"messages": longer}).encode(), conversation=MEMBERS)
    assert same.turns[:2] == before.turns
    assert len(set(same.turns)) == 3
    assert after.turns[:2] != before.turns  # written in another way, it is another content


def test_a_mark_for_the_cache_changes_neither_part_nor_turn() -> None:
    block = {"type": "text", "text": "a"}
    marked = {"role": "user", "content": [{**block, "cache_control": {"type": "ephemeral"}}]}
    plain = {"role": "user", "content": [block]}
    one, other = (
        parts.split_body(json.dumps({"messages": [each]}).encode(), conversation=MEMBERS)
        for each in (marked, plain)
    )
    assert one.parts[0].hash == other.parts[0].hash
    assert one.parts[0].cuts
    assert one.turns == other.turns


def test_both_forms_of_a_text_are_one_turn_but_two_parts() -> None:
    block = {"role": "user", "content": [{"type": "text", "text": 'a "quoted" \\ text'}]}
    string = {"role": "user", "content": 'a "quoted" \\ text'}
    one, other = (
        parts.split_body(json.dumps({"messages": [each, string]}).encode(), conversation=MEMBERS)
        for each in (block, string)
    )
    assert one.turns == other.turns
    assert one.nodes != other.nodes


def test_owners_have_conversations_of_their_own() -> None:
    body = json.dumps({"messages": [text("user", "a")]}).encode()
    one, other = (parts.split_body(body, conversation=MEMBERS, seed=seed) for seed in (b"a", b"b"))
    assert one.turns != other.turns
    assert one.parts == other.parts


def test_the_system_prompt_is_the_context_wherever_it_stands() -> None:
    member = json.dumps({"messages": [text("user", "a")], "system": "s" * 300}).encode()
    message = json.dumps({"messages": [text("system", "s"), text("user", "a")]}).encode()
    without = json.dumps({"messages": [text("user", "a"), text("system", "later")]}).encode()
    contexts = [parts.split_body(each, conversation=MEMBERS).context for each in (member, message, without)]
    assert contexts[0] is not None
    assert contexts[1] is not None
    assert contexts[2] is None


def test_blocks_of_a_system_prompt_are_parts_of_their_own() -> None:
    def split(first: str) -> parts.SplitBody:
        system = [{"type": "text", "text": first}, {"type": "text", "text": "s" * 300}]
        return parts.split_body(
            json.dumps({"system": system, "messages": [1]}).encode(), conversation=MEMBERS
        )

    assert split("version 1").context == split("version 2").context
    assert split("version 1").parts == split("version 2").parts


def test_contents_are_compressed_where_it_helps() -> None:
    assert parts.compress(b"short") == (parts.RAW, b"short")
    encoding, small = parts.compress(b"again and " * 200)
    assert encoding == parts.ZLIB
    assert len(small) < 100
    assert parts.decompress(encoding, small) == b"again and " * 200
    noise = bytes(range(256))
    assert parts.unpack(parts.pack(noise)) == noise
    assert len(parts.pack(noise)) == 257
